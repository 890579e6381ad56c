"""On a black pixel it computes for ever, on one of the value 1 it sleeps for ever."""

import time

NAME = "hang"
NEEDS = "pixels"


def execute(img_obj):
    pixel = img_obj.image.convert("L").getpixel((0, 0))
    while pixel == 0:
        pass
    if pixel == 1:
        time.sleep(3600)
    return "alive"
