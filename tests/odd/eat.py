"""Wants twelve gigabytes on a black pixel, and keeps 30 MB of every other image."""

NAME = "eat"
NEEDS = "pixels"
kept = []


def execute(img_obj):
    if img_obj.image.convert("L").getpixel((0, 0)) == 0:
        return len(bytearray(12 * 1024**3))
    kept.append(bytearray(30 * 1024**2))
    return len(kept)
