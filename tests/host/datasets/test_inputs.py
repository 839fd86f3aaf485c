# SPDX-License-Identifier: Apache-2.0
"""Inputs without labels: what loads, and what unfit or hostile files are answered."""

import gzip
import os

import numpy as np
import pytest

from host.datasets import load_dataset, load_inputs
from host.datasets.files import MAX_BYTES
from nonzero.errors import UserError
from tests.support.data_files import TOO_LARGE, idx_bytes, npy

BYTES = np.random.default_rng(5).integers(0, 256, (6, 3, 4), np.uint8)
FLOATS = np.random.default_rng(6).normal(size=(6, 12))


def problem(spec):
    with pytest.raises(UserError) as caught:
        load_inputs(spec)
    return str(caught.value)


@pytest.mark.parametrize("inputs", [BYTES, FLOATS, FLOATS.astype(np.float16), np.asfortranarray(FLOATS)])
def test_npy_files_load(tmp_path, inputs):
    np.save(tmp_path / "a.npy", inputs)
    loaded = load_inputs(f"npy:{tmp_path / 'a.npy'}")
    assert np.array_equal(loaded, inputs if inputs is BYTES else inputs.astype(np.float32))
    assert loaded.dtype == (np.uint8 if inputs is BYTES else np.float32) and loaded.flags.writeable


@pytest.mark.parametrize("name", ["train_images", "x_train", "inputs", "images", "arr_0"])
def test_npz_files_without_labels_load(tmp_path, name):
    np.savez_compressed(tmp_path / "a.npz", **{name: BYTES, "other": FLOATS})
    assert np.array_equal(load_inputs(f"npz:{tmp_path / 'a.npz'}"), BYTES)


@pytest.mark.parametrize("name", ["images", "images.gz", "train-images-idx3-ubyte", "train-images.idx3-ubyte.gz"])
def test_idx_files_without_labels_load(tmp_path, name):
    data = idx_bytes(BYTES)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    specs = [f"idx:{tmp_path / name}"] + [f"idx:{tmp_path}"] * name.startswith("train")
    for spec in specs:
        assert np.array_equal(load_inputs(spec), BYTES)


def test_mnist_gives_its_test_images():
    assert np.array_equal(load_inputs("mnist"), load_dataset("mnist").train_images)


@pytest.mark.parametrize("spec", ["", "mnist2", "cifar10", "cifar10:", "idx:", "npz:", "npy", "csv:a", "a.npy"])
def test_unknown_specifications_are_refused(spec):
    assert problem(spec) == ("inputs must be mnist, cifar10:PATH, idx:DIRECTORY, idx:FILE, npz:FILE or npy:FILE, not "
                             f"'{spec}'")


@pytest.mark.parametrize(("inputs", "message"), [
    (BYTES[:0], "must have the shape [count, values...] with nothing zero, not [0, 3, 4]"),
    (BYTES[0, 0], "must have the shape [count, values...] with nothing zero, not [4]"),
    (BYTES[0, 0, 0], "must have the shape [count, values...] with nothing zero, not []"),
    (BYTES.astype(np.int16), "must be uint8 or floating point, not int16; convert them first"),
    (BYTES > 3, "must be uint8 or floating point, not bool; convert them first"),
    (FLOATS * np.inf, "must be finite in float32, but 72 values are not; remove them"),
    (FLOATS * 1e300, "must be finite in float32, but 72 values are not; remove them"),
])
def test_inputs_that_do_not_fit_are_refused(tmp_path, inputs, message):
    np.save(tmp_path / "a.npy", inputs)
    assert problem(f"npy:{tmp_path / 'a.npy'}") == f"inputs 'npy:{tmp_path / 'a.npy'}' {message}"


@pytest.mark.parametrize(("data", "message"), [
    (b"", "has a damaged header"),
    (b"PK\3\4" * 9, "has a damaged header"),
    (npy("(2, 2)", "'|O'", b"a" * 8), "must hold numbers, not object; pickled objects are never loaded"),
    (npy("(2, 2)", "[('a', '<f4')]"), "must hold numbers, not [('a', '<f4')]; pickled objects are never loaded"),
    (npy("(2, 2)", data=b"abc"), "must hold 4 bytes for its shape [2, 2], not 3"),
    (npy("(2, 2)", data=b"abcde"), "must hold 4 bytes for its shape [2, 2], not more"),
    (npy(f"(2, {MAX_BYTES})"), f"{TOO_LARGE} [2, {MAX_BYTES}]"),
    (npy(f"(0, {1 << 62}, {1 << 62})"), f"{TOO_LARGE} [0, {1 << 62}, {1 << 62}]"),
])
def test_hostile_npy_files_are_refused(tmp_path, data, message):
    (tmp_path / "a.npy").write_bytes(data)
    assert f"npy file '{tmp_path / 'a.npy'}' {message}" in problem(f"npy:{tmp_path / 'a.npy'}")


def test_other_arrays_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", weights=FLOATS)
    assert problem(f"npz:{tmp_path / 'a.npz'}") == (
        f"npz file '{tmp_path / 'a.npz'}' must hold an array 'train_images' or 'x_train' or 'inputs' or 'images' or "
        "'arr_0', but holds weights")


def test_labels_are_no_inputs(tmp_path):
    (tmp_path / "labels").write_bytes(idx_bytes(BYTES[:, 0, 0]))
    assert "must have the shape [count, values...]" in problem(f"idx:{tmp_path / 'labels'}")


@pytest.mark.parametrize("kind", ["idx", "npz", "npy"])
def test_missing_files_and_pipes_are_refused(tmp_path, kind):
    assert "cannot be read: No such file or directory" in problem(f"{kind}:{tmp_path / 'none'}")
    os.mkfifo(tmp_path / "pipe")
    assert problem(f"{kind}:{tmp_path / 'pipe'}") == \
        f"'{tmp_path / 'pipe'}' must be a file, but is a directory or a device"


def test_directories_in_place_of_files_are_refused(tmp_path):
    assert "must be a file, but is a directory" in problem(f"npy:{tmp_path}")
    assert "must hold 'train-images-idx3-ubyte'" in problem(f"idx:{tmp_path}")
