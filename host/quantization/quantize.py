# SPDX-License-Identifier: Apache-2.0
"""Turns a network with shared weights into the integers that the engine computes with.

The contract of all these integers is `rtl.numbers`. Activations have zero point 0; every layer has one scale
for its weights and one for its outputs.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from host.compression.share_weights import direct_values
from host.compression.shared_network import SharedLayer, SharedNetwork
from host.network.activate import activate
from host.network.activations import engine_activation, is_monotone, needs_table, upper_bound
from host.network.graph import sources
from host.network.layers import taps_met
from host.quantization.act_tables import choose_table
from host.quantization.golden_model import convolve, max_pooled, totals, unpooled
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork, accumulator_bounds, quantize_inputs
from host.quantization.output_change import OutputChange
from host.quantization.requant_constants import requant_constants
from nonzero.errors import UserError
from rtl.numbers import MULTIPLIER_BITS, act_range, requant_shift, requantize

__all__ = ["quantize"]

CLIPS = np.linspace(0.3, 1.0, 36)
"""Fractions of the greatest output that are tried as the greatest representable one."""

FEW_CLIPS = CLIPS[::-4]
"""Those that are tried where each takes the network's outputs."""

CALIBRATION_IMAGES = 10_000
"""More images than these do not change the scales noticeably, and only take time."""

CALIBRATION_VALUES = 1 << 25
"""Values of a layer on which a network with convolutions is calibrated: fewer images, at least `FEWEST_IMAGES`."""

FEWEST_IMAGES = 16

ADDED_PASSES = 8
"""Most passes that add another layer's outputs, but with direct weights. If those are much greater than the layer's own
sums, finer weights would not show in the outputs, and only add passes."""

SCALE_VALUES = 1 << 22
"""About how many outputs of a convolution choose its scale."""


def quantize(shared: SharedNetwork, config, images: np.ndarray, *,  # type: ignore[no-untyped-def]
             classes: bool = True) -> QuantizedNetwork:
    """Chooses scales on example images and rounds everything to integers.

    The scale of a hidden layer is the one with the least mean squared error of its outputs; with ``direct_weights``,
    which nobody fine-tunes, that of the network's outputs. That of the last layer is
    the one by which the engine's first greatest output agrees most often with the float network's, since 8-bit outputs
    may tie; if the values themselves matter, it is one by which none is clipped.

    Parameters
    ----------
    shared : SharedNetwork
        The network with its weights shared.
    config : EngineConfig
        Gives ``act_bits``, ``weight_bits``, ``acc_bits`` and ``direct_weights``.
    images : uint8 or float32 array, shape ``[n, ...]``
        Examples of what the network will see, from the training set, never the test set. Bytes are taken
        as activations as they are; floats are scaled by their greatest magnitude.
    classes : bool
        Only which output is the greatest matters, not what it is.

    Raises
    ------
    UserError
        For images of another size than the network's input, or not finite; for a layer whose accumulator
        could overflow, or that has no requantisation constants.
    """
    _check_images(shared, images)
    images = images[np.linspace(0, len(images) - 1, min(len(images), _most_images(shared))).astype(np.int64)]
    scale, signed = _input_scale(images, config.act_bits)
    network = QuantizedNetwork(shared.name, (), scale, signed, config.act_bits)
    acts = quantize_inputs(network, images)
    values = [_Values(acts * scale, acts, scale, signed)]
    layers: list[QuantizedLayer] = []
    change = OutputChange(shared.as_network(), images) if config.direct_weights else None
    wires = tqdm(sources(shared.layers), "choosing scales", unit="layer", leave=False, disable=None)
    for index, (layer, (source, added)) in enumerate(zip(shared.layers, wires, strict=True)):
        taken, more = values[source + 1], None if added is None else values[added + 1]
        exact = _exact_outputs(layer, taken, more)
        last = index == len(shared.layers) - 1
        winners = exact.argmax(axis=1) if classes and last else None
        clips = CLIPS[-1:] if last and not classes else CLIPS
        judge = None if change is None or last else _Judge(change, index)
        quantized, acts = _quantize_layer(layer, config, taken, more, winners, clips, judge)
        values.append(_Values(exact, acts, quantized.output_scale, quantized.activation.signed))
        layers.append(quantized)
    if (each := shared.layers[-1].output_scale) is not None:
        count = layers[-1].outputs // layers[-1].rows
        offset = np.array(shared.layers[-1].output_offset, np.float64)
        layers[-1] = replace(layers[-1], output_offset=np.repeat(offset, count),
                             output_scale=np.repeat(layers[-1].output_scale * each.astype(np.float64), count))
    return QuantizedNetwork(shared.name, tuple(layers), network.input_scale, network.input_signed,
                            config.act_bits)


