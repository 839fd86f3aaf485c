# SPDX-License-Identifier: Apache-2.0
"""Description of a network in a model file of this tool, beside the tensors, as JSON: which layers they belong to,
which activations and poolings lie between them, and the shape of an input. With it no assumption is needed."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    ConvPart,
    FlattenPart,
    LinearPart,
    Part,
    PoolPart,
    shown,
)
from host.importers.stored_tensor import StoredTensor
from host.network.activations import function_of
from host.network.function import Function
from nonzero.errors import UserError
from nonzero.strict_json import parse_json

__all__ = ["KEY", "describe", "described"]

KEY = "nonzero"
"""The description's name in the metadata of a safetensors file, and in the dictionary of torch.save."""

VERSION = 1

TEXT_LIMIT = 1 << 20
"""Greatest number of characters of a description."""

PARTS_LIMIT = 2048

NUMBER_LIMIT = 1 << 16
"""Greatest size, stride, padding, dilation and number of groups."""

AGAIN = "save the network again with host.compile --save or host.train"

_KINDS: dict[str, type] = {"linear": LinearPart, "convolution": ConvPart, "pooling": PoolPart,
                           "adaptive pooling": AdaptivePoolPart, "flatten": FlattenPart}
_FUNCTIONS = ("relu", "activation")
_NAMES = {kind: name for name, kind in _KINDS.items()}

_TENSORS = ("weight", "bias")
_NOT_TOLD = (*_TENSORS, "shape", "same")
_IF_NEEDED = ("end_padding", "out_map", "fixed")
"""Options that are left out where they are None or False."""


def describe(parts: Sequence[Part], input_shape: tuple[int, ...] | None) -> str:
    """The description of a network as JSON text; each part's tensors are in the file under its name.

    Parameters
    ----------
    parts : sequence of Part
        In the order of computation.
    input_shape : tuple of int or None
        Shape of an input without the batch axis; None if it is not known.
    """
    return json.dumps({"version": VERSION, "input_shape": input_shape and list(input_shape),
                       "layers": [_as_entry(part) for part in parts]}, separators=(",", ":"))


def _as_entry(part: Part) -> dict[str, Any]:
    if isinstance(part, ActivationPart):
        if not isinstance(part.activation, Function):
            return {"layer": "relu", "name": part.name}
        told = [one if math.isfinite(one) else None for one in part.activation.parameters]
        return {"layer": "activation", "name": part.name, "function": part.activation.kind, "parameters": told}
    options = {one.name: getattr(part, one.name) for one in fields(part) if one.name not in _NOT_TOLD}
    return {"layer": _NAMES[type(part)], **{name: value for name, value in options.items()
                                            if name not in _IF_NEEDED or value not in (None, False)}}


def described(text: object, tensors: Mapping[str, StoredTensor]) -> tuple[list[Part], tuple[int, ...] | None]:
    """The parts, with their tensors, and the shape of an input if the description has it.

    Parameters
    ----------
    text : object
        The description, which must be a text of at most `TEXT_LIMIT` characters.
    tensors : mapping of StoredTensor
        All tensors of the file, by name.

    Raises
    ------
    UserError
        For a description that is garbled, of another version, or of other tensors.
    """
    try:
        if type(text) is not str or len(text) > TEXT_LIMIT:
            raise ValueError(f"it is no text of at most {TEXT_LIMIT:,} characters")
        found = parse_json(text)
        if type(found) is dict and found.get("version") != VERSION:
            raise UserError(f"its description of the network has the version {shown(found.get('version'))}, but "
                            f"{VERSION} is known; {AGAIN}")
        if type(found) is not dict or found.keys() != {"version", "input_shape", "layers"}:
            raise ValueError("it must have version, input_shape and layers")
        entries, shape = found["layers"], found["input_shape"]
        if type(entries) is not list or len(entries) > PARTS_LIMIT:
            raise ValueError(f"layers must be a list of at most {PARTS_LIMIT:,}")
        if shape is not None and (type(shape) is not list or len(shape) > 8 or not all(map(_is_size, shape))):
            raise ValueError("input_shape must be null or sizes of axes")
        parts = [_as_part(entry, tensors) for entry in entries]
    except ValueError as error:
        raise UserError(f"its description of the network is garbled: {str(error)[:200]}; {AGAIN}") from None
    taken = {f"{part.name}.{leaf}" for part in parts if isinstance(part, LinearPart | ConvPart) for leaf in _TENSORS}
    if extra := [name for name in tensors if name not in taken]:
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        raise UserError(f"its description of the network does not name its tensors {', '.join(map(shown, extra[:5]))}"
                        f"{more}; {AGAIN}")
    return parts, None if shape is None else tuple(shape)


