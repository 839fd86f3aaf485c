# SPDX-License-Identifier: Apache-2.0
"""Networks in software, for one input vector: dense, sparse and 8-bit libraries."""

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from host.network.activate import activate
from host.network.dead_neurons import drop_dead_neurons
from host.network.layers import Network
from nonzero.errors import UserError
from rtl.numbers import Activation

__all__ = ["Call", "Method", "exact_acts", "methods_for", "scipy_sparse"]

Call = Callable[[], Any]
"""Computes the network once; returns its outputs."""

BLOCK_WEIGHTS = 1 << 22
"""Weights that are converted to float64 at a time."""

TORCH_IN_PLACE: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.IDENTITY: lambda values: values, Activation.RELU: torch.Tensor.relu_}
"""Each activation function as torch has it fastest: it overwrites its argument."""

NUMPY_IN_PLACE: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    Activation.IDENTITY: lambda values: values, Activation.RELU: lambda values: np.maximum(values, 0, out=values)}
"""The same in NumPy."""

ONEDNN_NAMES = {Activation.IDENTITY: "none", Activation.RELU: "relu"}
"""oneDNN's names of the activation functions."""


@dataclass(frozen=True)
class Method:
    """A way to compute a network.

    Attributes
    ----------
    kind : str
        ``dense``, ``sparse`` or ``int8``, of the network as it is; or ``cut``, dense without what pruning has cut off.
    prepare : callable
        Given a network and `exact_acts` of one input, arranges weights and input and returns a `Call`.
    tolerance : float
        Greatest error of an output, over the greatest output.
    seconds : callable
        Called with a call and a count; returns the seconds that ``count`` calls take, one after the other.
    """

    name: str
    kind: str
    prepare: Callable[[Network, Sequence[np.ndarray]], Call]
    tolerance: float
    seconds: Callable[[Call, int], float]


