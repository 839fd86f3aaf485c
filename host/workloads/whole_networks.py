# SPDX-License-Identifier: Apache-2.0
"""Whole networks to be measured without their data: AlexNet and VGG-16 with random weights, and images for them.

Sizes and densities are those of S. Han, J. Pool, J. Tran, W. Dally, "Learning both Weights and Connections for
Efficient Neural Networks", NIPS 2015, tables 4 and 5.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from host.compression.kmeans import cluster
from host.compression.shared_network import SharedLayer, SharedNetwork
from host.network.layers import Geometry
from host.training.forward import activations
from rtl.config import EngineConfig
from rtl.numbers import Activation

__all__ = ["ALEXNET", "DRAWN", "VGG16", "Drawn", "Stage", "draw_images", "draw_network"]

SPREAD = 0.5
"""Spread of the densities of activations among the channels of a layer, over their mean."""

SAMPLE = 100_000
"""Weights of a layer from which its codebook is made."""


@dataclass(frozen=True)
class Stage:
    """A layer: a convolution, or a fully connected layer if it has no kernel.

    Attributes
    ----------
    outputs : int
        Channels or neurons.
    weight_density, act_density : float
        Shares of its weights and of its outputs (before pooling) that are not zero; 1 for outputs without a ReLU.
    kernel, stride, padding, groups : int
    pool, pool_stride : int
        Edge and stride of the max pooling behind it; 1 for none.
    """

    name: str
    outputs: int
    weight_density: float
    act_density: float
    kernel: int = 0
    stride: int = 1
    padding: int = 0
    groups: int = 1
    pool: int = 1
    pool_stride: int = 1

    def geometry(self, in_shape: tuple[int, int, int]) -> Geometry | None:
        """The geometry for inputs of ``in_shape``: channels, rows and columns; None for a fully connected layer."""
        if not self.kernel:
            return None
        return Geometry(in_shape, (self.kernel, self.kernel), (self.stride, self.stride), (self.padding, self.padding),
                        self.groups, self.pool, self.pool_stride)


@dataclass(frozen=True)
class Drawn:
    """A network that is drawn at random.

    Attributes
    ----------
    in_shape : (int, int, int)
        Channels, height and width of its images.
    stages : tuple of Stage
        Its layers, in the order of computation.
    config : EngineConfig
        An engine that holds it.
    """

    name: str
    in_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]
    config: EngineConfig


def _vgg() -> tuple[Stage, ...]:
    weights = iter((0.58, 0.22, 0.34, 0.36, 0.53, 0.24, 0.42, 0.32, 0.27, 0.34, 0.35, 0.29, 0.36))
    acts = iter((0.53, 0.89, 0.80, 0.81, 0.68, 0.70, 0.64, 0.51, 0.45, 0.34, 0.32, 0.29, 0.19))
    return tuple(Stage(f"conv{block}_{number}", channels, next(weights), next(acts), 3, padding=1,
                       pool=2 if number == count else 1, pool_stride=2 if number == count else 1)
                 for block, (channels, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1)
                 for number in range(1, count + 1))


LARGE = EngineConfig(pes=64, index_bits=(4, 5, 6, 7), entry_depth=65536, length_bits=5, slice_word_bits=40,
                     slice_depth=8192, act_depth=51_529, acc_depth=50_176, tap_bits=3, queue_depth=64,
                     program_depth=2048, packet_bytes=4096)
"""Holds AlexNet and VGG-16 whole: an ASIC, or a very large FPGA."""

SMALL = EngineConfig(index_bits=(4, 6, 7), entry_depth=4096, length_bits=6, slice_word_bits=48, slice_depth=2048,
                     act_depth=2048, acc_depth=1152, tap_bits=3, program_depth=512)
"""Holds LeNet-5 with 16 PEs."""

LENET_300_100 = Drawn("LeNet-300-100", (1, 28, 28), (
    Stage("fc1", 300, 0.08, 0.38), Stage("fc2", 100, 0.09, 0.65), Stage("fc3", 10, 0.26, 1.0)), SMALL)

LENET_5 = Drawn("LeNet-5", (1, 28, 28), (
    Stage("conv1", 20, 0.66, 0.82, 5, pool=2, pool_stride=2), Stage("conv2", 50, 0.12, 0.72, 5, pool=2, pool_stride=2),
    Stage("fc1", 500, 0.08, 0.55), Stage("fc2", 10, 0.19, 1.0)), SMALL)

ALEXNET = Drawn("AlexNet", (3, 227, 227), (
    Stage("conv1", 96, 0.84, 0.88, 11, stride=4, pool=3, pool_stride=2),
    Stage("conv2", 256, 0.38, 0.52, 5, padding=2, groups=2, pool=3, pool_stride=2),
    Stage("conv3", 384, 0.35, 0.37, 3, padding=1),
    Stage("conv4", 384, 0.37, 0.40, 3, padding=1, groups=2),
    Stage("conv5", 256, 0.37, 0.34, 3, padding=1, groups=2, pool=3, pool_stride=2),
    Stage("fc6", 4096, 0.09, 0.36), Stage("fc7", 4096, 0.09, 0.40), Stage("fc8", 1000, 0.25, 1.0)), LARGE)
"""The grouped one of A. Krizhevsky et al. (NIPS 2012), without its response normalisation."""

VGG16 = Drawn("VGG-16", (3, 224, 224), (
    *_vgg(), Stage("fc6", 4096, 0.04, 0.38), Stage("fc7", 4096, 0.04, 0.42), Stage("fc8", 1000, 0.23, 1.0)), LARGE)
"""K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks" (ICLR 2015), configuration D."""

