# SPDX-License-Identifier: Apache-2.0
"""docs/formats.md is enough: a reader and a client made from it alone get what the toolchain and the engine get."""

import functools
import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from host.network.layers import Geometry
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from rtl.config import PRESETS
from rtl.engine.engine import Engine
from rtl.numbers import Activation
from sim.simulator.link import SimulationLink, build_link
from tests.support import independent_client as client
from tests.support.images import with_crc
from tests.support.independent_fields import COMMON, configuration_hash
from tests.support.independent_reader import Reader
from tests.support.networks import (
    CONVOLUTIONS,
    SMALL,
    TABLES,
    WIDE_ACTS,
    WIDE_TAPS,
    random_acts,
    random_convolutions,
    random_network,
    with_tables,
)
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "formats.md").read_text()


def documented():
    """Fields of every preset, from the table."""
    lines = DOCUMENT[DOCUMENT.index("| field | tiny"):].splitlines()
    names, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:lines.index("")])
    return {name: COMMON | {row[0]: json.loads(row[number]) for row in rows}
            for number, name in enumerate(names) if number}


def blocks(heading):
    """The texts in fences behind a heading."""
    return re.findall(r"```\n(.*?)```", DOCUMENT[DOCUMENT.index(heading):], re.DOTALL)


def octets(text):
    """The bytes that each line begins with."""
    return [bytes.fromhex(re.match(r"(?:[0-9a-f]{2}(?: |$))+", line)[0]) for line in text.splitlines()]


def test_the_table_of_presets_and_their_hashes():
    found = documented()
    assert found == {name: json.loads(json.dumps(asdict(config))) for name, config in PRESETS.items()}
    assert {name: configuration_hash(fields) for name, fields in found.items()} \
        == {name: config.hash for name, config in PRESETS.items()}
    text, = (block for block in blocks("## Configuration") if block.startswith('{"acc_bits"'))
    assert json.loads(text).items() <= found["tiny"].items()
    assert configuration_hash(json.loads(text)) == PRESETS["tiny"].hash
    assert f"`{PRESETS['tiny'].hash.hex()}`" in DOCUMENT


def example():
    """The network of the document's example."""
    codes = np.array([[2, 0, 1], [0, 3, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]], np.uint8)
    codebook = np.zeros(16, np.int64)
    codebook[1:4] = -3, 2, 100
    layer = QuantizedLayer("fc", codes, codebook, np.array([1000, -2, 0, 0, 70000]), 20000, 0,
                           Activation.IDENTITY, False, 1, 1, 1)
    return QuantizedNetwork("example", (layer,), 1 / 255, False, 8)


def example_file():
    """The file of the document's example."""
    engine = b"".join(octets(blocks("### Example")[0]))
    host = re.search(r'`(\{"input_order":.*?\})`', DOCUMENT, re.DOTALL)[1].replace("\n", "").encode()
    return engine + with_crc(b"NZHO" + len(host).to_bytes(4, "little") + host)


def test_the_example_is_what_the_toolchain_writes():
    reader = Reader(example_file(), documented()["tiny"])
    made = Reader(image_file(pack(example(), PRESETS["tiny"])), documented()["tiny"])
    assert reader.engine == made.engine and reader.host.items() <= made.host.items()
    assert reader.compute([10, 20, 30])[-1].tolist() == [35, 76, -3, -3, 127]
    packets = octets(blocks("The example above on")[0])
    words = reader.input_content([10, 20, 30])
    assert packets[:-1] == [
        client.request(client.IDENTIFY), client.request(client.WRITE, b"\0\0" + words), client.request(client.RUN),
        client.request(client.WAIT), client.request(client.READ, bytes([1, 0, 2, 0]))]
    status, content = client.answer(client.READ, packets[-1])
    assert status == 0 and reader.outputs(content) == [35, 76, -3, -3, 127]


def convolutions(config, seed, density, geometries, sizes, signed=False):
    return random_convolutions(np.random.default_rng(seed), config, geometries, sizes, density, signed=signed)


