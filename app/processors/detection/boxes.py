"""Boxes as numbers: overlap, and which of many boxes for one thing stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

MOST_CANDIDATES = 3000
MOST_DETECTIONS = 300


@dataclass(frozen=True, slots=True)
class Detection:
    """A thing that was found; the box in pixels of the upright image."""

    label: str
    score: float
    left: float
    top: float
    width: float
    height: float

    def as_result(self) -> dict[str, Any]:
        """``box`` is ``[left, top, width, height]``."""
        box = [round(float(value), 1) for value in (self.left, self.top, self.width, self.height)]
        return {"label": self.label, "score": round(float(self.score), 4), "box": box}


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a model says of one image: boxes ``[n, 4]`` (left, top, right, bottom), scores ``[n]``, classes ``[n]``."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    is_final: bool = False  # the model itself has chosen among boxes for one thing

    def best(self, threshold: float) -> Candidates:
        """Those with at least the score, best first, finite and with an area."""
        kept = np.flatnonzero(self.scores >= threshold)  # few of thousands; what else is asked, is asked of these
        left, top, right, bottom = self.boxes[kept].T
        is_box = np.isfinite(self.boxes[kept]).all(axis=1) & (right > left) & (bottom > top)
        kept = kept[is_box]
        kept = kept[np.argsort(-self.scores[kept], kind="stable")][:MOST_CANDIDATES]
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], classes=self.classes[kept])

    def without_overlaps(self, most_overlap: float) -> Candidates:
        """Greedy non-maximum suppression within each class; they must be sorted by score."""
        kept: list[int] = []
        for class_ in np.unique(self.classes):
            left = np.flatnonzero(self.classes == class_)
            while left.size:
                best, others = left[0], left[1:]
                kept.append(int(best))
                left = others[overlaps(self.boxes[best], self.boxes[others]) <= most_overlap]
        kept.sort()
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], classes=self.classes[kept])


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with each of the others, ``[n]``, 0 to 1."""
    least = np.maximum(box[:2], boxes[:, :2])
    most = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(most - least, 0), axis=1)
    area, areas = np.prod(box[2:] - box[:2]), np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / np.maximum(area + areas - shared, 1e-12)
