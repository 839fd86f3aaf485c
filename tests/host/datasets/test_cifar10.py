# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 in its published forms, and what damaged or hostile files are answered."""

import gzip
import os
import struct
import tarfile
import tracemalloc
from io import BytesIO

import numpy as np
import pytest

from host.datasets import load_dataset, load_inputs
from nonzero.errors import UserError
from tests.support import cifar10_files as cifar
from tests.support.hostile_models import attack_pickles, integer

pytestmark = pytest.mark.usefixtures("little_memory")

BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
AGAIN = "take it from the archive again"


def problems(spec):
    with pytest.raises(UserError) as caught:
        load_dataset(spec)
    return caught.value.problems


def written(tmp_path, form):
    """The dataset in one of its forms; returns what ``--data`` calls it."""
    if form == "binary directory":
        return cifar.write_directory(tmp_path / "c", cifar.binary_files())
    if form == "python directory":
        return cifar.write_directory(tmp_path / "c", cifar.python_files() | {"batches.meta": b"no pickle"})
    if form == "binary archive":
        return cifar.write_archive(tmp_path / "c.tar.gz", cifar.archive(cifar.binary_files(), BINARY))
    return cifar.write_archive(tmp_path / "c.tar.gz", cifar.archive(cifar.python_files(), PYTHON))


@pytest.mark.parametrize("form", ["binary directory", "python directory", "binary archive", "python archive"])
def test_every_published_form_loads(tmp_path, form):
    spec = written(tmp_path, form)
    found = load_dataset(spec)
    assert found.name == spec and found.image_shape == (3, 32, 32) and found.class_count == 10
    assert found.train_images.dtype == found.test_images.dtype == np.uint8
    assert found.train_labels.dtype == found.test_labels.dtype == np.int64
    assert np.array_equal(found.train_images, np.concatenate([cifar.images_of(number) for number in range(5)]))
    assert found.train_labels.tolist() == [0, 3, 6, 1, 2, 5, 3, 6, 9, 2, 4, 7]
    assert np.array_equal(found.test_images, cifar.images_of(5)) and found.test_labels.tolist() == [5, 8, 1, 4, 7]
    assert np.array_equal(load_inputs(spec), found.train_images)


def test_a_record_is_a_label_then_red_green_and_blue_rows(tmp_path):
    files = cifar.binary_files()
    files["test_batch.bin"] = bytes([9]) + bytes(range(32)) + bytes(992) + bytes([77] * 1024) + bytes([88] * 1024)
    found = load_dataset(cifar.write_directory(tmp_path / "c", files))
    assert found.test_labels.tolist() == [9] and found.test_images[0, 0, 0].tolist() == list(range(32))
    assert not found.test_images[0, 0, 1:].any()
    assert (found.test_images[0, 1] == 77).all() and (found.test_images[0, 2] == 88).all()


def test_an_archive_of_another_program_loads(tmp_path):
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(cifar.binary_files().items(), reverse=True):
            info = tarfile.TarInfo(f"{BINARY}/{name}")
            info.size, info.pax_headers = len(content), {"comment": "x" * 600}
            archive.addfile(info, BytesIO(content))
    assert load_dataset(f"cifar10:{tmp_path / 'c.tar.gz'}").test_labels.tolist() == [5, 8, 1, 4, 7]


def test_an_array_in_fortrans_order_loads(tmp_path):
    columns = np.asfortranarray(cifar.images_of(5).reshape(5, 3072)).tobytes("F")
    files = cifar.python_files(order=b"\x88", text=b"T" + struct.pack("<i", len(columns)) + columns)
    found = load_dataset(cifar.write_directory(tmp_path / "c", files))
    assert np.array_equal(found.test_images, cifar.images_of(5))


def test_of_both_versions_the_binary_one_counts(tmp_path):
    spec = cifar.write_directory(tmp_path / "c", cifar.binary_files() | {"test_batch": b"no pickle"})
    assert load_dataset(spec).test_labels.tolist() == [5, 8, 1, 4, 7]


