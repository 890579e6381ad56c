"""How a model wants its image, and how its outputs are read: told apart by the shapes of the outputs.

============================  ==========================================  ==================
outputs                       what                                        input
============================  ==========================================  ==================
``[n, A, 4]`` ``[n, A, C]``   SSD encodings and logits, class 0 nothing   squeezed, -1 to 1
``[n, N, 6]``, N up to 1,000  YOLOv10, RT-DETR end to end                 letterboxed, 0 to 1
``[n, N, 5 + C]``             YOLOv5, MegaDetector v5                     letterboxed, 0 to 1
``[n, 4 + C, N]``             YOLOv8, 9, 11, MegaDetector v6              letterboxed, 0 to 1
============================  ==========================================  ==================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from app.processors.detection.boxes import Candidates

GREY = (114, 114, 114)  # what the letterbox of YOLOv5 and later is filled with
MOST_END_TO_END = 1000
# The anchors of SSD as in TensorFlow's object detection API: six layers, scales in equal steps, the last one open.
SSD_STRIDE = 16
SSD_SCALES = (*np.linspace(0.2, 0.95, 6), 1.0)
SSD_LAYERS = 6
LEAST_SCORE = 0.01

Size = tuple[int, int]  # width and height in pixels


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image was put into the model's square: ``model = image * scale + offset``, for x and y."""

    width: int  # of the image, pixels
    height: int
    scale: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    def undo(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes in pixels of the model's input, in pixels of the image, cut at its edges."""
        scale, offset = np.array(self.scale * 2), np.array(self.offset * 2)
        edges = (self.width, self.height) * 2
        return np.clip((boxes - offset) / scale, 0, edges)


@dataclass(frozen=True, slots=True)
class Input:
    """How a model wants its images: all of its square or between grey bars, and which numbers black and white are."""

    is_squeezed: bool
    black: float
    white: float

    def inner(self, of: Size, size: Size) -> Size:
        """How large an image ``of`` that size is in the model's square of ``size``."""
        if self.is_squeezed:
            return size
        scale = min(size[0] / of[0], size[1] / of[1])
        return max(1, round(of[0] * scale)), max(1, round(of[1] * scale))

    def place(self, image: Image.Image, of: Size, size: Size) -> tuple[np.ndarray, Fit]:
        """The square as bytes ``[height, width, 3]``; boxes will be counted in an image ``of`` that size."""
        inner = self.inner(of, size)
        placed = image.resize(inner, Image.Resampling.BILINEAR)
        offset = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
        if inner != size:
            square = Image.new("RGB", size, GREY)
            square.paste(placed, offset)
            placed = square
        return np.asarray(placed), Fit(*of, (inner[0] / of[0], inner[1] / of[1]), offset)

    def numbers(self, squares: Sequence[np.ndarray], kind: type[np.floating[Any]]) -> np.ndarray:
        """A batch as the model takes it, ``[n, 3, height, width]``."""
        # Turned round while they are bytes: of floats that is four times as much to move.
        batch = np.ascontiguousarray(np.stack(squares).transpose(0, 3, 1, 2)).astype(np.float32)
        batch *= (self.white - self.black) / 255
        batch += self.black
        return batch.astype(kind, copy=False)


SQUEEZED = Input(is_squeezed=True, black=-1, white=1)
LETTERBOXED = Input(is_squeezed=False, black=0, white=1)


Read = Callable[[Sequence[np.ndarray], Size], Candidates]


def reader(shapes: Sequence[tuple[int, ...]], classes: int) -> Read | None:
    """What reads outputs of these shapes, where the model is said to have ``classes`` (0: nobody says)."""
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        return _read_ssd if shapes[0][2] == 4 and shapes[0][1] == shapes[1][1] else None
    if len(shapes) < 1 or len(shapes[0]) != 3:
        return None
    _, rows, columns = shapes[0]
    if columns == 6 and rows <= MOST_END_TO_END and classes != rows - 4:
        return _read_end_to_end
    if classes and columns == 5 + classes:
        return _read_with_objectness
    if classes and rows == 4 + classes:
        return _read_by_columns
    if classes or min(rows, columns) < 5:
        return None
    return _read_with_objectness if rows > columns else _read_by_columns


def _read_ssd(outputs: Sequence[np.ndarray], size: Size) -> Candidates:
    """Encodings relative to anchors, and logits whose first column means that nothing is there."""
    encodings, logits = outputs
    anchors = ssd_anchors(size)
    centres = encodings[:, :2] / 10 * anchors[:, 2:] + anchors[:, :2]
    halves = np.exp(encodings[:, 2:] / 5) * anchors[:, 2:] / 2
    corners = np.concatenate([centres - halves, centres + halves], axis=1)
    boxes = corners[:, [1, 0, 3, 2]] * np.array([*size, *size])
    scores = 1 / (1 + np.exp(-logits[:, 1:]))
    # Every class of an anchor is a candidate of its own, but for those that no threshold would keep.
    anchor, class_ = np.nonzero(scores >= LEAST_SCORE)
    return Candidates(boxes[anchor], scores[anchor, class_], class_)


@lru_cache(maxsize=4)
def ssd_anchors(size: Size) -> np.ndarray:
    """``[A, 4]``: centre y, centre x, height, width, as shares of the square."""
    rows = []
    for layer in range(SSD_LAYERS):
        across, down = (-(-side // (SSD_STRIDE << layer)) for side in size)
        shapes = _ssd_shapes(layer)
        for y in range(down):
            for x in range(across):
                rows += [((y + 0.5) / down, (x + 0.5) / across, height, width) for height, width in shapes]
    return np.array(rows)


def _ssd_shapes(layer: int) -> list[tuple[float, float]]:
    """Height and width of the anchors of one cell."""
    scale, following = SSD_SCALES[layer], SSD_SCALES[layer + 1]
    if layer == 0:
        return [(0.1, 0.1), *(_ssd_shape(scale, ratio) for ratio in (2.0, 0.5))]
    between = float(np.sqrt(scale * following))
    return [*(_ssd_shape(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)), (between, between)]


def _ssd_shape(scale: float, ratio: float) -> tuple[float, float]:
    """``ratio`` is width to height."""
    return float(scale / np.sqrt(ratio)), float(scale * np.sqrt(ratio))


def _read_with_objectness(outputs: Sequence[np.ndarray], _size: Size) -> Candidates:
    """Rows of centre x, centre y, width, height, objectness, and a score a class."""
    rows = outputs[0]
    classes = rows[:, 5:].argmax(axis=1)
    return Candidates(_corners(rows[:, :4]), rows[:, 4] * rows[:, 5:].max(axis=1), classes)


def _read_by_columns(outputs: Sequence[np.ndarray], _size: Size) -> Candidates:
    """Columns of centre x, centre y, width, height, and a score a class."""
    columns = outputs[0]
    return Candidates(_corners(columns[:4].T), columns[4:].max(axis=0), columns[4:].argmax(axis=0))


def _read_end_to_end(outputs: Sequence[np.ndarray], size: Size) -> Candidates:
    """Rows of left, top, right, bottom, score, class; some exports count the edges in shares of the square."""
    rows = outputs[0]
    boxes = rows[:, :4]
    if len(boxes) and np.abs(boxes).max() <= 2:
        boxes = boxes * np.array([*size, *size])
    return Candidates(boxes, rows[:, 4], rows[:, 5].astype(int), is_final=True)


def _corners(boxes: np.ndarray) -> np.ndarray:
    halves = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - halves, boxes[:, :2] + halves], axis=1)
