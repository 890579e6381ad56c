"""What is on the photo: objects with label, score and box, found by an ONNX model (``app.processors.detection``)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.later import Later
from app.processors import pixels
from app.processors.image_file import ImageFile

if TYPE_CHECKING:
    from app.processors import detection
    from app.processors.detection import Model, Picture
else:
    detection = Later("app.processors.detection")

NAME = "detector"
VERSION = "1"
IS_MODEL = True
LANE = "detector"
NEEDS = "bytes"  # it decodes them itself, no larger than the model needs

SHIPPED = Path(__file__).parents[2] / "data" / "models" / "ssd_mobilenet_v2_oidv4.onnx"


@dataclass(frozen=True)
class DetectorOptions:
    """``threads`` bounds what one run takes of the machine; detections below ``threshold`` are not kept."""

    model: Path = SHIPPED
    threshold: float = 0.4
    threads: int = 1


class _Opened:
    """The model of this process, opened by the first image that needs it."""

    def __init__(self) -> None:
        self._options = DetectorOptions()
        self._model: Model | None = None
        self._opening = threading.Lock()

    def set_up(self, options: DetectorOptions) -> None:
        with self._opening:
            if options != self._options:
                self._options, self._model = options, None

    def model(self) -> tuple[Model, DetectorOptions]:
        with self._opening:
            if self._model is None:
                self._model = detection.Model(self._options.model, threads=self._options.threads)
            return self._model, self._options


_opened = _Opened()


def set_up(*, model: str = "", threshold: float = 0.4, threads: int = 1) -> None:
    """What the next image is worked on with; ``model`` is a path, empty for the one that is shipped."""
    _opened.set_up(DetectorOptions(Path(model) if model else SHIPPED, threshold, threads))


def execute(img_obj: ImageFile) -> dict[str, Any]:
    """Detections best first, each with label, score and box ``[left, top, width, height]`` in pixels, upright."""
    return execute_batch([img_obj])[0]


def execute_batch(img_objs: Sequence[ImageFile]) -> list[dict[str, Any]]:
    """As ``execute`` for each, in one run of the model. Raises DecodeError where one of them cannot be decoded."""
    model, options = _opened.model()
    # One after the other: of a photo nothing is kept but what the model is given.
    pictures = [_picture(img_obj, model) for img_obj in img_objs]
    found = model.detect(pictures, threshold=options.threshold)
    return [
        {
            "model": model.name,
            "threshold": options.threshold,
            "width": picture.fit.width,
            "height": picture.fit.height,
            "detections": [detection.as_result() for detection in detections],
        }
        for picture, detections in zip(pictures, found, strict=True)
    ]


def _picture(img_obj: ImageFile, model: Model) -> Picture:
    own = ImageFile(img_obj.getvalue(), img_obj.limits)
    is_turned = pixels.orientation(own.image) >= 5
    of = _sides(own.image.size, is_turned)
    if own.image.format == "JPEG":
        # Decodes it at a half, a quarter or an eighth where that is as large as the model will be shown it.
        own.image.draft("RGB", _sides(model.least(of), is_turned))
    own.decode()
    return model.picture(pixels.rgb(own), of=of)


def _sides(size: tuple[int, int], is_turned: bool) -> tuple[int, int]:
    return (size[1], size[0]) if is_turned else size
