# SPDX-License-Identifier: Apache-2.0
"""Reads ``.tflite`` files of TensorFlow Lite with the `tflite` library, which is optional. Nothing in them is executed.

Images have their channels last there, and first in a `Network`: weights and shapes are transposed. Integers are read as
the floats that they represent, and quantised again.
"""

import struct
from pathlib import Path
from typing import Any

from host.importers.build_network import assemble_fitting
from host.importers.chain_tracer import Dataflow
from host.importers.known_networks import refuse_known
from host.importers.model_file import ModelFile, ModelFormat
from host.importers.source_layers import shown
from host.importers.tflite_node import LiteNode
from host.importers.tflite_operators import read_node
from host.importers.tflite_tensors import LiteTensor, read_tensor
from host.network.layers import Network
from nonzero.errors import UserError

__all__ = ["TFLITE"]

MAGIC = b"TFL3"
"""Bytes 4 to 7 of a TensorFlow Lite file."""

BYTES_LIMIT = 1 << 31
"""Greatest size of a flatbuffer, in bytes."""

TENSORS_LIMIT = NODES_LIMIT = 10_000

AGAIN = "convert the model again: tf.lite.TFLiteConverter.from_keras_model(model).convert()"

GARBLED = (struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError)
"""Exceptions of the library for a file with an offset outside the file."""


def _read(path: Path) -> Dataflow:
    """The model's parts and the shape of its input.

    Raises
    ------
    UserError
        If the library is missing, or for a file that is damaged, of several graphs, or not one chain.
    """
    try:
        import tflite
    except ImportError:
        raise UserError("it is a TensorFlow Lite file, for which the package tflite is needed; run: pip install tflite"
                        ) from None
    if path.stat().st_size >= BYTES_LIMIT:
        raise UserError(f"it has {path.stat().st_size:,} bytes, more than a TensorFlow Lite file can have; {AGAIN}")
    content = path.read_bytes()
    if content[4:8] != MAGIC:
        raise UserError(f"it is no TensorFlow Lite file: bytes 4 to 7 are {content[4:8]!r}, not {MAGIC!r}; {AGAIN}")
    try:
        model = tflite.Model.GetRootAs(content, 0)
        if model.SubgraphsLength() != 1:
            raise UserError(f"it has {model.SubgraphsLength()} graphs, not one; convert one without control flow: "
                            f"{AGAIN}")
        return _follow(model, model.Subgraphs(0))
    except GARBLED as error:
        raise UserError(f"it is a damaged or cut-off TensorFlow Lite file ({type(error).__name__}: "
                        f"{str(error)[:80]}); {AGAIN}") from None


def _follow(model: Any, graph: Any) -> Dataflow:
    import tflite
    for what, count, most in (("tensors", graph.TensorsLength(), TENSORS_LIMIT),
                              ("nodes", graph.OperatorsLength(), NODES_LIMIT)):
        if not 0 < count <= most:
            raise UserError(f"it has {count:,} {what}, but 1 to {most:,} are read; {AGAIN}")
    if graph.InputsLength() != 1:
        raise UserError(f"it takes {graph.InputsLength()} inputs, not one; convert a model that takes one tensor")
    tensors = [read_tensor(graph.Tensors(number), model) for number in range(graph.TensorsLength())]
    operators = {number: name for name, number in vars(tflite.BuiltinOperator).items() if type(number) is int}
    taken = tensors[_place(graph.Inputs(0), tensors)]
    constants = {str(number): one.stored() for number, one in enumerate(tensors) if one.data is not None}
    flow = Dataflow(str(graph.Inputs(0)), _channels_first(taken.sizes), constants)
    if taken.is_integer:
        flow.assumptions.append(f"the input {shown(taken.name)} is {taken.dtype} in the file; here it is the float "
                                f"that it stands for: give data as floats, (integer - {taken.zero_points[0]}) * "
                                f"{taken.scales[0]:.6g}")
    if any(one.is_integer and one.data is not None for one in tensors):
        flow.assumptions.append("weights that are integers in the file are read as the floats that they stand for, and "
                                "quantised again by this tool")
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Old writers know only the first of the two numbers, which has one byte.
        kind = operators.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
        kind = (code.CustomCode() or b"").decode("utf-8", "replace")[:80] if kind == "CUSTOM" else kind
        inputs = [_place(one, tensors, absent=True) for one in _vector(operator.InputsAsNumpy(),
                                                                       operator.InputsLength())]
        outputs = [_place(one, tensors) for one in _vector(operator.OutputsAsNumpy(), operator.OutputsLength())]
        if outputs:
            read_node(LiteNode(kind, operator, inputs, outputs, tensors, flow))
    made = [str(one) for one in _vector(graph.OutputsAsNumpy(), graph.OutputsLength())]
    flow.end(made, "convert a model that gives tensors that it computes from its input")
    return flow


def _vector(values: Any, count: int) -> list[int]:
    if count > NODES_LIMIT:
        raise ValueError(f"{count:,} tensors of a node")
    return [int(value) for value in values] if count else []


def _place(number: int, tensors: list[LiteTensor], *, absent: bool = False) -> int:
    """Checks the number of a tensor; -1 stands for an input that is left out."""
    if not (-1 if absent else 0) <= number < len(tensors):
        raise ValueError(f"a tensor of the number {number}")
    return number


def _channels_first(sizes: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Axes of the input with the channel axis behind the batch axis."""
    return (sizes[0], sizes[3], *sizes[1:3]) if len(sizes) == 4 else sizes


def _network(model: ModelFile) -> Network:
    refuse_known(model.known)
    flow = _read(model.path)
    return assemble_fitting(model.path.stem, flow.steps, flow.shape, model.input_shape, flow.assumptions, flow.at)


TFLITE = ModelFormat(lambda model: model.path.suffix == ".tflite" or model.start[4:8] == MAGIC, _network)
