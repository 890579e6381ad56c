"""Small ONNX models in the layouts of real detectors: fixed boxes, scored by the mean of what the model is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Row = Sequence[float]  # four numbers of the box, and the class


def write(
    path: Path,
    layout: str,
    rows: Sequence[Row],
    *,
    classes: int = 3,
    names: str | None = None,
    size: tuple[int, int] | None = (64, 64),
    batch: int | None = None,
    half: bool = False,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A model that says of every image that ``rows`` are there, each with the mean of the image as its score.

    ``size`` is width and height of the input (None: open); ``batch`` the fixed number of images (None: any).
    """
    table, places = _table(layout, rows, classes)
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    number = np.float16 if half else np.float32
    scored = np.zeros_like(table)
    scored[places] = 1
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["means", "axis"], ["mean"]),  # [n, 1, 1]
        helper.make_node("Mul", ["mean", "scored"], ["scores"]),
        helper.make_node("Add", ["scores", "table"], ["output0"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([3], np.int64), "axis"),
        numpy_helper.from_array(scored[None].astype(number), "scored"),
        numpy_helper.from_array(table[None].astype(number), "table"),
    ]
    width, height = size or ("width", "height")
    images = helper.make_tensor_value_info("images", kind, [batch or "n", 3, height, width])
    output = helper.make_tensor_value_info("output0", kind, [batch or "n", *table.shape])
    return _save(path, nodes, [images], [output], constants, dict(metadata or {}) | ({"names": names} if names else {}))


def _table(layout: str, rows: Sequence[Row], classes: int) -> tuple[np.ndarray, tuple[list[int], list[int]]]:
    """The output of one image without its scores, and where these go."""
    numbers = list(range(len(rows)))
    if layout == "end-to-end":
        table = np.zeros((300, 6), np.float32)
        for number, (*box, class_) in enumerate(rows):
            table[number, :4], table[number, 5] = box, class_
        return table, (numbers, [4] * len(rows))
    if layout == "yolov5":
        table = np.zeros((1200, 5 + classes), np.float32)
        for number, (*box, class_) in enumerate(rows):
            table[number, :4], table[number, 5 + int(class_)] = box, 1
        return table, (numbers, [4] * len(rows))
    assert layout == "yolov8"
    table = np.zeros((4 + classes, 1200), np.float32)
    for number, (*box, _) in enumerate(rows):
        table[:4, number] = box
    return table, ([4 + int(row[4]) for row in rows], numbers)


def write_other(path: Path, shape: Sequence[int | str], outputs: Sequence[Sequence[int]] = ()) -> Path:
    """A model that is no detector: input of this shape, outputs of zeros."""
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(shape))]
    constants = [
        numpy_helper.from_array(np.zeros(list(each), np.float32), f"zeros{number}")
        for number, each in enumerate(outputs)
    ]
    nodes = [helper.make_node("Identity", [each.name], [f"output{at}"]) for at, each in enumerate(constants)]
    values = [
        helper.make_tensor_value_info(f"output{at}", TensorProto.FLOAT, list(each)) for at, each in enumerate(outputs)
    ]
    return _save(path, nodes, inputs, values, constants, {})


def _save(path: Path, nodes: list, inputs: list, outputs: list, constants: list, metadata: dict[str, str]) -> Path:
    graph = helper.make_graph(nodes, "made", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
