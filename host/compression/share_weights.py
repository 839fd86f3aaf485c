# SPDX-License-Identifier: Apache-2.0
"""Weight sharing: each layer's weights become codes into a small codebook, which is then fine-tuned.

After S. Han, H. Mao, W. Dally, "Deep Compression", ICLR 2016, section 3.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from host.compression.kmeans import INITIALISATIONS, cluster
from host.compression.round_weights import Moments, input_moments, round_weights
from host.compression.shared_network import SharedLayer, SharedNetwork
from host.datasets import Dataset
from host.network.graph import sources
from host.network.layers import Linear, Network
from host.training.checkpoint import Checkpoint
from host.training.forward import TorchLayer, ends_of, error_of, logits, loss_of
from host.training.optimiser import one_cycle, settle_torch
from host.training.samples import Samples, split
from nonzero.errors import UserError

__all__ = ["ShareSettings", "direct_values", "share_weights"]


@dataclass(frozen=True)
class ShareSettings:
    """Options of weight sharing: how codebooks are made and fine-tuned. Section numbers are those of Deep Compression.

    Attributes
    ----------
    initialisation : str
        First centres of k-means (section 3.2), one of `host.compression.kmeans.INITIALISATIONS`.
    bits : int, optional
        2 to 8, and at most what the engine's codes have: ``2**bits - 1`` centres for each layer. None: every
        code of the engine is used.
    epochs : int
        Passes over the training images; 0 keeps the cluster centres.
    learning_rate : float
        Peak of the one-cycle schedule of Adam.
    batch : int
        Images for each step.
    augment : float
        Strength of the random augmentation of the training images (`host.training.augment`), 0 for none: codebooks
        are too few numbers to overfit.
    """

    initialisation: str = "linear"
    bits: int | None = None
    epochs: int = 4
    learning_rate: float = 1e-3
    batch: int = 256
    augment: float = 0.0

    def check(self, code_bits: int) -> None:
        """Raises `UserError` with every setting that is out of range for codes of ``code_bits``."""
        problems = []
        if self.initialisation not in INITIALISATIONS:
            problems.append(f"initialisation of weight sharing must be one of {', '.join(INITIALISATIONS)}, not "
                            f"'{self.initialisation}'")
        if self.bits is not None and not 2 <= self.bits <= code_bits:
            problems.append(f"bits of weight sharing must be 2 to {code_bits}, the engine's code_bits, not {self.bits}")
        if not 0 <= self.epochs <= 100_000:
            problems.append(f"epochs of weight sharing must be 0 to 100000, not {self.epochs}")
        if not 1 <= self.batch <= 100_000:
            problems.append(f"batch of weight sharing must be 1 to 100000, not {self.batch}")
        if not 0 <= self.augment <= 4:
            problems.append(f"augment of weight sharing must be 0 to 4, not {self.augment}")
        if not 0 < self.learning_rate <= 1:
            problems.append(f"learning rate of weight sharing must be above 0 and at most 1, not "
                            f"{self.learning_rate}")
        if problems:
            raise UserError(problems)


def share_weights(network: Network, config, dataset: Dataset | None = None,  # type: ignore[no-untyped-def]
                  settings: ShareSettings | None = None, seed: int = 0, checkpoint: Path | None = None,
                  images: np.ndarray | None = None) -> SharedNetwork:
    """Gives the weights of each layer codes of ``config.code_bits`` bits.

    With a codebook, k-means finds ``2**bits - 1`` centres, which are then fine-tuned with the data,
    together with the biases. With ``config.direct_weights`` a code is the weight itself in two's
    complement, times one scale for the layer; there is nothing to fine-tune, and a weight that rounds to 0
    is dropped.

    Parameters
    ----------
    network : Network
        Its zero weights stay zero.
    config : EngineConfig
        Gives ``code_bits`` and ``direct_weights``.
    dataset : Dataset, optional
        Without it the centres stay where k-means put them.
    settings : ShareSettings, optional
        Those of `ShareSettings()` by default.
    seed : int
        Decides the first centres of k-means and the batches of fine-tuning.
    checkpoint : Path, optional
        Written after each epoch of fine-tuning. The same call goes on from it, if it is there.
    images : uint8 or float array, shape ``[n, ...]``, optional
        Examples of the inputs. If nothing is fine-tuned, weights are rounded so that the sums for these change little
        (`host.compression.round_weights`); without examples each goes to the value next to it.

    Raises
    ------
    UserError
        For settings out of range, or a dataset that does not fit the network.
    """
    settings = settings or ShareSettings()
    settings.check(config.code_bits)
    tuned = dataset is not None and settings.epochs > 0 and not config.direct_weights
    moments = [None] * len(network.layers) if tuned or images is None else input_moments(network, images)
    layers = tuple(_direct(layer, config.code_bits, known) if config.direct_weights else
                   _clustered(layer, config.code_bits, settings, seed, known)
                   for layer, known in zip(tqdm(network.layers, "rounding weights", unit="layer", leave=False,
                                                disable=None), moments, strict=True))
    if dataset is None or not tuned:
        return SharedNetwork(network.name, layers)
    dataset.require(network.inputs, network.outputs)
    saved = Checkpoint(checkpoint, network, dataset, settings, seed, config.code_bits)
    return _FineTuning(layers, dataset, settings, seed).run(network.name, saved)


def _clustered(layer: Linear, code_bits: int, settings: ShareSettings, seed: int,
               moments: Moments | None) -> SharedLayer:
    codes = np.zeros(layer.weight.shape, np.uint8)
    values = np.zeros(1 << code_bits)
    bias = layer.bias.astype(np.float64)
    kept = layer.weight != 0
    if kept.any():
        count = (1 << (settings.bits or code_bits)) - 1
        centres, members = cluster(layer.weight[kept], count, settings.initialisation, seed)
        values[1:1 + len(centres)] = centres
        codes[kept] = members + 1
        if moments is not None and len(centres) == count:
            between = (centres[1:] + centres[:-1]) / 2
            rounded, shift = round_weights(layer.weight, moments, lambda some: centres[np.searchsorted(between, some)])
            codes[kept] = np.searchsorted(centres, rounded[kept]) + 1
            bias -= shift
    return SharedLayer(layer.name, codes, values, bias, layer.activation, layer.geometry,
                       layer.fixed, layer.source, layer.added, layer.out_map, layer.output_scale, layer.output_offset)


def direct_values(code_bits: int) -> np.ndarray:
    """Weight of each code where codes are two's complement weights: int64 ``[2**code_bits]``."""
    codes = np.arange(1 << code_bits)
    return np.where(codes >> (code_bits - 1), codes - (1 << code_bits), codes)