class _Values(NamedTuple):
    """The network's input or a layer's outputs on the examples.

    Attributes
    ----------
    exact : float64 array, shape ``[n, values]``
        As the float network has them.
    acts : int64 array, shape ``[n, values]``
        Activations; each times ``scale`` is a float.
    scale : float
    signed : bool
        Whether they are two's complement.
    """

    exact: np.ndarray
    acts: np.ndarray
    scale: float
    signed: bool


class _Judge(NamedTuple):
    """Tells the error of a layer's rounded outputs from those of the network.

    Attributes
    ----------
    change : OutputChange
    layer : int
        The layer's number.
    """

    change: OutputChange
    layer: int


def _exact_outputs(layer: SharedLayer, taken: _Values, more: _Values | None) -> np.ndarray:
    """The layer's outputs, pooled if it pools, in floats. Where it may, pooling comes first: that is faster."""
    if layer.geometry:
        early = is_monotone(layer.activation)
        sums = convolve(layer.weight, layer.bias, taken.exact, layer.geometry if early else unpooled(layer.geometry),
                        None if more is None else more.exact)
        outputs = activate(sums, layer.activation)
        return outputs if early else max_pooled(outputs, layer.geometry)
    sums = taken.exact @ layer.weight.T + layer.bias
    return activate(sums if more is None else sums + more.exact, layer.activation)


