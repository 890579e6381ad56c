"""Says nothing of itself, and kills its own process on a black pixel."""

import os
import signal

from PIL import Image

NAME = "kill"


def execute(img_obj):
    if Image.open(img_obj).convert("L").getpixel((0, 0)) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid(), "parent": os.getppid()}
