"""Object detection on onnxruntime: models of several layouts, their boxes in pixels of the upright image."""

from __future__ import annotations

from app.processors.detection.boxes import Detection
from app.processors.detection.models import Model, Picture

__all__ = ["Detection", "Model", "Picture"]
