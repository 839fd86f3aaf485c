# SPDX-License-Identifier: Apache-2.0
"""Datasets: what loads, and what damaged or hostile files are answered."""

import gzip
import hashlib
import io
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import host.datasets
from host.datasets import MNIST_SHA256, as_inputs, load_dataset
from nonzero.errors import UserError
from tests.support.data_files import TOO_LARGE, idx_bytes, npy


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {"train-images-idx3-ubyte": rng.integers(0, 256, (6, 3, 4), np.uint8),
            "train-labels-idx1-ubyte": np.array([0, 1, 2, 0, 1, 2], np.uint8),
            "t10k-images-idx3-ubyte": rng.integers(0, 256, (2, 3, 4), np.uint8),
            "t10k-labels-idx1-ubyte": np.array([2, 1], np.uint8)}


def npz_arrays() -> dict[str, np.ndarray]:
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dict(zip(names, arrays().values(), strict=True))


def write_idx(directory: Path, **changed: bytes) -> str:
    for name, array in arrays().items():
        (directory / name).write_bytes(changed.get(name.replace("-", "_"), idx_bytes(array)))
    return f"idx:{directory}"


def write_npz(path: Path, **changed: np.ndarray) -> str:
    np.savez(path, **(npz_arrays() | changed))  # type: ignore[arg-type]
    return f"npz:{path}"


