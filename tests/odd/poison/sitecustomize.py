"""A Pillow whose C code dies of one file's header: Python loads this at its start where the folder is on its path."""

import ctypes

from PIL import PngImagePlugin

real_open = PngImagePlugin.PngImageFile._open


def _open(self):
    start = self.fp.tell()
    if b"POISON" in self.fp.read():
        ctypes.string_at(0)
    self.fp.seek(start)
    real_open(self)


PngImagePlugin.PngImageFile._open = _open
