# SPDX-License-Identifier: Apache-2.0
"""Archives of torch.save that are hostile, or of another kind: refused in words, little memory."""

import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from host.importers import load_network as loading
from host.importers import torch_archive
from tests.support import hostile_models as hostile
from tests.support.model_files import refusal

pytestmark = pytest.mark.usefixtures("little_memory")


def test_compressed_zip_files_are_refused(tmp_path: Path) -> None:
    weight = hostile.dictionary({"fc.weight": hostile.tensor((4096, 4096), (4096, 1), 1 << 24)})
    path = hostile.zip_file(tmp_path / "model.pt", weight, {"0": bytes(1 << 26)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert refusal(path).startswith("it is a compressed zip file, which may grow without bound when read; ")


def test_zip_files_that_are_larger_inside_than_outside_are_refused(tmp_path: Path) -> None:
    storages = {"0": bytes(1000), "1": bytes(1000)}
    path = hostile.zip_file(tmp_path / "model.pt", hostile.dictionary({}), storages)
    data = path.read_bytes()
    # Both sizes of the directory's entries: 1,000 bytes become 3,000.
    assert data.count(struct.pack("<II", 1000, 1000)) == 4
    path.write_bytes(data.replace(struct.pack("<II", 1000, 1000), struct.pack("<II", 3000, 3000)))
    assert refusal(path).startswith("it is a zip file whose entries claim to be larger than the file; ")


def test_zip_files_with_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hostile.overlong_directory(tmp_path / "model.pt", 101)
    assert refusal(path).startswith("it is a zip file, but not one of torch.save ")
    monkeypatch.setattr(torch_archive, "ENTRIES_LIMIT", 100)
    assert refusal(path).startswith("it is a zip file with more than 100 entries; ")


def test_pickles_and_files_beyond_their_limits_are_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    monkeypatch.setattr(torch_archive, "PICKLE_LIMIT", 100)
    assert refusal(path).startswith("its data.pkl has ")
    monkeypatch.setattr(loading, "FILE_LIMIT", 1000)
    assert f"it has {path.stat().st_size:,} bytes, more than 1,000; " in refusal(path)


def tar_file(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))


def torchscript_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/constants.pkl", b"\x80\x02).")


def big_endian_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/byteorder", "big")


@pytest.mark.parametrize(("make", "reason"), [
    (lambda path: None, "there is no such file"),
    (Path.mkdir, "it is a directory or a device, not a file; "),
    (os.mkfifo, "it is a directory or a device, not a file; "),
    (Path.touch, "it is empty; "),
    (lambda path: path.write_text("import torch\n"), "it is not a model file: "),
    (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "it is not a model file: "),
    (lambda path: path.write_bytes(pickle.dumps([1, 2])), "it is a plain pickle, not a file of torch.save; "),
    (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), "it is a damaged or cut-off zip file ("),
    (lambda path: path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}"), "it is a damaged or cut-off "),
    (lambda path: path.write_bytes(struct.pack("<Q", 20) + b"{" + b"[" * 19), "it is a damaged safetensors "),
    (tar_file, "it is in the tar format of PyTorch 0.1, which can hide code; "),
    (torchscript_file, "it is a TorchScript archive of torch.jit.save, which holds code; "),
    (big_endian_file, "it was written on a big-endian machine; "),
])
def test_files_that_are_no_models_are_refused(tmp_path: Path, make, reason: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "model.pt")
    assert refusal(tmp_path / "model.pt").startswith(reason)


def test_two_entries_of_a_zip_file_with_one_name_are_refused(tmp_path: Path) -> None:
    """Readers differ in which of the two they read."""
    path = hostile.weight_file(tmp_path / "model.pt", hostile.tensor((2, 2), (2, 1), 4))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", b"\1" * 16)
    assert refusal(path).startswith("it is a zip file with two entries named 'archive/data/0'; ")
    exported = torch.export.export(torch.nn.Linear(2, 2).eval(), (torch.rand(1, 2),))
    torch.export.save(exported, tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("model/models/model.json", "{}")
    assert refusal(tmp_path / "model.pt2").startswith("it is a zip file with two entries named 'model/models/model.js")


def test_a_file_of_torchscript_is_called_so(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it is deprecated
        torch.jit.trace(torch.nn.Linear(2, 2), torch.rand(1, 2)).save(tmp_path / "model.pt")
    assert refusal(tmp_path / "model.pt") == (
        "it is a TorchScript archive of torch.jit.save, which holds code; save the model again, as .pt2: "
        'program = torch.export.export(model.eval(), (example,)); torch.export.save(program, "model.pt2")')
