# SPDX-License-Identifier: Apache-2.0
"""Mutated images of a right CRC, in short: the bench has more of them, on every preset."""

import zlib

import pytest

from host.decoding.decode import decode
from rtl.config import PRESETS
from rtl.image_format import SectionKind
from rtl.protocol import Opcode, Status, pack
from sim.bench.draft import Draft
from sim.bench.faults import split_responses
from sim.bench.fuzzer import AFTERWARDS, EQUAL, OUTCOMES, REFUSED, UNDEFINED, WRONG, Fuzzer, build_engine
from sim.bench.good_images import good_image
from sim.bench.images import run_images
from sim.bench.mutants import Mutator
from sim.simulator.link import SimulationLink

COUNT = 60


@pytest.mark.parametrize("preset", ["tiny", "conv"])
def test_mutants_do_no_harm(preset):
    found = run_images([preset], COUNT, 1, 1)
    (row,) = found["rows"]
    assert found["mismatches"] == row[WRONG] == row[AFTERWARDS] == 0 and row["faults"] == []
    assert sum(row[outcome] for outcome in OUTCOMES[:-1]) == row["mutants"] == found["mutants"] == COUNT
    assert row[EQUAL] > COUNT / 6 and row[REFUSED] > 0 and row[UNDEFINED] > 0


class Tampering:
    """A link on the way of which some answers change.

    Parameters
    ----------
    link : SimulationLink
    change : callable
        Makes other answers of the packets' opcodes and payloads.
    """

    def __init__(self, link, change):
        self.link, self.change = link, change
        self.capacity_bytes = link.capacity_bytes
        self.reset = link.reset

    def exchange(self, requests):
        answers = self.link.exchange(requests)
        if len(requests[0]) < 100:  # IDENTIFY
            return answers
        return [b"".join(pack(*answer) for answer in self.change(split_responses(answer))) for answer in answers]


def places(answers, opcode):
    return [number for number, answer in enumerate(answers) if answer[0] == opcode.value]


def flipped(number, place):
    """Flips a bit in the first byte of a READ's answer, or of a WAIT's."""
    def change(answers):
        at = places(answers, Opcode.READ if place == 1 else Opcode.WAIT)[number]
        payload = bytearray(answers[at][1])
        payload[place] ^= 1 if place == 1 else 0xFF
        answers[at] = answers[at][0], bytes(payload)
        return answers
    return change


def refusing(answers):
    answers[places(answers, Opcode.RUN)[-1]] = Opcode.RUN.value, bytes([Status.NO_INPUT.value])
    return answers


@pytest.fixture(scope="module")
def fuzz():
    config = PRESETS["tiny"]
    with SimulationLink(build_engine(config)) as link:
        def tried(change):
            fuzzer = Fuzzer(Tampering(link, change), config, good_image("tiny", config, 1), "tiny 1")
            return list(fuzzer.run(range(12)))
        yield tried


def test_nothing_is_found_where_nothing_is_wrong(fuzz):
    found = fuzz(lambda answers: answers)
    assert [(one.fault, one.fault_afterwards) for one in found] == [("", "")] * 12


@pytest.mark.parametrize("change, fault", [
    (flipped(-3, 1), "1 outputs of layer 0, the first, "), (flipped(-1, 1), "1 outputs of layer 2, the first, "),
    (flipped(-1, 2), "cycles "), (refusing, "RUN is answered with NO_INPUT")])
def test_what_the_good_image_does_afterwards_is_seen(fuzz, change, fault):
    found = fuzz(change)
    assert len(found) == 12
    assert all(one.fault_afterwards.startswith(fault) and not one.fault for one in found)


@pytest.mark.parametrize("change, fault", [
    (flipped(0, 1), "1 outputs of layer 0"), (flipped(0, 2), "cycles "),
    (lambda answers: answers[1:], "requests are answered")])
def test_what_is_wrong_on_a_mutant_is_seen(fuzz, change, fault):
    sound, found = fuzz(lambda answers: answers), fuzz(change)
    judged = [number for number, one in enumerate(sound) if one.outcome == EQUAL or "answered" in fault]
    assert judged and [number for number, one in enumerate(found) if one.outcome == WRONG] == judged
    assert all(fault in found[number].fault for number in judged)


@pytest.mark.parametrize("preset", PRESETS)
def test_good_images_use_the_engine(preset):
    config = PRESETS[preset]
    image = good_image(preset, config, 1)
    decoded = decode(image, config)
    passes = [one.descriptor for one in decoded.passes]
    assert decoded.network.input_signed and {layer.input_signed for layer in decoded.network.layers} == {False, True}
    assert image.readable == list(range(len(image.layers)))
    assert any(layer.rows % config.pes for layer in decoded.network.layers)
    assert len(passes) > len(image.layers) or preset in ("default", "wide")
    if len(config.index_bits) > 1:
        assert {int(one.index_mode) for one in passes} == {0, 1}
    if config.tap_bits:
        assert {int(one.hold_sums) for one in passes} == {0, 1} and {int(one.tap_bits) for one in passes} == {0, 2, 3}
        assert any(one.band_step for one in passes) and {int(one.pool) for one in passes} == {1, 3}
        geometries = [layer.geometry for layer in decoded.network.layers if layer.geometry]
        assert geometries[0].padding == (2, 2) and geometries[1].stride == (2, 2)


@pytest.fixture(scope="module")
def mutator():
    image = good_image("tiny", PRESETS["tiny"], 1)
    return Mutator(decode(image, PRESETS["tiny"]), 400, "some seed")


def test_a_draft_is_what_it_was_made_from(mutator):
    draft = Draft(mutator.image.engine, PRESETS["tiny"])
    assert draft.sealed() == mutator.image.engine
    assert draft.field(1, "output_words") == 5 and draft.field(1, "input_base") == draft.field(0, "output_base") == 2
    draft.set_field(1, "output_words", 0x1234)
    (section,) = draft.of_kind(SectionKind.PROGRAM.value)
    assert section.content[draft.places[1] + 12:][:2] == b"\x34\x12"


def test_mutants_are_many_sealed_and_the_same_again(mutator):
    mutants = [mutator.mutant(number) for number in range(300)]
    assert len({mutant.image.engine for mutant in mutants}) > 290
    for mutant in mutants:
        engine = mutant.image.engine
        assert zlib.crc32(engine[:-4]) == int.from_bytes(engine[-4:], "little") and engine != mutator.image.engine
        assert mutant.changes and mutator.mutant(mutant.number) == mutant
