"""What a photo says of itself, kept in the copy that is drawn on: camera, time and place, for the upright pixels."""

from __future__ import annotations

from PIL import ExifTags, Image

MOST_BYTES = 65_533  # of one segment of a JPEG
# Of the photo as it was: another's thumbnail, and notes of the camera that point into its own file.
NOT_KEPT = (ExifTags.Base.MakerNote,)


def exif_for(source: Image.Image, drawn: Image.Image) -> bytes:
    """The EXIF of ``source`` as that of ``drawn``, which is upright; empty where there is none or it cannot be read."""
    try:
        exif = source.getexif()
        if not exif:
            return b""
        exif[ExifTags.Base.Orientation] = 1
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        if inner:
            for tag in NOT_KEPT:
                inner.pop(tag, None)
            inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight] = drawn.size
        exif.get_ifd(ExifTags.IFD.GPSInfo)
        written = exif.tobytes()
    except Exception:  # noqa: BLE001 - Pillow raises what it likes on a corrupt block; the photo is drawn all the same
        return b""
    return written if len(written) <= MOST_BYTES else b""
