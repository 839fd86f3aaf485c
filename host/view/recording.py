# SPDX-License-Identifier: Apache-2.0
"""The file of one run for `host.view`: what ``host.run --trace`` writes.

JSON; all values are integers, except texts and where None is named::

    format, version      "nonzero run", 1
    tool, device, image, data   str: what recorded it, on what, which image and data
    config_hash          str, hexadecimal
    pes, queue_depth     of the engine
    queue_limit          slices with which a PE's queue is full
    bin_cycles           cycles of a full bin
    layers               [{name: str, inputs, outputs, weights_total, weights_kept, entries (skips and padding
                           included), index_bits, bits (entries, slice lengths and biases on the chip)}]
    passes               [number of the layer] of each pass of the program
    images               [{number (of the test image), label or None, answer: class,
                           counters: {`rtl.protocol.COUNTERS`}, predicted_cycles,
                           active: [inputs of each layer that are not zero],
                           series: {`host.device.pe_trace.SERIES`: [for each bin]},
                           spent: {`host.device.pe_trace.STATES`: [for each bin, and in it for each PE]},
                           level_sum, level_max: [for each bin, and in it for each PE]}]

What must hold: the bins' cycles sum up to the counter ``cycles``, a bin's states of each PE to the bin's cycles, and
likewise ``busy`` to ``useful_macs`` and the other series to their counters.
"""

from typing import Any

import numpy as np

from host.decoding.decode import Decoded
from host.device.pe_trace import SERIES, STATES, Bins
from nonzero.version import tool_version
from rtl.config import EngineConfig
from rtl.engine.timing import job_queue_limit

__all__ = ["FORMAT", "LARGEST_BYTES", "MOST_IMAGES", "VERSION", "bin_cycles", "layer_figures", "recorded_image",
           "recording"]

FORMAT, VERSION = "nonzero run", 1

MOST_IMAGES = 20
LARGEST_BYTES = 1 << 26
"""The most images and bytes of a recording."""

WANTED_BINS = 1000
WANTED_CELLS = 1 << 16
"""Bins of an inference, and bins times PEs: about what a screen can show and a page can draw fast."""


def bin_cycles(cycles: int, pes: int) -> int:
    """Cycles of a bin, if the longest inference takes ``cycles`` on an engine of ``pes`` PEs; at least 1."""
    return max(1, -(-cycles // min(WANTED_BINS, WANTED_CELLS // pes)))


def layer_figures(decoded: Decoded, totals: list[int] | None) -> list[dict[str, Any]]:
    """The content of each layer, and its size on the chip.

    Parameters
    ----------
    decoded : Decoded
        Content of the image.
    totals : list of int, optional
        Weights of each layer before neurons were dropped; without it those of the image count.
    """
    config, figures = decoded.config, []
    for number, layer in enumerate(decoded.network.layers):
        passes = [one for one in decoded.passes if one.layer == number]
        kept = layer.weights_kept
        figures.append({
            "name": layer.name, "inputs": layer.inputs, "outputs": layer.outputs,
            "weights_total": totals[number] if totals else int(layer.codes.size), "weights_kept": kept,
            "entries": int(sum(one.lengths.sum() for one in passes)),
            "index_bits": config.index_bits[int(passes[0].descriptor.index_mode)],
            "bits": sum(_pass_bits(one.lengths, one.descriptor, config) for one in passes),
        })
    return figures


def _pass_bits(lengths: np.ndarray, descriptor: Any, config: EngineConfig) -> int:
    """Bits of the memories' words over all PEs, as `host.packing.encode.EncodedPass.storage_bits` and its biases."""
    entry_words = int(-(-lengths.sum(axis=1).max(initial=0) // config.entries_per_word))
    slice_words = lengths.shape[1] // config.block_cols
    planes = config.plane_bits[:int(descriptor.index_mode) + 1]
    bias_words = 0 if descriptor.hold_sums else int(descriptor.output_words) * config.bias_words
    return int(config.pes * (entry_words * sum(planes) + slice_words * config.slice_word_bits
                             + bias_words * config.entry_word_bits))


def recorded_image(number: int, label: int | None, answer: int, counters: dict[str, int], predicted_cycles: int,
                   active: list[int], bins: Bins) -> dict[str, Any]:
    """An entry of ``images`` in the file.

    Parameters
    ----------
    number : int
        Number of the test image, from 0.
    label : int or None
        Its class, if the data tell it.
    answer : int
        The engine's class.
    counters : dict
        `rtl.protocol.COUNTERS` of the inference.
    predicted_cycles : int
        Cycles by the cycle model.
    active : list of int
        Number of inputs of each layer that are not zero.
    bins : Bins
        Activity of the PEs over time.
    """
    return {
        "number": number, "label": label, "answer": answer, "counters": counters,
        "predicted_cycles": predicted_cycles, "active": active,
        "series": {name: values.tolist() for name, values in zip(SERIES, bins.series, strict=True)},
        "spent": {name: values.ravel().tolist() for name, values in zip(STATES, bins.spent, strict=True)},
        "level_sum": bins.level_sum.ravel().tolist(), "level_max": bins.level_max.ravel().tolist(),
    }


def recording(decoded: Decoded, device: str, image: str, data: str, width: int, totals: list[int] | None,
              images: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of the whole file.

    Parameters
    ----------
    decoded : Decoded
        The image that was run.
    device, image, data : str
        The device, the name of the image's file, and the dataset.
    width : int
        Cycles of a full bin.
    totals : list of int, optional
        See `layer_figures`.
    images : list of dict
        Results of `recorded_image`.
    """
    config = decoded.config
    return {
        "format": FORMAT, "version": VERSION, "tool": f"nonzero {tool_version()}", "device": device, "image": image,
        "data": data,
        "config_hash": config.hash.hex(), "pes": config.pes, "queue_depth": config.queue_depth,
        "queue_limit": job_queue_limit(config), "bin_cycles": width,
        "layers": layer_figures(decoded, totals), "passes": [one.layer for one in decoded.passes], "images": images,
    }
