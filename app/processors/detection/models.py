"""An ONNX model opened for detection: its classes, its input, and a batch of images through one run."""

from __future__ import annotations

import ast
import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.errors import SettingError
from app.processors.detection import layouts
from app.processors.detection.boxes import MOST_DETECTIONS, Detection
from app.processors.detection.layouts import Fit, Size

DEFAULT_SIDE = 640  # pixels, where a model leaves its input's size open and does not say in its metadata
NUMBERS: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# The best of these that is there: the packages onnxruntime-gpu and -openvino bring more than the processor's.
PROVIDERS = ("CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo as the model's square, and how it lies in it."""

    square: np.ndarray
    fit: Fit


class Model:
    """One session. Its use by several threads at once is safe, and no faster than by one."""

    def __init__(self, path: Path, *, threads: int, most_overlap: float = 0.45) -> None:
        """Raises SettingError where the file cannot be used for detection."""
        self.name = path.stem
        self._most_overlap = most_overlap
        self._session = _open(path, threads)
        self._metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        (self._input,) = self._session.get_inputs()
        if self._input.type not in NUMBERS or len(self._input.shape) != 4 or self._input.shape[1] != 3:
            raise SettingError(
                f"DETECTOR_MODEL={path}: its input is {self._input.shape}, must be [n, 3, height, width]"
            )
        self.labels = _labels(self._metadata.get("names")) or _labels_beside(path)
        self.size = self._size()
        first = self._input.shape[0]
        self._fixed_batch = first if isinstance(first, int) and first > 0 else None
        self._wants = layouts.SQUEEZED if len(self._session.get_outputs()) == 2 else layouts.LETTERBOXED
        self._check()

    def _size(self) -> tuple[int, int]:
        """Width and height of the input in pixels."""
        try:
            stated = json.loads(self._metadata.get("imgsz", "null")) or DEFAULT_SIDE
        except ValueError:
            stated = DEFAULT_SIDE
        sides = stated if isinstance(stated, list) and len(stated) == 2 else [stated, stated]
        height, width = (
            own if isinstance(own, int) and own > 0 else int(said)
            for own, said in zip(self._input.shape[2:], sides, strict=True)
        )
        return width, height

    def _check(self) -> None:
        """A run on a grey square tells whether its outputs can be read, before a photo has to."""
        grey = Image.new("RGB", self.size, layouts.GREY)
        self.detect([self.picture(grey, of=self.size)], threshold=1.0)

    def least(self, of: Size) -> Size:
        """How large a copy of a photo ``of`` that size must be at least, so that nothing is lost to the model."""
        return self._wants.inner(of, self.size)

    def picture(self, image: Image.Image, *, of: Size) -> Picture:
        """``image`` is RGB and upright; it may be a smaller copy ``of`` a photo in whose pixels boxes are counted."""
        return Picture(*self._wants.place(image, of, self.size))

    def detect(self, pictures: Sequence[Picture], *, threshold: float) -> list[list[Detection]]:
        """What is found on each picture, best first."""
        found: list[list[Detection]] = []
        step = self._fixed_batch or len(pictures) or 1
        for start in range(0, len(pictures), step):
            part = pictures[start : start + step]
            outputs = self._run([each.square for each in part])
            for place, each in enumerate(part):
                found.append(self._read([output[place] for output in outputs], each.fit, threshold))
        return found

    def _run(self, squares: list[np.ndarray]) -> list[np.ndarray]:
        batch = self._wants.numbers(squares, NUMBERS[self._input.type])
        if self._fixed_batch and len(batch) < self._fixed_batch:
            empty = np.zeros((self._fixed_batch - len(batch), *batch.shape[1:]), batch.dtype)
            batch = np.concatenate([batch, empty])
        outputs = self._session.run(None, {self._input.name: batch})
        return [np.asarray(output, np.float32) for output in outputs]

    def _read(self, outputs: list[np.ndarray], fit: Fit, threshold: float) -> list[Detection]:
        shapes = [(1, *output.shape) for output in outputs]
        read = layouts.reader(shapes, len(self.labels))
        if read is None:
            raise SettingError(
                f"DETECTOR_MODEL={self.name}: outputs {[list(shape) for shape in shapes]} "
                f"with {len(self.labels) or 'no'} class names are of no known layout"
            )
        kept = read(outputs, self.size).best(threshold)
        if not kept.is_final:
            kept = kept.without_overlaps(self._most_overlap)
        boxes = fit.undo(kept.boxes)
        found = [
            Detection(self._label(int(class_)), float(score), *_sized(box))
            for box, score, class_ in zip(boxes, kept.scores, kept.classes, strict=True)
        ]
        return [each for each in found if each.width > 0 and each.height > 0][:MOST_DETECTIONS]

    def _label(self, class_: int) -> str:
        return self.labels[class_] if 0 <= class_ < len(self.labels) else f"class {class_}"


def _sized(box: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(edge) for edge in box)
    return left, top, right - left, bottom - top


def runtime() -> Any:
    """The module onnxruntime, which sends nothing to anybody."""
    # From 1.32 on it reports its use to Microsoft unless this stands in the environment before it is imported.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Not at the top: it takes a third of a second and 30 MB, and only processes that detect need it.
    return importlib.import_module("onnxruntime")


def _open(path: Path, threads: int) -> Any:
    ort = runtime()
    ort.set_default_logger_severity(3)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for work in a busy loop would take the time of the other workers of the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    known = ort.get_available_providers()
    try:
        session = ort.InferenceSession(str(path), options, providers=[name for name in PROVIDERS if name in known])
    except Exception as error:  # its own errors have no common base
        raise SettingError(f"DETECTOR_MODEL={path}: cannot be opened: {str(error)[:200]}") from error
    if len(session.get_inputs()) != 1:
        raise SettingError(f"DETECTOR_MODEL={path}: has {len(session.get_inputs())} inputs, must have one")
    return session


def _labels(names: str | None) -> list[str]:
    """Class names as exporters write them: a dictionary or list, as JSON or as Python prints it."""
    if not names:
        return []
    try:
        found = ast.literal_eval(names)
    except (ValueError, SyntaxError):
        try:
            found = json.loads(names)
        except ValueError:
            return []
    if isinstance(found, dict):
        by_number = {int(key): str(name) for key, name in found.items() if str(key).isdecimal()}
        return [by_number.get(number, f"class {number}") for number in range(max(by_number, default=-1) + 1)]
    return [str(name) for name in found] if isinstance(found, list | tuple) else []


def _labels_beside(path: Path) -> list[str]:
    """The lines of ``<model>.names``, where there is such a file; the first is class 0."""
    beside = path.with_suffix(".names")
    return beside.read_text("utf-8").splitlines() if beside.is_file() else []
