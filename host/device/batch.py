# SPDX-License-Identifier: Apache-2.0
"""Runs an image on a device for many inputs."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from host.device.device import Device
from host.device.pe_trace import Bins
from host.device.ports import build_simulation
from host.device.serial_port import SerialPort
from host.device.target import Target
from host.image.image import Image
from rtl.protocol import COUNTERS

__all__ = ["Batch", "run_batch"]


@dataclass
class Batch:
    """Results of a device.

    Attributes
    ----------
    outputs : list of int64 array ``[n, rows]``
        Bits of the output activations of each layer that was read, unsigned.
    counters : dict of int64 array ``[n]``
    latencies : float64 array ``[n]``
        Seconds of each inference, input and outputs included; NaN for those that went out together.
    link_bytes : int
        Bytes of the inferences' packets, both ways.
    repeated : int
        Packets that were sent again.
    bins : list of Bins
        Activity of the PEs in each inference, if the target records it.
    """

    outputs: list[np.ndarray]
    counters: dict[str, np.ndarray]
    latencies: np.ndarray
    link_bytes: int = 0
    repeated: int = 0
    bins: list[Bins] = field(default_factory=list)


def run_batch(target: Target, image: Image, acts: np.ndarray, *, every_layer: bool = True,
              processes: int | None = None, seed: int = 1,
              load: Callable[[Device, Image], None] = Device.load) -> Batch:
    """Loads the image and runs an inference for each row of ``acts``.

    Parameters
    ----------
    target : Target
        With its configuration.
    image : Image
    acts : int64 array, shape ``[n, inputs]``
    every_layer : bool
        Read the outputs of every layer in ``image.readable``, not only the last.
    processes : int, optional
        Simulations side by side, if the target is an engine alone of which nothing is recorded; by default one for each
        processor core.
    seed : int
        Decides what memories and registers without reset hold at the start of a simulation.
    load : callable
        Loads the image into a device; `host.verification.adopt.adopt` if the device has loaded it by itself.

    Raises
    ------
    UserError
        If a tool is missing, a simulation cannot be built or dies, or the device does not answer or refuses the image.
    """
    alone = target.engine_alone and target.waves is None and not target.bin_cycles
    count = max(1, min(processes or os.cpu_count() or 1, len(acts) // 20)) if alone else 1
    layers = [image.layers[number] for number in image.readable] if every_layer else image.layers[-1:]
    batch = Batch([np.zeros((len(acts), len(layer["output_order"])), np.int64) for layer in layers],
                  {name: np.zeros(len(acts), np.int64) for name in COUNTERS}, np.full(len(acts), np.nan))
    build_simulation(target)  # here, where Ctrl-C ends it
    devices: list[Device] = []
    stopped = threading.Event()
    with tqdm(total=len(acts), desc=target.name, unit="image", disable=None) as progress:
        def run(part: np.ndarray) -> tuple[int, int]:
            with Device.open(target, seed=seed + int(part[0])) as device:
                devices.append(device)
                if stopped.is_set():
                    return 0, 0
                link = _infer(device, target, image, acts, part, batch, progress.update, load)
                if target.bin_cycles:
                    batch.bins = device.pe_bins()
                return link

        with ThreadPoolExecutor(count) as pool:
            try:
                parts = np.array_split(np.arange(len(acts)), count)
                for future in as_completed([pool.submit(run, part) for part in parts]):
                    link_bytes, repeated = future.result()
                    batch.link_bytes += link_bytes
                    batch.repeated += repeated
            except BaseException:
                # The pool waits for its threads, and they for their devices.
                stopped.set()
                for device in devices:
                    device.abort()
                raise
    return batch


def _infer(device: Device, target: Target, image: Image, acts: np.ndarray, part: np.ndarray, batch: Batch,
           done: Callable[[], object],
           load: Callable[[Device, Image], None]) -> tuple[int, int]:
    """Fills a part of the batch; bytes on the link, and packets that were sent again."""
    load(device, image)
    loaded_bytes = device.link_bytes
    together = 50 if target.engine_alone else 1
    begin = time.perf_counter()
    for place, inference in zip(part, device.inferences(
            acts[part], every_layer=len(batch.outputs) > 1, batch=together), strict=True):
        for values, layer in zip(batch.outputs, inference.layers, strict=True):
            values[place] = layer
        for name, value in inference.counters.items():
            batch.counters[name][place] = value
        end = time.perf_counter()
        if together == 1:
            batch.latencies[place] = end - begin
        begin = end
        done()
    return device.link_bytes - loaded_bytes, device.port.repeated if isinstance(device.port, SerialPort) else 0