def _most_images(shared: SharedNetwork) -> int:
    if all(layer.geometry is None for layer in shared.layers):
        return CALIBRATION_IMAGES
    largest = max(layer.inputs for layer in shared.layers)
    return min(CALIBRATION_IMAGES, max(FEWEST_IMAGES, CALIBRATION_VALUES // largest))


def _check_images(shared: SharedNetwork, images: np.ndarray) -> None:
    inputs = shared.layers[0].inputs
    values = int(np.prod(images.shape[1:]))
    problems = []
    if len(images) == 0 or values != inputs:
        problems.append(f"calibration images must be at least one, of {inputs} values each, not "
                        f"{len(images)} of {values}")
    if images.dtype != np.uint8 and not np.isfinite(images).all():
        problems.append("calibration images must be finite; remove infinities and NaN")
    if problems:
        raise UserError(problems)


def _input_scale(images: np.ndarray, act_bits: int) -> tuple[float, bool]:
    if images.dtype == np.uint8:
        return 1 / 255, False
    signed = bool(images.min() < 0)
    greatest = float(np.abs(images).max()) or 1.0
    return greatest / act_range(act_bits, signed=signed)[1], signed


def _quantize_layer(layer: SharedLayer, config, taken: _Values, more: _Values | None,  # type: ignore[no-untyped-def]
                    winners: np.ndarray | None, clips: np.ndarray,
                    judge: _Judge | None) -> tuple[QuantizedLayer, np.ndarray]:
    codes, codebook, weight_scale = _integer_weights(
        layer, config, 0 if more is None else more.scale / (taken.scale * ADDED_PASSES * _greatest_weight(config)))
    sum_scale = taken.scale * weight_scale
    added_weight, added_signed = (0, False) if more is None else (max(1, round(more.scale / sum_scale)), more.signed)
    bias = np.rint(layer.bias / sum_scale)
    limit = 1 << (config.acc_bits - 1)
    if np.abs(bias).max(initial=0) >= limit:
        row = int(np.abs(bias).argmax())
        raise UserError(f"layer '{layer.name}': the bias of row {row} ({layer.bias[row]:.6g}) must fit "
                        f"{config.acc_bits} bits in units of {sum_scale:.3g}; reduce it")
    bias = bias.astype(np.int64)
    def proven(bias: np.ndarray) -> tuple[int, int]:
        return _proven_bounds(layer.name, accumulator_bounds(
            codebook[codes], bias, config.act_bits, input_signed=taken.signed, added_weight=added_weight,
            added_signed=added_signed), config)

    def quantized(bias: np.ndarray, constants: tuple[int, int], output_scale: float,
                  table: np.ndarray | None = None) -> QuantizedLayer:
        return QuantizedLayer(layer.name, codes, codebook, bias, *constants, engine_activation(layer.activation),
                              taken.signed, taken.scale, weight_scale, output_scale, layer.geometry, layer.source,
                              layer.added, added_weight, added_signed, table, layer.out_map)

    bounds = proven(bias)
    tabled = needs_table(layer.activation) or (
        config.act_table and _least_scale(sum_scale, config) * act_range(config.act_bits, signed=False)[1]
        > upper_bound(layer.activation))
    geometry = unpooled(layer.geometry) if tabled and layer.geometry else layer.geometry
    sums = totals(codebook[codes], bias, taken.acts, geometry, None if more is None else more.acts * added_weight)
    if tabled:
        if not config.act_table:
            raise UserError(f"layer '{layer.name}' has the activation function {layer.activation.name}, which takes a "
                            "table; use a configuration with act_table = true")
        found, outputs = choose_table(layer, config, sums, sum_scale, bounds, winners, clips=len(clips) > 1)
        bias = bias + found.offset
        proven(bias)
        return quantized(bias, found.constants, found.output_scale, found.table), outputs
    some = sums.ravel()[::max(1, sums.size // SCALE_VALUES)] \
        if layer.geometry and winners is None and len(clips) > 1 and judge is None else sums
    output_scale, constants, outputs = _output_scale(layer, config, some, sum_scale, bounds, winners, clips, judge)
    if some is not sums or judge is not None:
        outputs = requantize(sums, multiplier=constants[0], pre_shift=constants[1], signed=layer.activation.signed,
                             act_bits=config.act_bits, clamp=np.clip)
    return quantized(bias, constants, output_scale), outputs


def _greatest_weight(config) -> int:  # type: ignore[no-untyped-def]
    return int((1 << (config.weight_bits - 1)) - 1)


def _integer_weights(layer: SharedLayer, config,  # type: ignore[no-untyped-def]
                     least_scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Codes, codebook, weight scale, which is at least ``least_scale`` if the codebook may be chosen.

    A weight whose integer is 0 is dropped: it would only cost a cycle. So is one that only ever meets padding.
    """
    if layer.geometry is not None:
        taps = math.prod(layer.geometry.kernel)
        met = np.tile(taps_met(layer.geometry), layer.codes.shape[1] // taps)
        layer = replace(layer, codes=np.where(met, layer.codes, 0).astype(np.uint8))
    if config.direct_weights:
        return layer.codes, direct_values(config.code_bits), float(layer.values[1])
    greatest = float(np.abs(layer.values).max()) or 1.0
    weight_scale = max(greatest / _greatest_weight(config), least_scale)
    codebook = np.rint(layer.values / weight_scale).astype(np.int64)
    codes = np.where(codebook[layer.codes] == 0, 0, layer.codes).astype(np.uint8)
    return codes, codebook, weight_scale


def _proven_bounds(name: str, bounds: tuple[np.ndarray, np.ndarray], config) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    least, greatest = bounds
    low, high = act_range(config.acc_bits, signed=True)
    wrong = (least < low) | (greatest > high)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"layer '{name}': the sum of row {row} can reach {least[row]} to {greatest[row]}, "
                        f"but an accumulator of {config.acc_bits} bits holds {low} to {high} "
                        f"({int(wrong.sum())} rows are too large); use an engine with a greater acc_bits or "
                        "a smaller weight_bits, or prune more")
    return int(least.min()), int(greatest.max())


def _least_scale(sum_scale: float, config) -> float:  # type: ignore[no-untyped-def]
    """The least scale of outputs: a multiplier of all ones without pre-shift is the greatest ratio that there is."""
    scale: float = sum_scale * 2.0 ** requant_shift(config.act_bits) / ((1 << MULTIPLIER_BITS) - 1)
    return scale


def _output_scale(layer: SharedLayer, config, sums: np.ndarray, sum_scale: float,  # type: ignore[no-untyped-def]
                  bounds: tuple[int, int], winners: np.ndarray | None, clips: np.ndarray,
                  judge: _Judge | None) -> tuple[float, tuple[int, int], np.ndarray]:
    """The best of the scales that ``clips`` give, its requantisation constants and outputs with it, if there is a
    ``judge`` only those that it looks at."""
    exact = sums * sum_scale
    exact = activate(exact, layer.activation)
    high = act_range(config.act_bits, signed=layer.activation.signed)[1]
    least_scale = _least_scale(sum_scale, config)
    greatest = float(np.abs(exact).max())
    if least_scale * high > upper_bound(layer.activation):
        raise UserError(f"layer '{layer.name}' is clamped to {upper_bound(layer.activation):g}, which is too little in "
                        f"units of {sum_scale:.3g}, those of its sums; use a configuration with act_table = true")
    best = None
    if judge is not None:
        sums, clips = sums[judge.change.places], FEW_CLIPS
    for clip in clips:
        scale = max(greatest * float(clip) / high, least_scale)
        constants = requant_constants(layer.name, sum_scale / scale, bounds, config.act_bits,
                                      signed=layer.activation.signed)
        outputs = requantize(sums, multiplier=constants[0], pre_shift=constants[1], signed=layer.activation.signed,
                             act_bits=config.act_bits, clamp=np.clip)
        error = float(np.square(outputs * scale - exact).mean()) if judge is None \
            else judge.change.of(judge.layer, outputs * scale)
        wrong = 0 if winners is None else int((outputs.argmax(axis=1) != winners).sum())
        if best is None or (wrong, error) < best[0]:
            best = (wrong, error), (scale, constants, outputs)
    assert best is not None
    return best[1]
