"""Dies by SIGSEGV on a black pixel, in C code, as a broken decoder does."""

import ctypes

NAME = "crash"
NEEDS = "pixels"


def execute(img_obj):
    if img_obj.image.convert("L").getpixel((0, 0)) == 0:
        ctypes.string_at(0)
    return "alive"
