# SPDX-License-Identifier: Apache-2.0
"""Reads ``.onnx`` files with the `onnx` library, which is optional. Nothing in them is executed, and no other file is
opened but those beside it that hold its tensors (`host.importers.onnx_tensors`)."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from host.importers.build_network import assemble_fitting
from host.importers.chain_tracer import Dataflow
from host.importers.known_networks import refuse_known
from host.importers.model_file import ModelFile, ModelFormat
from host.importers.onnx_functions import written_out
from host.importers.onnx_node import OnnxNode
from host.importers.onnx_operators import EXPORT_AGAIN, read_function, read_node
from host.importers.onnx_tensors import stored_tensor
from host.importers.stored_tensor import TensorError
from host.network.layers import Network
from nonzero.errors import UserError

__all__ = ["ONNX", "read_onnx"]

BYTES_LIMIT = 1 << 31
"""Greatest size of a protobuf message, in bytes."""

NODES_LIMIT = 10_000

OLDEST_OPSET = 7


def read_onnx(path: Path) -> Dataflow:
    """The parts of the model in the ONNX file ``path``, and the shape of its input.

    Raises
    ------
    UserError
        If the library is missing, or for a file that is damaged, of an unknown version, or not one chain.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise UserError("it is an ONNX file, for which the package onnx is needed; run: pip install onnx") from None
    if path.stat().st_size >= BYTES_LIMIT:
        raise UserError(f"it has {path.stat().st_size:,} bytes, more than an ONNX file can have; export it "
                        "with its weights beside it: torch.onnx.export(..., external_data=True)")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"it is a damaged or cut-off ONNX file ({str(error)[:80]}); {EXPORT_AGAIN}") from None
    newest = onnx.defs.onnx_opset_version()
    versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if not model.graph.node or model.ir_version > onnx.IR_VERSION or len(versions) != 1 \
            or not OLDEST_OPSET <= versions[0] <= newest:
        raise UserError(f"it has the IR version {model.ir_version} and the operator sets {versions}; known are IR "
                        f"versions up to {onnx.IR_VERSION} and one operator set from {OLDEST_OPSET} to {newest}, with "
                        f"at least one node: {EXPORT_AGAIN}, or install a newer onnx")
    if len(model.graph.node) > NODES_LIMIT:
        raise UserError(f"it has {len(model.graph.node):,} nodes, more than {NODES_LIMIT:,}")
    return _follow(model.graph, versions[0], path.parent)


def _follow(graph: Any, opset: int, folder: Path) -> Dataflow:
    constants = {one.name: stored_tensor(one, folder) for one in graph.initializer}
    whole = {one.name: one for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]
    if len(inputs) != 1:
        raise UserError(f"it takes {len(inputs)} inputs, not one; export a model whose forward() takes one tensor")
    sizes = [one.dim_value if 0 < one.dim_value < 1 << 24 else one.dim_param or None
             for one in inputs[0].type.tensor_type.shape.dim]
    flow = Dataflow(inputs[0].name, sizes, constants)
    functions = written_out(graph.node, _scalars(graph, folder), [one.name for one in graph.output])
    for number, node in enumerate(graph.node):
        one = OnnxNode(node, node.name or f"{node.op_type}_{number}", opset, flow, whole, folder)
        if number not in functions:
            read_node(one)
        elif function := functions[number]:
            read_function(one, *function)
    flow.end([one.name for one in graph.output], "return tensors from forward() that it computes from its input")
    return flow


def _scalars(graph: Any, folder: Path) -> dict[str, float]:
    """The constants of one value, by name."""
    tensors = {one.name: one for one in graph.initializer}
    tensors |= {node.output[0]: one.t for node in graph.node if node.op_type == "Constant" and len(node.output) == 1
                for one in node.attribute if one.name == "value" and one.HasField("t")}
    found = {}
    for name, tensor in tensors.items():
        if math.prod(tensor.dims) == 1 and not tensor.external_data:
            one = stored_tensor(tensor, folder)
            with suppress(TensorError):
                found[name] = float(one.read().ravel()[0])
    return found


def _network(model: ModelFile) -> Network:
    refuse_known(model.known)
    flow = read_onnx(model.path)
    return assemble_fitting(model.path.stem, flow.steps, flow.shape, model.input_shape, flow.assumptions, flow.at)


ONNX = ModelFormat(lambda model: model.path.suffix == ".onnx", _network)
