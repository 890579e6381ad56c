"""What is known of a photo, as reports and pages show it: what the detector found on it, what its camera wrote."""

from __future__ import annotations

from typing import Any

from app.models import Image
from app.processors import detector, exif
from app.reports.rows import Photo


def as_photo(image: Image, file: str = "") -> Photo:
    """What is known of an image, as reports and pages show it; ``file`` is its path in the archive."""
    entries = image.results or {}
    failed = [entry["error"] for name in (detector.NAME,) if "error" in (entry := entries.get(name, {}))]
    error = f"{image.error_code}: {image.error_message}" if image.error_code else ""
    if failed and not error:
        error = f"{failed[0]['code']}: {failed[0]['message']}"
    found = (entries.get(detector.NAME) or {}).get("result") or {}
    return Photo(
        seq=image.seq,
        name=image.client_ref or image.url or f"image {image.seq + 1}",
        file=file,
        error=error,
        width=found.get("width", image.width),
        height=found.get("height", image.height),
        camera=image.camera_id or "",
        taken_at=image.captured_as_sent or "",
        detections=detections(image),
        exif=(entries.get(exif.NAME) or {}).get("result") or {},
    )


def detections(image: Image) -> list[dict[str, Any]]:
    entry = (image.results or {}).get(detector.NAME) or {}
    found: list[dict[str, Any]] = (entry.get("result") or {}).get("detections", [])
    return found


def is_drawn(image: Image) -> bool:
    """Whether a report shows it with boxes."""
    return bool(detections(image)) and image.storage_key is not None
