# SPDX-License-Identifier: Apache-2.0
"""Where the network's inputs and each layer's outputs lie in words of activations, and which of them a pass scans."""

import numpy as np

from host.image.activation_layout import ActivationLayout
from host.packing.balance_rows import Assignment
from host.quantization.integer_network import QuantizedLayer
from rtl.config import EngineConfig

__all__ = ["input_layout", "output_layout", "scanned_channels"]


def input_layout(layer: QuantizedLayer, often: np.ndarray | None, config: EngineConfig, *,
                 every: bool = False) -> ActivationLayout:
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
    every : bool
        Inputs without weights are among them: other layers take them as well.
    """
    used = np.arange(layer.shape.in_shape[0]) if every else np.flatnonzero(layer.channel_codes.any(axis=0))
    used = used if len(used) else np.array([0])
    cols = -(-len(used) // config.pes) * config.pes
    if often is None:
        channels = np.concatenate([used, np.full(cols - len(used), -1)])
        return ActivationLayout(channels, config.pes, layer.shape.pixels)
    count = -(-len(used) // config.block_cols) if layer.geometry else cols // config.block_cols
    blocks = np.full((config.block_cols, count), -1, np.int64)
    blocks.flat[:len(used)] = used[np.argsort(-often[used], kind="stable")]
    channels = np.pad(blocks.T.ravel(), (0, cols - blocks.size), constant_values=-1)
    return ActivationLayout(channels, config.pes, layer.shape.pixels)


def output_layout(layer: QuantizedLayer, assignment: Assignment) -> ActivationLayout:
    """Where the outputs of ``layer`` lie whose rows are on the PEs and slots of ``assignment``."""
    channels = np.full(assignment.words * assignment.pes, -1, np.int64)
    channels[assignment.position] = np.arange(layer.rows)
    return ActivationLayout(channels, assignment.pes, layer.outputs // layer.rows)


def scanned_channels(source: ActivationLayout, layer: QuantizedLayer, config: EngineConfig) -> np.ndarray:
    """The channels of a pixel of ``source``, without the blocks at its end that have none if ``layer`` is a
    convolution of an engine ``config``."""
    if layer.geometry is None:
        return source.channels
    last = int(np.flatnonzero(source.channels >= 0)[-1])
    return source.channels[:(last // config.block_cols + 1) * config.block_cols]
