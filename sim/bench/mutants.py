# SPDX-License-Identifier: Apache-2.0
"""Mutates the content of an image field by field, so that many mutants still mean something, and gives it a right CRC.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from host.decoding.decode import Decoded
from host.image.image import MOST_WORDS, Image
from rtl.descriptor import DESCRIPTOR_WORD_BITS, codebook_value_bits, codebook_words
from rtl.image_format import LIMIT_STEP

from .draft import ENTRIES, HEADER_FIELDS, SLICES, Draft

__all__ = ["Mutant", "Mutator"]

LONGEST_LIMIT = 4
"""The greatest mutated limit of cycles, in limits of the good image: simulating takes time."""

SHARED_FIELDS = ("multiplier", "pre_shift", "activation", "input_signed", "output_base", "reserved")
"""Fields of the descriptor that a mutation changes for a whole layer at once."""


@dataclass(frozen=True)
class Mutant:
    """A mutated image.

    Attributes
    ----------
    number : int
    changes : list of str
    image : Image
        Its host part is the good image's, but where the program now says something else.
    """

    number: int
    changes: list[str]
    image: Image


def another(choices: random.Random, value: int, bits: int) -> int:
    """A value other than ``value`` of ``bits`` bits, drawn from ``choices``: often one nearby, or an extreme one."""
    mask = (1 << bits) - 1
    while True:
        found = choices.choice([value + 1, value - 1, 0, mask, value ^ 1 << choices.randrange(bits),
                                choices.randrange(1 << min(bits, 6)), choices.randrange(1 << bits)]) & mask
        if found != value:
            return found


class Mutator:
    """Makes mutants of an image; the same seed and number give the same mutant.

    Parameters
    ----------
    decoded : Decoded
        The good image.
    cycles : int
        Cycles of the longest inference of the good image.
    seed : str
    """

    def __init__(self, decoded: Decoded, cycles: int, seed: str) -> None:
        self.image, self.config, self.cycles, self.seed = decoded.image, decoded.config, cycles, seed
        self.passes = decoded.passes
        self.draft = Draft(self.image.engine, self.config)
        self.longest_limit = LONGEST_LIMIT * (self.draft.header["cycle_limit"] or 0)
        self.kinds: list[tuple[int, Callable[[Draft, random.Random], str]]] = [
            (6, self._header), (20, self._descriptor), (14, self._layer), (8, self._table), (8, self._bias),
            (9, self._length), (20, self._entry), (6, self._section), (5, self._order), (2, self._cut),
            (3, self._noise)]

    def mutant(self, number: int) -> Mutant:
        """The mutant ``number``, from 0: the good image with one to three changes."""
        choices = random.Random(f"{self.seed} {number}")
        weights = [weight for weight, _ in self.kinds]
        while True:
            draft = self.draft.copy()
            changes = [kind(draft, choices) for _, kind in choices.choices(
                self.kinds, weights, k=choices.choice([1, 1, 1, 1, 1, 1, 1, 2, 2, 3]))]
            image = self._adapted(draft)
            if image.engine != self.image.engine:
                return Mutant(number, changes, image)

    def _adapted(self, draft: Draft) -> Image:
        """The image with a host part that follows the program: places of the layers, and how many there are."""
        count = draft.header["layers"] or 0
        owners = [one.layer for one in self.passes]
        layers = []
        for number, layer in enumerate(self.image.layers):
            base = draft.field(owners.index(number), "output_base")
            if base is not None and len(owners) - owners[::-1].index(number) <= count:
                # No file places a layer beyond all addresses, and no packet can read there.
                layers.append(layer | {"output_base": min(base, MOST_WORDS - layer["output_words"])})
        return replace(self.image, engine=draft.sealed(), input_words=draft.header["input_words"] or 0,
                       input_signed=bool(draft.field(0, "input_signed")), layers=layers or self.image.layers[:1])

    def _header(self, draft: Draft, choices: random.Random) -> str:
        name = choices.choice(["layers", "input_words", "sections", "cycle_limit", "cycle_limit", "image_bytes",
                               "magic", "version", "config_hash"])
        before = draft.header[name]
        if name == "cycle_limit" and before is not None:
            value = choices.choice([0, before + choices.randrange(LIMIT_STEP), self.cycles, before // 2, LIMIT_STEP,
                                    choices.randrange(self.longest_limit)])
        if before is None:
            before = len(draft.sections) if name == "sections" else len(draft.sealed())
        if name != "cycle_limit":
            value = another(choices, before, HEADER_FIELDS[name][1])
        draft.header[name] = value
        return f"header's {name} {value}"

    def _descriptor(self, draft: Draft, choices: random.Random) -> str:
        number, name = choices.randrange(len(self.passes)), choices.choice(list(draft.layout))
        before = draft.field(number, name)
        if before is None:
            return "no program"
        # A random value, or the value of another pass.
        value = another(choices, before, draft.layout[name][1])
        if choices.random() < 0.2:
            value = draft.field(choices.randrange(number + 1), name) or 0
        draft.set_field(number, name, value)
        return f"pass {number}: {name} {value}"

    def _layer(self, draft: Draft, choices: random.Random) -> str:
        """A field, or a weight, in all passes of a layer; and what the next layer has to know of it."""
        chosen = choices.randrange(len(self.image.layers))
        passes = [number for number, one in enumerate(self.passes) if one.layer == chosen]
        following = [number for number, one in enumerate(self.passes) if one.layer == chosen + 1]
        name = choices.choice([*SHARED_FIELDS, *(["weight"] * 3 if self.config.codebook_entries else [])])
        if any(draft.field(number, name) is None for number in passes + following if name != "weight"):
            return "no program"
        if name == "weight":
            code, width = choices.randrange(1 << self.config.code_bits), codebook_value_bits(self.config)
            value = choices.randrange(1 << width)
            for number in passes:
                at = 8 * (draft.places[number] + draft.descriptor_bytes) + code * width
                if at + width <= 8 * len(draft.program):
                    draft.set_bits(draft.program, at, width, value)
            return f"layer {chosen}: weight of code {code} {value}"
        before = draft.field(passes[0], name) or 0
        value = another(choices, before, draft.layout[name][1])
        if name == "output_base" and choices.random() < 0.7:
            value = choices.randrange(self.config.act_depth)
        for number in passes:
            draft.set_field(number, name, (draft.field(number, name) or 0) + value - before)
        for number in following:
            if name == "output_base":
                draft.set_field(number, "input_base", (draft.field(number, "input_base") or 0) + value - before)
            elif name == "activation":
                draft.set_field(number, "input_signed", 1 - value)
        return f"layer {chosen}: {name} {value}"

    def _table(self, draft: Draft, choices: random.Random) -> str:
        """A byte of a codebook or a tap table."""
        number = choices.randrange(len(self.passes))
        begin = draft.places[number] + draft.descriptor_bytes
        end = draft.places[number + 1] if number + 1 < len(self.passes) else begin + codebook_words(self.config) * 4
        if len(draft.program) < end or begin == end:
            return "no tables"
        place = choices.randrange(begin, end)
        draft.program[place] = another(choices, draft.program[place], 8)
        return f"byte {place} of the program {draft.program[place]}"

    def _words(self, draft: Draft, kind: int, pe: int, address: int) -> tuple[bytearray, int] | None:
        """The content of the section that has this word, and the word's first bit there."""
        for section in draft.of_kind(kind):
            if section.pe == pe and 0 <= address - section.start < len(section.content) // draft.word_bytes[kind]:
                return section.content, 8 * (address - section.start) * draft.word_bytes[kind]
        return None

    def _bias(self, draft: Draft, choices: random.Random) -> str:
        number, pe = choices.randrange(len(self.passes)), choices.randrange(self.config.pes)
        one = self.passes[number].descriptor
        row, config = choices.randrange(int(one.output_words)), self.config
        width = config.acc_bits
        value = choices.choice([0, 1, (1 << width) - 1, 1 << width - 1, choices.randrange(1 << width),
                                *(choices.randrange(-4000, 4000) for _ in range(5))]) & ((1 << width) - 1)
        for word in range(config.bias_words):
            found = self._words(draft, ENTRIES, pe, int(one.bias_base) + row * config.bias_words + word)
            if found is None:
                return "no bias"
            draft.set_bits(*found, config.entry_word_bits, value >> word * config.entry_word_bits)
        return f"pass {number}: bias of row {row} of PE {pe} {value}"

    def _length(self, draft: Draft, choices: random.Random) -> str:
        """The length of a slice; mostly the next one has what it loses, so that those behind stay where they are."""
        sections, bits = draft.of_kind(SLICES), self.config.length_bits
        if not sections:
            return "no slices"
        section = choices.choice(sections)
        fields = [8 * word * draft.word_bytes[SLICES] + bits * place
                  for word in range(len(section.content) // draft.word_bytes[SLICES])
                  for place in range(self.config.block_cols)]
        at = choices.randrange(len(fields))
        before = draft.bits(section.content, fields[at], bits)
        value = another(choices, before, bits)
        draft.set_bits(section.content, fields[at], bits, value)
        change = f"slice {at} of PE {section.pe}: {value} entries"
        if at + 1 < len(fields) and choices.random() < 0.7:
            rest = draft.bits(section.content, fields[at + 1], bits) + before - value
            draft.set_bits(section.content, fields[at + 1], bits, max(0, rest))
            change += f", the next {max(0, rest)}"
        return change

    def _entry(self, draft: Draft, choices: random.Random) -> str:
        """The code or the index of an entry of a pass, or its part in a further plane."""
        config, pe = self.config, choices.randrange(self.config.pes)
        number = choices.randrange(len(self.passes))
        one = self.passes[number]
        total = int(one.lengths[pe].sum())
        if total == 0:
            return "no entries"
        entry, plane = choices.randrange(total), choices.randrange(int(one.descriptor.index_mode) + 1)
        address, place = divmod(entry, config.entries_per_word)
        address += int(one.descriptor.entry_base)
        address -= int(one.descriptor.plane_offsets[plane - 1]) if plane else 0
        if (found := self._words(draft, ENTRIES + plane, pe, address)) is None:
            return "no entries"
        content, at = found
        narrow = config.index_bits[0]
        if plane:
            name, width = "index", config.index_bits[plane] - config.index_bits[plane - 1]
            at += place * width
        elif choices.random() < 0.6:
            name, width = "code", config.code_bits
            at += place * (narrow + width) + narrow
        else:
            name, width = "index", narrow
            at += place * (narrow + config.code_bits)
        value = another(choices, draft.bits(content, at, width), width)
        draft.set_bits(content, at, width, value)
        return f"pass {number}: {name} of entry {entry} of PE {pe} in plane {plane} {value}"

    def _section(self, draft: Draft, choices: random.Random) -> str:
        number, name = choices.randrange(len(draft.sections)), choices.choice(["kind", "pe", "start", "count"])
        section = draft.sections[number]
        value = another(choices, getattr(section, name), 8 if name in ("kind", "pe") else 16)
        if name == "pe" and choices.random() < 0.5:
            value = choices.randrange(self.config.pes)
        setattr(section, name, value)
        return f"section {number}: {name} {value}"

    def _order(self, draft: Draft, choices: random.Random) -> str:
        number, other = (choices.randrange(len(draft.sections)) for _ in range(2))
        what = choices.choice(["dropped", "repeated", "swapped"])
        if what == "dropped" and len(draft.sections) > 1:
            del draft.sections[number]
        elif what == "repeated":
            section = draft.sections[number]
            draft.sections.insert(other, replace(section, content=bytearray(section.content)))
        else:
            draft.sections[number], draft.sections[other] = draft.sections[other], draft.sections[number]
        return f"section {number} {what}" + (f" with {other}" if what == "swapped" else "")

    def _cut(self, draft: Draft, choices: random.Random) -> str:
        draft.cut = choices.choice([1, 2, 4, choices.randrange(1, 64), choices.randrange(1, len(self.image.engine))])
        if choices.random() < 0.5:
            draft.header["image_bytes"] = len(self.image.engine)
        return f"{draft.cut} bytes cut off"

    def _noise(self, draft: Draft, choices: random.Random) -> str:
        number = choices.randrange(len(draft.sections))
        section = draft.sections[number]
        size = draft.word_bytes.get(section.kind, DESCRIPTOR_WORD_BITS // 8)
        words = max(1, len(section.content) // size)
        first = choices.randrange(words)
        count = choices.choice([1, 1, 1, 2, 4, words])
        place = slice(first * size, min(len(section.content), (first + count) * size))
        section.content[place] = choices.randbytes(place.stop - place.start)
        return f"section {number}: random words {first} to {first + count - 1}"