def averaged(network, number):
    """The network with an average pooling in the place of a convolution with as many groups as channels."""
    layer = network.layers[number]
    pooling = replace(layer, codes=np.ones_like(layer.codes), bias=np.zeros_like(layer.bias))
    return replace(network, layers=(*network.layers[:number], pooling, *network.layers[number + 1:]))


def connected(config, seed, sizes, density, **traits):
    return random_network(np.random.default_rng(seed), config, sizes, density, **traits)


PLANES = replace(SMALL, acc_depth=128, act_depth=128)
"""Room for gaps that want all of its three planes."""

NETWORKS = {
    "tiny": ("tiny", lambda config: connected(config, 1, [40, 30, 10], 0.3)),
    "default": ("default", lambda config: connected(config, 2, [60, 400, 10], 0.05)),
    "default, long slices": ("default", lambda config: connected(config, 3, [20, 400], 0.5)),
    "wide, signed": ("wide", lambda config: connected(config, 4, [130, 100, 20], 0.2, signed=True)),
    "several passes": (SMALL, lambda config: connected(config, 5, [60, 60, 8], 0.1)),
    "three planes": (PLANES, lambda config: connected(config, 5, [60, 400], 0.02)),
    "direct weights, activations of 16 bits": (WIDE_ACTS, lambda config: connected(config, 6, [20, 30, 5], 0.4)),
    "fully connected on conv": ("conv", lambda config: connected(config, 7, [60, 100, 8], 0.2)),
    "bands of an odd number of rows": ("conv", lambda config: convolutions(config, 8, 0.6, [
        (24, Geometry((3, 14, 9), (3, 3), (1, 1), (1, 1), pool=2, pool_stride=2)),
        (8, Geometry((24, 7, 4), (3, 3), (2, 1), (1, 1), groups=2))], [12, 6])),
    "a stride and an average": ("conv", lambda config: averaged(convolutions(config, 9, 0.8, [
        (16, Geometry((3, 19, 17), (5, 4), (2, 3), (2, 1))),
        (16, Geometry((16, 10, 6), (2, 2), (2, 2), groups=16))], [5]), 1)),
    "bands and a stride, signed": ("conv", lambda config: convolutions(config, 10, 0.9, [
        (10, Geometry((2, 23, 9), (5, 3), (2, 2), (1, 0), pool=2, pool_stride=1))], [], signed=True)),
    "large kernels": ("conv", lambda config: convolutions(config, 11, 0.5, [
        (4, Geometry((2, 12, 12), (11, 11), padding=(5, 5))),
        (6, Geometry((4, 12, 12), (11, 10), (1, 2), (4, 4), pool=3, pool_stride=2))], [4])),
    "rows in several passes": (CONVOLUTIONS, lambda config: convolutions(config, 12, 0.7, [
        (6, Geometry((2, 9, 9), (1, 1))),
        (40, Geometry((6, 9, 9), (3, 3), (3, 2), (1, 1), pool=2, pool_stride=1))], [7])),
    "tables": (TABLES, lambda config: with_tables(np.random.default_rng(14), connected(
        config, 14, [60, 60, 30, 8], 0.1))),
    "tables among convolutions": (replace(CONVOLUTIONS, act_table=True), lambda config: with_tables(
        np.random.default_rng(3), convolutions(config, 15, 0.6, [
            (6, Geometry((2, 9, 9), (2, 2), pool=2, pool_stride=1)), (40, Geometry((6, 7, 7), (3, 3), (3, 2), (1, 1)))],
            [7, 4], signed=True))),
    "taps of 8 x 8, direct weights": (WIDE_TAPS, lambda config: convolutions(config, 13, 0.5, [
        (4, Geometry((2, 10, 9), (3, 3), (1, 2))), (4, Geometry((4, 8, 4), (5, 3), padding=(2, 1)))], [3])),
}


