"""Waits while there is the file that the image names; opens at once where it names none."""

import time
from pathlib import Path

NAME = "wait"
NEEDS = "pixels"


def execute(img_obj):
    gate = img_obj.image.info.get("gate")
    while gate and Path(gate).exists():
        time.sleep(0.05)
    return "through"
