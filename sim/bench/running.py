# SPDX-License-Identifier: Apache-2.0
"""Runs one layer: compile, predict, simulate, compare."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from host.device.device import Device
from host.reporting.entropy import bound_bits
from host.verification.compare import compare
from host.workloads.compile_layer import Compiled, Options, compile_drawn
from host.workloads.drawn_layers import draw
from host.workloads.eie_layers import Layer
from rtl.engine.engine import Engine
from rtl.protocol import COUNTERS
from sim.simulator.link import SimulationLink, build_link

from .eie_format import encode_eie

__all__ = ["DEPTHS", "Simulated", "figures", "run_layer", "simulate"]

DEPTHS = ("entry_depth", "slice_depth", "act_depth", "acc_depth")
"""Fields of `EngineConfig` that grow with the layer."""


@dataclass(frozen=True)
class Simulated:
    """Results of the RTL.

    Attributes
    ----------
    outputs : list of one int64 array ``[n, rows]``
    counters : dict of int64 array ``[n]``
    cycles : int
        All that was simulated, loading included.
    seconds, build_seconds : float
        Real time of simulating, and of building the simulation before (or finding it in the cache).
    """

    outputs: list[np.ndarray]
    counters: dict[str, np.ndarray]
    cycles: int
    seconds: float
    build_seconds: float


def simulate(one: Compiled, *, seed: int = 1) -> Simulated:
    """Loads the layer into the simulated engine and runs it on each of its activation vectors.

    Parameters
    ----------
    one : Compiled
        The layer and its activation vectors.
    seed : int
        Decides what the memories hold at the start.

    Raises
    ------
    UserError
        If the engine refuses a request, or the simulation fails.
    """
    begin = time.perf_counter()
    with tqdm(total=1, desc="building the engine (minutes, once)", bar_format="{desc} {elapsed}", leave=False,
              disable=None):
        build = build_link(Engine(one.config), capacity_bytes=one.config.packet_bytes + 16, long_runs=True)
    built = time.perf_counter()
    with SimulationLink(build, seed=seed) as link, \
            tqdm(total=len(one.image.engine), desc=f"loading {one.network.name}", unit="B", unit_scale=True,
                 leave=False, disable=None) as progress:
        device = Device(link, one.config)
        device.load(one.image, progress=progress.update)
        inferences = list(device.inferences(one.acts))
        cycles = link.cycles
    return Simulated([np.stack([inference.layers[0] for inference in inferences])],
                     {name: np.array([inference.counters[name] for inference in inferences]) for name in COUNTERS},
                     cycles, time.perf_counter() - built, built - begin)


def figures(layer: Layer, one: Compiled, simulated: Simulated | None) -> dict[str, Any]:
    """A row of the table. Cycles are means over the vectors.

    Parameters
    ----------
    layer : Layer
    one : Compiled
        The layer, compiled.
    simulated : Simulated or None
        Results of the RTL; figures of the RTL are None without it.
    """
    config, (quantized,) = one.config, one.network.layers
    useful = one.useful_macs
    kept = max(1, one.network.weights_kept)
    predicted = one.prediction.counters
    encoded = [placed.encoded for placed in one.packed.layers[0].passes]
    found: dict[str, Any] = {
        "name": layer.name, "vectors": len(one.acts), "ideal_cycles": float(useful.mean()) / config.pes,
        "rtl_cycles": None, "predicted_cycles": float(predicted["cycles"].mean()),
        "ratio": float(predicted["cycles"].sum() * config.pes / max(1, useful.sum())), "eie_ratio": layer.eie_ratio,
        "mismatches": None, "counter_mismatches": None,
        "queue_stalls": float(predicted["stall_cycles"].mean()),
        "broadcasts": float(predicted["broadcasts"].mean()), "imbalance": one.imbalance,
        "bits_per_weight": sum(one.packed.storage_bits.values()) / kept,
        "bound_bits_per_weight": bound_bits(config.code_bits, kept / quantized.codes.size),
        "eie_format_bits_per_weight": encode_eie(quantized.codes, config.pes).bits / kept,
        "storage_bits_per_weight": {name: bits / kept for name, bits in one.packed.storage_bits.items()},
        "index_bits": encoded[0].index_bits, "passes": len(encoded), "image_bytes": len(one.image.engine),
        "depths": {name: getattr(config, name) for name in DEPTHS},
    }
    if simulated is not None:
        comparison = compare(one.outputs, simulated.outputs, predicted, simulated.counters, config.act_bits)
        exact = int((simulated.counters["useful_macs"] != useful).sum())
        found |= {
            "rtl_cycles": comparison.mean_counters["cycles"],
            "ratio": float(simulated.counters["cycles"].sum() * config.pes / max(1, useful.sum())),
            "mismatches": comparison.mismatches,
            "counter_mismatches": sum(comparison.counter_mismatches.values()) + exact,
            "queue_stalls": comparison.mean_counters["stall_cycles"],
            "simulated_cycles": simulated.cycles, "simulation_seconds": round(simulated.seconds, 2),
            "build_seconds": round(simulated.build_seconds, 2),
        }
    return found


def run_layer(layer: Layer, options: Options, seed: int, vectors: int, *, rtl: bool = True) -> dict[str, Any]:
    """Draws, compiles, predicts and simulates a layer; its `figures`.

    Parameters
    ----------
    layer : Layer
    options : Options
    seed : int
        Decides weights and activations.
    vectors : int
        Inputs, 1 or more.
    rtl : bool
        Simulate the RTL.

    Raises
    ------
    UserError
        If no engine holds the layer, or the simulation cannot be built or dies.
    """
    network, acts = draw(layer, options.config, seed, vectors, uneven=options.uneven)
    one = compile_drawn(network, acts, options)
    return {"seed": seed, **figures(layer, one, simulate(one, seed=seed) if rtl else None)}
