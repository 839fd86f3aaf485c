# SPDX-License-Identifier: Apache-2.0
"""Where the network's inputs and each layer's outputs lie in words of activations, and which of them a pass scans."""

from collections.abc import Sequence

import numpy as np

from host.image.activation_layout import ActivationLayout
from host.network.graph import sources
from host.network.layers import Geometry, Linear
from host.packing.added_passes import added_geometry
from host.packing.balance_rows import Assignment
from host.quantization.integer_network import QuantizedLayer
from rtl.config import EngineConfig

__all__ = ["input_layout", "input_shape", "output_layout", "scanned_channels"]


def input_shape(layers: Sequence[QuantizedLayer | Linear]) -> Geometry:
    """The shape of the network's input as it lies in memory: that of a convolution of ``layers`` which takes it, else
    that of the first layer. Fully connected layers read a map as well."""
    for layer, (source, added) in zip(layers, sources(layers), strict=True):
        if layer.geometry is not None and -1 in (source, added):
            return layer.geometry if source < 0 else added_geometry(layer)
    return layers[0].shape


def input_layout(layer: QuantizedLayer, often: np.ndarray | None, config: EngineConfig,
                 shape: Geometry | None = None) -> ActivationLayout:
    """Where the network's inputs lie: those (of a convolution: input channels) that have weights, in whole words.

    The scan spends a step on a block without a non-zero activation. So every block gets its share of the inputs that
    are seldom zero: the most active go to one block each, then the next, and so on. A convolution does without the
    blocks of a pixel that no channel needs.

    Parameters
    ----------
    layer : QuantizedLayer
        The first layer.
    often : float array, shape ``[channels]``, optional
        Share of inferences in which each is not zero, 0 to 1.
    config : EngineConfig
    shape : Geometry, optional
        Its shape (`input_shape`) if other layers take it as well; then inputs without weights are among them.
    """
    used = np.flatnonzero(layer.channel_codes.any(axis=0)) if shape is None else np.arange(shape.in_shape[0])
    shape = shape or layer.shape
    used = used if len(used) else np.array([0])
    cols = -(-len(used) // config.pes) * config.pes
    if often is None:
        channels = np.concatenate([used, np.full(cols - len(used), -1)])
        return ActivationLayout(channels, config.pes, shape.pixels)
    count = -(-len(used) // config.block_cols) if layer.geometry else cols // config.block_cols
    blocks = np.full((config.block_cols, count), -1, np.int64)
    blocks.flat[:len(used)] = used[np.argsort(-often[used], kind="stable")]
    channels = np.pad(blocks.T.ravel(), (0, cols - blocks.size), constant_values=-1)
    return ActivationLayout(channels, config.pes, shape.pixels)


def output_layout(layer: QuantizedLayer, assignment: Assignment) -> ActivationLayout:
    """Where the outputs of ``layer`` lie whose rows are on the PEs and slots of ``assignment``."""
    channels, height, width = layer.map_shape
    pixels = height * width if layer.out_map else 1  # whose rows lie in words of their own
    first = assignment.position.reshape(channels, -1)[:, 0]
    found = np.full(assignment.words // pixels * assignment.pes, -1, np.int64)
    found[first] = np.arange(channels)
    return ActivationLayout(found, assignment.pes, height * width)


def scanned_channels(source: ActivationLayout, layer: QuantizedLayer, config: EngineConfig) -> np.ndarray:
    """The channels of a pixel of ``source``, without the blocks at its end that have none if ``layer`` is a
    convolution of an engine ``config``."""
    if layer.geometry is None:
        return source.channels
    last = int(np.flatnonzero(source.channels >= 0)[-1])
    return source.channels[:(last // config.block_cols + 1) * config.block_cols]
