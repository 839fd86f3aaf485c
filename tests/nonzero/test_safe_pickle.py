# SPDX-License-Identifier: Apache-2.0
"""Hostile pickles: refused in words, nothing run, nothing imported."""

import importlib
import io
import pickle
from pathlib import Path

import pytest

from tests.support import hostile_models as hostile
from tests.support.model_files import refusal

pytestmark = pytest.mark.usefixtures("little_memory")


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


def test_two_entries_of_a_dictionary_with_one_key_are_refused(tmp_path: Path) -> None:
    weight = hostile.tensor((2, 2), (2, 1), 4)
    pickled = b"\x80\x02}(" + 2 * (hostile.text("fc.weight") + weight) + b"u."
    path = hostile.zip_file(tmp_path / "model.pt", pickled, {"0": bytes(16)})
    assert "it stores the key 'fc.weight' twice" in refusal(path)


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