def exact_acts(network: Network, vector: np.ndarray) -> list[np.ndarray]:
    """The input and the outputs of every layer, computed in float64.

    Parameters
    ----------
    network : Network
        Fully connected layers.
    vector : array, shape ``[inputs]``
        One input.

    Returns
    -------
    list of float64 array
        The input, shape ``[inputs]``, then the outputs of each layer, shape ``[rows]``.
    """
    acts = [vector.astype(np.float64)]
    for layer in network.layers:
        step = max(1, BLOCK_WEIGHTS // layer.cols)
        sums = [layer.weight[first:first + step].astype(np.float64) @ acts[-1]
                for first in range(0, layer.rows, step)]
        outputs = np.concatenate(sums) + layer.bias
        acts.append(activate(outputs, layer.activation))
    return acts


def scipy_sparse() -> Any:
    """The module `scipy.sparse`; None where scipy is not installed."""
    return importlib.import_module("scipy.sparse") if importlib.util.find_spec("scipy") else None


def methods_for(device: str) -> list[Method]:
    """The methods of this machine: the processor's and, if ``device`` is "cuda", the GPU's.

    Raises
    ------
    UserError
        If there is no such device.
    """
    found = [Method("torch dense", "dense", _torch_dense, 1e-4, _processor_seconds),
             Method("torch dense, cut", "cut", _torch_dense_cut, 1e-4, _processor_seconds),
             Method("torch CSR", "sparse", _torch_csr, 1e-4, _processor_seconds)]
    if scipy_sparse() is not None:
        found.append(Method("scipy CSR", "sparse", _scipy_csr, 1e-4, _processor_seconds))
    found += [Method("int8 mm", "int8", _int8_mm, 0.05, _processor_seconds),
              Method("int8 oneDNN", "int8", _int8_onednn, 0.05, _processor_seconds)]
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError("--device cuda needs an NVIDIA GPU and a torch build with CUDA, and torch finds none; "
                            "use --device cpu")
        found += [Method("GPU dense", "dense", _gpu_dense, 1e-3, _gpu_seconds),
                  Method("GPU CSR", "sparse", _gpu_csr, 1e-3, _gpu_seconds)]
    return found


def _processor_seconds(call: Call, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - begin


def _gpu_seconds(call: Call, count: int) -> float:
    """Seconds by the GPU's own clock; the calls wait for each other, not for the processor."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def _floats(values: np.ndarray, device: str = "cpu") -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32, copy=False)).to(device)


def _torch_dense(network: Network, acts: Sequence[np.ndarray], device: str = "cpu") -> Call:
    layers = [(_floats(layer.weight, device), _floats(layer.bias, device), TORCH_IN_PLACE[layer.activation])
              for layer in network.layers]
    vector = _floats(acts[0], device)

    def call() -> torch.Tensor:
        values = vector
        for weight, bias, in_place in layers:
            values = in_place(functional.linear(values, weight, bias))
        return values
    return call


def _torch_dense_cut(network: Network, acts: Sequence[np.ndarray]) -> Call:
    """Dense, without dead neurons and without the inputs that have no weights; the other inputs are gathered
    beforehand.
    """
    small = drop_dead_neurons(network)
    first = small.layers[0]
    used = np.flatnonzero(first.weight.any(axis=0))
    layers = (replace(first, weight=first.weight[:, used]), *small.layers[1:])
    return _torch_dense(replace(small, layers=layers), [acts[0][used]])


def _gpu_dense(network: Network, acts: Sequence[np.ndarray]) -> Call:
    return _torch_dense(network, acts, "cuda")


def _torch_csr(network: Network, acts: Sequence[np.ndarray], device: str = "cpu") -> Call:
    layers = [(_csr(layer.weight).to(device), _floats(layer.bias, device), TORCH_IN_PLACE[layer.activation])
              for layer in network.layers]
    vector = _floats(acts[0], device)

    def call() -> torch.Tensor:
        values = vector
        for weight, bias, in_place in layers:
            values = in_place(torch.addmv(bias, weight, values))
        return values
    return call


def _gpu_csr(network: Network, acts: Sequence[np.ndarray]) -> Call:
    return _torch_csr(network, acts, "cuda")


def _csr(weight: np.ndarray) -> torch.Tensor:
    kept = weight != 0
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    cols = np.nonzero(kept)[1].astype(np.int32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        # 32-bit indices: the sparse library wants them, and torch would convert others in every call.
        return torch.sparse_csr_tensor(torch.from_numpy(starts), torch.from_numpy(cols),
                                       torch.from_numpy(weight[kept]), weight.shape, check_invariants=True)


def _scipy_csr(network: Network, acts: Sequence[np.ndarray]) -> Call:
    sparse = scipy_sparse()
    layers = [(sparse.csr_array(layer.weight), layer.bias.astype(np.float32), NUMPY_IN_PLACE[layer.activation])
              for layer in network.layers]
    vector = acts[0].astype(np.float32)

    def call() -> np.ndarray:
        values = vector
        for weight, bias, in_place in layers:
            values = weight @ values
            values += bias
            values = in_place(values)
        return values
    return call


def _weight_codes(weight: np.ndarray) -> tuple[torch.Tensor, float]:
    """int8 weights and their scale."""
    scale = float(np.abs(weight).max(initial=0)) / 127 or 1.0
    return torch.from_numpy(np.rint(weight / np.float32(scale)).astype(np.int8)), scale


def _row_codes(weight: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights as int8 of only 7 bits, and a scale for each row.

    A processor without VNNI adds two products in 16 bits, which weights of 8 bits would overflow.
    """
    greatest = np.abs(weight).max(axis=1, initial=0)
    scales = np.where(greatest > 0, greatest / 63, 1).astype(np.float32)
    return torch.from_numpy(np.rint(weight / scales[:, None]).astype(np.int8)), torch.from_numpy(scales)


def _int8_mm(network: Network, acts: Sequence[np.ndarray]) -> Call:
    """Matrix products of int8; activations are rescaled in float32 between layers, by scales known beforehand."""
    scales = [float(np.abs(values).max(initial=0)) / 127 or 1.0 for values in acts]
    layers = []
    for number, layer in enumerate(network.layers):
        codes, scale = _weight_codes(layer.weight)
        last = number == len(network.layers) - 1
        # Results are the next layer's int8 activations, or the network's outputs.
        target = 1.0 if last else scales[number + 1]
        layers.append((codes.T, scales[number] * scale / target, _floats(layer.bias / target),
                       TORCH_IN_PLACE[layer.activation], last))
    vector = torch.from_numpy(np.rint(acts[0] / scales[0]).astype(np.int8))[None]

    def call() -> torch.Tensor:
        values = vector
        for codes, scale, bias, in_place, last in layers:
            sums = in_place(torch.add(bias, torch._int_mm(values, codes), alpha=scale))
            values = sums if last else sums.round_().clamp_(-127, 127).to(torch.int8)
        return values
    return call


def _int8_onednn(network: Network, acts: Sequence[np.ndarray]) -> Call:
    """oneDNN's fused layers: uint8 activations, int8 weights, bias, ReLU and rescaling in one call."""
    ranges = [(min(0.0, float(values.min())), max(0.0, float(values.max()))) for values in acts]
    scales = [(high - low) / 255 or 1.0 for low, high in ranges]
    zeros = [round(-low / scale) for (low, _), scale in zip(ranges, scales, strict=True)]
    layers: list[tuple[Any, ...]] = []
    for number, layer in enumerate(network.layers):
        codes, row_scales = _row_codes(layer.weight)
        packed = torch.ops.onednn.qlinear_prepack(codes, None)
        last = number == len(network.layers) - 1
        output = (1.0, 0, torch.float32) if last else (scales[number + 1], zeros[number + 1], torch.uint8)
        layers.append((scales[number], zeros[number], packed, row_scales,
                       torch.zeros(layer.rows, dtype=torch.int64), _floats(layer.bias), *output,
                       ONEDNN_NAMES[layer.activation], [], ""))
    vector = torch.from_numpy(np.clip(np.rint(acts[0] / scales[0]) + zeros[0], 0, 255).astype(np.uint8))[None]

    def call() -> torch.Tensor:
        values = vector
        for fields in layers:
            values = torch.ops.onednn.qlinear_pointwise(values, *fields)
        return values
    return call
