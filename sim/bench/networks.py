# SPDX-License-Identifier: Apache-2.0
"""Whole networks on this engine, every layer's outputs compared."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from host.cycle_model.predict import Prediction, predict
from host.decoding.decode import Decoded, decode
from host.device.device import Device
from host.image.image import Image, parse_image
from host.packing.image_writer import image_file
from host.packing.pack import PackedNetwork, pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork, quantize_inputs
from host.quantization.quantize import quantize
from host.reporting.tables import shown, text_table
from host.workloads.whole_networks import DRAWN, Drawn, draw_images, draw_network
from rtl.engine.engine import Engine
from rtl.engine.timing import drain_cycles
from rtl.protocol import COUNTERS
from rtl.structure import broadcast_cycles
from sim.simulator.link import SimulationLink, build_link

__all__ = ["compare_layers", "networks_table", "run_networks"]

CLOCK_MHZ = 80
"""Frames a second are told at this clock."""

CALIBRATION_IMAGES = 2

PATIENCE_CYCLES = 1 << 30


@dataclass(frozen=True)
class Compiled:
    """A network that was drawn, quantised, packed, read back and predicted.

    Attributes
    ----------
    quantized : QuantizedNetwork
    packed : PackedNetwork
    image : Image
    decoded : Decoded
        Contents of the image.
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    outputs : list of int64 array, shape ``[n, outputs]``
        Outputs of each layer, by the golden model.
    prediction : Prediction
        Counters by the cycle model.
    seconds : float
        Wall-clock time of quantising and packing.
    """

    quantized: QuantizedNetwork
    packed: PackedNetwork
    image: Image
    decoded: Decoded
    acts: np.ndarray
    outputs: list[np.ndarray]
    prediction: Prediction
    seconds: float


def run_networks(names: Sequence[str], *, images: int, seed: int, rtl: bool) -> dict[str, Any]:
    """Runs each network on random images.

    Parameters
    ----------
    names : sequence of str
        Keys of `host.workloads.whole_networks.DRAWN`.
    images : int
        Images for each network, 1 or more.
    seed : int
        Decides weights and images.
    rtl : bool
        Simulate the RTL; otherwise cycles are those of the cycle model.

    Returns
    -------
    dict
        The content of ``networks.json``.

    Raises
    ------
    UserError
        If a simulation cannot be built or dies.
    """
    rows = []
    with tqdm(names, desc="networks", unit="network", disable=None) as progress:
        for name in progress:
            progress.set_postfix_str(name)
            rows.append(_run(DRAWN[name], images, seed, rtl=rtl))
    return {"images": images, "seed": seed, "clock_mhz": CLOCK_MHZ, "cycles_from": "rtl" if rtl else "cycle model",
            "networks": rows, "mismatches": sum(row["mismatches"] or 0 for row in rows),
            "counter_mismatches": sum(row["counter_mismatches"] or 0 for row in rows)}


def _run(drawn: Drawn, images: int, seed: int, *, rtl: bool) -> dict[str, Any]:
    one = _compile(drawn, images, seed)
    config, kept = one.packed.config, one.quantized.weights_kept
    ends = _layer_ends(one)
    simulated = _simulate(one, seed) if rtl else {}
    cycles = simulated.get("layer_cycles")
    predicted = np.diff(ends, axis=1, prepend=0).mean(axis=0)
    layers = []
    for number, layer in enumerate(one.quantized.layers):
        ideal = float(one.prediction.useful_macs[:, number].mean()) / config.pes
        needed = float(predicted[number] if cycles is None else cycles[number])
        passes = [placed.encoded for placed in one.packed.layers[number].passes]
        bits = sum(part.storage_bits(config) for part in passes)
        biases = config.pes * one.packed.layers[number].assignment.words * config.bias_words * config.entry_word_bits
        layers.append({
            "name": layer.name, "useful_macs": ideal * config.pes, "ideal_cycles": ideal,
            "rtl_cycles": None if cycles is None else needed, "predicted_cycles": float(predicted[number]),
            "ratio": needed / ideal, "utilisation": ideal / needed, "passes": len(passes),
            "weights_kept": layer.weights_kept, "density": layer.weights_kept / layer.codes.size,
            "act_density": float((one.outputs[number] != 0).mean()),
            "bits_per_weight": bits / max(1, layer.weights_kept), "image_bytes": (bits + biases) // 8,
            "dense_bytes": 4 * layer.codes.size,
            "mismatches": simulated["wrong"][number] if simulated else None})
    total = float(one.prediction.counters["cycles"].mean())
    ideal = float(one.prediction.ideal_cycles(config.pes).mean())
    rtl_total = float(simulated["counters"]["cycles"].mean()) if simulated else None
    needed = total if rtl_total is None else rtl_total
    stored = sum(one.packed.storage_bits.values())
    dense = 4 * one.quantized.weights_total
    # As Han et al. count: 32-bit weights with an index of 5 bits, skips included.
    entries = (one.packed.storage_bits["weights"] + one.packed.storage_bits["skips"]) \
        / one.packed.storage_bits["weights"] * kept
    return {
        "name": drawn.name, "config": asdict(config), "config_hash": config.hash.hex(), "layers": layers,
        "memory_bits": _memory_bits(one), "useful_macs": ideal * config.pes, "ideal_cycles": ideal,
        "rtl_cycles": rtl_total, "predicted_cycles": total, "ratio": needed / ideal, "utilisation": ideal / needed,
        "frames_per_second": CLOCK_MHZ * 1e6 / needed, "bits_per_weight": stored / kept,
        "image_bytes": len(one.image.engine), "dense_bytes": dense, "weights": one.quantized.weights_total,
        "weights_kept": kept, "pruning_ratio": one.quantized.weights_total / kept,
        "indexed_ratio": dense * 8 / (entries * (32 + 5)), "storage_ratio": dense * 8 / stored,
        "compile_seconds": round(one.seconds, 1),
        "mismatches": sum(simulated["wrong"]) if simulated else None,
        "counter_mismatches": simulated["counter_mismatches"] if simulated else None,
        "simulated_cycles": simulated.get("cycles"), "simulation_seconds": simulated.get("seconds"),
        "loading_seconds": simulated.get("loading"),
    }


def _compile(drawn: Drawn, images: int, seed: int) -> Compiled:
    config = drawn.config
    calibration = draw_images(drawn.in_shape, CALIBRATION_IMAGES, seed)
    shared = draw_network(drawn, calibration, config.code_bits, seed)
    begin = time.perf_counter()
    quantized = quantize(shared, config, calibration)
    acts = quantize_inputs(quantized, calibration)
    activity = [(values != 0).mean(axis=0) for values in (acts, *forward(quantized, acts)[:-1])]
    packed = pack(quantized, config, activity=activity, preset=drawn.name)
    image = parse_image(image_file(packed), config)
    seconds = time.perf_counter() - begin
    decoded = decode(image, config)
    acts = quantize_inputs(quantized, draw_images(drawn.in_shape, images, seed + 1_000_000))
    outputs = forward(quantized, acts)
    return Compiled(quantized, packed, image, decoded, acts, outputs, predict(decoded, acts, outputs), seconds)


def _layer_ends(one: Compiled) -> np.ndarray:
    """The cycle in which each layer's sums are complete, and the last one's outputs: ``[n, layers]``."""
    owners = np.array([part.layer for part in one.decoded.passes])
    last = [int(np.flatnonzero(owners == number)[-1]) for number in range(len(one.outputs))]
    ends = one.prediction.pass_ends[:, last].copy()
    ends[:, -1] = one.prediction.counters["cycles"]
    return ends


def _memory_bits(one: Compiled) -> dict[str, int]:
    """Sizes of the engine's memories."""
    config = one.packed.config
    return {"entries": config.pes * config.entry_depth * sum(config.plane_bits),
            "slices": config.pes * config.slice_depth * config.slice_word_bits,
            "accumulators": config.pes * config.acc_depth * config.acc_bits,
            "activations": config.act_depth * config.act_word_bits, "program": config.program_depth * 32}


