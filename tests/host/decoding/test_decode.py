# SPDX-License-Identifier: Apache-2.0
"""Images that the decoder refuses although their CRC is right: no engine defines what they would compute."""

from dataclasses import replace

import numpy as np
import pytest

from host.decoding.decode import decode
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import UserError
from rtl.config import PRESETS
from sim.bench.draft import ENTRIES, PROGRAM, SLICES, Draft
from sim.bench.good_images import good_image
from tests.support.networks import SMALL, random_network

CONFIGS = {name: PRESETS[name] for name in ("tiny", "default", "conv")}


@pytest.fixture(scope="module")
def images():
    return {name: good_image(name, config, 1) for name, config in CONFIGS.items()}


def refused(image, config, change, message, **fields):
    """The image is decoded, and with a change of its draft refused."""
    draft = Draft(image.engine, config)
    decode(replace(image, engine=draft.sealed()), config)
    change(draft)
    with pytest.raises(UserError) as caught:
        decode(replace(image, engine=draft.sealed(), **fields), config)
    assert f"the image's contents contradict each other ({message}" in str(caught.value)


def field(number, name, value):
    """Sets a field of a pass's descriptor, or adds to it what begins with a sign."""
    def change(draft):
        draft.set_field(number, name, draft.field(number, name) + int(value) if isinstance(value, str) else value)
    return change


def header(name, value):
    return lambda draft: draft.header.update({name: value})


def section(kind, name, value):
    return lambda draft: setattr(draft.of_kind(kind)[0], name, value)


def without(kind):
    return lambda draft: draft.sections.remove(draft.of_kind(kind)[-1])


@pytest.mark.parametrize("change, message", [
    (without(PROGRAM), "words of the program that the image does not fill"),
    (without(SLICES), "slices that the image does not fill"),
    (without(ENTRIES), "entries that the image does not fill"),
    (header("layers", 3), "list index out of range"),
    (header("layers", 5), "words of the program that the image does not fill"),
    (header("sections", 3), "bytes that belong to no section"),
    (header("sections", 200), "fewer than 200 sections"),
    (section(SLICES, "pe", 4), "index 4 is out of bounds"),
    (section(PROGRAM, "pe", 1), "index 1 is out of bounds"),
    (section(SLICES, "start", 250), "slices beyond the memory"),
    (section(SLICES, "count", 0), "a section of kind 1 and 0 words"),
    (section(SLICES, "count", 65535), "a section of kind 1 and 65535 words"),
    (section(ENTRIES, "kind", 3), "a section of kind 3"),
    (lambda draft: setattr(draft, "cut", 1), "a section of kind 2"),
    (field(2, "input_base", "+1"), "input_base of a pass"),
    (field(2, "input_words", "-1"), "input_words of a pass"),
    (field(0, "input_words", 0), "input_words of a pass"),
    (field(2, "chase_words", "-1"), "chase_words of a pass"),
    (field(1, "chase_words", "-1"), "chase_words of a pass"),
    (field(3, "chase_words", "+1"), "chase_words of a pass"),
    (field(2, "output_base", "+1"), "output_base of a pass"),
    (field(2, "output_words", "+1"), "a pass of kind LayerKind.FULLY_CONNECTED and 5 rows"),
    (field(2, "slice_base", 250), "slices beyond the memory"),
    (field(2, "entry_base", 16383), "entries beyond the memory"),
    (field(2, "bias_base", 16383), "entries beyond the memory"),
    (field(2, "bias_base", 8000), "entries that the image does not fill"),
])
def test_contents_that_no_engine_defines(images, change, message):
    refused(images["tiny"], PRESETS["tiny"], change, message)


def test_passes_that_no_layer_has(images):
    image = images["tiny"]
    refused(image, PRESETS["tiny"], lambda draft: None, "4 passes, of which the layers have 3", layers=image.layers[:2])


def test_inputs_of_another_count(images):
    refused(images["tiny"], PRESETS["tiny"], lambda draft: None, "inputs of 3 words", input_words=3)


def test_outputs_beyond_the_memory(images):
    image, config = images["tiny"], PRESETS["tiny"]
    moved = [*image.layers[:2], image.layers[2] | {"output_base": 255}]
    refused(image, config, field(3, "output_base", 255), "a layer's outputs beyond the memory", layers=moved)


def test_a_bias_without_a_row(images):
    """30 rows on 4 PEs: two PEs have a slot of the last word for which there is no row."""
    config = PRESETS["tiny"]
    draft = Draft(images["tiny"].engine, config)
    one = decode(images["tiny"], config).passes[0].descriptor
    address = int(one.bias_base) + (int(one.output_words) - 1) * config.bias_words

    def change(draft):
        for part in draft.of_kind(ENTRIES):
            if part.pe == 3 and part.start <= address < part.start + part.count:
                part.content[(address - part.start) * draft.word_bytes[ENTRIES]] += 1
    assert draft.word_bytes[ENTRIES] == 2
    refused(images["tiny"], config, change, "a bias without a row")


def test_sums_that_no_accumulator_holds(images):
    config = PRESETS["tiny"]
    one = decode(images["tiny"], config).passes[0].descriptor

    def change(draft):
        for part in draft.of_kind(ENTRIES):
            if part.pe == 0 and part.start <= one.bias_base < part.start + part.count:
                first = (int(one.bias_base) - part.start) * draft.word_bytes[ENTRIES]
                part.content[first:first + 4] = b"\xff\xff\x7f\x00"
    refused(images["tiny"], config, change, "sums that the accumulators do not hold")


def test_the_weight_of_code_0_does_not_matter(images):
    config = PRESETS["tiny"]
    draft, network = Draft(images["tiny"].engine, config), decode(images["tiny"], config).network
    for place in draft.places:
        draft.program[place + draft.descriptor_bytes] = 77
    assert len(draft.places) == 4
    changed = decode(replace(images["tiny"], engine=draft.sealed()), config).network
    for before, after in zip(network.layers, changed.layers, strict=True):
        assert np.array_equal(before.codebook[before.codes], after.codebook[after.codes])


def test_weights_wider_than_the_engine_s():
    config = replace(SMALL, weight_bits=5)
    packed = pack(random_network(np.random.default_rng(1), config, [8, 6], 0.5), config)
    image = parse_image(image_file(packed), config)

    def change(draft):
        draft.program[draft.descriptor_bytes + 1] = 16
    refused(image, config, change, "a weight of more than 5 bits")


@pytest.mark.parametrize("change, message", [
    (field(1, "plane_offsets", "+1"), "entries beyond the memory"),
    (field(1, "index_mode", 2), "tuple index out of range"),
    (lambda draft: draft.sections.pop(), "entries that the image does not fill"),
])
def test_planes_that_are_not_there(images, change, message):
    refused(images["default"], PRESETS["default"], change, message)


@pytest.mark.parametrize("change, message", [
    (field(2, "tap_bits", 1), "taps of 1 bits in an index of"), (field(5, "tap_bits", 2), "tap_bits of a pass"),
    (field(5, "scan_cols", 2), "scan_cols of a pass"), (field(5, "scan_rows", 0), "scan_rows of a pass"),
    (field(5, "first_x", 1), "first_row of a pass"), (field(5, "hold_sums", 1), "list index out of range"),
    (field(4, "chase_words", "-1"), "chase_words of a pass"), (field(1, "chase_words", 1), "chase_words of a pass"),
])
def test_scans_that_no_layer_has(images, change, message):
    refused(images["conv"], PRESETS["conv"], change, message)
