# SPDX-License-Identifier: Apache-2.0
"""Packs a drawn layer for an engine that holds it, reads its image back, and predicts what it does."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from host.cycle_model.predict import Prediction, predict
from host.decoding.decode import Decoded, decode
from host.image.image import Image, parse_image
from host.packing.image_writer import image_file
from host.packing.pack import PackedNetwork, pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork
from host.workloads.eie_layers import CONFIG
from nonzero.errors import UserError
from rtl.config import EngineConfig

__all__ = ["Compiled", "Options", "compile_drawn", "compile_layer"]


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes
    ----------
    config : EngineConfig
        The engine; its memories grow if a layer needs it.
    uneven : bool
        Densities vary from row to row and from column to column.
    balance, order : bool
        Whether the packer shares rows out by their work, and orders them to save skips (`host.packing.pack.pack`).
    """

    config: EngineConfig = CONFIG
    uneven: bool = False
    balance: bool = True
    order: bool = True


@dataclass(frozen=True)
class Compiled:
    """A layer that was drawn, packed, read back and predicted.

    Attributes
    ----------
    network : QuantizedNetwork
        The layer as it was drawn.
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    packed : PackedNetwork
    image : Image
    decoded : Decoded
        Contents of the image.
    outputs : list of int64 array ``[n, rows]``
        Results of the golden model for the matrix as it was drawn, not as it was read back.
    prediction : Prediction
        Counters by the cycle model.
    """

    network: QuantizedNetwork
    acts: np.ndarray
    packed: PackedNetwork
    image: Image
    decoded: Decoded
    outputs: list[np.ndarray]
    prediction: Prediction

    @property
    def config(self) -> EngineConfig:
        return self.packed.config

    @property
    def useful_macs(self) -> np.ndarray:
        """Non-zero weight times non-zero activation, straight from the matrix: int64 ``[n]``."""
        (layer,) = self.network.layers
        return (self.acts != 0) @ np.count_nonzero(layer.codes, axis=0)

    @property
    def imbalance(self) -> float:
        """Useful multiplications of the busiest PE over their mean, averaged over the inputs."""
        active = (self.acts != 0)[:, np.maximum(self.image.input_order, 0)] & (self.image.input_order >= 0)
        work = sum(active @ one.encoded.counts.T for one in self.packed.layers[0].passes)
        assert isinstance(work, np.ndarray)
        return float((work.max(axis=1) / np.maximum(work.mean(axis=1), 1e-9)).mean())


def compile_drawn(network: QuantizedNetwork, acts: np.ndarray, options: Options) -> Compiled:
    """Packs a layer, reads its image back, and predicts what it does with the activations.

    Parameters
    ----------
    network : QuantizedNetwork
        One layer, from `draw`.
    acts : int64 array, shape ``[vectors, inputs]``
    options : Options

    Raises
    ------
    UserError
        If no engine holds the layer.
    """
    packed = compile_layer(network, options)
    image = parse_image(image_file(packed), packed.config)
    decoded = decode(image, packed.config)
    outputs = forward(network, acts)
    return Compiled(network, acts, packed, image, decoded, outputs, predict(decoded, acts, outputs))


def compile_layer(network: QuantizedNetwork, options: Options) -> PackedNetwork:
    """Packs a layer for `Options.config`; if its memories are too small, for one with larger ones.

    Depths are doubled until they suffice; beyond the greatest depth, words of entries get twice as wide.

    Parameters
    ----------
    network : QuantizedNetwork
        One layer.
    options : Options
        The engine to begin with, and how rows are assigned.

    Raises
    ------
    UserError
        If no engine holds it.
    """
    (layer,) = network.layers
    config = options.config
    config = replace(config, acc_depth=_enough(config.acc_depth, -(-layer.rows // config.pes)))
    packer = partial(pack, network, balance=options.balance, order=options.order)
    try:
        return packer(config)
    except UserError:
        most = 1 << 16
        roomy = replace(config, entry_depth=most, slice_depth=most, act_depth=most)
    try:
        packed = packer(roomy)
    except UserError:
        roomy = replace(roomy, entries_per_word=2 * config.entries_per_word)
        packed = packer(roomy, preset="greatest")
    entries = max(start + len(words) for plane in packed.planes for parts in plane for start, words in parts)
    acts = packed.input_words + packed.layers[0].assignment.words
    fitting = replace(roomy, entry_depth=_enough(config.entry_depth, entries),
                      slice_depth=_enough(config.slice_depth, len(packed.slices[0])),
                      act_depth=_enough(config.act_depth, acts))
    return packer(fitting)


def _enough(depth: int, needed: int) -> int:
    return max(depth, 1 << (needed - 1).bit_length())
