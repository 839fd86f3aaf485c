# SPDX-License-Identifier: Apache-2.0
"""Float outputs that a compiled network is compared with: its own, those of a ``.pt2``, or those in an npz file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host.datasets.axes import fit_axes, flattened_note
from host.datasets.checks import image_problems, stored, target_problems
from host.datasets.files import FileProblem, read_npz
from host.importers.load_network import load_network
from host.network.layers import Network
from host.quantization.losses import float_values, last_values
from nonzero.errors import UserError

__all__ = ["CheckArrays", "Reference", "exported_reference", "own_reference", "read_check_arrays"]

PROBABILITY = 1e-3
"""How far from 1 the sum of probabilities may be."""


@dataclass(frozen=True)
class Reference:
    """Float outputs, and the inputs that they are of.

    Attributes
    ----------
    name : str
        What the outputs are, for messages: "the outputs in 'check.npz'".
    inputs : uint8 or float32 array, shape ``[n, ...]``
        As the compiled network takes them.
    outputs : float64 array, shape ``[n, outputs]``
    own : bool
        They are of the network itself, as it was read.
    ending : str
        Function that these outputs have gone through, but the network's have not: "softmax", "log-softmax", or empty.
    """

    name: str
    inputs: np.ndarray
    outputs: np.ndarray
    own: bool = False
    ending: str = ""

    def ended(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs ``[n, outputs]`` of the network after the function `ending`: float64."""
        if not self.ending:
            return outputs.astype(np.float64)
        lowered = outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True)
        logarithms: np.ndarray = lowered - np.log(np.exp(lowered).sum(axis=1, keepdims=True))
        return np.exp(logarithms) if self.ending == "softmax" else logarithms


@dataclass(frozen=True)
class CheckArrays:
    """Inputs and float outputs of the user's, checked.

    Attributes
    ----------
    name : str
        Name of their file, for messages.
    inputs : uint8 or float32 array, shape ``[n, ...]``
        In the order in which the network takes them.
    outputs : float32 array, shape ``[n, outputs]``
    notes : tuple of str
        Assumptions about the inputs, a sentence each.
    """

    name: str
    inputs: np.ndarray
    outputs: np.ndarray
    notes: tuple[str, ...] = ()

    def reference(self, numbers: np.ndarray) -> Reference:
        """The comparison with those of the arrays' rows that have these ``numbers``."""
        outputs = self.outputs[numbers].astype(np.float64)
        return Reference(f"the outputs in {self.name}", self.inputs[numbers], outputs, ending=_ending(self.outputs))


def read_check_arrays(given: Path | tuple[np.ndarray, np.ndarray], network: Network,
                      axes: Sequence[int] | None) -> CheckArrays:
    """Inputs and outputs to check the network against, from an npz file or from Python.

    Parameters
    ----------
    given : Path or (array, array)
        An npz file with the arrays ``inputs`` ``[n, ...]`` and ``outputs`` ``[n, outputs]``, or these.
    network : Network
    axes : sequence of int or None
        Axes of one input, as the network takes it, if they are known.

    Raises
    ------
    UserError
        With the problems of the file and of its arrays.
    """
    if isinstance(given, Path):
        name = f"'{given}'"
        try:
            arrays = read_npz(given, {"inputs": ("inputs",), "outputs": ("outputs",)})
        except FileProblem as problem:
            raise UserError([f"check: {one}" for one in problem.problems]) from None
        inputs, outputs = arrays["inputs"], arrays["outputs"]
    else:
        name, (inputs, outputs) = "the arrays", map(np.asarray, given)
    problems = image_problems(f"check {name}: inputs", inputs) + target_problems(f"check {name}: outputs", outputs)
    if not problems and len(inputs) != len(outputs):
        problems = [(f"check {name}: inputs and outputs must be as many, not {len(inputs)} inputs and {len(outputs)} "
                     "outputs")]
    if problems:
        raise UserError(problems)
    _check_sizes(f"check {name} has", inputs[0].size, outputs[0].size, network, "give those of this network")
    if axes is None:
        note = flattened_note(f"check {name}", inputs)
    else:
        inputs, note = fit_axes(f"check {name}", inputs, axes, way_out="give inputs of these axes, channels first")
    return CheckArrays(name, stored(inputs), np.array(outputs.reshape(len(outputs), -1), np.float32),
                       (note,) if note else ())


def exported_reference(path: Path, network: Network, images: np.ndarray, *, input_shape: tuple[int, ...] | None,
                       normalize: tuple[float, float] | None) -> tuple[Reference, tuple[str, ...]]:
    """The outputs of the float network in a ``.pt2`` file, and the reader's assumptions about it.

    Parameters
    ----------
    path : Path
    network : Network
        The network that is compiled.
    images : uint8 or float32 array, shape ``[n, ...]``
        Inputs as ``network`` takes them.
    input_shape, normalize
        See `host.importers.load_network.load_network`.

    Raises
    ------
    UserError
        As `load_network`; for a network of other inputs or outputs, and for outputs that are not finite.
    """
    found = load_network(path, input_shape=input_shape, normalize=normalize)
    _check_sizes(f"check '{path}' has", found.inputs, found.outputs, network, "give the .pt2 of this network")
    taken, notes = images, [f"check '{path}': {one}" for one in found.assumptions]
    if found.input_axes is not None:
        taken, note = fit_axes(f"check '{path}'", images, found.input_axes, way_out="give inputs of these axes")
        # Flat inputs, noise among them, have no axes that could be taken otherwise.
        notes += [note] if note and images.ndim > 2 else []
    name = f"the float network of '{path}'"
    return Reference(name, images, _outputs(name, found, taken)), tuple(notes)


def own_reference(network: Network, images: np.ndarray) -> Reference:
    """The outputs of the float ``network`` itself for inputs ``images`` ``[n, ...]``.

    Raises `UserError` if they are not finite.
    """
    name = f"the float network '{network.name}', as it was read"
    return Reference(name, images, _outputs(name, network, images), own=True)


def _outputs(name: str, network: Network, images: np.ndarray) -> np.ndarray:
    outputs = last_values(float_values(network), images)
    if wrong := outputs.size - np.count_nonzero(np.isfinite(outputs)):
        raise UserError(f"{name}: {wrong} of {outputs.size} outputs for the calibration inputs are not finite in "
                        "float32; give inputs like those of its training with --calib, or train it again")
    return outputs


def _check_sizes(what: str, inputs: int, outputs: int, network: Network, way_out: str) -> None:
    problems = [f"{what} {found} {kind} for each example, but the network has {wanted}; {way_out}"
                for kind, found, wanted in (("inputs", inputs, network.inputs), ("outputs", outputs, network.outputs))
                if found != wanted]
    if problems:
        raise UserError(problems)


def _ending(outputs: np.ndarray) -> str:
    """Name of the function after which outputs ``[n, outputs]`` are as these: "softmax", "log-softmax" or none."""
    if outputs.shape[1] < 2:
        return ""
    for name, shares in (("softmax", outputs), ("log-softmax", np.exp(outputs.clip(max=1)))):
        if (shares >= 0).all() and np.abs(shares.sum(axis=1) - 1).max() <= PROBABILITY:
            return name
    return ""