def _simulate(one: Compiled, seed: int) -> dict[str, Any]:
    """Runs the images; what the RTL gave beside what was expected."""
    config = one.packed.config
    with tqdm(total=1, desc="building the engine (minutes, once)", bar_format="{desc} {elapsed}", leave=False,
              disable=None):
        build = build_link(Engine(config), capacity_bytes=config.packet_bytes + 16, record_acts=True, long_runs=True)
    begin = time.perf_counter()
    with SimulationLink(build, seed=seed, patience_cycles=PATIENCE_CYCLES, timeout_s=24 * 3600) as link:
        device = Device(link, config)
        with tqdm(total=len(one.image.engine), desc="loading", unit="B", unit_scale=True, leave=False,
                  disable=None) as progress:
            device.load(one.image, progress=progress.update)
        loading = time.perf_counter() - begin
        inferences = list(tqdm(device.inferences(one.acts, batch=1), "RTL simulation", len(one.acts),
                               unit="image", leave=False, disable=None))
        cycles = link.cycles
        seconds = time.perf_counter() - begin
        writes = [write for write in link.act_writes() if write[0]]
    counters = {name: np.array([inference.counters[name] for inference in inferences]) for name in COUNTERS}
    wrong, layer_cycles = compare_layers(one, writes)
    last = [inference.layers[-1] for inference in inferences]
    wrong[-1] += int((np.stack(last) != one.outputs[-1] & (1 << config.act_bits) - 1).any(axis=1).sum())
    mismatched = sum(int((counters[name] != one.prediction.counters[name]).sum()) for name in COUNTERS)
    mismatched += int((np.array(layer_cycles) != np.diff(_layer_ends(one), axis=1, prepend=0)[:, :-1]).sum())
    totals = counters["cycles"] - np.array(layer_cycles).sum(axis=1)
    return {"wrong": wrong, "counters": counters, "counter_mismatches": mismatched, "cycles": cycles,
            "layer_cycles": [*np.array(layer_cycles).mean(axis=0).tolist(), float(totals.mean())],
            "seconds": round(seconds, 3), "loading": round(loading, 3)}


