# SPDX-License-Identifier: Apache-2.0
"""Convolutions compiled by loops, straight from docs/formats.md: what the packed ones and the RTL are compared with."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.decoding.decode import DecodedPass
from host.image.image import Image
from rtl.descriptor import LayerKind, descriptor_layout, whole_descriptor
from rtl.image_format import (
    HEADER_BYTES,
    IMAGE_MAGIC,
    IMAGE_VERSION,
    LIMIT_STEP,
    SectionKind,
    header_layout,
    section_layout,
)
from rtl.numbers import PRE_SHIFTS, Activation, act_range, requantize


@dataclass
class Conv:
    """A convolution in integers, and its max pooling: codes ``[out, in, rows, cols]``."""

    codes: np.ndarray
    codebook: np.ndarray
    bias: np.ndarray
    stride: int
    padding: int
    pool: int
    pool_step: int
    activation: Activation
    multiplier: int
    pre_shift: int
    table: None = None

    def out_shape(self, height, width):
        """Shape of the convolution's output without what no pooling window covers, and of the pooled output."""
        conv = [(size + 2 * self.padding - kernel) // self.stride + 1
                for size, kernel in zip((height, width), self.codes.shape[2:], strict=True)]
        pooled = [(size - self.pool) // self.pool_step + 1 for size in conv]
        return [(size - 1) * self.pool_step + self.pool for size in pooled], pooled

    def forward(self, acts, act_bits):
        """Output ``[n, out, y, x]`` of input ``[n, in, y, x]``."""
        weights = self.codebook[self.codes]
        (rows, cols), pooled = self.out_shape(*acts.shape[2:])
        padded = np.pad(acts, ((0, 0), (0, 0), (self.padding,) * 2, (self.padding,) * 2))
        conv = np.zeros((len(acts), len(weights), rows, cols), np.int64)
        for y in range(rows):
            for x in range(cols):
                at_y, at_x = y * self.stride, x * self.stride
                window = padded[:, :, at_y:at_y + weights.shape[2], at_x:at_x + weights.shape[3]]
                conv[:, :, y, x] = np.einsum("ncyx,ocyx->no", window, weights) + self.bias
        out = requantize(conv, multiplier=self.multiplier, pre_shift=self.pre_shift, signed=self.activation.signed,
                         act_bits=act_bits, clamp=np.clip)
        step = self.pool_step
        return np.stack([np.stack([out[:, :, y * step:y * step + self.pool, x * step:x * step + self.pool]
                                   .max(axis=(2, 3)) for x in range(pooled[1])], -1) for y in range(pooled[0])], -2)


def random_conv(rng, config, channels, outputs, *, kernel=3, stride=1, padding=0, pool=1, pool_step=1, density=0.4):
    """A convolution with small random weights."""
    codes = rng.integers(1, 1 << config.code_bits, (outputs, channels, kernel, kernel))
    codes[rng.random(codes.shape) >= density] = 0
    high = act_range(config.weight_bits, signed=True)[1]
    codebook = rng.integers(-high, high + 1, 1 << config.code_bits)
    codebook[0] = 0
    return Conv(codes, codebook, rng.integers(-500, 500, outputs), stride, padding, pool, pool_step,
                Activation(int(rng.integers(2))), int(rng.integers(100, 3000)), int(rng.choice(PRE_SHIFTS[:2])))


def encode(targets, gap_bits, tap_bits):
    """Entries (index, code) of a slice; ``targets`` are (slot, tap, code) in order."""
    entries = []
    slot, tap, weight = 0, 0, False
    for to_slot, to_tap, code in targets:
        carry = int(weight and to_tap <= tap)
        if to_slot - slot - carry >= 1 << gap_bits:
            slot += weight
            while to_slot - slot >= 1 << gap_bits or weight:
                least = int(tap_bits == 0)
                if to_slot - slot < least << gap_bits:
                    raise AssertionError("no way to the slot")
                index = min((to_slot - slot >> gap_bits) - least, (1 << gap_bits + 2 * tap_bits) - 1)
                entries.append((index, 0))
                slot += index + least << gap_bits
                weight = False
            carry = 0
        entries.append((to_slot - slot - carry << 2 * tap_bits | to_tap, code))
        slot, tap, weight = to_slot, to_tap, True
    return entries


class Memories:
    """Memories that are packed so far: for each PE its slice words and entry words; the program's bytes."""

    def __init__(self, config):
        self.config = config
        self.slices = [[] for _ in range(config.pes)]
        self.entries = [[] for _ in range(config.pes)]
        self.program = b""
        self.passes = []

    def add_pass(self, columns, descriptor, conv, tap_offsets, layer):
        """``columns[pe][col]`` is a list of entries; all PEs of a pass start at the same words."""
        config = self.config
        width = config.index_bits[0] + config.code_bits
        descriptor |= {"slice_base": len(self.slices[0]), "entry_base": len(self.entries[0])}
        taps, lengths = [], []
        for pe, slices in enumerate(columns):
            entries = [entry for entry_list in slices for entry in entry_list]
            lengths.append([len(entry_list) for entry_list in slices])
            assert max(lengths[-1]) < (1 << config.length_bits) - 1
            tap_mask = (1 << 2 * descriptor["tap_bits"]) - 1
            taps.append(np.array([index & tap_mask if code else -1 for index, code in entries], np.int16))
            entries += [(0, 0)] * (-len(entries) % config.entries_per_word)
            words = [sum((index | code << config.index_bits[0]) << place * width
                         for place, (index, code) in enumerate(entries[first:first + config.entries_per_word]))
                     for first in range(0, len(entries), config.entries_per_word)]
            self.entries[pe] += words
            self.slices[pe] += [sum(length << place * config.length_bits
                                    for place, length in enumerate(lengths[-1][first:first + config.block_cols]))
                                for first in range(0, len(slices), config.block_cols)]
        self._level()
        descriptor["bias_base"] = len(self.entries[0])
        for pe in range(config.pes):
            for slot in range(descriptor["output_words"]):
                channel = slot * config.pes + pe
                bias = int(conv.bias[channel]) if channel < len(conv.bias) else 0
                bias &= (1 << config.acc_bits) - 1
                self.entries[pe] += [bias >> part * config.entry_word_bits & (1 << config.entry_word_bits) - 1
                                     for part in range(config.bias_words)]
        layout = descriptor_layout(config)
        const: Any = layout.const(descriptor)
        self.program += const.as_bits().to_bytes(layout.size // 8, "little")
        self.program += conv.codebook.astype("<i1").tobytes()
        self.program += np.array(tap_offsets, "<u2").tobytes()
        whole = whole_descriptor(config, const.as_bits())
        self.passes.append(DecodedPass(layer, np.array(lengths), taps, whole, layer - 1))

    def _level(self):
        most = max(len(words) for words in self.entries)
        for words in self.entries:
            words += [0] * (most - len(words))

    def image(self, input_words):
        """The engine's part of an image."""
        config = self.config
        sections = []

        def section(kind, pe, words, width):
            content = b"".join(word.to_bytes(-(-width // 8), "little") for word in words)
            header = section_layout().const({"kind": SectionKind(kind), "pe": pe, "start": 0, "count": len(words)})
            sections.append(header.as_bits().to_bytes(section_layout().size // 8, "little") + content)

        section(0, 0, [int.from_bytes(self.program[at:at + 4], "little") for at in range(0, len(self.program), 4)], 32)
        for pe in range(config.pes):
            section(1, pe, self.slices[pe], config.slice_word_bits)
            section(2, pe, self.entries[pe], config.entry_word_bits)
        body = b"".join(sections)
        header = header_layout().const({
            "magic": IMAGE_MAGIC, "version": IMAGE_VERSION, "sections": len(sections),
            "config_hash": int.from_bytes(config.hash, "little"), "image_bytes": HEADER_BYTES + len(body) + 4,
            "layers": len(self.passes), "input_words": input_words,
            "cycle_limit": (1 << 32) - LIMIT_STEP}).as_bits().to_bytes(HEADER_BYTES, "little")
        return header + body + zlib.crc32(header + body).to_bytes(4, "little")


def pixel_order(shape, pes):
    """Place in the activation memory of each value ``(c, y, x)`` of a feature map, flattened; and its words."""
    channels, height, width = shape
    words = -(-channels // pes)
    c, y, x = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    return (((y * width + x) * words + c // pes) * pes + c % pes).ravel(), words * height * width


def compile_convs(convs, shape, config):
    """An image of convolutions (one index width, kernels of at most ``2**tap_bits`` taps a side for each phase)."""
    memories = Memories(config)
    signed = False
    order, words = pixel_order(shape, config.pes)
    input_order = np.full(words * config.pes, -1)
    input_order[order] = np.arange(len(order))
    input_words, base, layers = words, 0, []
    for number, conv in enumerate(convs):
        base_out = base + words
        (out_rows, out_cols), pooled = conv.out_shape(*shape[1:])
        slots = -(-len(conv.codes) // config.pes)
        out_shape = (len(conv.codes), *pooled)
        order, out_words = pixel_order(out_shape, config.pes)
        passes = _phases(conv, shape)
        for place, (fy, fx, ys, xs) in enumerate(passes):
            _add_phase(memories, conv, shape, config, (fy, fx, ys, xs), dict(
                kind=LayerKind.CONVOLUTION, activation=conv.activation, input_signed=int(signed), index_mode=0,
                pre_shift=PRE_SHIFTS.index(conv.pre_shift), multiplier=conv.multiplier,
                chase_words=0 if number and place == 0 else words, input_words=words,
                input_base=base, output_base=base_out, output_words=slots, hold_sums=int(place < len(passes) - 1),
                pool=conv.pool, pool_step=conv.pool_step, out_rows=out_rows, out_cols=out_cols,
                pooled_rows=pooled[0], pooled_cols=pooled[1], output_pixel_words=slots,
                row_pitch=out_cols * slots), number)
        layers.append({"name": f"conv{number}", "output_base": base_out, "output_words": out_words,
                       "output_order": order})
        shape, base, words, signed = out_shape, base_out, out_words, conv.activation.signed
    engine = memories.image(input_words)
    image = Image(engine, config.hash, input_words, input_order, 1.0, False, layers)
    return image, memories.passes


def _phases(conv, shape):
    """First pixel of each phase that has taps, and which kernel rows and columns it has."""
    found = []
    for fy in range(conv.stride):
        for fx in range(conv.stride):
            ys, xs = ([k for k in range(size) if (k - conv.padding - first) % conv.stride == 0]
                      for size, first in zip(conv.codes.shape[2:], (fy, fx), strict=True))
            if ys and xs and fy < shape[1] and fx < shape[2]:
                found.append((fy, fx, ys, xs))
    return found


def _add_phase(memories, conv, shape, config, phase, descriptor, layer):
    fy, fx, ys, xs = phase
    in_words = -(-shape[0] // config.pes)
    slots, tap_bits = descriptor["output_words"], 0 if len(ys) == len(xs) == 1 else config.tap_bits
    assert max(len(ys), len(xs)) <= 1 << tap_bits
    columns = []
    for pe in range(config.pes):
        slices = []
        for c in range(-(-shape[0] // config.block_cols) * config.block_cols):
            targets = [(slot, j << tap_bits | i, int(conv.codes[slot * config.pes + pe, c, ky, kx]))
                       for slot in range(slots) for j, ky in enumerate(ys) for i, kx in enumerate(xs)
                       if c < shape[0] and slot * config.pes + pe < len(conv.codes)
                       and conv.codes[slot * config.pes + pe, c, ky, kx]]
            slices.append(encode(targets, config.index_bits[0] - 2 * tap_bits, tap_bits))
        columns.append(slices)
    first_y, first_x = (fy + conv.padding - ys[0]) // conv.stride, (fx + conv.padding - xs[0]) // conv.stride
    offset = (fy * shape[2] + fx) * in_words
    offsets = [0] * config.taps
    for j in range(len(ys)):
        for i in range(len(xs)):
            offsets[j << tap_bits | i] = j * descriptor["row_pitch"] + i * slots
    memories.add_pass(columns, descriptor | {
        "input_base": descriptor["input_base"] + offset, "input_words": descriptor["input_words"] - offset,
        "chase_words": descriptor["chase_words"] - (offset if descriptor["chase_words"] else 0),
        "tap_bits": tap_bits, "pixel_words": in_words,
        "last_block": (shape[0] - 1) % config.pes // config.block_cols, "pixel_step": conv.stride * in_words,
        "row_step": conv.stride * shape[2] * in_words,
        "scan_cols": -(-(shape[2] - fx) // conv.stride), "scan_rows": -(-(shape[1] - fy) // conv.stride),
        "first_x": first_x, "first_y": first_y,
        "first_row": (first_y * descriptor["row_pitch"] + first_x * slots) % (1 << 16),
    }, conv, offsets, layer)
