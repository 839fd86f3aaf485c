# SPDX-License-Identifier: Apache-2.0
"""Hostile and damaged model files: refused in words, nothing run, little memory, no long waits."""

import random
import re
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from host.importers import safetensors_file
from host.importers.load_network import load_network
from host.network.layers import Network
from nonzero.errors import UserError
from tests.support import hostile_models as hostile
from tests.support.model_files import LEGACY, refusal

pytestmark = pytest.mark.usefixtures("little_memory")


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
