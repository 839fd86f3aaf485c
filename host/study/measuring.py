# SPDX-License-Identifier: Apache-2.0
"""Measures the size and the error of a compressed network."""

from dataclasses import dataclass, field, replace

import numpy as np
from torch import nn

from host.compression.share_weights import share_weights
from host.compression.shared_network import SharedNetwork
from host.network.layers import FLOAT_BITS, Network
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.quantization.quantize import quantize
from host.study.subject import Subject
from host.training.forward import error_of, logits, tensors
from nonzero.errors import UserError
from rtl.config import RANGES, EngineConfig, preset

__all__ = ["Outcome", "distributions", "engine", "on_disk", "on_engine"]

BINS = 60

CALIBRATION_IMAGES = 2000
"""Training images on which the scales of a network with convolutions are chosen: all of them would take longer than
classifying the test images."""


@dataclass(frozen=True)
class Outcome:
    """Results of one method with one seed.

    Attributes
    ----------
    parameters, total : int
        Weights, without biases, that are left and that the dense network has.
    bits : int
        Size of the weights, biases and all else counted: in the memories of the engine, or in a file.
    place : str
        "chip" or "disk".
    test_error : float
        Percent, of what is stored: of the engine's integers on the chip, of the float network on disk.
    seconds : float
        Wall-clock time of all training, that of the dense network included.
    weights : dict
        Histograms of the layers' weights before and after, as `distributions` gives them, or empty.
    """

    parameters: int
    total: int
    bits: int
    place: str
    test_error: float
    seconds: float
    weights: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def engine(code_bits: int, *, direct: bool, convolutions: bool = False) -> EngineConfig:
    """A preset with other codes, and with memories that hold a dense network and its codebooks.

    Parameters
    ----------
    code_bits : int
        Bits of a weight code.
    direct : bool
        Codes are the weights themselves; otherwise they go through a codebook.
    convolutions : bool
        Preset ``conv``; otherwise ``default``.
    """
    memories = ("entry_depth", "slice_depth", "act_depth", "program_depth", *(("acc_depth",) if convolutions else ()))
    return replace(preset("conv" if convolutions else "default"), code_bits=code_bits, direct_weights=direct,
                   **{name: RANGES[name][1] for name in memories})


def on_engine(subject: Subject, network: Network | SharedNetwork, total: int, seconds: float,
              code_bits: int = 8) -> Outcome:
    """Measures the integers that the engine computes with; a network that it cannot hold is left on disk.

    Parameters
    ----------
    subject : Subject
    network : Network or SharedNetwork
        Float weights become weights of 8 bits without a codebook; shared ones keep theirs.
    total, seconds
        Fields of the `Outcome`: weights of the dense network, and seconds of all training.
    code_bits : int
        Bits of a code, if weights are shared.
    """
    dataset = subject.dataset
    direct = isinstance(network, Network)
    convolutions = any(layer.geometry for layer in network.layers)
    images = dataset.train_images[:CALIBRATION_IMAGES if convolutions else None]
    config = engine(8 if direct else code_bits, direct=direct, convolutions=convolutions)
    try:
        shared = share_weights(network, config) if isinstance(network, Network) else network
        quantized = quantize(shared, config, images)
        bits = sum(pack(quantized, config).storage_bits.values())
    except UserError:
        return on_disk(subject, network if isinstance(network, Network) else network.as_network(), total, seconds)
    outputs = forward(quantized, quantize_inputs(quantized, dataset.test_images))[-1]
    error = 100 * float((outputs.argmax(axis=1) != dataset.test_labels).mean())
    return Outcome(quantized.weights_kept, total, bits, "chip", error, seconds)


def on_disk(subject: Subject, network: Network | nn.Module, total: int, seconds: float) -> Outcome:
    """Measures a float network: its parameters and biases in float32, and one bit for every weight if some are zero.

    A module's permutations are not counted: they follow from a seed.

    Parameters
    ----------
    subject : Subject
    network : Network or nn.Module
    total, seconds
        Fields of the `Outcome`: weights of the dense network, and seconds of all training.
    """
    test = subject.dataset.test_images, subject.dataset.test_labels
    if isinstance(network, nn.Module):
        sizes = {name: value.numel() for name, value in network.named_parameters()}
        parameters = sum(size for name, size in sizes.items() if not name.endswith("bias"))
        bits = FLOAT_BITS * sum(sizes.values())
        error = error_of(network, *test)
    else:
        parameters = network.weights_kept
        stored = parameters + sum(layer.bias.size for layer in network.layers)
        bits = FLOAT_BITS * stored + (network.weights_total if parameters < network.weights_total else 0)
        layers = tensors(network)
        error = error_of(lambda inputs: logits(layers, inputs), *test)
    return Outcome(parameters, total, bits, "disk", error, seconds)


def distributions(before: Network, after: Network) -> dict[str, dict[str, list[float]]]:
    """Histograms of each layer's non-zero weights: edges of equal bins, and weights in each bin.

    The edges span the weights of both networks; ``before`` and ``after`` have one count less than ``edges``.
    """
    found = {}
    for one, other in zip(before.layers, after.layers, strict=True):
        values = [layer.weight[layer.weight != 0] for layer in (one, other)]
        edges = np.histogram_bin_edges(np.concatenate(values), BINS)
        found[one.name] = {"edges": edges.tolist(), "before": np.histogram(values[0], edges)[0].tolist(),
                           "after": np.histogram(values[1], edges)[0].tolist()}
    return found