DRAWN = {drawn.name: drawn for drawn in (LENET_300_100, LENET_5, ALEXNET, VGG16)}


def draw_images(in_shape: tuple[int, int, int], count: int, seed: int) -> np.ndarray:
    """Images with the spectrum of natural ones, and edges: uint8 ``[count, channels, height, width]``.

    Noise whose amplitude falls with the frequency (1/f), mostly alike in all channels; over it half-planes and discs
    in shades of their own.

    Parameters
    ----------
    in_shape : (int, int, int)
        Channels, height and width.
    count : int
        Number of images.
    seed : int
    """
    rng = np.random.default_rng([seed, *b"images"])
    channels, height, width = in_shape
    rows, cols = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width, indexing="ij"))
    amplitude = 1 / np.maximum(frequency, 1)
    images = np.empty((count, *in_shape))
    for image in images:
        common = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * amplitude).real
        own = np.fft.ifft2(np.fft.fft2(rng.normal(size=in_shape)) * amplitude).real
        image[:] = common / common.std() + 0.3 * own / own.std()
        for _ in range(6):
            angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.8, 0.8)
            inside = rows * np.sin(angle) + cols * np.cos(angle) > offset if rng.random() < 0.3 else \
                np.hypot(rows - rng.uniform(-1, 1), cols - rng.uniform(-1, 1)) < rng.uniform(0.1, 0.5)
            image += inside * rng.normal(0, 1, (channels, 1, 1))
    low, high = np.quantile(images, [0.01, 0.99])
    return np.clip(np.rint((images - low) / (high - low) * 255), 0, 255).astype(np.uint8)


def draw_network(drawn: Drawn, images: np.ndarray, code_bits: int, seed: int) -> SharedNetwork:
    """Random weights (K. He et al., 2015), pruned by magnitude and shared, and biases for the activations' density.

    Each channel's bias makes a share of its outputs on the images positive; the shares spread evenly about the layer's
    density (`SPREAD`). All neurons of a fully connected layer have one bias.

    Parameters
    ----------
    drawn : Drawn
        Sizes and densities.
    images : uint8 array, shape ``[n, channels, height, width]``
        Bytes mean 0 to 1.
    code_bits : int
        Weights take ``2**code_bits - 1`` values in each layer.
    seed : int
        With the network's name decides the weights.
    """
    rng = np.random.default_rng([seed, *drawn.name.encode()])
    acts = torch.from_numpy(images).float() / 255
    layers = []
    with tqdm(drawn.stages, desc=f"drawing {drawn.name}", unit="layer", leave=False, disable=None) as progress:
        for stage in progress:
            geometry = stage.geometry(tuple(acts.shape[1:])) if stage.kernel else None
            cols = acts.shape[1] // stage.groups * stage.kernel ** 2 if geometry else math.prod(acts.shape[1:])
            codes, values = _weights(stage, cols, code_bits, rng)
            sums = _sums(torch.from_numpy(values.astype(np.float32)[codes]), acts, stage)
            bias = _bias(stage, sums, rng)
            sums = sums + torch.from_numpy(bias).reshape(-1, *[1] * (sums.dim() - 2))
            activation = Activation.RELU if stage.act_density < 1 else Activation.IDENTITY
            acts = activations(sums, activation, geometry)
            if geometry:
                acts = acts.view(len(acts), -1, *geometry.out_shape)
            layers.append(SharedLayer(stage.name, codes, values, bias.astype(np.float64), activation, geometry))
    return SharedNetwork(drawn.name, tuple(layers))


def _weights(stage: Stage, cols: int, code_bits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint8 ``[outputs, cols]`` and what they stand for."""
    weight = rng.standard_normal((stage.outputs, cols), np.float32) * np.float32(math.sqrt(2 / cols))
    pruned = round(weight.size * (1 - stage.weight_density))
    kept = np.abs(weight) > np.partition(np.abs(weight).ravel(), pruned - 1)[pruned - 1]
    centres, _ = cluster(weight[kept][:SAMPLE], (1 << code_bits) - 1)
    codes, values = np.zeros(weight.shape, np.uint8), np.zeros(1 << code_bits)
    codes[kept] = np.searchsorted((centres[1:] + centres[:-1]) / 2, weight[kept]) + 1
    values[1:1 + len(centres)] = centres
    return codes, values


def _sums(weight: torch.Tensor, acts: torch.Tensor, stage: Stage) -> torch.Tensor:
    if not stage.kernel:
        return acts.flatten(1) @ weight.T
    kernels = weight.reshape(stage.outputs, acts.shape[1] // stage.groups, stage.kernel, stage.kernel)
    return functional.conv2d(acts, kernels, stride=stage.stride, padding=stage.padding, groups=stage.groups)


def _bias(stage: Stage, sums: torch.Tensor, rng: np.random.Generator) -> np.ndarray:
    """Float32 ``[outputs]``."""
    if stage.act_density == 1:
        return np.zeros(stage.outputs, np.float32)
    if not stage.kernel:
        return np.full(stage.outputs, -np.quantile(sums.numpy(), 1 - stage.act_density), np.float32)
    shares = np.linspace(1 - SPREAD, 1 + SPREAD, stage.outputs) * stage.act_density
    shares = rng.permutation(np.clip(shares, 0.02, 0.98))
    by_channel = sums.transpose(0, 1).flatten(1).numpy()
    return -np.array([np.quantile(one, 1 - share) for one, share in zip(by_channel, shares, strict=True)], np.float32)
