"""Loads its model once a process, takes images in batches, and dies of a batch with a black pixel in it."""

import os

NAME = "model"
VERSION = "2026-1"
NEEDS = "pixels"
loads = []


def execute(img_obj):
    return execute_batch([img_obj])[0]


def execute_batch(img_objs):
    if not loads:
        loads.append(os.getpid())
    pixels = [img_obj.image.convert("L").getpixel((0, 0)) for img_obj in img_objs]
    if 0 in pixels:
        os.abort()
    return [{"pixel": pixel, "batch": len(pixels), "loads": len(loads), "pid": os.getpid()} for pixel in pixels]
