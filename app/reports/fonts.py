"""The letters of labels: each character by the first font that has it.

Noto Sans comes in a package and has Latin, Greek, Cyrillic and Devanagari. Fonts for Chinese, Japanese and Korean are
as large as all else together: those of the system are used, or what ``DETECTOR_LABEL_FONT`` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import fontpkg_noto_sans  # type: ignore[import-untyped]
from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont

OURS = fontpkg_noto_sans.ROOT / "files" / "NotoSans[wdth,wght].ttf"
# Where Debian's fonts-noto-cjk, fonts-wqy-microhei and fonts-droid-fallback (no Korean), Fedora and macOS have one.
OF_SYSTEM = (
    Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"),
    Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"),
    Path("/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf"),
    Path("/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc"),
    Path("/System/Library/Fonts/PingFang.ttc"),
)
IN_NO_FONT = "\U0010fffe"  # no character: what a font draws for it, it draws for all that it does not have


@dataclass(frozen=True)
class Fonts:
    """Fonts in the order in which they are asked; a font that is not there is left out."""

    paths: tuple[Path, ...] = (OURS, *OF_SYSTEM)

    @classmethod
    def preferring(cls, path: str) -> Fonts:
        """``path`` first, where one is named, and ours for what it does not have."""
        return cls((Path(path), OURS, *OF_SYSTEM) if path else (OURS, *OF_SYSTEM))

    def line(self, text: str, size: int) -> Line:
        """``text`` in pixels of that size; what no font has is drawn as the first one draws such."""
        runs = groupby(text, key=self._best)
        return Line(tuple(("".join(letters), _opened(path, size)) for path, letters in runs))

    def lacks(self, text: str) -> str:
        """Those characters of it that no font has."""
        return "".join(dict.fromkeys(each for each in text if not any(_has(path, each) for path in self._there)))

    def _best(self, character: str) -> Path:
        return next((path for path in self._there if _has(path, character)), self._there[0])

    @property
    def _there(self) -> list[Path]:
        return [path for path in self.paths if _is_font(path)]


@dataclass(frozen=True)
class Line:
    """Text on a line that begins at (0, 0), in pieces of one font each."""

    runs: tuple[tuple[str, Font], ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """What it covers: left, top, right, bottom; the line is at 0."""
        boxes = [font.getbbox(text, anchor="ls") for text, font in self.runs]
        width = sum(font.getlength(text) for text, font in self.runs)
        return min(boxes[0][0], 0), min(box[1] for box in boxes), width, max(box[3] for box in boxes)

    def draw(self, draw: ImageDraw.ImageDraw, start: tuple[float, float], fill: str) -> None:
        left, line = start
        for text, font in self.runs:
            draw.text((left, line), text, font=font, fill=fill, anchor="ls")
            left += font.getlength(text)


@lru_cache(maxsize=64)
def _opened(path: Path, size: int) -> Font:
    # By its own rules alone: the other engine, where it is there, would measure otherwise than here.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=16)
def _is_font(path: Path) -> bool:
    try:
        _opened(path, 16)
    except OSError:
        return False
    return True


@lru_cache(maxsize=4096)
def _has(path: Path, character: str) -> bool:
    font = _opened(path, 16)
    return bytes(font.getmask(character)) != bytes(font.getmask(IN_NO_FONT))
