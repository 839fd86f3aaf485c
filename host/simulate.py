# SPDX-License-Identifier: Apache-2.0
"""Runs an image on the engine in RTL simulation and compares it with the golden model and the cycle model."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from host.device import Device
from host.image import Image
from rtl.config import EngineConfig
from rtl.protocol import COUNTERS

__all__ = ["Comparison", "compare", "simulate"]


@dataclass(frozen=True)
class Comparison:
    """What the RTL gave beside what was expected.

    Attributes
    ----------
    images, layers : int
        How many were compared.
    mismatches : int
        Images of which any output of any layer that can be read differs.
    counter_mismatches : dict
        For each counter, the images of which it differs from the prediction.
    mean_counters : dict
        Mean of each counter over the images.
    """

    images: int
    layers: int
    mismatches: int
    counter_mismatches: dict[str, int]
    mean_counters: dict[str, float]


def simulate(config: EngineConfig, image: Image, acts: np.ndarray, *, processes: int | None = None,
             seed: int = 1) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Loads the image into simulated engines and runs an inference for each row of ``acts``.

    Parameters
    ----------
    acts : int64 array, shape ``[n, inputs]``
    processes : int, optional
        Simulations side by side; by default one for each processor core.
    seed : int
        Decides what memories and registers without reset hold at the start.

    Returns
    -------
    outputs : list of int64 array ``[n, rows]``
        Bits of the output activations of each layer in ``image.readable``, unsigned.
    counters : dict of int64 array ``[n]``

    Raises
    ------
    UserError
        If a tool is missing, the simulation cannot be built or dies, or an engine refuses the image.
    """
    # Verilator and cocotb are only wanted here: compiling needs neither.
    from rtl.engine import Engine
    from sim.link import SimulationLink, build_link

    count = max(1, min(processes or os.cpu_count() or 1, len(acts) // 20))
    build = build_link(Engine(config), capacity_bytes=config.packet_bytes + 16)
    links: list[SimulationLink] = []
    stopped = threading.Event()
    parts = np.array_split(np.arange(len(acts)), count)
    outputs = [np.zeros((len(acts), len(layer["output_order"])), np.int64)
               for layer in (image.layers[number] for number in image.readable)]
    counters = {name: np.zeros(len(acts), np.int64) for name in COUNTERS}
    with tqdm(total=len(acts), desc="RTL simulation", unit="image", disable=None) as progress:
        def run(part: np.ndarray) -> None:
            with SimulationLink(build, seed=seed + int(part[0])) as link:
                links.append(link)
                if not stopped.is_set():
                    _infer(Device(link, config), image, acts, part, outputs, counters, progress.update)

        with ThreadPoolExecutor(count) as pool:
            try:
                for future in as_completed([pool.submit(run, part) for part in parts]):
                    future.result()
            except BaseException:
                # The pool waits for its threads, and they for their simulations.
                stopped.set()
                for link in links:
                    link.abort()
                raise
    return outputs, counters


def _infer(device: Device, image: Image, acts: np.ndarray, part: np.ndarray, outputs: list[np.ndarray],
           counters: dict[str, np.ndarray], done: Callable[[], object]) -> None:
    device.load(image)
    for place, inference in zip(part, device.infer(image, acts[part], every_layer=True), strict=True):
        for values, layer in zip(outputs, inference.layers, strict=True):
            values[place] = layer
        for name, value in inference.counters.items():
            counters[name][place] = value
        done()


def compare(golden: list[np.ndarray], outputs: list[np.ndarray], predicted: dict[str, np.ndarray],
            counters: dict[str, np.ndarray], act_bits: int) -> Comparison:
    """Compares every layer and every counter of every image."""
    images = len(golden[0])
    if any(len(one) != images for one in (*golden, *outputs, *predicted.values(), *counters.values())):
        raise ValueError("every image must have been run, predicted and counted")
    wrong = np.zeros(images, bool)
    for expected, got in zip(golden, outputs, strict=True):
        wrong |= ((expected & ((1 << act_bits) - 1)) != got).any(axis=1)
    return Comparison(images, len(golden), int(wrong.sum()),
                      {name: int((counters[name] != predicted[name]).sum()) for name in COUNTERS},
                      {name: float(counters[name].mean()) for name in COUNTERS})
