# SPDX-License-Identifier: Apache-2.0
"""Benches of the link on a small engine: random packets over AXI, and faults."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from host.image import image_file, parse_image
from host.pack import pack
from host.quantize import QuantizedLayer, QuantizedNetwork
from host.reference import forward
from rtl.axi import AxiEngine
from rtl.config import PRESETS, EngineConfig
from rtl.engine import Engine
from sim.link import SimulationLink, build_link
from sim.running import run
from sim.verilate import build

from .faults import Faults

__all__ = ["CONFIG", "axi_table", "faults_table", "run_axi", "run_faults"]

CONFIG = replace(PRESETS["tiny"], pes=4, entry_depth=256, slice_depth=64, act_depth=32, acc_depth=8, packet_bytes=128)

PACKETS_AT_ONCE = 16
"""So many of the longest packets fit one exchange."""

HOURS = 3600.0


def run_axi(packets: int, seed: int) -> dict[str, Any]:
    """So many random packets each way, with random pauses on every channel. Raises `SimulationError` for a fault."""
    parameters = {"config": asdict(CONFIG), "packets": packets, "idle": 0.3, "stall": 0.3}
    run(build(AxiEngine(CONFIG)), "sim.benches.axi", tests=["packets_and_registers"], parameters=parameters, seed=seed,
        timeout_s=10 * HOURS)
    return {"packets": packets, "seed": seed, "mismatches": 0}


def run_faults(rounds: int, seed: int) -> dict[str, Any]:
    """Every bit of an image flipped, so many rounds of mutated packets, so many resets.

    Raises
    ------
    FaultError
        For a fault that the engine does not survive.
    """
    network = _network(CONFIG, seed)
    image = parse_image(image_file(pack(network, CONFIG)), CONFIG)
    acts = np.random.default_rng(seed).integers(0, 256, (1, network.inputs))
    outputs = (forward(network, acts)[-1] & 0xFF).tolist()
    capacity = PACKETS_AT_ONCE * (CONFIG.packet_bytes + 16)
    with SimulationLink(build_link(Engine(CONFIG), capacity_bytes=capacity), patience_cycles=20_000,
                        seed=seed) as link:
        faults = Faults(link, CONFIG, image, acts, outputs, seed=seed)
        return {"seed": seed, "image_bytes": len(image.engine), "flipped_bits": faults.flip_image_bits(),
                "mutated_packets": faults.mutate_packets(rounds), "resets": faults.reset_anywhere(rounds),
                "mismatches": 0}


def _network(config: EngineConfig, seed: int) -> QuantizedNetwork:
    """Two layers, 8 inputs, 6 and 4 rows, a third of the weights."""
    rng = np.random.default_rng(seed)
    layers = []
    for number, (rows, cols) in enumerate([(6, 8), (4, 6)]):
        codes = np.where(rng.random((rows, cols)) < 0.3, rng.integers(1, 1 << config.code_bits, (rows, cols)), 0)
        codebook = np.concatenate([[0], rng.integers(-100, 101, (1 << config.code_bits) - 1)]).astype(np.int64)
        layers.append(QuantizedLayer(f"fc{number + 1}", codes.astype(np.uint8), codebook,
                                     rng.integers(-500, 501, rows), 1 << 10, 0, True, False, 1.0, 1.0, 1.0))
    return QuantizedNetwork("random", tuple(layers), 1.0, False, config.act_bits)


def axi_table(found: dict[str, Any]) -> str:
    return f"{found['packets']} random packets each way over AXI, every response right, every rule kept"


def faults_table(found: dict[str, Any]) -> str:
    return "\n".join(f"{found[name]:>8}  {text}" for name, text in (
        ("flipped_bits", "single bits of the image flipped, each noticed"),
        ("mutated_packets", "mutated packets, the engine exact after each eight"),
        ("resets", "resets in the middle of load, run and read-out, exact after each reload")))
