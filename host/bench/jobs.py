# SPDX-License-Identifier: Apache-2.0
"""Jobs that `host.bench.seconds` times: networks, and how many cycles they take on a board's engine."""

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from host.compilation.state import Compilation, Settings
from host.compilation.steps import STEPS
from host.cycle_model.predict import predict
from host.datasets import load_dataset
from host.decoding.decode import decode
from host.image.image import Image, read_image
from host.network.graph import is_chain
from host.network.layers import Linear, Network
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork, quantize_inputs
from host.verification.fit_data import fit_data
from host.workloads.compile_layer import Options, compile_drawn
from host.workloads.drawn_layers import draw
from host.workloads.eie_layers import EIE_LAYERS, Layer
from nonzero.errors import UserError, say_notes
from nonzero.shipped import CONSTRAINTS
from rtl.config import PRESETS, EngineConfig
from rtl.numbers import Activation, requant_shift

__all__ = ["LENET", "Baseline", "Job", "baselines", "drawn_job", "float_network", "image_job", "jobs_for",
           "lenet_image", "read_baseline"]

LENET = "LeNet-300-100"
LENET_SIZES = (784, 300, 100, 10)
VECTORS = 4
"""Vectors over which the engine's cycles of a drawn layer are averaged."""

IMAGES = 1000
"""Test images over which the engine's cycles of an image are averaged."""


@dataclass(frozen=True)
class Baseline:
    """An engine as it was placed and routed for a board.

    Attributes
    ----------
    board : str
    fmax_mhz : float
        The highest clock by static timing analysis.
    preset : str
        The engine, a name of `rtl.config.PRESETS`.
    """

    board: str
    fmax_mhz: float
    preset: str

    @property
    def config(self) -> EngineConfig:
        return PRESETS[self.preset]


@dataclass(frozen=True)
class Job:
    """A network to time.

    Attributes
    ----------
    network : Network
        The float network whose outputs the engine's approximate.
    vector : float64 array, shape ``[inputs]``
        The input of the libraries, which do not care which of its values are zero.
    act_density : float
        Share of the engine's input activations that are not zero.
    cycles : float
        The engine's, averaged over some inputs.
    enlarged : dict
        Fields of the engine's configuration that had to grow.
    """

    name: str
    network: Network
    vector: np.ndarray
    act_density: float
    cycles: float
    enlarged: dict[str, int]


def baselines(directory: Path = CONSTRAINTS) -> list[str]:
    """The names of the boards that have a baseline in ``directory``."""
    return sorted(path.stem.removeprefix("baseline_") for path in directory.glob("baseline_*.json"))


def read_baseline(board: str, directory: Path = CONSTRAINTS) -> Baseline:
    """The committed baseline of a board.

    Parameters
    ----------
    board : str
        Name of a board, one of `baselines`.
    directory : Path
        Directory of the file ``baseline_<board>.json``.

    Raises
    ------
    UserError
        If there is none, or if its engine is none of today's presets.
    """
    if board not in baselines(directory):
        raise UserError(f"--board must have a baseline, one of {', '.join(baselines(directory))}, not '{board}'")
    path = directory / f"baseline_{board}.json"
    try:
        found = json.loads(path.read_text())
        fmax_mhz, config_hash = float(found["fmax_mhz"]), found["config_hash"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"baseline '{path}' cannot be read ({error!r}); build the board anew") from None
    for name, config in PRESETS.items():
        if config.hash.hex() == config_hash:
            return Baseline(board, fmax_mhz, name)
    raise UserError(f"baseline '{path}' must be of a preset ({', '.join(PRESETS)}), but its config_hash is "
                    f"'{config_hash}'; build the board anew")


def float_network(quantized: QuantizedNetwork) -> Network:
    """The network that the integers of ``quantized`` approximate: float32, activations in the engine's units, no clamp.

    Raises `UserError` for a network with branches, convolutions or tables of activation functions.
    """
    others = [layer for layer in quantized.layers if layer.geometry is not None or layer.table is not None]
    if others:
        what = "a convolution or pooling" if others[0].geometry is not None else "an activation function by a table"
        raise UserError("the libraries are timed on linear layers with ReLU or no activation function, and layer "
                        f"'{others[0].name}' has {what}; give another image")
    if not is_chain(quantized.layers):
        raise UserError("the libraries are timed on chains of layers, and this network has branches; give another "
                        "image")
    layers = []
    for layer in quantized.layers:
        ratio = layer.multiplier / 2.0 ** (layer.pre_shift + requant_shift(quantized.act_bits))
        layers.append(Linear(layer.name, (layer.codebook * ratio).astype(np.float32)[layer.codes],
                             (layer.bias * ratio).astype(np.float32), layer.activation))
    return Network(quantized.name, tuple(layers))