def test_all_problems_are_told_at_once(tmp_path):
    files = cifar.binary_files()
    files["data_batch_1.bin"] = b""
    files["data_batch_2.bin"] += b"\0"
    files["data_batch_3.bin"] = b"\x03" + bytes(3072) + b"\x0a" + bytes(3072)
    del files["data_batch_4.bin"], files["data_batch_5.bin"], files["test_batch.bin"]
    place = tmp_path / "c"
    cifar.write_directory(place, files)
    os.truncate(os.open(place / "data_batch_4.bin", os.O_WRONLY | os.O_CREAT), 10_001 * 3073)
    (place / "data_batch_5.bin").mkdir()
    records = "must hold 1 to 10000 records of 3073 bytes, not"
    assert problems(f"cifar10:{place}") == [
        f"CIFAR-10 file '{place / 'data_batch_1.bin'}' {records} 0 bytes; {AGAIN}",
        f"CIFAR-10 file '{place / 'data_batch_2.bin'}' {records} 3074 bytes; {AGAIN}",
        f"CIFAR-10 file '{place / 'data_batch_3.bin'}' must have labels 0 to 9, but label 1 is 10; {AGAIN}",
        f"CIFAR-10 file '{place / 'data_batch_4.bin'}' {records} {10_001 * 3073} bytes; {AGAIN}",
        f"'{place / 'data_batch_5.bin'}' must be a file, but is a directory or a device",
        f"'{place}' must hold 'test_batch.bin', but does not; {AGAIN}"]


def test_a_place_without_any_of_its_files_is_refused(tmp_path):
    told = ("must hold 'data_batch_1.bin' to 'test_batch.bin' of CIFAR-10, or the same without '.bin', but holds none "
            "of them; give the archive as it was downloaded, or the directory of these files")
    assert problems(f"cifar10:{tmp_path}") == [f"'{tmp_path}' {told}"]
    # A name that is wanted, but as a link, in another folder, and below a second one.
    bare = b"".join([*(cifar.entry(f"{BINARY}/test_batch.bin", kind=kind) for kind in (b"1", b"2")),
                     cifar.entry("../test_batch.bin", bytes(3073)), cifar.entry("test_batch.bin", bytes(3073)),
                     cifar.entry(f"{BINARY}/a/test_batch.bin", bytes(3073)), cifar.entry(f"/{BINARY}/test_batch.bin"),
                     cifar.entry(f"{PYTHON}/test_batch.bin", bytes(3073)), cifar.entry(f"{BINARY}/test_batch")])
    spec = cifar.write_archive(tmp_path / "c.tar.gz", bare + bytes(1024))
    assert problems(spec) == [f"'{tmp_path / 'c.tar.gz'}' {told}"]
    assert problems(f"cifar10:{tmp_path / 'none'}") == [
        f"CIFAR-10 '{tmp_path / 'none'}' cannot be read: No such file or directory"]


