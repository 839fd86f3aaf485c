# SPDX-License-Identifier: Apache-2.0
"""The network as the compiler sees it: an ordered list of layers with float weights."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from host.network.function import AnyActivation
from rtl.descriptor import largest

VALUES_LIMIT = 1 << 28
"""Values of one file that may be read: 1 GiB as float32, enough for VGG-16's 138 million weights."""

FLOAT_BITS = 32
"""Bits of a weight that is not compressed."""

LARGEST_POOL = largest("pool")
"""Greatest edge of a max-pooling window that a pass of the engine can have."""


@dataclass(frozen=True)
class Linear:
    """A fully connected layer, ``activation(weight @ x + bias)``.

    Attributes
    ----------
    name : str
        The layer's name in the model file, for instance ``fc1``.
    weight : float32 array, shape ``[rows, cols]``
        Rows are output neurons, columns inputs. A zero is a pruned weight.
    bias : float32 array, shape ``[rows]``
        Zeros if the layer has none.
    activation : AnyActivation
        The function of its sums; it also says whether the outputs may be negative.
    geometry : Geometry, optional
        Geometry of a convolution (`Conv2d`); None here.
    fixed : bool
        Constant weights, as those of an average pooling: never pruned or trained.
    source, added : str, optional
        Layers whose outputs it takes, see `host.network.graph`.
    out_map : (int, int, int), optional
        Channels, rows and columns of the feature map that the outputs of a fully connected layer are, in this order;
        None if they are a vector.
    output_scale, output_offset : float32 array, shape ``[rows]``, optional
        What its outputs are multiplied by after the engine, and what is added then; of the last layer alone, both or
        none (`host.quantization.even_outputs`).
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    activation: AnyActivation
    geometry: "Geometry | None" = None
    fixed: bool = False
    source: str | None = None
    added: str | None = None
    out_map: tuple[int, int, int] | None = None
    output_scale: np.ndarray | None = None
    output_offset: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return int(self.weight.shape[0])

    @property
    def cols(self) -> int:
        return int(self.weight.shape[1])

    @property
    def weights_kept(self) -> int:
        return int(np.count_nonzero(self.weight))

    @property
    def density(self) -> float:
        return self.weights_kept / self.weight.size

    @property
    def shape(self) -> "Geometry":
        """The geometry; a fully connected layer is a convolution of one pixel."""
        return self.geometry or Geometry((self.cols, 1, 1), (1, 1))

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.cols

    @property
    def outputs(self) -> int:
        """Values that it gives."""
        return self.rows

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of its outputs; a vector is a map of one pixel."""
        return self.out_map or (self.rows, *self.shape.out_shape)


@dataclass(frozen=True)
class Geometry:
    """Where a convolution's kernel goes, and the max pooling after it.

    Attributes
    ----------
    in_shape : (int, int, int)
        Channels, height and width of the input.
    kernel, stride : (int, int)
        Sizes in rows and columns.
    padding : (int, int)
        Rows of zeros above the input, and columns of zeros to its left.
    groups : int
        Divides the input and the output channels.
    pool : int
        Edge of the max-pooling window; 1 for none. Windows that do not fit at the end are left out.
    pool_stride : int
    end_padding : (int, int), optional
        Zeros below and to the right; None if they are as many as in ``padding``.
    """

    in_shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    pool: int = 1
    pool_stride: int = 1
    end_padding: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.end_padding == self.padding:
            object.__setattr__(self, "end_padding", None)

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros before and behind the rows, and before and behind the columns."""
        (above, left), (below, right) = self.padding, self.end_padding or self.padding
        return (above, below), (left, right)

    @property
    def padded(self) -> bool:
        """Whether it pads its input at all."""
        return any(map(any, self.pads))

    @property
    def inputs(self) -> int:
        return math.prod(self.in_shape)

    @property
    def pixels(self) -> int:
        """Inputs of a channel."""
        return self.in_shape[1] * self.in_shape[2]

    @property
    def conv_shape(self) -> tuple[int, int]:
        """Height and width of the convolution's output, before pooling."""
        height, width = ((size + sum(pads) - kernel) // stride + 1 for size, pads, kernel, stride
                         in zip(self.in_shape[1:], self.pads, self.kernel, self.stride, strict=True))
        return height, width

    @property
    def out_shape(self) -> tuple[int, int]:
        """Height and width of the output, after pooling."""
        height, width = ((size - self.pool) // self.pool_stride + 1 for size in self.conv_shape)
        return height, width

    @property
    def computed_shape(self) -> tuple[int, int]:
        """Height and width of the convolution's output without what no pooling window covers."""
        height, width = ((size - 1) * self.pool_stride + self.pool for size in self.out_shape)
        return height, width


@dataclass(frozen=True)
class Conv2d(Linear):
    """A convolution with the shapes ``geometry``, bias, activation and max pooling.

    ``weight`` is ``[output channels, input channels / groups * kernel rows * kernel columns]``, its columns in
    torch's order. Input and output values are flattened in torch's order: channel, row, column.
    """

    geometry: Geometry = field()

    @property
    def inputs(self) -> int:
        return self.geometry.inputs

    @property
    def outputs(self) -> int:
        return self.rows * math.prod(self.geometry.out_shape)


@dataclass(frozen=True)
class Network:
    """A chain of layers; each one's ``inputs`` are the ``outputs`` of the one before.

    Attributes
    ----------
    name : str
    layers : tuple of Linear
    input_shape : tuple of int, optional
        Axes of one input without the batch, as the model file or the layers tell them; None if only their product,
        `inputs`, is known.
    assumptions : tuple of str
        Assumptions of the reader about what the file does not tell: a sentence each, for the user.
    """

    name: str
    layers: tuple[Linear, ...]
    input_shape: tuple[int, ...] | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def input_axes(self) -> tuple[int, ...] | None:
        """`input_shape`, or what a convolution at the beginning takes; None if only `inputs` is known."""
        first = self.layers[0].geometry
        return self.input_shape or (first.in_shape if first else None)

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    @property
    def weights_total(self) -> int:
        return sum(layer.weight.size for layer in self.layers)

    @property
    def weights_kept(self) -> int:
        return sum(layer.weights_kept for layer in self.layers)

    @property
    def multiplications(self) -> int:
        """Multiplications of an inference, those by pruned weights included."""
        return sum(layer.weight.size * (math.prod(layer.geometry.conv_shape) if layer.geometry else 1)
                   for layer in self.layers)


def taps_met(geometry: Geometry) -> np.ndarray:
    """For each tap of the kernel, whether it meets any input that is no padding: bool ``[kernel rows * columns]``.

    ``geometry`` is that of the convolution.
    """
    met: list[np.ndarray] = []
    for size, kernel, stride, padding, outputs in axis_sizes(geometry):
        inputs = np.arange(kernel)[:, None] + np.arange(outputs) * stride - padding
        met.append(np.any((inputs >= 0) & (inputs < size), axis=1))
    return (met[0][:, None] & met[1]).ravel()


def axis_sizes(geometry: Geometry) -> Iterator[tuple[int, int, int, int, int]]:
    """Input size, kernel, stride, padding at the beginning and output size of ``geometry``, for rows and columns."""
    return zip(geometry.in_shape[1:], geometry.kernel, geometry.stride, geometry.padding, geometry.computed_shape,
               strict=True)
