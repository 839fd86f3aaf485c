# SPDX-License-Identifier: Apache-2.0
"""The memory image: ``model.img``, see docs/formats.md.

The file has two parts. The engine image goes over the link as it is and is parsed by `rtl.engine.loader`; the host
part says how inputs and outputs map to activations. Each ends with its own CRC-32. Nothing in either is executed.
"""

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host.image.activation_layout import ActivationLayout
from host.image.space_to_depth import Fold
from host.network.layers import Geometry
from nonzero.errors import UserError
from rtl.config import RANGES, EngineConfig
from rtl.image_file import ImageParts, read_parts, split_image

__all__ = ["Image", "parse_image", "read_image"]

MOST_WORDS = RANGES["act_depth"][1]
"""Addresses of activation memory."""

MOST_FOLDED_STRIDE = 1 << 8
MOST_AXES = 8

MOST_PLACES = MOST_WORDS * RANGES["pes"][1]
"""Activations of the largest activation memory."""


@dataclass(frozen=True)
class Image:
    """A parsed image.

    Attributes
    ----------
    engine : bytes
        The part of the image that the engine loads.
    config_hash : bytes
        The `EngineConfig.hash` it was made for.
    input_words : int
        Activation words of one input.
    input_values : int64 array
        Which value of the first layer's input, as the engine runs that layer, each input activation is; -1 for none.
    input_scale : float
    input_signed : bool
    layers : list of dict
        ``name``, ``output_base`` and ``output_words`` (activation words), ``output_order`` of each layer; its
        ``geometry`` if it is a convolution, and how it is folded (``fold``) if it is.
    input_shape : tuple of int, optional
        Axes of one input of the network; images of earlier versions do not tell them unless it begins with a
        convolution.
    output_scale, output_offset : float64 array, shape ``[outputs]``, optional
        By what each integer output is multiplied, and what is added then; None if they have one scale, which the image
        does not tell.
    """

    engine: bytes
    config_hash: bytes
    input_words: int
    input_values: np.ndarray
    input_scale: float
    input_signed: bool
    layers: list[dict[str, Any]]
    input_shape: tuple[int, ...] | None = None
    output_scale: np.ndarray | None = None
    output_offset: np.ndarray | None = None

    @functools.cached_property
    def input_order(self) -> np.ndarray:
        """Which of the network's inputs each input activation is, -1 for none: int64 array."""
        fold = self.layers[0].get("fold")
        return np.append(fold.values, -1)[self.input_values] if fold else self.input_values

    def floats(self, integers: np.ndarray) -> np.ndarray | None:
        """The outputs ``integers`` ``[n, outputs]`` as floats; None if the image does not tell their scales."""
        if self.output_scale is None or self.output_offset is None:
            return None
        found: np.ndarray = integers * self.output_scale + self.output_offset
        return found

    @property
    def inputs(self) -> int:
        """Values of one input; at least, if `input_shape` is not known."""
        return int(self.input_order.max(initial=0)) + 1 if self.input_shape is None else math.prod(self.input_shape)

    @property
    def readable(self) -> list[int]:
        """Numbers of the layers whose outputs no later layer overwrites: they can be read after an inference."""
        regions = [(layer["output_base"], layer["output_base"] + layer["output_words"]) for layer in self.layers]
        return [number for number, (begin, end) in enumerate(regions)
                if all(end <= later_begin or begin >= later_end for later_begin, later_end in regions[number + 1:])]


def read_image(path: Path, config: EngineConfig | None = None) -> Image:
    """Reads the image file ``path`` and checks it, as `parse_image` does with ``config``. Raises `UserError`."""
    return _image(read_parts(path, config), str(path))


def parse_image(content: bytes, config: EngineConfig | None = None, *, name: str = "image") -> Image:
    """Checks an image and takes it apart.

    Parameters
    ----------
    content : bytes
        A whole file.
    config : EngineConfig, optional
        The engine that is to load it.
    name : str
        Name of the image in errors.

    Raises
    ------
    UserError
        For anything but a sound image, made for that engine.
    """
    return _image(split_image(content, config, name), name)


def _image(parts: ImageParts, name: str) -> Image:
    try:
        fields = json.loads(parts.host)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UserError(f"image '{name}' is damaged: its host part is not a JSON object")
    return _checked(parts.engine, parts.config_hash, parts.input_words, fields, name)


def _checked(engine: bytes, config_hash: bytes, input_words: int, fields: dict[str, Any], name: str) -> Image:
    """A right CRC does not make a right content: every field is checked before it is used."""
    try:
        layers = [_layer(layer) for layer in fields["layers"]]
        if not layers or any(layer["output_base"] + layer["output_words"] > MOST_WORDS for layer in layers):
            raise ValueError("the layers' places in the activation memory")
        channels = _places(fields["input_order"], -1)
        first = layers[0]
        if any("fold" in layer for layer in layers[1:]):
            raise ValueError("a fold of a layer that is not the first")
        seen = first["fold"].folded if "fold" in first else first.get("geometry")
        pixels = seen.pixels if seen else 1
        _check_size(len(channels), pixels)
        if seen and channels.max(initial=0) >= seen.in_shape[0]:
            raise ValueError("an order of activations")
        return Image(engine, config_hash, input_words, ActivationLayout(channels, 1, pixels).values,
                     _scale(fields["input_scale"]), _flag(fields["input_signed"]), layers,
                     _input_shape(fields.get("input_shape"), first.get("geometry"), int(channels.max(initial=0))),
                     *_output_ends(fields, len(layers[-1]["output_order"])))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"image '{name}' is damaged: its host part lacks or misstates {error}") from None