def drawn_job(layer: Layer, config: EngineConfig, seed: int = 1) -> Job:
    """A random layer on the engine.

    Parameters
    ----------
    layer : Layer
    config : EngineConfig
        Its memories grow to hold the layer (`host.workloads.compile_layer`).
    seed : int
        Decides weights and activations.

    Raises
    ------
    UserError
        If no engine holds the layer.
    """
    quantized, acts = draw(layer, config, seed, VECTORS)
    one = compile_drawn(quantized, acts, Options(config))
    before = asdict(config)
    enlarged = {name: value for name, value in asdict(one.config).items() if value != before[name]}
    return Job(layer.name, float_network(quantized), acts[0].astype(np.float64), float((acts != 0).mean()),
               float(one.prediction.counters["cycles"].mean()), enlarged)


def lenet_image(config: EngineConfig, density: float, seed: int = 1) -> Image:
    """LeNet-300-100 with He-initialised weights, pruned by magnitude and not trained.

    Parameters
    ----------
    config : EngineConfig
    density : float
        Share of the weights that is kept, above 0 and at most 1.
    seed : int
        Decides the weights.

    Raises
    ------
    UserError
        For a density out of range, or if the engine does not hold the network.
    """
    rng = np.random.default_rng(seed)
    layers: list[Linear] = []
    for cols, rows in itertools.pairwise(LENET_SIZES):
        weight = rng.normal(0, math.sqrt(2 / cols), (rows, cols)).astype(np.float32)
        layers.append(Linear(f"fc{len(layers) + 1}", weight, np.zeros(rows, np.float32),
                             Activation.IDENTITY if rows == LENET_SIZES[-1] else Activation.RELU))
    work = Compilation(Settings(Path(LENET), config, density=density, seed=seed),
                       calibration=load_dataset("mnist").train_images, dense=Network(LENET, tuple(layers)))
    for _, step in STEPS[1:]:
        step(work)
    assert work.image is not None
    return work.image


def image_job(name: str, image: Image, config: EngineConfig, data: str) -> Job:
    """A compiled network on the engine.

    Parameters
    ----------
    name : str
        Name of the job in tables.
    image : Image
        The network, compiled for ``config``.
    config : EngineConfig
    data : str
        Name of the dataset whose test images are the inputs (`host.datasets.load_dataset`).

    Raises
    ------
    UserError
        If the dataset cannot be read or does not fit the network.
    """
    decoded, dataset = decode(image, config), load_dataset(data)
    quantized, dataset = decoded.network, fit_data(image, dataset)
    say_notes(dataset.notes)
    acts = quantize_inputs(quantized, dataset.test_images[:IMAGES])
    # The image leaves out inputs without weights; the libraries take whole inputs.
    first = quantized.layers[0]
    codes = np.pad(first.codes, ((0, 0), (0, acts.shape[1] - first.cols)))
    quantized = replace(quantized, layers=(replace(first, codes=codes), *quantized.layers[1:]))
    prediction = predict(decoded, acts, forward(quantized, acts))
    return Job(name, float_network(quantized), acts[0].astype(np.float64), float((acts != 0).mean()),
               float(prediction.counters["cycles"].mean()), {})


def jobs_for(names: Sequence[str], config: EngineConfig, density: float, model: Path | None,
             data: str) -> Iterable[Job]:
    """Yields the networks one after the other, because a large one takes a gigabyte.

    Parameters
    ----------
    names : sequence of str
        Layers of `host.workloads.eie_layers.EIE_LAYERS`; any other name stands for ``model``, or for LeNet-300-100
        without one.
    config : EngineConfig
    density : float
        Share of LeNet-300-100's weights that is kept (`lenet_image`).
    model : Path or None
        A compiled image for ``config``.
    data : str
        Name of the dataset of the inputs (`image_job`).

    Raises
    ------
    UserError
        See `drawn_job`, `image_job` and `lenet_image`; also if ``model`` cannot be read.
    """
    by_name = {layer.name: layer for layer in EIE_LAYERS}
    for name in names:
        if name in by_name:
            yield drawn_job(by_name[name], config)
        elif model is not None:
            yield image_job(model.name, read_image(model, config), config, data)
        else:
            yield image_job(name, lenet_image(config, density), config, data)
