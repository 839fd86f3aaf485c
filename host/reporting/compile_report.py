# SPDX-License-Identifier: Apache-2.0
"""The figures of a compilation, for ``report.json`` (schema: `host.reporting.report`)."""

from dataclasses import asdict
from typing import Any

import numpy as np

from host.compilation.state import Compilation
from host.network.graph import sources
from host.packing.pack import PackedLayer
from host.reporting.entropy import bound_bits, measure
from nonzero.version import tool_version
from rtl.config import EngineConfig

__all__ = ["summarize"]


def summarize(work: Compilation) -> dict[str, Any]:
    """All figures of the finished compilation ``work``: the report, whose schema is in `host.reporting.report`."""
    packed, settings, prediction = work.packed, work.settings, work.prediction
    assert packed is not None and prediction is not None and work.dense is not None
    config = settings.config
    total_bits = sum(packed.storage_bits.values())
    kept = packed.quantized.weights_kept
    layers = [_layer(layer, dense.weight.size, config)
              for layer, dense in zip(packed.layers, work.dense.layers, strict=True)]
    _add_predictions(layers, work)
    ideal = prediction.ideal_cycles(config.pes)
    return {
        "tool": f"nonzero {tool_version()}", "network": work.dense.name, "source": str(settings.model),
        "preset": settings.preset, "config": asdict(config), "config_hash": config.hash.hex(),
        "seed": settings.seed, "dataset": work.dataset.name if work.dataset else None,
        "steps": work.steps, "notes": work.notes, "metric": work.metric, "test_metrics": work.test_metrics,
        **{f"test_error_{name}": work.test_errors.get(name) for name in ("dense", "pruned", "shared", "engine")},
        "weights_total": work.dense.weights_total, "weights_kept": kept,
        "bits_per_weight": total_bits / max(1, kept),
        "bound_bits_per_weight": sum(layer["bound_bits_per_weight"] * layer["weights_kept"] for layer in layers)
        / max(1, kept),
        "onchip_bytes": total_bits / 8, "image_bytes": len(work.content),
        "disk_bytes": _disk_bits(layers, packed.storage_bits) / 8,
        "dense_bytes": 4 * sum(layer.weight.size + layer.bias.size for layer in work.dense.layers),
        "storage_bits": packed.storage_bits, "layers": layers,
        "cycles_per_image": {"predicted": float(prediction.counters["cycles"].mean()), "ideal": float(ideal.mean()),
                             "limit": float(prediction.limit_cycles(config.pes).mean())},
        "check": work.check.figures() if work.check else None, "prune_history": _history(work),
        "clipped_outputs": {str(number): share for number, share in work.clipped_outputs.items()},
    }


def _layer(layer: PackedLayer, total: int, config: EngineConfig) -> dict[str, Any]:
    """``total`` weights were there before neurons were dropped."""
    quantized = layer.quantized
    kept = quantized.weights_kept
    encoded = [one.encoded for one in layer.passes]
    bits = sum(one.storage_bits(config) for one in encoded) \
        + config.pes * layer.assignment.words * config.bias_words * config.entry_word_bits
    streams = {"codes": [codes for one in encoded for codes in one.codes],
               "indices": [indices for one in encoded for indices in one.indices],
               "lengths": [one.lengths.ravel() for one in encoded]}
    pe_entries = sum(one.lengths.sum(axis=1) for one in encoded)
    assert isinstance(pe_entries, np.ndarray)
    return {
        "name": quantized.name, "rows": quantized.rows, "cols": quantized.cols, "weights_total": total,
        "weights_kept": kept, "density": kept / total, "passes": len(encoded),
        "entries": sum(one.entries for one in encoded), "skips": sum(one.skips for one in encoded),
        "index_bits": encoded[0].index_bits, "bits_per_weight": bits / max(1, kept),
        "bound_bits_per_weight": bound_bits(config.code_bits, kept / quantized.codes.size),
        "pe_entries": pe_entries.tolist(), "pe_balance": float(pe_entries.max() / max(1e-9, pe_entries.mean())),
        "streams": {kind: asdict(measure(np.concatenate(values))) for kind, values in streams.items()},
        "codebook": quantized.codebook.tolist(), "multiplier": quantized.multiplier,
        "pre_shift": quantized.pre_shift, "output_scale": _listed(quantized.output_scale),
        "output_offset": _listed(quantized.output_offset),
    }


def _listed(value: float | np.ndarray) -> float | list[float]:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _disk_bits(layers: list[dict[str, Any]], storage_bits: dict[str, int]) -> int:
    """Entries and lengths in Huffman codes, with their tables; everything else as on the chip."""
    streams = [stream for layer in layers for stream in layer["streams"].values()]
    coded = sum(stream["huffman_bits"] + stream["table_bits"] for stream in streams)
    return coded + sum(storage_bits[purpose] for purpose in ("biases", "codebooks", "program"))


def _add_predictions(layers: list[dict[str, Any]], work: Compilation) -> None:
    """Means over the verified inputs; a layer's cycles reach from the hand-over before it to its own."""
    packed, prediction = work.packed, work.prediction
    assert packed is not None and prediction is not None
    last_pass = np.cumsum([len(layer.passes) for layer in packed.layers]) - 1
    ends = prediction.pass_ends[:, last_pass]
    ends[:, -1] = prediction.counters["cycles"]
    cycles = np.diff(ends, axis=1, prepend=0).mean(axis=0)
    wires = sources([layer.quantized for layer in packed.layers])
    for number, layer in enumerate(layers):
        layer["useful_macs"] = float(prediction.useful_macs[:, number].mean())
        layer["broadcasts"] = float(prediction.broadcasts[:, number].mean())
        # A convolution scans some inputs several times, and others never.
        scanned = work.activity[wires[number].source + 1]
        layer["act_density"] = float(scanned.mean()) if packed.layers[number].quantized.geometry \
            else layer["broadcasts"] / (layer["cols"] * layer["passes"])
        layer["cycles"] = float(cycles[number])


def _history(work: Compilation) -> list[dict[str, Any]] | None:
    if work.pruned is None or work.dataset is None:
        return None
    return [{"round": number, "density": one.density, "loss": one.losses[-1] if one.losses else None,
             "held_out_error": one.held_out_errors[-1] if one.held_out_errors else None,
             "iterations": one.iterations, "seconds": round(one.seconds, 3), "trained": list(one.trained),
             "losses": list(one.losses), "held_out_errors": list(one.held_out_errors)}
            for number, one in enumerate(work.pruned.history, start=1)]