def _input_shape(values: Any, geometry: Geometry | None, last: int) -> tuple[int, ...] | None:
    """Checked input shape of a network; ``geometry`` is its first layer's, None if that is no convolution."""
    if values is None:
        return geometry.in_shape if geometry else None
    if type(values) is not list or not 1 <= len(values) <= MOST_AXES \
            or any(type(value) is not int or not 1 <= value <= MOST_PLACES for value in values):
        raise ValueError(f"the input's shape ({values!r})")
    inputs = math.prod(values)
    if inputs > MOST_PLACES or (inputs != geometry.inputs if geometry else inputs <= last):
        raise ValueError(f"the input's shape ({values!r})")
    return tuple(values)


def _layer(values: dict[str, Any]) -> dict[str, Any]:
    order = _places(values["output_order"], 0)
    layer: dict[str, Any] = {
        "name": str(values["name"]), "output_base": _count(values["output_base"]),
        "output_words": _count(values["output_words"]), "output_order": order}
    for name in ("source", "added"):
        if name in values:
            layer[name] = str(values[name])
    if "added" in values:
        layer["added_passes"] = _count(values["added_passes"])
    if "geometry" in values:
        layer["geometry"] = _geometry(values["geometry"])
        pixels, step = math.prod(layer["geometry"].out_shape), values["output_step"]
        _check_size(len(order), pixels)
        if type(step) is not int or not 0 < step <= MOST_PLACES:
            raise ValueError(f"activations of a pixel ({step!r})")
        layer["output_order"] = (order[:, None] + np.arange(pixels) * step).ravel()
        if "bands" in values:
            layer["fold"] = _fold(layer["geometry"], values["bands"])
    return layer


def _check_size(channels: int, pixels: int) -> None:
    if channels * pixels > MOST_PLACES:
        raise ValueError(f"a feature map ({channels} channels of {pixels} pixels)")


def _geometry(values: dict[str, Any]) -> Geometry:
    """A convolution with inputs and outputs."""
    channels, height, width = _sizes(values["in_shape"], 3, 1)
    (kernel_rows, kernel_cols), (step_rows, step_cols), (pad_rows, pad_cols) = (
        _sizes(values[name], 2, least) for name, least in (("kernel", 1), ("stride", 1), ("padding", 0)))
    end_rows, end_cols = _sizes(values.get("end_padding", [pad_rows, pad_cols]), 2, 0)
    groups, pool, pool_stride = _sizes([values[name] for name in ("groups", "pool", "pool_stride")], 3, 1)
    geometry = Geometry((channels, height, width), (kernel_rows, kernel_cols), (step_rows, step_cols),
                        (pad_rows, pad_cols), groups, pool, pool_stride, (end_rows, end_cols))
    if min(*geometry.conv_shape, *geometry.out_shape) < 1 or geometry.inputs > MOST_PLACES \
            or geometry.in_shape[0] % groups:
        raise ValueError(f"a geometry ({values!r})")
    return geometry


def _fold(geometry: Geometry, bands: Any) -> Fold:
    if type(bands) is not int or not 1 <= bands <= min(2, geometry.out_shape[0]):
        raise ValueError(f"bands of a convolution ({bands!r})")
    fold = Fold(geometry, bands)
    if max(geometry.stride) > MOST_FOLDED_STRIDE or fold.folded.inputs > MOST_PLACES:
        raise ValueError(f"a folded convolution ({geometry!r})")
    return fold


def _sizes(values: Any, count: int, least: int) -> tuple[int, ...]:
    if type(values) is not list or len(values) != count \
            or any(type(value) is not int or not least <= value <= MOST_WORDS for value in values):
        raise ValueError(f"sizes of a convolution ({values!r})")
    return tuple(values)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST_WORDS:
        raise ValueError(f"a count of words ({value!r})")
    return value


def _scale(value: Any, what: str = "the input scale", least: float = 1e-100) -> float:
    # Far beyond what the compiler makes of float32 inputs, and far from overflow.
    if type(value) not in (int, float) or not least <= value <= 1e100:
        raise ValueError(f"{what} ({value!r})")
    return float(value)


def _output_ends(fields: dict[str, Any], outputs: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Scale and offset of each output."""
    found, given = [], [fields.get(name) for name in ("output_scale", "output_offset")]
    if given == [None, None]:
        return None, None
    for values, least, what in zip(given, (1e-100, -1e100), ("scale", "offset"), strict=True):
        if type(values) is not list or len(values) != outputs:
            raise ValueError(f"the {what} of each output")
        found.append(np.array([_scale(value, f"the {what} of an output", least) for value in values]))
    return found[0], found[1]


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"whether inputs are signed ({value!r})")
    return value


def _places(value: Any, least: int) -> np.ndarray:
    places = np.array(value)
    if places.ndim != 1 or places.dtype.kind != "i" or (places < least).any() or (places > MOST_PLACES).any():
        raise ValueError("an order of activations")
    return places.astype(np.int64)
