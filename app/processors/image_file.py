"""What every processor is given: a binary file in memory that also knows its image.

A body shorter than announced never gets here (the downloader refuses it). Where only the header is read, a cut picture
with a whole header counts as read; where pixels are decoded it is an error.

A header has little time: Pillow walks through its pieces in Python, and files made for that keep it busy (a PNG of
20 MB with 20,000 colour profiles: 51 seconds). It has still less on the thread that also drives the downloads.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field

from PIL import Image

from app.errors import DecodeError
from app.processors import bounds
from app.processors.codes import OUT_OF_MEMORY

# Beginnings of what stores send by mistake; the first match names it. Images first: those are "not allowed".
IMAGE_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\x00\x00\x01\x00", "icon"),
    (0, b"\x00\x00\x00\x0cjP", "JPEG 2000"),
)
OTHER_SIGNATURES = ((b"%pdf", "a PDF"), (b"pk\x03\x04", "a zip archive"), (b"{", "JSON"), (b"\x1f\x8b", "gzip data"))
SNIFFED_BYTES = 512
# Of this thread's processor, so that a machine under load or a stopped process fails no image. A photo's header takes
# less than a thousandth of it; a collection of garbage that falls into it takes a fifth.
HEADER_CPU_SECONDS = 0.5
# ... where others wait for this thread. What takes longer is no error yet: a child has the time.
HURRIED_HEADER_CPU_SECONDS = 0.05
READS_A_LOOK = 32  # how often a look at the clock is worth its while

_read = io.BytesIO.read  # found once: a photo's header takes some forty reads


@dataclass(frozen=True)
class DecodeLimits:
    """What may be read: Pillow's format names, the most pixels (width times height), the longest header."""

    formats: tuple[str, ...]
    max_pixels: int
    header_cpu_seconds: float = HEADER_CPU_SECONDS
    openers: tuple[str, ...] = field(init=False)
    is_jpeg_first: bool = field(init=False)  # what begins like a JPEG is opened as one, and as nothing else

    def __post_init__(self) -> None:
        Image.init()  # without it Pillow knows only some of its formats
        # Some formats (MPO) have no opener of their own: another's (JPEG's) tells them by their content.
        object.__setattr__(self, "openers", tuple(name for name in self.formats if name in Image.OPEN))
        before = self.openers[: self.openers.index("JPEG")] if "JPEG" in self.openers else ()
        # Formats without a signature are tried on every file.
        is_first = "JPEG" in self.openers and all(Image.OPEN[name][1] for name in before)
        object.__setattr__(self, "is_jpeg_first", is_first and "JPEG" in self.formats)
        bounds.set_up(self.max_pixels)


class HeaderTakesLongError(DecodeError):
    """Reading its header was ended after ``header_cpu_seconds``."""

    def __init__(self) -> None:
        super().__init__("broken_image", "Its header is longer or in more pieces than an image needs.")


class ImageFile(io.BytesIO):
    """The bytes of one image. ``image`` opens its header once; pixels are decoded when somebody asks for them."""

    _image: Image.Image | None = None
    _header_until: float | None = None  # by this thread's processor time, while the header is being read
    _reads = 0

    def __init__(self, body: bytes, limits: DecodeLimits) -> None:
        super().__init__(body)
        self.limits = limits

    def read(self, size: int | None = -1, /) -> bytes:
        """As every file's; raises HeaderTakesLongError."""
        self._reads += 1
        if self._reads % READS_A_LOOK == 0:
            self._look_at_the_clock()
        return _read(self, size)

    def _look_at_the_clock(self) -> None:
        if self._header_until is not None and time.thread_time() > self._header_until:
            raise HeaderTakesLongError

    @property
    def image(self) -> Image.Image:
        """The opened image. Raises DecodeError with one of ``codes.CODES``."""
        if self._image is None:
            self._image = self._open()
        return self._image

    def decode(self) -> None:
        """Decode the pixels of ``image``, its first frame; once is enough. Raises DecodeError."""
        image = self.image
        try:
            image.load()
        except MemoryError as error:
            raise DecodeError(OUT_OF_MEMORY, "Decoding it takes more memory than DECODE_MAX_MEMORY_MB.") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_many_pixels() from error
        except Exception as error:  # a decoder may raise anything on a broken file; that is a result
            reason = "Its pixels cannot be decoded: the file is cut off or damaged."
            raise DecodeError("broken_pixels", reason) from error

    def _open(self) -> Image.Image:
        self.seek(0)
        self._header_until = time.thread_time() + self.limits.header_cpu_seconds
        try:
            image = Image.open(self, formats=self.limits.openers)
        except DecodeError:
            raise
        except Image.UnidentifiedImageError as error:
            raise self._unidentified() from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_many_pixels() from error
        except MemoryError as error:
            raise DecodeError(OUT_OF_MEMORY, "Decoding it takes more memory than DECODE_MAX_MEMORY_MB.") from error
        except Exception as error:  # a decoder may raise anything on a broken file; that is a result
            raise DecodeError("broken_image", "The header of the image cannot be read.") from error
        finally:
            self._header_until = None
        if image.format not in self.limits.formats:
            raise self._unreadable(str(image.format))
        if image.width * image.height > self.limits.max_pixels:
            raise self._too_many_pixels()
        return image

    def _too_many_pixels(self) -> DecodeError:
        return DecodeError("too_many_pixels", f"The image has more than {self.limits.max_pixels:,} pixels.")

    def _unidentified(self) -> DecodeError:
        start = bytes(self.getbuffer()[:SNIFFED_BYTES])
        for offset, mark, name in IMAGE_SIGNATURES:
            if start[offset : offset + len(mark)] == mark:
                return self._unreadable(name)
        return DecodeError("not_an_image", f"It is {_described(start)}, not an image.")

    def _unreadable(self, name: str) -> DecodeError:
        if name.upper() in self.limits.formats:
            return DecodeError("broken_image", f"It begins like a {name} image, and its header cannot be read.")
        return DecodeError("format_not_allowed", f"{name} images are not read here.")


def _described(start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return "an SVG drawing"
    if b"<html" in text or text.startswith(b"<!doctype html"):
        return "a web page (HTML)"
    for mark, name in OTHER_SIGNATURES:
        if text.startswith(mark):
            return name
    return "something else"
