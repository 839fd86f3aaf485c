# SPDX-License-Identifier: Apache-2.0
"""Reads and writes safetensors files."""

import math
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from host.importers.build_network import assemble_fitting
from host.importers.description import KEY, describe
from host.importers.model_file import ModelFile, ModelFormat
from host.importers.source_layers import ActivationPart, ConvPart, FlattenPart, LinearPart, Part, PoolPart, in_a_row
from host.importers.state_dict import check_count, read_tensors
from host.importers.stored_tensor import StoredTensor, dtype_problem, shape_problem
from host.network.activations import is_monotone
from host.network.graph import is_chain
from host.network.layers import Linear, Network
from nonzero.errors import UserError
from nonzero.strict_json import parse_json
from rtl.numbers import Activation

__all__ = ["HEADER_LIMIT", "SAFETENSORS", "safetensors_file"]


def safetensors_file(network: Network) -> bytes:
    """A safetensors file of ``network``: weights and biases, float32, by the names of its layers.

    Its metadata has the description of the network (`host.importers.description`), with which the file is read as the
    network that it is. Poolings, whose weights are fixed, have no tensors. Normalisations are folded in, and neurons
    that were removed are missing. Raises `UserError` for a network with branches.
    """
    if not is_chain(network.layers):
        raise UserError("--save writes chains of layers, and this network has branches; leave it out, and keep the "
                        "model file that it was read from")
    tensors = {}
    for layer in network.layers:
        if not layer.fixed or layer.geometry is None:
            tensors[f"{layer.name}.weight"] = np.ascontiguousarray(_kernels(layer), np.float32)
            tensors[f"{layer.name}.bias"] = np.ascontiguousarray(layer.bias, np.float32)
    return save(tensors, {KEY: describe(_parts(network), _input_shape(network))})


def _kernels(layer: Linear) -> np.ndarray:
    """The weights in torch's shape."""
    if layer.geometry is None:
        return layer.weight
    channels = layer.geometry.in_shape[0] // layer.geometry.groups
    return layer.weight.reshape(layer.rows, channels, *layer.geometry.kernel)


def _input_shape(network: Network) -> tuple[int, ...] | None:
    """Channels, height and width; None if the network takes values in any shape."""
    first = network.layers[0].geometry
    known = first.in_shape if first else network.input_shape
    return known if known is not None and len(known) == 3 else None


def _parts(network: Network) -> list[Part]:
    """Parts from which `host.importers.build_network` makes this network; the tensors are left out."""
    parts: list[Part] = []
    names = {layer.name for layer in network.layers}
    flat = _input_shape(network) is None
    for layer in network.layers:
        if layer.geometry is None:
            if not flat:
                parts.append(FlattenPart(_new_name(f"{layer.name}.flatten", names)))
            flat = layer.out_map is None
            parts.append(LinearPart(layer.name, StoredTensor(layer.weight.shape), None, layer.out_map, layer.fixed))
            parts += _activation_parts(layer, names)
        else:
            parts += _spatial_parts(layer, names)
    return parts


def _spatial_parts(layer: Linear, names: set[str]) -> list[Part]:
    """Parts of a convolution or a pooling, with the max pooling and the ReLU behind it."""
    geometry, parts = layer.geometry, list[Part]()
    assert geometry is not None
    if not layer.fixed:
        parts.append(ConvPart(layer.name, StoredTensor(layer.weight.shape), None, geometry.stride, geometry.padding,
                              groups=geometry.groups, end_padding=geometry.end_padding))
    elif math.prod(geometry.kernel + geometry.stride) > 1:
        parts.append(PoolPart(layer.name, "average", geometry.kernel, geometry.stride, geometry.padding))
    late = not is_monotone(layer.activation)
    if late:
        parts += _activation_parts(layer, names)
    if geometry.pool > 1:
        name = _new_name(f"{layer.name}.pool", names) if parts else layer.name
        parts.append(PoolPart(name, "max", (geometry.pool,) * 2, (geometry.pool_stride,) * 2))
    return parts if late else parts + _activation_parts(layer, names)


def _activation_parts(layer: Linear, names: set[str]) -> list[Part]:
    if layer.activation is Activation.IDENTITY:
        return []
    end = "relu" if layer.activation is Activation.RELU else "activation"
    return [ActivationPart(_new_name(f"{layer.name}.{end}", names), layer.activation)]


def _new_name(name: str, names: set[str]) -> str:
    while name in names:
        name += "_"
    names.add(name)
    return name


HEADER_LIMIT = 1 << 23
"""Greatest size of the header of a safetensors file, in bytes."""


_SAFETENSORS_FORMATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def check_header(file: IO[bytes], size: int) -> None:
    """Checks that the header of a safetensors file is whole and names each tensor once.

    Parameters
    ----------
    file : binary file
        At its beginning; it is read to the end of the header.
    size : int
        Size of the file in bytes.

    Raises
    ------
    UserError
        If the header is not whole, or names a tensor twice.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise UserError(f"it is a damaged or cut-off safetensors file: its header claims {length:,} bytes "
                        f"of the file's {size:,} (at most {HEADER_LIMIT:,}); save it again")
    try:
        parse_json(file.read(length))
    except ValueError as error:
        raise UserError(f"it is a damaged safetensors file (header: {str(error)[:120]}); save it again") from None


def read_safetensors(path: Path, input_shape: tuple[int, ...] | None, known: str | None) -> Network:
    """Reads a network from a safetensors file.

    Parameters
    ----------
    path : Path
    input_shape : tuple of int or None
        Channels, height and width of an input, unless the file gives them.
    known : str or None
        The network of `host.network.zoo` that the user says the tensors are of.

    Raises
    ------
    UserError
        If the file is damaged, or as `assemble_fitting` and `host.importers.state_dict.read_tensors`.
    """
    try:
        # The library checks that shapes, number formats and positions agree with each other.
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            check_count(len(names))
            tensors = {name: _safetensor(file, name) for name in names}
            description = (file.metadata() or {}).get(KEY)
            reading = read_tensors(tensors, ordered=False, description=description, known=known)
            return assemble_fitting(path.stem, in_a_row(reading.parts), reading.shape, input_shape, reading.assumptions)
    except SafetensorError as error:
        raise UserError(f"it is a damaged safetensors file ({error}); save it again") from None


def _safetensor(file: Any, name: str) -> StoredTensor:
    entry = file.get_slice(name)
    shape = tuple(entry.get_shape())
    dtype = _SAFETENSORS_FORMATS.get(entry.get_dtype(), str(entry.get_dtype()))
    if problem := dtype_problem(dtype) or shape_problem(shape):
        return StoredTensor(shape, problem=problem)

    def load() -> np.ndarray:
        tensor = file.get_tensor(name)
        return (tensor.float() if dtype == "bfloat16" else tensor).numpy()
    return StoredTensor(shape, math.prod(shape), load)


def _network(model: ModelFile) -> Network:
    check_header(model.file, model.size)
    return read_safetensors(model.path, model.input_shape, model.known)


SAFETENSORS = ModelFormat(lambda model: model.path.suffix == ".safetensors" or model.start[8:] == b"{", _network)
