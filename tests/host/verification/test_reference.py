# SPDX-License-Identifier: Apache-2.0
"""What a compiled network is compared with: read from .pt2 and npz files, and refused in words."""

import re
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from host.importers.load_network import load_network
from host.network.layers import Linear, Network
from host.verification.reference import Reference, exported_reference, own_reference, read_check_arrays
from nonzero.errors import UserError
from rtl.numbers import Activation

RNG = np.random.default_rng(4)
NETWORK = Network("small", (Linear("a", RNG.normal(size=(3, 24)).astype(np.float32), np.zeros(3, np.float32),
                                   Activation.IDENTITY),), (2, 3, 4))
INPUTS = RNG.random((5, 2, 3, 4), np.float32)
OUTPUTS = RNG.normal(size=(5, 3)).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    """Writes an npz file of these arrays, and returns its path."""
    def write(**arrays):
        np.savez(tmp_path / "check.npz", **arrays)
        return tmp_path / "check.npz"
    return write


def read(path):
    return read_check_arrays(path, NETWORK, NETWORK.input_axes)


def test_arrays_are_taken_as_they_are(file):
    for inputs, wanted in ((INPUTS, INPUTS), (INPUTS.astype(np.float64), INPUTS), (INPUTS.reshape(5, 24), INPUTS),
                           (INPUTS.transpose(0, 2, 3, 1), INPUTS), (np.uint8(255 * INPUTS), np.uint8(255 * INPUTS))):
        found = read(file(inputs=inputs, outputs=OUTPUTS.astype(np.float64), more=np.zeros(2)))
        assert found.inputs.dtype == (np.uint8 if inputs.dtype == np.uint8 else np.float32)
        np.testing.assert_array_equal(found.inputs.reshape(5, -1), wanted.reshape(5, -1))
        np.testing.assert_array_equal(found.outputs, OUTPUTS)
        assert [note.split(", ")[0] for note in found.notes] == (
            [f"check {found.name} has its channels last"] if inputs.shape[-1] == 2 else
            [f"check {found.name} has inputs of 24 values"] if inputs.ndim == 2 else [])
    given = read((INPUTS, OUTPUTS)).reference(np.array([1, 3]))
    assert (given.name, given.own, given.ending) == ("the outputs in the arrays", False, "")
    np.testing.assert_array_equal(given.inputs, INPUTS[[1, 3]])
    np.testing.assert_array_equal(given.outputs, OUTPUTS[[1, 3]])
    alone = Network("one", (Linear("a", np.ones((1, 24), np.float32), np.zeros(1, np.float32), Activation.IDENTITY),))
    assert read_check_arrays((INPUTS, OUTPUTS[:, 0]), alone, None).outputs.shape == (5, 1)


BAD = [
    ({"outputs": OUTPUTS, "arr_0": INPUTS}, ["npz file '{}' must hold an array 'inputs', but holds arr_0, outputs"]),
    ({"arr_0": INPUTS}, ["npz file '{}' must hold an array 'inputs', but holds arr_0",
                         "npz file '{}' must hold an array 'outputs', but holds arr_0"]),
    ({"inputs": INPUTS, "outputs": np.array([{}] * 5)},
     ["array 'outputs' of npz file '{}' must hold numbers, not object; pickled objects are never loaded"]),
    ({"inputs": INPUTS, "outputs": np.array(["a"] * 5)},
     ["array 'outputs' of npz file '{}' must hold numbers, not <U1; pickled objects are never loaded"]),
    ({"inputs": np.int64(INPUTS), "outputs": OUTPUTS > 0}, [
        "'{}': inputs must be uint8 or floating point, not int64; convert them first",
        "'{}': outputs must be numbers, not bool; convert them first"]),
    ({"inputs": INPUTS[0, 0, 0], "outputs": np.float32(1)}, [
        "'{}': inputs must have the shape [count, values...] with nothing zero, not [4]",
        "'{}': outputs must have the shape [count] or [count, values...] with nothing zero, not []"]),
    ({"inputs": INPUTS[:0], "outputs": OUTPUTS},
     ["'{}': inputs must have the shape [count, values...] with nothing zero, not [0, 2, 3, 4]"]),
    ({"inputs": np.where(INPUTS > 0.5, np.nan, INPUTS), "outputs": np.where(OUTPUTS > 1.1, np.inf, OUTPUTS)}, [
        f"'{{}}': inputs must be finite in float32, but {(INPUTS > 0.5).sum()} values are not; remove them",
        f"'{{}}': outputs must be finite in float32, but {(OUTPUTS > 1.1).sum()} values are not; remove them"]),
    ({"inputs": INPUTS, "outputs": OUTPUTS[:4]},
     ["'{}': inputs and outputs must be as many, not 5 inputs and 4 outputs"]),
    ({"inputs": INPUTS[..., :3], "outputs": OUTPUTS[:, :2]}, [
        "'{}' has 18 inputs for each example, but the network has 24; give those of this network",
        "'{}' has 2 outputs for each example, but the network has 3; give those of this network"]),
    ({"inputs": INPUTS.transpose(0, 2, 1, 3), "outputs": OUTPUTS}, [
        ("'{}' has inputs of 3 x 2 x 4 values, but the network takes 2 x 3 x 4; give inputs of these axes, channels "
         "first")]),
]


@pytest.mark.parametrize("arrays, problems", BAD)
def test_arrays_that_do_not_fit_are_refused(file, arrays, problems):
    path = file(**arrays)
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.problems == [f"check: {one}" if one.startswith(("npz", "array")) else f"check {one}"
                                     for one in (problem.replace("{}", str(path)) for problem in problems)]