@functools.cache
def read(name):
    """An engine, a network, its image's file, and what the reader makes of it."""
    engine, make = NETWORKS[name]
    config = PRESETS.get(engine, engine)
    fields = documented()[engine] if engine in PRESETS else json.loads(json.dumps(asdict(config)))
    network = make(config)
    sent = random_acts(np.random.default_rng(0), network, 20, 0.5) != 0
    golden = forward(network, random_acts(np.random.default_rng(0), network, 20, 0.5))
    activity = [sent.mean(axis=0), *((layer != 0).mean(axis=0) for layer in golden[:-1])]
    content = image_file(pack(network, config, activity=activity))
    return config, network, content, Reader(content, fields)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_reader_makes_of_an_image(name):
    _, network, _, reader = read(name)
    assert len(reader.layers) == len(network.layers)
    for found, layer in zip(reader.layers, network.layers, strict=True):
        assert np.array_equal(found.weights, layer.weights[:, :found.weights.shape[1]])
        assert not layer.weights[:, found.weights.shape[1]:].any() and np.array_equal(found.bias, layer.bias)
        assert found.codebook == layer.codebook.tolist()
    acts = random_acts(np.random.default_rng(1), network, 2, 0.7)
    golden = forward(network, acts)
    for number, one in enumerate(acts):
        outputs = reader.compute(one)
        assert [output.tolist() for output in outputs] == [layer[number].tolist() for layer in golden]


def traits(name):
    """Features of the document that an image has."""
    config, network, _, reader = read(name)
    first = reader.host["layers"][0]
    if "bands" in first:
        yield f"bands {first['bands']}"
        yield "odd rows" if first["bands"] == 2 and network.layers[0].geometry.out_shape[0] % 2 else "even rows"
    yield from (f"groups {one.geometry['groups']}" for one in reader.layers if one.geometry)
    yield from ("signed outputs" for one in reader.layers[-1:] if not one.activation)
    for one in reader.program:
        yield f"index mode {one.index_mode}"
        yield "a later pass of rows" if one.output_base not in [
            layer["output_base"] for layer in reader.host["layers"]] else "a first pass of rows"
        for pe in range(config.pes):
            words = reader.memories[1, pe][one.slice_base:one.slice_base + 1]
            ones = (1 << config.length_bits) - 1
            yield from ("a long slice" for at in range(config.block_cols)
                        if words[0] >> at * config.length_bits & ones == ones)
        if config.tap_bits:
            yield f"tap bits {one.tap_bits} of {config.tap_bits}" if one.kind else "connected among convolutions"
            yield "more to come" if one.hold_sums else "drained"
            yield "a cut block" if one.last_block + 1 < config.pes // config.block_cols else "whole words"


def test_the_networks_have_what_the_document_tells():
    found = {trait for name in NETWORKS for trait in traits(name)}
    assert found >= {
        "bands 1", "bands 2", "odd rows", "even rows", "groups 1", "groups 2", "groups 16", "signed outputs",
        "index mode 0", "index mode 1", "index mode 2", "a later pass of rows", "a long slice",
        "tap bits 0 of 3", "tap bits 2 of 3", "tap bits 3 of 3", "tap bits 2 of 2",
        "connected among convolutions", "more to come", "a cut block"}


@pytest.fixture(scope="module")
def engine():
    config = PRESETS["tiny"]
    with SimulationLink(build_link(Engine(config), capacity_bytes=config.packet_bytes + 16)) as link:
        yield link


def test_an_engine_answers_the_client(engine):
    _, network, _, reader = read("tiny")
    fields = documented()["tiny"]
    ours = client.Client(engine.exchange, fields)
    identity = ours.done(client.IDENTIFY)
    assert identity == bytes([1, 0]) + (256).to_bytes(2, "little") + (4).to_bytes(2, "little") \
        + configuration_hash(fields)
    ours.load(reader.engine)
    assert ours.done(client.IDENTIFY)[:2] == b"\1\1"
    acts = random_acts(np.random.default_rng(2), network, 3, 0.5)
    golden, last = forward(network, acts), reader.host["layers"][-1]
    for number, one in enumerate(acts):
        counters, words = ours.infer(reader.input_content(one), last["output_base"], last["output_words"])
        assert reader.outputs(words) == golden[-1][number].tolist()
        sent = [one, *(layer[number] for layer in golden[:-1])]
        useful = [np.count_nonzero((layer.weights != 0) & (values != 0))
                  for layer, values in zip(network.layers, sent, strict=True)]
        used = [np.count_nonzero(values[[place for place in order if place >= 0]]) for values, order in zip(
            sent, (reader.host["input_order"], range(len(sent[1]))), strict=True)]
        assert (counters["useful_macs"], counters["broadcasts"]) == (sum(useful), sum(used))
        assert counters["drain_cycles"] < counters["cycles"] > counters["beats"] >= counters["broadcasts"]


