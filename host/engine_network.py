# SPDX-License-Identifier: Apache-2.0
"""A network as an engine runs it: its image, and its results on the models, in simulation or on a board."""

import io
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from host.compilation.state import Compilation
from host.decoding.decode import Decoded, decode
from host.device import Target, parse_target
from host.image.image import Image, parse_image
from host.quantization.integer_network import quantize_inputs
from host.verification.compare import Comparison
from host.verification.float_check import FloatCheck
from host.verification.measure import Measured, measure, models
from host.view.recording import bin_cycles
from nonzero.errors import UserError
from nonzero.files import write_whole
from rtl.config import EngineConfig
from rtl.numbers import act_values

__all__ = ["EngineNetwork", "Outputs"]


@dataclass(frozen=True)
class Outputs:
    """Results of a network for some inputs.

    Attributes
    ----------
    integers : int64 array, shape ``[n, outputs]``
        Output activations of the last layer, as the engine has them.
    scale, offset : float, or float64 array ``[outputs]``
        A float output is its integer times the scale, plus the offset. The scale is None for an image from a file that
        does not tell it.
    layers : list of int64 array, shape ``[n, rows]``
        Output activations of each layer that is known; the last layer's last. On an engine these are the layers that no
        later one overwrites (`host.image.image.Image.readable`).
    counters : dict of int64 array, shape ``[n]``
        `rtl.protocol.COUNTERS` by name: predicted by the golden model, counted by an engine.
    """

    integers: np.ndarray
    scale: float | np.ndarray | None
    layers: list[np.ndarray]
    counters: dict[str, np.ndarray]
    offset: float | np.ndarray = 0.0

    @property
    def floats(self) -> np.ndarray:
        """float64 ``[n, outputs]``. Raises `UserError` for an image from a file, unless that tells the scales."""
        if self.scale is None:
            raise UserError("an image file does not tell the scale of its outputs; take them from compile_module()")
        return self.integers * self.scale + self.offset