def _direct(layer: Linear, code_bits: int, moments: Moments | None) -> SharedLayer:
    """The scale is the one of a hundred with the least mean squared error, of the sums if ``moments`` tell it."""
    limit = (1 << (code_bits - 1)) - 1
    weight = layer.weight.astype(np.float64)
    bias = layer.bias.astype(np.float64)
    greatest = np.abs(weight).max(initial=0) or 1.0
    counts = np.ones_like(weight) if moments is None else np.repeat(
        np.diagonal(moments.covariance, axis1=1, axis2=2), len(weight) // len(moments.mean), axis=0)

    def rounded(values: np.ndarray, scale: float) -> np.ndarray:
        return np.clip(np.rint(values / scale), -limit - 1, limit)
    scales = greatest / limit * np.linspace(0.2, 1, 100)
    kept, counts = weight[weight != 0], counts[weight != 0]
    errors = [(np.square(kept - rounded(kept, scale) * scale) * counts).sum() for scale in scales]
    scale = scales[int(np.argmin(errors))]
    if moments is not None:
        weight, shift = round_weights(weight, moments, lambda some: rounded(some, scale) * scale)
        bias -= shift
    codes = (rounded(weight, scale).astype(np.int64) & ((1 << code_bits) - 1)).astype(np.uint8)
    return SharedLayer(layer.name, codes, direct_values(code_bits) * scale, bias,
                       layer.activation, layer.geometry, layer.fixed, layer.source, layer.added, layer.out_map,
                       layer.output_scale, layer.output_offset)


class _FineTuning:
    """Trains codebook values: the gradient of a centre is the sum over its weights (section 3.3)."""

    def __init__(self, layers: tuple[SharedLayer, ...], dataset: Dataset, settings: ShareSettings,
                 seed: int) -> None:
        settle_torch()
        self.layers, self.settings = layers, settings
        (images, labels), self.held_out = split(dataset)
        self.samples = Samples(images, labels, augment=settings.augment, augmentation=dataset.augmentation)
        self.batch = min(settings.batch, len(labels))
        self.generator = torch.Generator().manual_seed(seed)
        self.places = [torch.from_numpy(np.flatnonzero(layer.codes)) for layer in layers]
        self.members = [torch.from_numpy(layer.codes[layer.codes > 0].astype(np.int64)) for layer in layers]
        self.values = [torch.from_numpy(layer.values).float() for layer in layers]
        self.biases = [torch.from_numpy(layer.bias).float().requires_grad_(not layer.fixed) for layer in layers]
        self.weights = [torch.from_numpy(layer.weight).float().requires_grad_(not layer.fixed) for layer in layers]
        self.optimizer = torch.optim.Adam(self.values + self.biases)
        self.curve: dict[str, Any] = {"losses": [], "held_out_errors": [], "iterations": 0, "seconds": 0.0}

    def run(self, name: str, checkpoint: Checkpoint) -> SharedNetwork:
        state = checkpoint.load()
        if state is not None:
            self._restore(state)
        curve, total = self.curve, self.settings.epochs
        epochs = range(len(curve["losses"]), total)
        for epoch in tqdm(epochs, "sharing weights", total, initial=epochs.start, unit="epoch", disable=None):
            begin = time.perf_counter()
            curve["losses"].append(self._epoch(epoch))
            curve["held_out_errors"].append(error_of(self._forward, *self.held_out))
            curve["iterations"] += self.samples.batch_count(self.batch)
            curve["seconds"] += time.perf_counter() - begin
            checkpoint.save({"values": self.values, "biases": [bias.detach() for bias in self.biases], "curve": curve,
                             "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state()})
        layers = tuple(replace(layer, values=values.double().numpy(), bias=bias.detach().double().numpy())
                       for layer, values, bias in zip(self.layers, self.values, self.biases, strict=True))
        return SharedNetwork(name, layers, tuple(curve["losses"]), tuple(curve["held_out_errors"]),
                             curve["iterations"], curve["seconds"])

    @torch.no_grad()
    def _restore(self, state: dict[str, Any]) -> None:
        for ours, saved in zip(self.values + self.biases, state["values"] + state["biases"], strict=True):
            ours.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.curve = state["curve"]
        self._spread()

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return logits([TorchLayer(weight, bias, layer.activation, layer.geometry, *wires, *ends_of(layer))
                       for weight, bias, layer, wires in zip(self.weights, self.biases, self.layers,
                                                             sources(self.layers), strict=True)], inputs)

    def _epoch(self, epoch: int) -> float:
        count = self.samples.batch_count(self.batch)
        total = 0.0
        for index, (inputs, labels) in enumerate(self.samples.batches(self.batch, self.generator)):
            loss = loss_of(self._forward(inputs), labels)
            loss.backward()
            progress = (epoch + index / count) / self.settings.epochs
            self.optimizer.param_groups[0]["lr"] = one_cycle(self.settings.learning_rate, progress)
            self._step()
            total += loss.item()
        if not math.isfinite(total):
            raise UserError("fine-tuning the codebooks diverged; use a lower learning rate of weight sharing")
        return total / count

    @torch.no_grad()
    def _step(self) -> None:
        for weight, values, places, members in zip(self.weights, self.values, self.places, self.members, strict=True):
            if weight.grad is None:
                continue
            values.grad = torch.zeros_like(values).index_add_(0, members, weight.grad.flatten()[places])
            weight.grad = None
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._spread()

    def _spread(self) -> None:
        """Gives every weight the value of its code."""
        for weight, values, places, members in zip(self.weights, self.values, self.places, self.members, strict=True):
            weight.view(-1)[places] = values[members]
