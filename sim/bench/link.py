# SPDX-License-Identifier: Apache-2.0
"""Benches of the link on a small engine: random packets over AXI, and faults."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork, quantize_inputs
from host.quantization.quantize import quantize
from host.workloads.whole_networks import DRAWN, draw_images, draw_network
from rtl.config import PRESETS, EngineConfig
from rtl.engine.engine import Engine
from rtl.integration.axi_top import AxiEngine
from rtl.numbers import Activation
from sim.simulator.link import SimulationLink, build_link
from sim.simulator.running import run
from sim.simulator.verilate import build

from .faults import Faults

__all__ = ["CONFIG", "axi_table", "faults_table", "run_axi", "run_faults"]

CONFIG = replace(PRESETS["tiny"], pes=4, entry_depth=256, slice_depth=64, act_depth=32, acc_depth=8, packet_bytes=128)

PACKETS_AT_ONCE = 16
"""Packets of the greatest length that fit one exchange."""

HOURS = 3600.0


def run_axi(packets: int, seed: int) -> dict[str, Any]:
    """Sends ``packets`` random packets each way, with random pauses on every channel. ``seed`` decides both.

    Raises `SimulationError` for a fault.
    """
    parameters = {"config": asdict(CONFIG), "packets": packets, "idle": 0.3, "stall": 0.3}
    run(build(AxiEngine(CONFIG)), "sim.testbenches.axi", tests=["packets_and_registers"], parameters=parameters,
        seed=seed, timeout_s=10 * HOURS)
    return {"packets": packets, "seed": seed, "mismatches": 0}


def run_faults(packets: int, noise: int, resets: int, seed: int) -> dict[str, Any]:
    """Flips every bit of a small image, sends mutated packets and random bytes, and resets LeNet-300-100 at work.

    Parameters
    ----------
    packets : int
        Mutated packets.
    noise : int
        Random bytes.
    resets : int
        Resets, in the middle of load, run and read-out.
    seed : int
        Decides all that is random.

    Raises
    ------
    FaultError
        For a fault that the engine does not survive.
    """
    network = _network(CONFIG, seed)
    acts = np.random.default_rng(seed).integers(0, 256, (1, network.inputs))
    with _faults(CONFIG, network, acts, seed) as faults:
        found = {"seed": seed, "image_bytes": len(faults.image.engine), "flipped_bits": faults.flip_image_bits(),
                 "mutated_packets": faults.mutate_packets(packets), "random_bytes": faults.send_noise(noise)}
    config, drawn = PRESETS["default"], DRAWN["LeNet-300-100"]
    images = draw_images(drawn.in_shape, 2, seed)
    network = quantize(draw_network(drawn, images, config.code_bits, seed), config, images)
    with _faults(config, network, quantize_inputs(network, images[:1]), seed) as faults:
        return {**found, "resets": faults.reset_anywhere(resets), "mismatches": 0}


@contextmanager
def _faults(config: EngineConfig, network: QuantizedNetwork, acts: np.ndarray, seed: int) -> Iterator[Faults]:
    image = parse_image(image_file(pack(network, config)), config)
    outputs = (forward(network, acts)[-1] & 0xFF).tolist()
    capacity = PACKETS_AT_ONCE * (config.packet_bytes + 16)
    with SimulationLink(build_link(Engine(config), capacity_bytes=capacity), patience_cycles=20_000,
                        seed=seed) as link:
        yield Faults(link, config, image, acts, outputs, seed=seed)


def _network(config: EngineConfig, seed: int) -> QuantizedNetwork:
    """Two layers, 8 inputs, 6 and 4 rows, a third of the weights."""
    rng = np.random.default_rng(seed)
    layers = []
    for number, (rows, cols) in enumerate([(6, 8), (4, 6)]):
        codes = np.where(rng.random((rows, cols)) < 0.3, rng.integers(1, 1 << config.code_bits, (rows, cols)), 0)
        codebook = np.concatenate([[0], rng.integers(-100, 101, (1 << config.code_bits) - 1)]).astype(np.int64)
        layers.append(QuantizedLayer(f"fc{number + 1}", codes.astype(np.uint8), codebook,
                                     rng.integers(-500, 501, rows), 1 << 10, 0, Activation.RELU, False, 1.0, 1.0, 1.0))
    return QuantizedNetwork("random", tuple(layers), 1.0, False, config.act_bits)


def axi_table(found: dict[str, Any]) -> str:
    """The result ``found`` of `run_axi` as a sentence."""
    return f"{found['packets']} random packets each way over AXI, every response right, every rule kept"


def faults_table(found: dict[str, Any]) -> str:
    """The counts ``found`` of `run_faults` as text, a line each."""
    return "\n".join(f"{found[name]:>8}  {text}" for name, text in (
        ("flipped_bits", "single bits of the image flipped, each noticed"),
        ("mutated_packets", "mutated packets, the engine exact after each eight"),
        ("random_bytes", "random bytes, the engine exact after every few hundred"),
        ("resets", "resets in the middle of load, run and read-out of LeNet-300-100, exact after each reload")))
