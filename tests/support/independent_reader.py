# SPDX-License-Identifier: Apache-2.0
"""A reader of images, made from docs/formats.md alone: nothing of this project is imported."""

import json
import zlib
from types import SimpleNamespace

import numpy as np

from tests.support.independent_fields import PIXEL_FIELDS, PLAIN_FIELDS, configuration_hash
from tests.support.independent_layers import (
    ceil,
    convolve,
    fields_about_pixels,
    fold_input,
    folded,
    output_shape,
    pool,
    requantise,
    unfold_weights,
)

FULLY_CONNECTED, CONVOLUTION = 0, 1


def _number(content):
    return int.from_bytes(content, "little")


def _signed(value, bits):
    return value - (value >> bits - 1 << bits)


def _bits(word, at, bits):
    return word >> at & (1 << bits) - 1


def _flattened(channels, geometry):
    """Columns of a fully connected layer, from the channels of a pixel of the convolution before it."""
    pixels = int(np.prod(output_shape(geometry)))
    return [channel * pixels + pixel if channel >= 0 else -1 for pixel in range(pixels) for channel in channels]


class Reader:
    """An image of an engine with the fields ``config``.

    Attributes
    ----------
    engine : bytes
        What is loaded.
    host : dict
        The JSON.
    program : list
        The passes: their descriptors' fields, codebook and tap table.
    layers : list
        Of each its ``weights`` (int64 ``[rows, columns]``), ``bias``, ``codebook``, ``multiplier``, ``shift``,
        ``activation`` (1 for a ReLU) and ``geometry`` (a dict or None), as the network has them.
    """

    def __init__(self, content, config):
        self.config = SimpleNamespace(**config)
        config = self.config
        self.block_cols = config.slice_word_bits // config.length_bits
        self.plane_bits = [config.entries_per_word * (config.code_bits + config.index_bits[0])]
        for narrow, wide in zip(config.index_bits, config.index_bits[1:], strict=False):
            self.plane_bits.append(config.entries_per_word * (wide - narrow))
        self._split(content)
        self._fill()
        self.program = self._passes()
        self._read_layers(list(self.program))

    def _split(self, content):
        """Header and both parts."""
        assert content[:4] == b"NZIM" and _number(content[4:6]) == 4
        assert content[8:16] == configuration_hash(vars(self.config))
        length = _number(content[16:20])
        self.sections, self.passes, self.input_words = (_number(content[at:at + 2]) for at in (6, 20, 22))
        assert self.sections and self.passes and _number(content[24:28]) % 256 == 0
        self.engine, rest = content[:length], content[length:]
        assert rest[:4] == b"NZHO" and len(rest) == 12 + _number(rest[4:8])
        for part in (self.engine, rest):
            assert zlib.crc32(part[:-4]) == _number(part[-4:])
        self.host = json.loads(rest[8:-4])

    def _fill(self):
        """The memories, by kind and PE: lists of words."""
        sizes = {0: (32, self.config.program_depth), 1: (self.config.slice_word_bits, self.config.slice_depth)}
        sizes |= {2 + plane: (bits, self.config.entry_depth) for plane, bits in enumerate(self.plane_bits)}
        self.memories = {(kind, pe): [None] * depth for kind, (_, depth) in sizes.items()
                         for pe in range(self.config.pes if kind else 1)}
        at = 28
        for _ in range(self.sections):
            kind, pe, first, words = (*self.engine[at:at + 2], _number(self.engine[at + 2:at + 4]),
                                      _number(self.engine[at + 4:at + 6]))
            at, size = at + 6, ceil(sizes[kind][0], 8)
            assert words
            for word in range(words):
                value = _number(self.engine[at:at + size])
                assert value < 1 << sizes[kind][0]
                self.memories[kind, pe][first + word] = value
                at += size
        assert at == len(self.engine) - 4

    def _passes(self):
        """The descriptors of the passes, each with its ``codebook`` and ``tap_table``."""
        config, program, place, found = self.config, self.memories[0, 0], 0, []
        fields = PLAIN_FIELDS + (PIXEL_FIELDS if config.tap_bits else ())
        words = sum(abs(bits) for _, bits in fields) // 32
        assert words == (15 if config.tap_bits else 7)
        banks = []
        for _ in range(self.passes):
            bits = sum(word << 32 * number for number, word in enumerate(program[place:place + words]))
            place, one = place + words, SimpleNamespace()
            for name, width in fields:
                value, bits = bits & (1 << abs(width)) - 1, bits >> abs(width)
                setattr(one, name, _signed(value, -width) if width < 0 else value)
            assert one.zeros == one.more_zeros == 0
            one.codebook = [_signed(code, config.code_bits) for code in range(1 << config.code_bits)]
            if not config.direct_weights:
                width = 8 if config.weight_bits <= 8 else 16
                values, place = self._table(place, 1 << config.code_bits, width)
                one.codebook = [_signed(value, width) for value in values]
            if one.kind == CONVOLUTION:
                one.tap_table, place = self._table(place, 4 ** config.tap_bits, 16)
            assert config.act_table or one.table == one.table_bank == 0
            if one.table:
                assert not (config.tap_bits and one.hold_sums)
                values, place = self._table(place, 256, 8)
                one.act_table = values if one.activation else [_signed(value, 8) for value in values]
                banks.append(one.table_bank)
            else:
                one.act_table = []
            found.append(one)
        assert banks == [number % 2 for number in range(len(banks))]
        return found

    def _table(self, place, count, bits):
        words = count * bits // 32
        whole = sum(word << 32 * number for number, word in enumerate(self.memories[0, 0][place:place + words]))
        return [_bits(whole, number * bits, bits) for number in range(count)], place + words

    def _entries(self, one, pe):
        """(column, slot, tap, code) of each weight of a PE in a pass."""
        config, blocks = self.config, self.config.pes // self.block_cols
        words = one.pixel_words if config.tap_bits else one.input_words
        slice_words = words * blocks - (blocks - 1 - one.last_block if config.tap_bits else 0)
        index_bits = config.index_bits[one.index_mode]
        tap_bits = one.tap_bits if config.tap_bits else 0
        gap_bits = index_bits - 2 * tap_bits
        number = 0
        for column in range(slice_words * self.block_cols):
            block, at = divmod(column, self.block_cols)
            length = _bits(self.memories[1, pe][one.slice_base + block], at * config.length_bits, config.length_bits)
            if length == (1 << config.length_bits) - 1:
                length = (1 << config.length_bits + 1) - 1
            slot, before = 0, None
            for _ in range(length):
                index, code = self._entry(one, pe, number)
                number += 1
                tap = index & (1 << 2 * tap_bits) - 1
                carry = before is not None and (code == 0 or tap <= before)
                if code == 0:
                    slot, before = slot + carry + (index + (tap_bits == 0) << gap_bits), None
                else:
                    slot, before = slot + carry + (index >> 2 * tap_bits), tap
                    yield column, slot, tap, code

    def _entry(self, one, pe, number):
        """Index and code of a pass's entry."""
        config, offsets = self.config, (one.plane_1, one.plane_2, one.plane_3)
        word, place = divmod(number, config.entries_per_word)
        address, narrow = one.entry_base + word, config.index_bits[0]
        entry = _bits(self.memories[2, pe][address], place * (narrow + config.code_bits), narrow + config.code_bits)
        index, code = _bits(entry, 0, narrow), entry >> narrow
        for plane in range(1, one.index_mode + 1):
            below = config.index_bits[plane - 1]
            bits = config.index_bits[plane] - below
            index |= _bits(self.memories[2 + plane, pe][address - offsets[plane - 1]], place * bits, bits) << below
        return index, code

    def _bias(self, one, pe, slot):
        bits, words = self.plane_bits[0], ceil(self.config.acc_bits, self.plane_bits[0])
        first = one.bias_base + slot * words
        value = sum(self.memories[2, pe][first + word] << word * bits for word in range(words))
        return _signed(value, self.config.acc_bits)

    def _read_layers(self, passes):
        self.layers = []
        # Which input (channel) each activation of a pixel is.
        channels, base = self.host["input_order"], 0
        for fields in self.host["layers"]:
            geometry = fields.get("geometry")
            runs = folded(geometry, fields["bands"]) if "bands" in fields else geometry
            if geometry is None and self.layers and self.layers[-1].geometry:
                channels = _flattened(channels, self.layers[-1].geometry)
            layer = self._layer(fields, runs, channels, base, passes)
            if "bands" in fields:
                layer.weights = unfold_weights(geometry, fields["bands"], layer.weights)
                layer.bias = layer.bias[:len(layer.weights)]
            layer.geometry = geometry
            self.layers.append(layer)
            order, base = fields["output_order"], fields["output_base"]
            step = fields.get("output_step", fields["output_words"] * self.config.pes)
            channels = [-1] * step
            for row, place in enumerate(order):
                channels[place] = row
        assert not passes

    def _layer(self, fields, runs, channels, base, passes):
        """A layer as the engine runs it, put together from the first of the ``passes``, which are taken away."""
        pes, order, bands = self.config.pes, fields["output_order"], fields.get("bands", 1)
        pixel_slots = fields["output_step"] // pes if runs else fields["output_words"]
        places = [divmod(place, pes) for place in order]
        places += [(slot + pixel_slots, (pe + pes // 2) % pes) for slot, pe in places if bands == 2]
        rows = {place: row for row, place in enumerate(places)}
        kernel = int(np.prod(runs["kernel"])) if runs else 1
        groups = runs["groups"] if runs else 1
        # A fully connected first layer may have more inputs than those that it names: they have no weights.
        group_inputs = runs["in_shape"][0] // groups if runs else max(channels) + 1
        layer = SimpleNamespace(weights=np.zeros((len(places), group_inputs * kernel), np.int64),
                                bias=np.zeros(len(places), np.int64))
        ended = 0
        while ended < pixel_slots * bands:
            one = passes.pop(0)
            first = one.output_base - fields["output_base"]
            assert one.kind == (CONVOLUTION if runs else FULLY_CONNECTED)
            layer.codebook, layer.multiplier, layer.activation = one.codebook, one.multiplier, one.activation
            layer.shift = (0, 5, 10, 15)[one.pre_shift]
            if self.config.tap_bits:
                for name, value in fields_about_pixels(one, runs, pixel_slots, bands).items():
                    assert getattr(one, name) == value, name
            for pe in range(pes):
                for slot in range(one.output_words):
                    if (first + slot, pe) in rows:
                        layer.bias[rows[first + slot, pe]] = self._bias(one, pe, slot)
                for column, slot, tap, code in self._entries(one, pe):
                    row = rows[first + slot, pe]
                    group = row // (len(places) // groups)
                    column = (channels[column] - group * group_inputs) * kernel
                    assert 0 <= column < layer.weights.shape[1]
                    if runs:
                        column += self._kernel_place(one, runs, tap, base)
                    assert layer.weights[row, column] == 0
                    layer.weights[row, column] = one.codebook[code]
            if not (self.config.tap_bits and one.hold_sums):
                assert ended == 0 or layer.table == one.act_table
                layer.table, ended = one.act_table, ended + one.output_words
        return layer

    @staticmethod
    def _kernel_place(one, runs, tap, base):
        """Row times columns plus column of the kernel that a pass's tap is."""
        origin = divmod((one.input_base - base) // one.pixel_words, runs["in_shape"][2])
        taps, firsts = divmod(tap, 1 << one.tap_bits), (one.first_y, one.first_x)
        assert one.tap_table[tap] == taps[0] * one.row_pitch + taps[1] * one.output_words
        row, col = (begin + padding + stride * (number - first) for begin, padding, stride, number, first
                    in zip(origin, runs["padding"], runs["stride"], taps, firsts, strict=True))
        assert 0 <= row < runs["kernel"][0] and 0 <= col < runs["kernel"][1]
        return row * runs["kernel"][1] + col

    def compute(self, acts):
        """Outputs of every layer for the activations of an input, in the network's order."""
        outputs = []
        for layer in self.layers:
            if layer.geometry:
                image = np.reshape(acts, layer.geometry["in_shape"])
                sums = convolve(layer.geometry, layer.weights, image) + layer.bias[:, None, None]
                acts = pool(layer.geometry, requantise(sums, layer, self.config.act_bits)).ravel()
            else:
                sums = layer.weights @ acts[:layer.weights.shape[1]] + layer.bias
                acts = requantise(sums, layer, self.config.act_bits)
            outputs.append(acts)
        return outputs

    def input_content(self, acts):
        """The words of an input, as bytes."""
        channels, first = self.host["input_order"], self.host["layers"][0]
        if "geometry" not in first:
            values = [acts[channel] if channel >= 0 else 0 for channel in channels]
        else:
            image = np.reshape(acts, first["geometry"]["in_shape"])
            if "bands" in first:
                image = fold_input(first["geometry"], first["bands"], image)
            values = [image[channel, y, x] if channel >= 0 else 0 for y in range(image.shape[1])
                      for x in range(image.shape[2]) for channel in channels]
        size = self.config.act_bits // 8
        assert len(values) == self.input_words * self.config.pes
        return b"".join((int(value) & (1 << 8 * size) - 1).to_bytes(size, "little") for value in values)

    def outputs(self, content):
        """The network's outputs from the bytes of the last layer's words."""
        fields, size = self.host["layers"][-1], self.config.act_bits // 8
        values = [_number(content[at:at + size]) for at in range(0, len(content), size)]
        pixels = int(np.prod(output_shape(fields["geometry"]))) if "geometry" in fields else 1
        found = [values[place + pixel * fields.get("output_step", 0)]
                 for place in fields["output_order"] for pixel in range(pixels)]
        return found if self.layers[-1].activation else [_signed(value, 8 * size) for value in found]