def problems(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        load_dataset(spec)
    return str(caught.value)


def test_mnist_loads():
    mnist = load_dataset("mnist")
    assert mnist.train_images.shape == (60000, 28, 28) and mnist.train_images.dtype == np.uint8
    assert mnist.test_images.shape == (10000, 28, 28) and mnist.test_labels.dtype == np.int64
    assert mnist.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(mnist.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (mnist.input_count, mnist.class_count) == (784, 10)
    inputs = as_inputs(mnist.test_images)
    assert inputs.shape == (10000, 784) and inputs.dtype == np.float32 and inputs.max() == 1
    assert np.array_equal(np.round(inputs * 255), mnist.test_images.reshape(10000, 784))


def test_readme_names_the_checksums():
    readme = (Path(host.datasets.__file__).parent / "README.md").read_text()
    assert len(MNIST_SHA256) == 4
    assert all(f"| `{file}` | `{digest}` |" in readme for file, digest in MNIST_SHA256.items())


def test_damaged_mnist_is_refused(tmp_path, monkeypatch):
    folder = Path(host.datasets.__file__).parent
    for file in MNIST_SHA256:
        shutil.copyfile(folder / file, tmp_path / file)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes() + b"\0")
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setattr(host.datasets, "__file__", str(tmp_path / "__init__.py"))
    text = problems("mnist")
    digest = hashlib.sha256(labels.read_bytes()).hexdigest()
    assert f"MNIST file '{labels}' is damaged" in text and f"not {digest}; reinstall the package" in text
    assert "train-labels-idx1-ubyte.gz' cannot be read (No such file or directory)" in text


@pytest.mark.parametrize("spec", ["", "mnist2", "cifar10", "cifar10:", "idx:", "npz:", "npz", "npy:a", "a b:c", "a.:b",
                                  "a:b:c", ".a:b"])
def test_unknown_specifications_are_refused(spec):
    assert problems(spec) == ("dataset must be mnist, cifar10:PATH, idx:DIRECTORY, npz:FILE or "
                              f"PACKAGE.MODULE:FUNCTION, not '{spec}'")


@pytest.mark.parametrize("dots", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_load(tmp_path, dots, packed):
    for name, array in arrays().items():
        name = name.replace("-idx", ".idx") if dots else name
        data = idx_bytes(array)
        (tmp_path / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    dataset = load_dataset(f"idx:{tmp_path}")
    assert np.array_equal(dataset.train_images, arrays()["train-images-idx3-ubyte"])
    assert dataset.test_labels.tolist() == [2, 1]
    assert (dataset.input_count, dataset.class_count) == (12, 3)


def test_idx_files_of_floats_load(tmp_path):
    images = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    spec = write_idx(tmp_path, t10k_images_idx3_ubyte=idx_bytes(images))
    assert np.array_equal(as_inputs(load_dataset(spec).test_images), images.reshape(2, 12))


@pytest.mark.parametrize(("data", "message"), [
    (b"", "it must start with 00 00, a type and 1 to 8 dimensions, not with nothing"),
    (b"PK\3\4", "it must start with 00 00, a type and 1 to 8 dimensions, not with 50 4b 03 04"),
    (b"\0\0\7\1\0\0\0\2ab", "not with 00 00 07 01"),
    (b"\0\0\10\0", "not with 00 00 08 00"),
    (b"\0\0\10\3\0\0\0\2", "is truncated: 3 dimensions take 12 bytes, but it has 4"),
    (b"\0\0\10\1\0\0\0\2a", "must hold 2 bytes for its shape [2], not 1"),
    (b"\0\0\10\1\0\0\0\2abc", "must hold 2 bytes for its shape [2], not more than 2"),
    (b"\0\0\10\4" + b"\xff" * 12 + bytes(4), f"{TOO_LARGE} [4294967295, 4294967295, 4294967295, 0]"),
    (b"\0\0\10\2\xff\xff\xff\xff\xff\xff\xff\xff", f"{TOO_LARGE} [4294967295, 4294967295]"),
])
def test_broken_idx_files_are_refused(tmp_path, data, message):
    assert message in problems(write_idx(tmp_path, t10k_images_idx3_ubyte=data))


def test_broken_gzip_files_are_refused(tmp_path):
    write_idx(tmp_path)
    whole = gzip.compress((tmp_path / "train-images-idx3-ubyte").read_bytes())
    (tmp_path / "train-images-idx3-ubyte").unlink()
    packed = tmp_path / "train-images-idx3-ubyte.gz"
    for data, message in ((whole[:-12], "is truncated or damaged"), (b"no gzip", "cannot be read"),
                          (whole[:10] + b"\xff" * 20, "is truncated or damaged")):
        packed.write_bytes(data)
        assert message in problems(f"idx:{tmp_path}")


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    write_idx(tmp_path)
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb") as file:
        file.write(b"\0\0\10\1\0\0\0\2")
        for _ in range(64):
            file.write(bytes(1 << 20))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(bomb.getvalue())
    tracemalloc.start()
    assert "must hold 2 bytes for its shape [2], not more than 2" in problems(f"idx:{tmp_path}")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_missing_files_are_all_named(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    (tmp_path / "train-images-idx3-ubyte").unlink()
    assert problems(f"idx:{tmp_path}").splitlines() == [
        f"directory '{tmp_path}' must hold '{name}' or '{name}.gz', but does not"
        for name in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte")]


@pytest.mark.parametrize("names", [("train_images", "train_labels", "test_images", "test_labels"),
                                   ("x_train", "y_train", "x_test", "y_test")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_load(tmp_path, names, save):
    values = dict(zip(names, arrays().values(), strict=True))
    save(tmp_path / "a.npz", **values)
    dataset = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert np.array_equal(dataset.test_images, values[names[2]])
    assert dataset.train_labels.dtype == np.int64
    dataset.train_images[0, 0, 0] = 7  # torch wants writable arrays


def test_npz_files_of_floats_in_fortran_order_load(tmp_path):
    images = np.asfortranarray(np.random.default_rng(0).normal(size=(6, 3, 4)))
    spec = write_npz(tmp_path / "a.npz", train_images=images, test_images=images[:2].astype(np.float16))
    dataset = load_dataset(spec)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.float32
    assert np.array_equal(as_inputs(dataset.train_images), images.astype(np.float32).reshape(6, 12))


def test_labels_may_be_a_column(tmp_path):
    plain = npz_arrays()
    dataset = load_dataset(write_npz(tmp_path / "a.npz", train_labels=plain["train_labels"][:, None],
                                     test_labels=plain["test_labels"][:, None]))
    assert np.array_equal(dataset.train_labels, plain["train_labels"])
    assert np.array_equal(dataset.test_labels, plain["test_labels"])


def test_an_array_is_in_a_file_once(tmp_path):
    spec = write_npz(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("train_labels.npy", archive.read("test_labels.npy"))
    assert problems(spec) == (f"npz file '{tmp_path / 'a.npz'}' must hold each array once, but holds one twice; save "
                              "it again")


LABELS = np.array([0, 1, 2, 0, 1, 2])
IMAGES = np.zeros((6, 3, 4))


@pytest.mark.parametrize(("changed", "message"), [
    ({"train_labels": LABELS - 1}, "train labels must be 0 to 65535, not -1"),
    ({"train_labels": LABELS + 99999}, "train labels must be 0 to 65535, not 100001"),
    ({"train_labels": LABELS * 1.0}, "train labels must be integers, not float64"),
    ({"train_labels": LABELS[:5]}, "train images and labels must be as many, not 6 images and 5 labels"),
    ({"train_labels": LABELS[None]}, "train labels must have the shape [count] with at least one"),
    ({"train_images": IMAGES + np.nan}, "train images must be finite in float32, but 72 values are not"),
    ({"train_images": IMAGES + np.float64(1e300)}, "train images must be finite in float32, but 72"),
    ({"train_images": IMAGES.astype(np.int16)}, "train images must be uint8 or floating point, not int16"),
    ({"train_images": IMAGES[:0]}, "train images must have the shape [count, values...] with"),
    ({"train_images": np.float32(3)}, "train images must have the shape [count, values...] with"),
    ({"train_images": IMAGES[:, :2]}, "train and test images must have one shape, not [2, 4] and [3, 4]"),
    ({"train_images": np.array([object()] * 6)}, "must hold numbers, not object; pickled objects are never"),
    ({"train_images": np.array(["a"] * 6)}, "must hold numbers, not <U1"),
])
def test_arrays_that_do_not_fit_are_refused(tmp_path, changed, message):
    assert message in problems(write_npz(tmp_path / "a.npz", **changed))


def test_all_problems_are_told_at_once(tmp_path):
    spec = write_npz(tmp_path / "a.npz", train_labels=LABELS - 1, test_images=np.full((3, 3, 4), np.inf))
    assert len(problems(spec).splitlines()) == 3


@pytest.mark.parametrize(("member", "message"), [
    (b"", "has a damaged header"),
    (npy("(2,)")[:30], "has a damaged header"),
    (npy("(2,)", "'nonsense'"), "has a damaged header"),
    (b"\x93NUMPY\3\0" + npy("(2,)")[8:], "has a damaged header: version 3.0 instead of 1.0 or 2.0"),
    (npy("(1 << 40,)"), "has a damaged header"),
    (npy("{" * 4000), "has a damaged header"),
    (npy("(2,)", "'a2'"), "has a damaged header"),
    (npy(f"({1 << 40},)"), f"{TOO_LARGE} [{1 << 40}]"),
    (npy("(-1,)"), f"{TOO_LARGE} [-1]"),
    (npy("(True, True)"), f"{TOO_LARGE} [True, True]"),
    (npy(f"({1 << 70}, 0)"), f"{TOO_LARGE} [{1 << 70}, 0]"),
    (npy(f"({'1, ' * 70})", data=b"a"), f"{TOO_LARGE} [1, 1"),
    (npy("(2,)", data=b"a"), "must hold 2 bytes for its shape [2], not 1"),
    (npy("(2,)", data=b"a" * 300), "must hold 2 bytes for its shape [2], not more"),
])
def test_hostile_npz_files_are_refused(tmp_path, member, message):
    write_npz(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as old, zipfile.ZipFile(tmp_path / "b.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, member if name == "test_images.npy" else old.read(name))
    expected = f"array 'test_images' of npz file '{tmp_path / 'b.npz'}' {message}"
    assert expected in problems(f"npz:{tmp_path / 'b.npz'}")


def test_broken_zip_files_are_refused(tmp_path):
    spec = write_npz(tmp_path / "a.npz")
    data = (tmp_path / "a.npz").read_bytes()
    changed = data.replace(arrays()["t10k-images-idx3-ubyte"].tobytes(), bytes(24))
    # Flag 0x800 says that the name is UTF-8, which it is not.
    no_name = data.replace(b"test_images.npy", b"\xff" * 15).replace(b"PK\1\2-\3-\0\0\0", b"PK\1\2-\3-\0\0\x08")
    for broken, message in ((b"", "is damaged or no npz file"), (data[:100], "is damaged or no npz file"),
                            (data[:-40], "is damaged or no npz file"), (no_name, "is damaged or no npz file"),
                            (changed, "has a damaged header: Bad CRC-32")):
        (tmp_path / "a.npz").write_bytes(broken)
        assert message in problems(spec)
    assert "cannot be read: No such file or directory" in problems(f"npz:{tmp_path}/none.npz")


def test_an_npz_file_without_labels_is_refused(tmp_path):
    values = npz_arrays()
    del values["test_labels"], values["train_labels"]
    np.savez(tmp_path / "a.npz", **values)
    assert problems(f"npz:{tmp_path / 'a.npz'}").splitlines() == [
        f"npz file '{tmp_path / 'a.npz'}' must hold an array '{one}' or '{other}', "
        "but holds test_images, train_images"
        for one, other in (("train_labels", "y_train"), ("test_labels", "y_test"))]


def test_require_names_both_sizes(tmp_path):
    dataset = load_dataset(write_npz(tmp_path / "a.npz"))
    dataset.require(12, 3)
    with pytest.raises(UserError) as caught:
        dataset.require(784, 2)
    assert "has 12 values for each image, but the network has 784 inputs" in caught.value.problems[0]
    assert "has labels up to 2, but the network has only 2 outputs" in caught.value.problems[1]