@dataclass(frozen=True)
class EngineNetwork:
    """A network as an engine runs it: an image, and the models of what it computes.

    Attributes
    ----------
    image : Image
    config : EngineConfig
        Configuration of the engine that it was made for.
    content : bytes
        The image file.
    output_scale, output_offset : float, array or None
        See `Outputs.scale`.
    notes : tuple of str
        Assumptions and losses of the compilation, a sentence each.
    compilation : Compilation or None
        Everything that compiling it has measured; None for an image from a file.
    """

    image: Image
    config: EngineConfig
    content: bytes
    output_scale: float | np.ndarray | None = None
    output_offset: float | np.ndarray = 0.0
    notes: tuple[str, ...] = ()
    compilation: Compilation | None = None

    @classmethod
    def of(cls, work: Compilation) -> "EngineNetwork":
        """The network that ``work``, a whole compilation, has compiled."""
        assert work.quantized is not None
        config = work.settings.config
        last = work.quantized.layers[-1]
        return cls(parse_image(work.content, config), config, work.content, last.output_scale, last.output_offset,
                   tuple(work.notes), work)

    @property
    def check(self) -> FloatCheck | None:
        """Its comparison with floats: agreement, relative error, and the step and layer that lost most; None for an
        image from a file.
        """
        return None if self.compilation is None else self.compilation.check

    @cached_property
    def decoded(self) -> Decoded:
        """The integer network that the image holds, read back from its bytes."""
        return decode(self.image, self.config)

    def quantize(self, inputs: np.ndarray) -> np.ndarray:
        """Input activations, int64 ``[n, inputs]``.

        Parameters
        ----------
        inputs : uint8 or float array, shape ``[n, ...]``
            Bytes mean 0 to 1. Values in the order of the network's input, channels first.

        Raises
        ------
        UserError
            For inputs of another size, or not finite.
        """
        inputs = np.asarray(inputs)
        network = self.decoded.network
        if inputs.ndim < 2 or int(np.prod(inputs.shape[1:])) != self.image.inputs:
            raise UserError(f"inputs must be [n, {self.image.inputs}], as the network takes them, not "
                            f"{list(inputs.shape)}")
        if inputs.dtype != np.uint8 and not np.isfinite(inputs).all():
            raise UserError("inputs must be finite; remove infinities and NaN")
        return quantize_inputs(network, inputs)

    def golden(self, inputs: np.ndarray) -> Outputs:
        """Results of the golden model, and the counters that the cycle model predicts; for ``inputs`` see `quantize`.
        """
        expected = models(self.decoded, self.quantize(inputs))
        return Outputs(expected.layers[-1], self.output_scale, expected.layers, expected.prediction.counters,
                       self.output_offset)

    def run(self, inputs: np.ndarray, device: str | Target | None = None, *, verify: bool = True, seed: int = 1,
            baked: bool = False) -> Outputs:
        """Runs inferences on a device.

        Parameters
        ----------
        inputs
            See `quantize`.
        device : str or Target, optional
            `host.device.FORMS`; without it the simulation of the engine that the image was made for.
        verify : bool
            Compare each layer that can be read with the golden model, and all counters with the cycle model.
        seed : int
            Decides what the memories of a simulation hold at the start.
        baked : bool
            The board has loaded the image by itself, see `host.verification.adopt`.

        Raises
        ------
        UserError
            If the device fails, or differs from its models.
        """
        target = Target("simulation", self.config) if device is None else parse_target(device) \
            if isinstance(device, str) else device
        measured = self.measure(self.quantize(inputs), target, verify=verify, seed=seed, baked=baked)
        if measured.comparison is not None:
            _check(measured.comparison)
        layers = [self.activations(number, values) for number, values in
                  zip(self.image.readable if verify else [-1], measured.batch.outputs, strict=True)]
        return Outputs(layers[-1], self.output_scale, layers, measured.batch.counters, self.output_offset)

    def measure(self, acts: np.ndarray, target: Target, *, verify: bool = True, seed: int = 1, baked: bool = False,
                record: bool = False) -> Measured:
        """Runs inferences on a device, with their times, and with their differences from the models.

        Parameters
        ----------
        acts : int64 array, shape ``[n, inputs]``
            Input activations, of `quantize`.
        target : Target
        verify, seed, baked
            See `run`; differences are in the result, and not an error.
        record : bool
            Record what the PEs do, for `host.view`; only of the simulation of an engine alone, and with ``verify``.

        Raises
        ------
        UserError
            If the device fails.
        """
        expected = models(self.decoded, acts) if verify else None
        if record and expected is not None:
            longest = int(expected.prediction.counters["cycles"].max())
            target = replace(target, bin_cycles=bin_cycles(longest, self.config.pes))
        return measure(self.decoded, target, acts, expected, seed=seed, baked=baked)

    def activations(self, layer: int, bits: np.ndarray) -> np.ndarray:
        """Output activations of a layer, int64 as ``bits``.

        Parameters
        ----------
        layer : int
            Its number; -1 is the last.
        bits : int64 array
            As the engine stores them: the low ``act_bits`` bits of each, unsigned.
        """
        return act_values(bits, self.config.act_bits, signed=self.decoded.network.layers[layer].activation.signed)

    def save(self, path: Path | str) -> None:
        """Writes the image to the file ``path``, whole or not at all. Raises `UserError` if it cannot be written."""
        write_whole(Path(path), self.content)

    def save_vectors(self, path: Path | str, inputs: np.ndarray) -> None:
        """Writes golden vectors for a test bench of one's own into the file ``path``. For ``inputs`` see `quantize`.

        It has ``inputs`` (int64 ``[n, inputs]``), the outputs of each layer by the layer's number (``layer0`` ...,
        int64 ``[n, rows]``), each counter by its name (int64 ``[n]``), and as bytes the engine's ``image`` and, as
        JSON, the layers' ``names``.

        Raises
        ------
        UserError
            If the file cannot be written; see also `quantize`.
        """
        acts = self.quantize(inputs)
        expected = models(self.decoded, acts)
        names = json.dumps([layer.name for layer in self.decoded.network.layers]).encode()
        arrays = {"inputs": acts, **{f"layer{number}": values for number, values in enumerate(expected.layers)},
                  **expected.prediction.counters, "image": np.frombuffer(self.image.engine, np.uint8),
                  "names": np.frombuffer(names, np.uint8)}
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        write_whole(Path(path), file.getvalue())


def _check(comparison: Comparison) -> None:
    if comparison.differs:
        counters = ", ".join(f"{name} of {count}" for name, count in comparison.counter_mismatches.items() if count)
        raise UserError(f"the engine differs from its models: outputs of {comparison.mismatches} of "
                        f"{comparison.images} inputs, counters: {counters or 'none'}; read the device's status, and "
                        "load the image again")
