# SPDX-License-Identifier: Apache-2.0
"""Builds model files that attack their reader, byte by byte, since torch.save would not write them."""

import io
import pickle
import shlex
import struct
import zipfile
from pathlib import Path


def zip_file(path: Path, data_pkl: bytes, storages: dict[str, bytes] | None = None,
             compression: int = zipfile.ZIP_STORED) -> Path:
    """A file like torch.save's, with this pickle and these storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        archive.writestr("archive/byteorder", "little")
        for key, values in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", values)
    return path


def text(value: str) -> bytes:
    """The instruction that pushes a string."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    """The instruction that pushes an integer of any size."""
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def tensor(shape: tuple[int, ...], strides: tuple[int, ...], stored: int, *, offset: int = 0,
           storage: str = "Float", key: str = "0") -> bytes:
    """The instructions that rebuild a dense tensor, with any claims about its size."""
    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(integer, values)) + b"t"
    reference = (b"(" + text("storage") + f"ctorch\n{storage}Storage\n".encode() + text(key) + text("cpu")
                 + integer(stored) + b"tQ")
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + integer(offset) + numbers(shape)
            + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR")


def dictionary(entries: dict[str, bytes]) -> bytes:
    """A whole pickle: a dictionary whose values are made by these instructions."""
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u."


def weight_file(path: Path, weight: bytes, values: int = 4) -> Path:
    """A state dictionary with one weight and ``values`` stored float32 zeros."""
    return zip_file(path, dictionary({"fc.weight": weight}), {"0": bytes(4 * values)})


class Attack:
    """Pickles to a call of ``function(*args)``."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def attack_pickles(marker: Path) -> dict[str, bytes]:
    """Pickles that create the file ``marker`` if they are run by Python's own unpickler."""
    import os
    commands = {
        "system": Attack(os.system, f"touch {shlex.quote(str(marker))}"),
        "eval": Attack(eval, f"open({str(marker)!r}, 'w')"),
        "open": Attack(open, str(marker), "w"),
    }
    pickles = {name: pickle.dumps({"fc.weight": attack}, protocol=2) for name, attack in commands.items()}
    # A call of the result of a call, and an attribute of a module found by a dotted name.
    pickles["nested"] = b"\x80\x04" + b"\x8c\x08builtins\x8c\x07getattr\x93" + (
        b"\x8c\x02os\x8c\x06system\x93\x8c\x08__call__\x86R") + text(f"touch {shlex.quote(str(marker))}") + b"\x85R."
    return pickles


def legacy_file(path: Path, pickled: bytes) -> Path:
    """A legacy file of torch.save around one pickle, with no storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    pickles = [pickle.dumps(value, protocol=2) for value in head]
    path.write_bytes(b"".join(pickles) + pickled + pickle.dumps([], protocol=2))
    return path


def overlong_directory(path: Path, entries: int) -> Path:
    """A zip file with very many empty entries."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for index in range(entries):
            archive.writestr(f"archive/data/{index}", b"")
    path.write_bytes(data.getvalue())
    return path