def test_the_example_runs_on_an_engine_as_told(engine):
    ours = client.Client(engine.exchange, documented()["tiny"])
    ours.load(Reader(example_file(), documented()["tiny"]).engine)
    *requests, expected = octets(blocks("The example above on")[0])
    assert engine.exchange(requests)[-1] == expected


OK, UNKNOWN, TOO_LONG, BAD_LENGTH, NOT_LOADED = 0, 2, 3, 4, 6
BAD_SECTION, BAD_OFFSET, BAD_ADDRESS, NO_INPUT = 10, 11, 13, 14


def test_what_the_engine_refuses(engine):
    """The first of several reasons, in the document's order. Packets have 256 bytes at most, memory 256 words of 4."""
    engine.reset()
    ours = client.Client(engine.exchange, documented()["tiny"])

    def numbers(*values):
        return b"".join(value.to_bytes(2, "little") for value in values)
    assert [ours.ask(*asked)[0] for asked in (
        (7, b""), (0x80, b"1"), (client.IDENTIFY, b"1"), (client.RUN,), (client.WAIT,), (client.WAIT, b"1"),
        (client.READ, numbers(0)), (client.READ, numbers(0, 0)), (client.READ, numbers(300, 0)),
        (client.READ, numbers(0, 64)), (client.READ, numbers(0, 63)), (client.READ, numbers(194, 63)),
        (client.READ, numbers(193, 63)), (client.WRITE, numbers(0)), (client.WRITE, numbers(0) + b"123"),
        (client.WRITE, numbers(256) + b"1234"), (client.WRITE, numbers(255) + b"1234"), (client.RUN,),
        (client.LOAD, bytes(4)), (client.LOAD, bytes([1, 0, 0, 0, 0]))
    )] == [UNKNOWN, UNKNOWN, BAD_LENGTH, NOT_LOADED, OK, BAD_LENGTH, BAD_LENGTH, BAD_LENGTH, BAD_LENGTH, BAD_LENGTH, OK,
           BAD_ADDRESS, OK, BAD_LENGTH, BAD_LENGTH, BAD_ADDRESS, OK, NOT_LOADED, BAD_LENGTH, BAD_OFFSET]
    # TOO_LONG comes before the payload, of which nothing is needed.
    assert engine.exchange(client.request(client.WRITE, bytes(258))[:4])[4] == TOO_LONG
    engine.exchange(bytes(4 + 256 + 4 + 18))
    assert ours.ask(client.IDENTIFY)[0] == OK
    reader = read("tiny")[3]
    ours.load(reader.engine)
    # What was written before is no input of this image.
    assert ours.ask(client.RUN)[0] == NO_INPUT
    assert ours.ask(client.LOAD, len(reader.engine).to_bytes(4, "little") + b"1")[0] == BAD_OFFSET
    assert ours.done(client.IDENTIFY)[1] == 1
    ours.infer(reader.input_content(np.zeros(40, np.int64)), 0, 1)
    assert ours.ask(client.RUN)[0] == NO_INPUT
    # The example is a single packet; a section more than there is makes it wrong, whatever its CRC.
    content = bytearray(Reader(example_file(), documented()["tiny"]).engine[:-4])
    content[6] += 1
    assert ours.ask(client.LOAD, bytes(4) + with_crc(bytes(content)))[0] == BAD_SECTION
    assert ours.ask(client.RUN)[0] == NOT_LOADED