def _as_part(entry: Any, tensors: Mapping[str, StoredTensor]) -> Part:
    if type(entry) is not dict or type(entry.get("layer")) is not str or entry["layer"] not in (*_KINDS, *_FUNCTIONS):
        raise ValueError(f"a layer must be one of {', '.join((*_KINDS, *_FUNCTIONS))}")
    if entry["layer"] in _FUNCTIONS:
        return _as_activation(entry)
    kind = _KINDS[entry["layer"]]
    options = {key: value for key, value in entry.items() if key != "layer"}
    names = [one.name for one in fields(kind) if one.name not in _NOT_TOLD]
    must = [name for name in names if name not in _IF_NEEDED]
    if not set(must) <= options.keys() <= set(names) or type(options["name"]) is not str:
        raise ValueError(f"a layer of the kind {entry['layer']} must have {', '.join(must)}")
    for key, value in options.items():
        options[key] = _option(kind, key, value)
    if kind in (LinearPart, ConvPart):
        weight, bias = (tensors.get(f"{options['name']}.{leaf}") for leaf in _TENSORS)
        if weight is None:
            raise ValueError(f"the tensor {options['name'][:80] + '.weight'!r} is missing")
        options |= {"weight": weight, "bias": bias}
    part: Part = kind(**options)
    return part


def _as_activation(entry: dict[str, Any]) -> Part:
    must = ("name",) if entry["layer"] == "relu" else ("name", "function", "parameters")
    if entry.keys() != {"layer", *must} or type(entry["name"]) is not str:
        raise ValueError(f"a layer of the kind {entry['layer']} must have {', '.join(must)}")
    if entry["layer"] == "relu":
        return ActivationPart(entry["name"])
    kind, told = entry["function"], entry["parameters"]
    if type(kind) is not str or type(told) is not list or not all(one is None or type(one) in (int, float)
                                                                 for one in told):
        raise ValueError("an activation function must have a name and numbers")
    ends = (-math.inf, math.inf)
    if None in told and (kind != "clamp" or len(told) != 2):
        raise ValueError("only a clamp may be open at an end")
    return ActivationPart(entry["name"], function_of(kind, tuple(
        float(ends[place]) if one is None else float(one) for place, one in enumerate(told))))


def _option(kind: type, key: str, value: Any) -> Any:
    """An option of a layer, checked: lists as tuples."""
    if key == "name":
        return value
    if key == "kind" and value in ("max", "average"):
        return value
    if key in ("ceil", "counts_padding", "fixed") and type(value) is bool:
        return value
    if key == "groups" and _is_size(value):
        return value
    least = 0 if key in ("padding", "end_padding") else 1
    if key == "out_map" and type(value) is list and len(value) == 3 and all(map(_is_size, value)):
        return tuple(value)
    pairs = ("end_padding", "stride", "padding", "dilation", "window", "size")
    if key in pairs and type(value) is list and len(value) == 2 \
            and all((key == "size" and one is None) or (_is_number(one) and one >= least) for one in value):
        return tuple(value)
    raise ValueError(f"the option {key[:40]!r} of a layer of the kind {_NAMES[kind]} is out of range")


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= NUMBER_LIMIT


def _is_size(value: Any) -> bool:
    return _is_number(value) and value > 0
