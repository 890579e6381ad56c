"""Work on images in child processes, so that a decoder's death, hang or hunger is one image's and nobody else's.

::

    submit -> queue -> a thread for each child -> (socket) -> child: header, pixels, processors -> the caller's ``done``
"""

from __future__ import annotations

from app.decoding.children import Children
from app.decoding.options import ChildOptions

__all__ = ["ChildOptions", "Children"]