def test_broken_archives_are_refused(tmp_path):
    path, whole = tmp_path / "c.tar.gz", cifar.archive(cifar.binary_files(), BINARY)
    packed = gzip.compress(whole, 1)
    damaged = f"CIFAR-10 archive '{path}' is damaged, or no tar archive in gzip; download it again"
    for content, message in (
            (b"", f"'{path}' must hold 'data_batch_1.bin' to"),
            (whole, f"CIFAR-10 '{path}' cannot be read: Not a gzipped file"),
            (packed[:len(packed) // 2], "is truncated or damaged: Compressed file ended before"),
            (packed[:100] + b"\xff" * 200, "is truncated or damaged: Error -3"),
            (gzip.compress(b"no tar archive"), damaged), (gzip.compress(whole[:600]), damaged),
            (gzip.compress(whole[:1100]), "it ends within a file"),
            (gzip.compress(bytes(100) + b"x" + bytes(411)), damaged),
            (gzip.compress(whole.replace(b"0000001\0", b"0000002\0", 1)), damaged),
            (gzip.compress(cifar.entry("a").replace(b"00000000000\0", b"-0000000001\0")), damaged),
            (gzip.compress(whole[:-2000]), "it ends within a file")):
        path.write_bytes(content)
        assert message in problems(f"cifar10:{path}")[0]


def test_a_file_that_is_missing_or_twice_in_an_archive_is_named(tmp_path):
    files = cifar.binary_files()
    del files["data_batch_3.bin"]
    content = cifar.entry(f"{BINARY}/test_batch.bin", files["test_batch.bin"]) + cifar.archive(files, BINARY)
    path = tmp_path / "c.tar.gz"
    assert problems(cifar.write_archive(path, content)) == [
        (f"'{BINARY}/test_batch.bin' of CIFAR-10 archive '{path}' must be there once, but is there twice; download the "
         "archive again"), f"'{path}' must hold 'data_batch_3.bin', but does not; {AGAIN}"]


@pytest.mark.parametrize(("name", "size", "message"), [
    (f"{BINARY}/test_batch.bin", 10_001 * 3073, "must hold 1 to 10000 records of 3073 bytes, not 30733073 bytes"),
    (f"{PYTHON}/test_batch", 33 << 20, "must have 1 to 33554432 bytes, not 34603008"),
    ("other", 256 << 20, "must unpack to at most 268435456 bytes, but has 268435968 and more; download it again"),
    (f"{BINARY}/test_batch.bin", (1 << 33) - 1, "must unpack to at most 268435456 bytes, but has 8589935104 and more"),
])
def test_sizes_are_bounded_before_anything_is_unpacked(tmp_path, name, size, message):
    # What follows the header is a bomb: 40 MB of zeros in 40 KB.
    spec = cifar.write_archive(tmp_path / "c.tar.gz", cifar.entry(name, size=size) + bytes(40 << 20))
    tracemalloc.start()
    assert message in problems(spec)[0]
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_an_archive_has_few_entries(tmp_path):
    path = tmp_path / "c.tar.gz"
    assert "holds none of them" in problems(cifar.write_archive(path, cifar.entry("a") * 1000))[0]
    assert problems(cifar.write_archive(path, cifar.entry("a") * 1001)) == [
        f"CIFAR-10 archive '{path}' must have at most 1000 entries, but has more; download it again"]


def test_code_in_a_pickle_does_not_run(tmp_path):
    marker = tmp_path / "marker"
    for number, attack in enumerate(attack_pickles(marker).values()):
        spec = cifar.write_directory(tmp_path / str(number), cifar.python_files() | {"test_batch": attack})
        assert "test_batch' must " in problems(spec)[0]
    assert not marker.exists()


NOT_THE_ARRAY = "must hold 'data', an array of 1 to 10000 x 3072 bytes, and 'labels', a list of as many, but does not; "
LABELS = "must have labels 0 to 9, but label"


@pytest.mark.parametrize(("changed", "message"), [
    ({"dtype": b"i1"}, NOT_THE_ARRAY), ({"dtype": b"O8"}, NOT_THE_ARRAY), ({"function": b"os\nsystem"}, NOT_THE_ARRAY),
    ({"count": b"K\x04"}, NOT_THE_ARRAY), ({"count": b"K\x00"}, NOT_THE_ARRAY), ({"count": b"N"}, NOT_THE_ARRAY),
    ({"count": integer(1 << 60)}, NOT_THE_ARRAY), ({"count": integer(-5)}, NOT_THE_ARRAY),
    ({"text": b"U\x03abc"}, NOT_THE_ARRAY), ({"text": b"N"}, NOT_THE_ARRAY), ({"text": b"]"}, NOT_THE_ARRAY),
    ({"label_code": b"]"}, NOT_THE_ARRAY), ({"label_code": b"]K\x01a"}, NOT_THE_ARRAY),
    ({"label_code": b"N"}, NOT_THE_ARRAY), ({"label_code": b"](K\x01K\x01K\x01K\x01K\x0ae"}, f"{LABELS} 4 is 10"),
    ({"label_code": b"](" + integer(-1) * 5 + b"e"}, f"{LABELS} 0 is -1"),
    ({"label_code": b"](K\x01" + integer(1 << 2000) * 4 + b"e"}, f"{LABELS} 1 is something else"),
    ({"label_code": b"](" + b"\x88" * 5 + b"e"}, f"{LABELS} 0 is something else"),
    ({"label_code": b"](K\x01" + b"]" * 50_000 + b"a" * 49_999 + b"K\x01K\x01K\x01e"}, f"{LABELS} 1 is something else"),
    ({"text": b"T\xff\xff\xff\x7fabc"}, "must be a pickle as it was published, but it is cut off or garbled"),
    ({"text": b"I1\n"}, "but it has the instruction INT at byte"), ({"label_code": b"h\x63"}, "has not built"),
])
def test_hostile_pickles_are_refused(tmp_path, changed, message):
    spec = cifar.write_directory(tmp_path / "c", cifar.python_files(**changed))
    (told,) = problems(spec)
    assert told.startswith(f"CIFAR-10 file '{tmp_path / 'c' / 'test_batch'}' {message}" if message.startswith("must")
                           else f"CIFAR-10 file '{tmp_path / 'c' / 'test_batch'}' must ") and message in told


@pytest.mark.parametrize("pickled", [b"\x80\x02K\x01.", b"\x80\x02].", b"\x80\x02}.", b"\x80\x02}", b"", b"PK\3\4"])
def test_other_pickles_are_refused(tmp_path, pickled):
    (told,) = problems(cifar.write_directory(tmp_path / "c", cifar.python_files() | {"data_batch_1": pickled}))
    assert told.startswith(f"CIFAR-10 file '{tmp_path / 'c' / 'data_batch_1'}' must ")


def test_text_in_place_of_bytes_gives_no_more_than_other_pixels(tmp_path):
    text = ("\u20ac" * (5 * 3072)).encode()
    files = cifar.python_files(text=b"X" + struct.pack("<I", len(text)) + text)
    assert (load_dataset(cifar.write_directory(tmp_path / "c", files)).test_images == ord("?")).all()


def mutants(content, rng, count):
    """The content cut, or with a few bytes changed, most of them where the structure is: at the beginning."""
    for number in range(count):
        changed = bytearray(content)
        for place in rng.integers(0, 1700 if number % 3 else len(content), 1 + number % 4):
            changed[place] = rng.choice([0, 1, 0x28, 0x2e, 0x30, 0x7f, 0xff, rng.integers(256)])
        yield bytes(changed[:rng.integers(len(content))] if number % 5 == 0 else changed)


@pytest.mark.parametrize("form", ["tar", "gzip", "pickle"])
def test_damaged_files_are_read_or_refused_in_words(tmp_path, form):
    rng, told = np.random.default_rng(4), set()
    tar = cifar.archive(cifar.python_files(), PYTHON)
    content = {"tar": tar, "gzip": gzip.compress(tar, 1), "pickle": cifar.python_files()["test_batch"]}[form]
    for mutant in mutants(content, rng, 150):
        if form == "pickle":
            spec = cifar.write_directory(tmp_path / "c", cifar.python_files() | {"test_batch": mutant})
        else:
            (tmp_path / "c.tar.gz").write_bytes(gzip.compress(mutant, 1) if form == "tar" else mutant)
            spec = f"cifar10:{tmp_path / 'c.tar.gz'}"
        try:
            load_dataset(spec)
        except UserError as error:
            told.update(error.problems)
    assert len(told) > (1 if form == "tar" else 3)
