# SPDX-License-Identifier: Apache-2.0
"""Hostile and damaged model files: refused in words, nothing run, little memory, no long waits."""

import importlib
import io
import os
import pickle
import random
import re
import resource
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from host.importers import load_network as loading
from host.importers import safetensors_file, torch_archive
from host.importers.load_network import load_network
from host.network.layers import Network
from nonzero.errors import UserError
from tests.support import hostile_models as hostile

LEGACY = {"_use_new_zipfile_serialization": False}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_network(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.fixture(autouse=True)
def little_memory():  # type: ignore[no-untyped-def]
    """No test of this file may need more than 1 GiB above what is in use already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("container", [hostile.zip_file, hostile.legacy_file])
@pytest.mark.parametrize("attack", ["system", "eval", "open", "nested"])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, attack: str, container) -> None:  # type: ignore[no-untyped-def]
    marker = tmp_path / "marker"
    data = hostile.attack_pickles(marker)[attack]
    message = refusal(container(tmp_path / "model.pt", data))
    assert "nothing in a model file is ever run" in message or "calls something that is not" in message
    assert not marker.exists()
    opened = pickle.loads(data)["fc.weight"] if attack != "nested" else pickle.loads(data)
    if isinstance(opened, io.IOBase):
        opened.close()
    assert marker.exists(), "the attack is harmless, so that this test proves nothing"


@pytest.mark.parametrize("container", [hostile.zip_file, hostile.legacy_file])
@pytest.mark.parametrize(("instructions", "reason"), [
    # A key that is a tuple doubled 60 times: hashing it would take for ever.
    (b"}K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01s.", "it is a dictionary with no model"),
    (b"}K\x01" + b"\x85" * 200_000 + b"K\x01s.", "it is a dictionary with no model"),
    (b"]" * 100_000 + b"a" * 99_999 + b".", "it holds a 'list', not a model"),
    (b"(" * 100_000 + b"t" * 100_000 + b".", "it holds a 'tuple', not a model"),
    (b"cbuiltins\nbytearray\n" + hostile.integer(1 << 40) + b"\x85R.", "it holds a 'builtins.bytearray'"),
    (b"ctorch\nTensor\n" + hostile.integer(1 << 40) + b"\x85R.", "it holds a 'torch.Tensor', not a model"),
    (b"ctorch.nn.modules.linear\nLinear\n" + hostile.integer(1 << 20) * 2 + b"\x86R.",
     "layer 'model' is described in a garbled way"),
    (b"]r\xff\xff\xff\x7f.", "it holds a 'list', not a model"),
    (b"X\xff\xff\xff\x7fabc.", "the description of its tensors cannot be read: it is cut off or garbled"),
    (b"\x8b\xff\xff\xff\x7f1.", "the description of its tensors cannot be read: it is cut off or garbled"),
    (b"N" * (1 << 20) + b".", "the description of its tensors cannot be read: it has more than 1,048,576"),
    (b"c" + b"a" * 1000 + b"\nb\n.", "the description of its tensors cannot be read: it names a class"),
    (b"K\x01K\x02\x85R.", "the description of its tensors cannot be read: it calls something that is not"),
    (b"I1\n.", "the description of its tensors cannot be read: it has the instruction INT at byte "),
    (b"cbui\\(ltins\nprint\n.", "it refers to the class or function 'bui"),
    (b"h\x07.", "the description of its tensors cannot be read: it refers to an object that it has not"),
    (b"e.", "the description of its tensors cannot be read: it takes more from its stack"),
    (b"}(K\x01u.", "the description of its tensors cannot be read: it stores a key without a value"),
    (b"}", "the description of its tensors cannot be read: it is cut off"),
])
def test_hostile_pickles_are_harmless(tmp_path: Path, container, instructions: bytes,  # type: ignore[no-untyped-def]
                                      reason: str) -> None:
    assert refusal(container(tmp_path / "model.pt", b"\x80\x02" + instructions)).startswith(reason)


def sequential(children: bytes) -> bytes:
    """The instructions for a Sequential, left on the stack and in memory 0, with these children."""
    return (b"ctorch.nn.modules.container\nSequential\n)\x81q\x00}(" + hostile.text("_parameters") + b"}"
            + hostile.text("_buffers") + b"}" + hostile.text("_modules") + b"}(" + children + b"uub")


def test_a_model_that_contains_itself_is_refused(tmp_path: Path) -> None:
    once = sequential(hostile.text("a") + b"h\x00")
    twice = sequential(hostile.text("a") + b"h\x00" + hostile.text("b") + b"h\x00")
    for instructions in (once, twice):
        path = hostile.zip_file(tmp_path / "model.pt", b"\x80\x02" + instructions + b".")
        assert refusal(path).startswith("its modules nest more than 32 deep; ")


def test_a_model_that_multiplies_its_modules_is_refused(tmp_path: Path) -> None:
    # Each of 20 levels holds the level before twice: a million modules from 3 KB.
    level = sequential(b"")
    for _ in range(20):
        level = level + b"0" + sequential_of_two()
    path = hostile.zip_file(tmp_path / "model.pt", b"\x80\x02" + level + b".")
    assert refusal(path).startswith("it has more than 4,096 modules; ")


def sequential_of_two() -> bytes:
    """A Sequential of twice what memory 0 holds, which it then replaces there."""
    children = hostile.text("a") + b"h\x00" + hostile.text("b") + b"h\x00"
    return sequential(children).replace(b"\x81q\x00}", b"\x81}") + b"q\x00"


@pytest.mark.parametrize(("weight", "problem"), [
    (hostile.tensor((1 << 20, 1 << 20), (0, 0), 1), "has more than 268,435,456 values"),
    (hostile.tensor((1 << 13, 1 << 13), (0, 0), 4), "claims 67,108,864 values, but the file holds only 4 "),
    (hostile.tensor((2, 3), (1, 1), 4), "claims 6 values, but the file holds only 4 for it"),
    (hostile.tensor((2, 2), (1 << 40, 1), 4), "claims 4 values, but the file holds only 4 for it"),
    (hostile.tensor((2, 2), (2, 1), 4, offset=1), "claims 4 values, but the file holds only 4 for it"),
    (hostile.tensor((2, 2), (2, 1), 4, offset=-1), "is described in a garbled way"),
    (hostile.tensor((2, 2), (-1, 1), 4), "is described in a garbled way"),
    (hostile.tensor((2, 2), (2, 1, 1), 4), "is described in a garbled way"),
    (hostile.tensor((1 << 2000, 2), (2, 1), 4), "is described in a garbled way"),
    (hostile.tensor((1 << 30, 1), (0, 1), 4), "has an axis whose length is not between 1 and 1,048,576"),
    (hostile.tensor((2, 2), (2, 1), 4, storage="Long"), "has the number format int64"),
    (hostile.tensor((2, 2), (2, 1), 4, storage="QInt8"), "has the number format QInt8"),
])
def test_tensors_that_claim_more_than_the_file_holds_are_refused(
        tmp_path: Path, weight: bytes, problem: str) -> None:
    path = hostile.weight_file(tmp_path / "model.pt", weight)
    assert refusal(path).startswith(f"layer 'fc': its weight {problem}")


def test_storages_that_are_not_there_are_refused(tmp_path: Path) -> None:
    good = hostile.tensor((2, 2), (2, 1), 4)
    assert isinstance(load_network(hostile.weight_file(tmp_path / "model.pt", good)), Network)
    for key, stored in (("../data.pkl", 4), ("1", 4), ("0", 5), ("0", 1 << 26)):
        weight = hostile.tensor((2, 2), (2, 1), stored, key=key)
        message = refusal(hostile.weight_file(tmp_path / "model.pt", weight))
        assert message.startswith(f"its part 'data/{key}' is missing or not {4 * stored:,} bytes long; ")
    message = refusal(hostile.legacy_file(tmp_path / "model.pt", hostile.dictionary({"fc.weight": good})))
    assert message.startswith("it is damaged: the values '0' are missing; ")


def test_many_views_of_one_storage_count_towards_the_limit(tmp_path: Path) -> None:
    values = 1 << 21
    weights = {f"fc{index}.weight": hostile.tensor((1, 1), (1, 1), values) for index in range(200)}
    path = hostile.zip_file(tmp_path / "model.pt", hostile.dictionary(weights), {"0": bytes(4 * values)})
    assert refusal(path).startswith("its tensors have 419,430,400 values, more than 268,435,456; ")


def test_dictionaries_with_too_many_entries_are_refused(tmp_path: Path) -> None:
    tensor = hostile.tensor((2, 2), (2, 1), 4) + b"q\x07"
    more = b"".join(hostile.text(f"k{index}.strange") + b"h\x07" for index in range(20_000))
    path = hostile.zip_file(tmp_path / "model.pt",
                            b"\x80\x02}(" + hostile.text("fc.weight") + tensor + more + b"u.")
    assert refusal(path) == "its state dictionary has 20,001 entries, more than 20,000"
    save_file({f"k{index}.strange": torch.zeros(1) for index in range(20_001)}, path)
    assert refusal(path) == "its state dictionary has 20,001 entries, more than 20,000"


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
    """Which one is read is a matter of the reader."""
    path = hostile.weight_file(tmp_path / "model.pt", hostile.tensor((2, 2), (2, 1), 4))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", b"\1" * 16)
    assert refusal(path).startswith("it is a zip file with two entries named 'archive/data/0'; ")
    exported = torch.export.export(torch.nn.Linear(2, 2).eval(), (torch.rand(1, 2),))
    torch.export.save(exported, tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("model/models/model.json", "{}")
    assert refusal(tmp_path / "model.pt2").startswith("it is a zip file with two entries named 'model/models/model.js")


def test_two_entries_of_a_dictionary_with_one_key_are_refused(tmp_path: Path) -> None:
    weight = hostile.tensor((2, 2), (2, 1), 4)
    pickled = b"\x80\x02}(" + 2 * (hostile.text("fc.weight") + weight) + b"u."
    path = hostile.zip_file(tmp_path / "model.pt", pickled, {"0": bytes(16)})
    assert "it stores the key 'fc.weight' twice" in refusal(path)


@pytest.mark.parametrize("header", [
    b'{"a.weight":TENSOR,"a.weight":TENSOR}', b'{"__metadata__":{"a":"b","a":"c"},"a.weight":TENSOR}',
    b'{"a.weight":{"dtype":"F32","dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}',
])
def test_two_keys_of_a_safetensors_file_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    header = header.replace(b"TENSOR", b'{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}')
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    assert re.match(r"it is a damaged safetensors file \(header: it has the key '(a|a\.weight|dtype)' twice\); ",
                    refusal(path))


def test_a_file_of_torchscript_is_called_so(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it is deprecated
        torch.jit.trace(torch.nn.Linear(2, 2), torch.rand(1, 2)).save(tmp_path / "model.pt")
    assert refusal(tmp_path / "model.pt") == (
        "it is a TorchScript archive of torch.jit.save, which holds code; save the model again, as .pt2: "
        'program = torch.export.export(model.eval(), (example,)); torch.export.save(program, "model.pt2")')


def test_safetensors_with_wrong_claims_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    header = b'{"fc.weight":{"dtype":"F32","shape":[1048576,1048576],"data_offsets":[0,16]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    assert refusal(path).startswith("it is a damaged safetensors file (")
    save_file({"fc.weight": torch.zeros(2, 2, dtype=torch.int8)}, path)
    assert refusal(path).startswith("layer 'fc': its weight has the number format I8; ")
    monkeypatch.setattr(safetensors_file, "HEADER_LIMIT", 10)
    assert "(at most 10); save it again" in refusal(path)


def test_names_in_messages_carry_no_control_characters(tmp_path: Path) -> None:
    torch.save({"\x1b[31mred\n" + "x" * 1000 + ".strange": torch.zeros(1)}, tmp_path / "model.pt")
    message = refusal(tmp_path / "model.pt")
    assert message.startswith(r"layer '\x1b[31mred\nxxxx")
    assert len(message) < 500


def test_modules_named_in_a_pickle_are_not_imported(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "surprise.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = hostile.zip_file(tmp_path / "model.pt", b"\x80\x02csurprise\nNet\n)\x81.")
    assert "it refers to the class or function 'surprise.Net'" in refusal(path)
    assert not marker.exists()
    importlib.import_module("surprise")
    assert marker.exists(), "the attack is harmless, so that this test proves nothing"


def valid_files(folder: Path) -> list[bytes]:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    files = []
    for value in (model, model.state_dict()):
        for options in ({}, LEGACY):
            torch.save(value, folder / "valid.pt", **options)
            files.append((folder / "valid.pt").read_bytes())
    save_file(model.state_dict(), folder / "valid.safetensors")
    return [*files, (folder / "valid.safetensors").read_bytes()]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """``data`` with a few bits or bytes changed, cut off, doubled, or filled with another part of itself."""
    mutable = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5])):
        start = chance.randrange(len(mutable))
        length = chance.choice([1, 4, 8, 40])
        kind = chance.randrange(5)
        if kind == 0:
            mutable[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            mutable[start:start + length] = chance.randbytes(length)
        elif kind == 2:
            mutable[start:start + length] = b""
        elif kind == 3:
            other = chance.randrange(len(mutable))
            mutable[start:start] = mutable[other:other + length]
        elif kind == 4 and chance.random() < 0.3:
            del mutable[start:]
        mutable = mutable or bytearray(b"\x00")
    return bytes(mutable)


def test_damaged_files_give_a_network_or_a_message(tmp_path: Path) -> None:
    chance = random.Random(1)
    files = valid_files(tmp_path)
    outcomes = {"network": 0, "message": 0}
    path = tmp_path / "model.pt"
    for index in range(400):
        path.write_bytes(damaged(files[index % len(files)], chance))
        try:
            network = load_network(path)
            outcomes["network"] += 1
            assert network.outputs >= 1
        except UserError as error:
            assert error.problems
            outcomes["message"] += 1
    assert min(outcomes.values()) > 20