def header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_files_that_are_no_npz_are_refused(tmp_path):
    path = tmp_path / "check.npz"
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.problems == [f"check: npz file '{path}' cannot be read: No such file or directory"]
    path.write_bytes(b"no zip file")
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.problems == [f"check: npz file '{path}' is damaged or no npz file: File is not a zip file"]
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.problems == [f"check: '{path}' must be a file, but is a directory or a device"]


@pytest.mark.parametrize("shape, message", [
    ((1 << 40, 4), "must take at most 1073741824 bytes, in at most 8 dimensions, but its shape is [1099511627776, 4]"),
    ((1 << 20, 24), "must hold 100663296 bytes for its shape [1048576, 24], not 400"),
    ((5, 20), "must hold 400 bytes for its shape [5, 20], not more"),
])
def test_arrays_that_are_not_as_large_as_they_say_are_refused(tmp_path, shape, message):
    path, content = tmp_path / "check.npz", header(shape) + b"\0" * (480 if shape[0] == 5 else 400)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("inputs", "outputs"):
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.problems == [f"check: array '{name}' of npz file '{path}' {message}"
                                     for name in ("inputs", "outputs")]


def exported(path, module, shape):
    torch.export.save(torch.export.export(module.eval(), (torch.rand(1, *shape),)), path)
    return path


def test_an_exported_network_is_computed_in_floats(tmp_path):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    path = exported(tmp_path / "m.pt2", module, (2, 3, 4))
    with torch.no_grad():
        wanted = module(torch.from_numpy(INPUTS)).numpy()
    found, notes = exported_reference(path, NETWORK, INPUTS, input_shape=None, normalize=None)
    assert (found.name, found.own, notes) == (f"the float network of '{path}'", False, ())
    np.testing.assert_allclose(found.outputs, wanted, atol=1e-5)
    # In the network's order of values; the exported one takes the channels first.
    last = INPUTS.transpose(0, 2, 3, 1)
    found, (note,) = exported_reference(path, NETWORK, last, input_shape=None, normalize=None)
    np.testing.assert_allclose(found.outputs, wanted, atol=1e-5)
    assert note == (f"check '{path}' has its channels last, 3 x 4 x 2; they were moved to the front, 2 x 3 x 4, as the "
                    "network takes them") and np.array_equal(found.inputs, last)
    # Normalised as in training: by the same option, inputs are as before.
    found, _ = exported_reference(path, NETWORK, INPUTS, input_shape=None, normalize=(0.5, 0.25))
    with torch.no_grad():
        np.testing.assert_allclose(found.outputs, module(torch.from_numpy((INPUTS - 0.5) / 0.25)), atol=1e-4)
    own, (found, _) = own_reference(load_network(path), INPUTS), exported_reference(
        path, NETWORK, INPUTS, input_shape=None, normalize=None)
    np.testing.assert_array_equal(own.outputs, found.outputs)
    assert (own.name, own.own) == ("the float network 'm', as it was read", True)


def test_an_exported_network_that_is_another_is_refused(tmp_path):
    path = exported(tmp_path / "m.pt2", nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)), (20,))
    with pytest.raises(UserError) as caught:
        exported_reference(path, NETWORK, INPUTS, input_shape=None, normalize=None)
    assert caught.value.problems == [
        f"check '{path}' has 20 inputs for each example, but the network has 24; give the .pt2 of this network",
        f"check '{path}' has 4 outputs for each example, but the network has 3; give the .pt2 of this network"]
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'no.pt2'}: there is no such file")):
        exported_reference(tmp_path / "no.pt2", NETWORK, INPUTS, input_shape=None, normalize=None)


def test_a_file_of_tensors_is_said_to_be_one(tmp_path):
    """Only its name is that of an exported program."""
    torch.save(nn.Linear(24, 3).state_dict(), tmp_path / "m.pt2")
    _, notes = exported_reference(tmp_path / "m.pt2", NETWORK, INPUTS, input_shape=None, normalize=None)
    assert notes[0].startswith(f"check '{tmp_path / 'm.pt2'}': the file holds tensors only, so what forward() does")


def test_outputs_that_are_not_finite_are_refused():
    wild = Network("wild", tuple(Linear(name, np.full((24, 24), 1e25, np.float32), np.zeros(24, np.float32),
                                        Activation.RELU) for name in "ab"))
    with pytest.raises(UserError) as caught:
        own_reference(wild, INPUTS)
    assert caught.value.problems == [
        ("the float network 'wild', as it was read: 120 of 120 outputs for the calibration inputs are not finite in "
         "float32; give inputs like those of its training with --calib, or train it again")]


@pytest.mark.parametrize("ending", ["softmax", "log_softmax"])
def test_a_function_at_the_end_is_recognised(ending):
    logits = torch.from_numpy(3 * OUTPUTS)
    given = (INPUTS, getattr(torch, ending)(logits, 1).numpy())
    found = read(given).reference(np.arange(5))
    assert found.ending == ending.replace("_", "-")
    # The outputs of a network that lacks it are brought to the same.
    np.testing.assert_allclose(found.ended(1000 + 3 * OUTPUTS), given[1], rtol=1e-3, atol=1e-6)
    for other in (given[1] * 1.1, given[1] - 0.1, OUTPUTS):
        assert read((INPUTS, other)).reference(np.arange(5)).ending == ""
    assert Reference("", INPUTS, OUTPUTS).ended(OUTPUTS).dtype == np.float64