def compare_layers(one: Compiled, writes: list[tuple[int, int, int]]) -> tuple[list[int], list[list[int]]]:
    """Compares what an engine wrote into its activation memory with the golden model.

    Parameters
    ----------
    one : Compiled
        The network, its image and what the golden model computes.
    writes : list of (int, int, int)
        Cycle, address and word of each write, see `sim.simulator.link.SimulationLink.act_writes`.

    Returns
    -------
    wrong : list of int
        Number of images that differ in the outputs of each layer.
    cycles : list of lists of int
        Cycles of each layer but the last, for each image.
    """
    config, image = one.packed.config, one.image
    lane, mask = config.act_bits, (1 << config.act_bits) - 1
    wrong, ends, place = [0] * len(image.layers), [], 0
    for number in range(len(one.acts)):
        ends.append([0])
        for layer, (fields, expected) in enumerate(zip(image.layers, one.outputs, strict=True)):
            words = writes[place:place + fields["output_words"]]
            place += fields["output_words"]
            memory = np.zeros((fields["output_words"], config.pes), np.int64)
            for _, address, word in words:
                content = word.to_bytes(config.pes * config.act_bytes, "little")
                memory[address - fields["output_base"]] = np.frombuffer(content, f"<u{config.act_bytes}")
            got = memory.ravel()[fields["output_order"]]
            wrong[layer] += int((got != expected[number] & mask).any())
            geometry = fields.get("geometry")
            window = geometry.pool ** 2 if geometry else 1
            # From the end of the layer's sums to the first word of its drain.
            delay = broadcast_cycles(config) + drain_cycles(config) + 1 + (window - 1) * config.row_cycles
            ends[-1].append(words[0][0] - delay)
    assert place == len(writes) and lane % 8 == 0
    return wrong, [np.diff(one_image[:-1]).tolist() for one_image in ends]


def networks_table(found: dict[str, Any]) -> str:
    """The figures ``found`` for a terminal."""
    header = ["layer", "useful MACs", "ideal", "RTL", "predicted", "ratio", "passes", "kept %", "acts %",
              "bits/weight", "wrong"]
    parts = []
    for row in found["networks"]:
        rows = [[layer["name"], f"{layer['useful_macs']:.0f}", f"{layer['ideal_cycles']:.0f}",
                 shown(layer["rtl_cycles"], ".0f"), f"{layer['predicted_cycles']:.0f}", f"{layer['ratio']:.3f}",
                 str(layer["passes"]), f"{100 * layer['density']:.1f}", f"{100 * layer['act_density']:.1f}",
                 f"{layer['bits_per_weight']:.2f}", shown(layer["mismatches"], "d")] for layer in row["layers"]]
        rows.append(["all", f"{row['useful_macs']:.0f}", f"{row['ideal_cycles']:.0f}", shown(row["rtl_cycles"], ".0f"),
                     f"{row['predicted_cycles']:.0f}", f"{row['ratio']:.3f}", "",
                     f"{100 * row['weights_kept'] / row['weights']:.1f}", "", f"{row['bits_per_weight']:.2f}",
                     shown(row["mismatches"], "d")])
        config, memory = row["config"], row["memory_bits"]
        sizes = ", ".join(f"{name} {bits / 8 / 2 ** 20:.2f}" for name, bits in memory.items())
        text = (f"{row['name']}: {config['pes']} PEs; memories in MiB: {sizes}\n{text_table(header, rows)}\n"
                f"{row['frames_per_second']:.1f} frames/s at {found['clock_mhz']} MHz; image {row['image_bytes']} "
                "bytes\n"
                f"smaller than dense float32: {row['pruning_ratio']:.1f} x pruned, {row['indexed_ratio']:.1f} x with "
                f"indices, {row['storage_ratio']:.1f} x on chip; compiled in {row['compile_seconds']:.1f} s")
        if row["simulated_cycles"]:
            text += (f"\nRTL: {found['images']} images, {row['mismatches']} outputs of layers differ from golden, "
                     f"{row['counter_mismatches']} counters from their prediction; {row['simulation_seconds']:.0f} s, "
                     f"of which {row['loading_seconds']:.0f} s to load, "
                     f"{row['simulated_cycles'] / row['simulation_seconds']:.0f} simulated cycles a second")
        parts.append(text)
    return "\n\n".join(parts)
