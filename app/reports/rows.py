"""One photo as a report shows it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

MOST_NAME_CHARACTERS = 80
UNSAFE = re.compile(r"[^\w.-]+")
RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


@dataclass(frozen=True, slots=True)
class Photo:
    """``detections`` are the detector's: label, score, box. ``error`` says why there are none to be had, else ""."""

    seq: int
    name: str  # as the client named it
    file: str  # its path in the archive; "" where it is not there
    error: str = ""
    width: int | None = None
    height: int | None = None
    camera: str = ""
    taken_at: str = ""
    detections: list[dict[str, Any]] = field(default_factory=list)
    exif: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """In a word: ``found``, ``nothing found`` or ``failed``."""
        if self.error:
            return "failed"
        return "found" if self.detections else "nothing found"

    @property
    def shown_camera(self) -> str:
        """The camera as the client called it, else as it calls itself."""
        return self.camera or " ".join(filter(None, (self.exif.get("make"), self.exif.get("model"))))

    @property
    def shown_time(self) -> str:
        """When it was taken, as the client said, else as the camera wrote."""
        return str(self.taken_at or self.exif.get("taken_at", ""))


def file_name(seq: int, name: str, suffix: str) -> str:
    """A path that every system unpacks: the number keeps names apart, the client's name tells people which it is."""
    stem = unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1])
    stem = UNSAFE.sub("_", stem.rsplit(".", 1)[0]).strip("._-")[:MOST_NAME_CHARACTERS]
    if stem.lower() in RESERVED:
        stem = f"_{stem}"
    return f"images/{seq + 1:05}{'-' if stem else ''}{stem}{suffix}"
