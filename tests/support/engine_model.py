# SPDX-License-Identifier: Apache-2.0
"""A slow model of the engine, entry by entry, as docs/formats.md tells it: an image's bytes in, activations out.

It shares the layouts of `rtl.layouts` with everything else, and no code with the encoder or the decoder.
"""

from types import SimpleNamespace

import numpy as np

from rtl.descriptor import (
    act_table_words,
    codebook_value_bits,
    codebook_words,
    descriptor_layout,
    descriptor_words,
    tap_table_words,
)
from rtl.image_format import HEADER_BYTES, SECTION_BYTES, SectionKind, header_layout, section_layout
from rtl.layouts import long_slice
from rtl.numbers import PRE_SHIFTS, requantize


def _fields(bits, config):
    """A descriptor's fields as plain integers."""
    layout = descriptor_layout(config)
    view = layout.from_bits(bits)
    fields = {name: getattr(view, name) for name, _ in layout}
    return SimpleNamespace(**{name: list(map(int, value)) if name == "plane_offsets" else value.value
                              if name in ("kind", "activation") else int(value) for name, value in fields.items()})


def _clamp(value, low, high):
    return max(low, min(value, high))


class EngineModel:
    """Memories as Python integers, word by word; accumulators and activations in lists."""

    def __init__(self, engine, config):
        self.config = config
        header = header_layout().from_bits(int.from_bytes(engine[:HEADER_BYTES], "little"))
        self.layers, self.input_words = int(header.layers), int(header.input_words)
        self.memories = {}
        at = HEADER_BYTES
        while at < len(engine) - 4:
            kind = engine[at]
            section = section_layout().from_bits(int.from_bytes(b"\0" + engine[at + 1:at + SECTION_BYTES], "little"))
            at += SECTION_BYTES
            bits = 32 if kind == SectionKind.PROGRAM.value else config.slice_word_bits \
                if kind == SectionKind.SLICES.value else config.plane_bits[kind - SectionKind.ENTRIES.value]
            size = -(-bits // 8)
            for number in range(int(section.count)):
                self.memories[kind, int(section.pe), int(section.start) + number] = \
                    int.from_bytes(engine[at:at + size], "little")
                at += size
        self.acts = [0] * (config.act_depth * config.pes)
        self.accumulators = [[0] * config.acc_depth for _ in range(config.pes)]

    def run(self, inputs):
        """Loads activations from word 0 on and runs the whole program."""
        self.acts[:len(inputs)] = inputs
        place = 0
        for _ in range(self.layers):
            words = [self.memories[SectionKind.PROGRAM.value, 0, place + number]
                     for number in range(descriptor_words(self.config))]
            place += len(words)
            fields = _fields(sum(word << 32 * at for at, word in enumerate(words)), self.config)
            codebook, place = self._table(place, codebook_words(self.config), codebook_value_bits(self.config))
            taps = []
            if fields.kind == 1:
                taps, place = self._table(place, tap_table_words(self.config), 16)
            curve = []
            if self.config.act_table and fields.table:
                curve, place = self._table(place, act_table_words(self.config), 8)
            signs = 1 << codebook_value_bits(self.config) - 1
            if self.config.direct_weights:
                codebook, signs = range(1 << self.config.code_bits), 1 << self.config.code_bits - 1
            self._scan(fields, [(value ^ signs) - signs for value in codebook], taps)
            if not (self.config.tap_bits and fields.hold_sums):
                self._drain(fields, curve)
        assert not any(map(any, self.accumulators))

    def _table(self, place, words, bits):
        values = [self.memories[SectionKind.PROGRAM.value, 0, place + number] >> at & (1 << bits) - 1
                  for number in range(words) for at in range(0, 32, bits)]
        return values, place + words

    def _scan(self, fields, codebook, taps):
        config = self.config
        one_pixel = not config.tap_bits
        pixel_words = fields.input_words if one_pixel else fields.pixel_words
        slices = [self._slices(fields, pe, pixel_words) for pe in range(config.pes)]
        for row in range(1 if one_pixel else fields.scan_rows):
            for col in range(1 if one_pixel else fields.scan_cols):
                x = y = base = offset = 0
                if not one_pixel:
                    x, y = fields.first_x + col, fields.first_y + row
                    base = fields.first_row + row * fields.row_pitch + col * fields.output_words
                    offset = row * fields.row_step + col * fields.pixel_step
                assert offset + pixel_words <= fields.input_words
                for lane in range(self._lanes(fields, pixel_words)):
                    act = self.acts[(fields.input_base + offset) * config.pes + lane]
                    if act == 0:
                        continue
                    act -= (act >> config.act_bits - 1 & fields.input_signed) << config.act_bits
                    for pe in range(config.pes):
                        for slot, tap, code in slices[pe][lane]:
                            if one_pixel or fields.tap_bits == 0:
                                tap_row = tap_col = tap_offset = 0
                            else:
                                tap_row, tap_col = divmod(tap, 1 << fields.tap_bits)
                                tap_offset = taps[tap]
                            if one_pixel or (0 <= y - tap_row < fields.out_rows and 0 <= x - tap_col < fields.out_cols):
                                address = base + slot - tap_offset & 0xFFFF
                                self.accumulators[pe][address] += act * codebook[code]

    def _lanes(self, fields, pixel_words):
        """Activations of a pixel that are scanned."""
        blocks = self.config.pes // self.config.block_cols
        last_block = fields.last_block if self.config.tap_bits else blocks - 1
        return ((pixel_words - 1) * blocks + last_block + 1) * self.config.block_cols

    def _slices(self, fields, pe, pixel_words):
        """Slot, tap and code of every weight, for each lane of a pixel."""
        config = self.config
        tap_bits = fields.tap_bits if config.tap_bits else 0
        gap_bits = config.index_bits[fields.index_mode] - 2 * tap_bits
        found, entry = [], fields.entry_base * config.entries_per_word
        for lane in range(self._lanes(fields, pixel_words)):
            word, place = divmod(lane, config.block_cols)
            length = self.memories[SectionKind.SLICES.value, pe, fields.slice_base + word] \
                >> place * config.length_bits & (1 << config.length_bits) - 1
            length = long_slice(config.length_bits) if length == (1 << config.length_bits) - 1 else length
            slot, weight_before, tap_before = 0, False, 0
            found.append([])
            for _ in range(length):
                index, code = self._entry(fields, pe, entry)
                entry += 1
                tap, gap = index & (1 << 2 * tap_bits) - 1, index >> 2 * tap_bits
                if code == 0:
                    slot += weight_before + (index + (tap_bits == 0) << gap_bits)
                    weight_before = False
                else:
                    slot += (weight_before and tap <= tap_before) + gap
                    weight_before, tap_before = True, tap
                    found[-1].append((slot, tap, code))
        return found

    def _entry(self, fields, pe, number):
        config = self.config
        address, place = divmod(number, config.entries_per_word)
        index = at = 0
        for plane in range(fields.index_mode + 1):
            offset = 0 if plane == 0 else fields.plane_offsets[plane - 1]
            bits = config.plane_bits[plane] // config.entries_per_word
            field = self.memories[SectionKind.ENTRIES.value + plane, pe, address - offset] >> place * bits
            if plane == 0:
                at = config.index_bits[0]
                code, index = field >> at & (1 << config.code_bits) - 1, field & (1 << at) - 1
            else:
                index |= (field & (1 << bits) - 1) << at
                at += bits
        return index, code

    def _drain(self, fields, curve):
        config = self.config
        slots, pixels = fields.output_words, [(0, 0)]
        pool = step = 1
        pixel_words = out_cols = pooled_cols = 1
        if config.tap_bits:
            pool, step, pixel_words = fields.pool, fields.pool_step, fields.output_pixel_words
            out_cols, pooled_cols = fields.out_cols, fields.pooled_cols
            pixels = [(y, x) for y in range(fields.pooled_rows) for x in range(pooled_cols)]
        drained = set()
        for y, x in pixels:
            for slot in range(slots):
                rows = [((y * step + down) * out_cols + x * step + right) * slots + slot
                        for down in range(pool) for right in range(pool)]
                drained.update(rows)
                for pe in range(config.pes):
                    value = max(self._activation(self.accumulators[pe][row] + self._bias(fields, pe, slot), fields,
                                                 curve) for row in rows)
                    word, lane = fields.output_base + (y * pooled_cols + x) * pixel_words + slot, pe
                    if config.tap_bits and slot >= pixel_words:
                        word, lane = word + fields.band_step, (pe + config.pes // 2) % config.pes
                    self.acts[word * config.pes + lane] = value & (1 << config.act_bits) - 1
        for row in drained:
            for pe in range(config.pes):
                self.accumulators[pe][row] = 0

    def _activation(self, total, fields, curve):
        """With its sign."""
        bits, signed = self.config.act_bits, fields.activation == 0
        value = requantize(total, multiplier=fields.multiplier, pre_shift=PRE_SHIFTS[fields.pre_shift],
                           signed=signed or bool(curve), act_bits=bits, clamp=_clamp)
        if not curve:
            return value
        found = curve[value & (1 << bits) - 1]
        return found - (1 << bits) if signed and found >> bits - 1 else found

    def _bias(self, fields, pe, slot):
        config = self.config
        first = fields.bias_base + slot * config.bias_words
        bits = sum(self.memories[SectionKind.ENTRIES.value, pe, first + number] << number * config.entry_word_bits
                   for number in range(config.bias_words)) & (1 << config.acc_bits) - 1
        return bits - (bits >> config.acc_bits - 1 << config.acc_bits)


def run_model(image, config, acts):
    """Outputs of every layer that can be read, and of the last: a list of int64 arrays by layer number."""
    model = EngineModel(image.engine, config)
    order = image.input_order
    arranged = np.where(order >= 0, acts[np.maximum(order, 0)], 0) & (1 << config.act_bits) - 1
    model.run(arranged.tolist())
    content = np.array(model.acts)
    return {number: content[image.layers[number]["output_base"] * config.pes:][image.layers[number]["output_order"]]
            for number in image.readable}
