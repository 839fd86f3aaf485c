# SPDX-License-Identifier: Apache-2.0
"""Every stream payload and memory word, derived from `EngineConfig`.

Bit positions live here alone: the RTL takes its signals from these layouts and the host packs with them.
All fields are little-endian; the first field of a layout lies in the least significant bits.
"""

from amaranth.hdl import Const, Shape, signed
from amaranth.lib import data, enum
from amaranth.utils import ceil_log2

from .numbers import MULTIPLIER_BITS, Activation
from .protocol import COUNTERS

DESCRIPTOR_WORD_BITS = 32
"""Width of a word of program memory."""


def long_slice(length_bits):
    """Entries that an all-ones length stands for; slices of ``2**length_bits - 1`` entries or more are padded to it.

    A stored length below that is the number of entries itself.
    """
    return (1 << (length_bits + 1)) - 1


def convolution_only(config, fields):
    """The fields of a layout, or members of a component, in an engine with convolutions; an empty dict in others."""
    return fields if config.tap_bits else {}


def field_or_zero(view, name):
    """A field of one bit; a constant 0 if the engine's layout does not have it."""
    return view[name] if name in view.shape().members else Const(0, 1)


class LayerKind(enum.Enum, shape=2):
    """Kind of layer that a descriptor describes."""

    FULLY_CONNECTED = 0
    CONVOLUTION = 1


def descriptor_layout(config):
    """A layer's record in program memory; its codebook follows."""
    return data.StructLayout({**_layer_fields(), **convolution_only(config, _convolution_fields())})


def whole_descriptor(config, bits):
    """A descriptor, from its bits, with the fields of a convolution in every engine.

    An engine without convolutions does not have them: there a pass is one pixel with all its words.
    """
    layout, own = descriptor_layout(config), descriptor_layout(config).from_bits(bits)
    if "pixel_words" in layout.members:
        return own
    whole = data.StructLayout({**_layer_fields(), **_convolution_fields()})
    inputs, outputs = int(own.input_words), int(own.output_words)
    pixel = {"last_block": config.pes // config.block_cols - 1, "pixel_words": inputs, "pixel_step": inputs,
             "row_step": inputs, "row_pitch": outputs, "output_pixel_words": outputs,
             **dict.fromkeys(("pool", "pool_step", "scan_cols", "scan_rows", "out_cols", "out_rows", "pooled_cols",
                              "pooled_rows"), 1)}
    return whole.from_bits(bits | whole.const(pixel).as_bits())


def largest(field):
    """The greatest number that a field of a descriptor can hold, one of a convolution's among them."""
    shape = Shape.cast({**_layer_fields(), **_convolution_fields()}[field])
    return (1 << (shape.width - shape.signed)) - 1


def _layer_fields():
    """Fields of every pass.

    Addresses count words of the memory concerned; all PEs share them. ``chase_words`` is the number of input words
    that may be read at once: the rest become readable as the drain of the layer before writes them.
    """
    return {
        "kind": LayerKind,
        "activation": Activation,
        "input_signed": 1,
        "index_mode": 2,        # position in EngineConfig.index_bits
        "pre_shift": 2,         # position in numbers.PRE_SHIFTS
        "reserved": 8,
        "multiplier": MULTIPLIER_BITS,
        "input_base": 16,
        "input_words": 16,
        "chase_words": 16,
        "output_base": 16,
        "output_words": 16,     # rows of each PE
        "slice_base": 16,
        "entry_base": 16,
        "bias_base": 16,
        "plane_offsets": data.ArrayLayout(16, 3),   # entry word address minus that of planes 1 to 3
        "unused": 16,
    }


def _convolution_fields():
    """Fields of a convolution's pass; a fully connected layer is one pixel with all its words.

    A pass scans pixels of the input, each of ``pixel_words`` words, and scatters into accumulators that lie pixel by
    pixel of the convolution's output, ``output_words`` for each. Its kernel has stride 1: a convolution with a greater
    stride is several passes, each of which scans every ``stride``-th pixel and has every ``stride``-th tap.
    """
    return {
        "tap_bits": 2,          # width of a tap's coordinates in the entries' indices; 0 for none
        "hold_sums": 1,         # the next pass adds to the same accumulators: no drain
        "pool": 4,              # edge of the window of a max pooling; 1 for none
        "pool_step": 4,
        "last_block": 5,        # of the blocks of a pixel's last word, the last that is scanned
        "pixel_words": 16,
        "pixel_step": 16,       # words from a scanned pixel to the next of its row
        "row_step": 16,         # words from the start of a scanned row to the next
        "scan_cols": 16,
        "scan_rows": 16,
        "first_x": signed(16),  # output column that tap column 0 of the first pixel adds to
        "first_y": signed(16),
        "out_cols": 16,         # of the convolution, before pooling
        "out_rows": 16,
        "first_row": 16,        # accumulator of tap 0 of the first pixel, modulo 2**16
        "row_pitch": 16,        # accumulators of a row of the convolution's output
        "pooled_cols": 16,
        "pooled_rows": 16,
        "output_pixel_words": 16,
        "band_step": 16,        # words between slots below and from output_pixel_words on: the lower band
    }


def descriptor_words(config):
    """Program words of a descriptor without its codebook."""
    return descriptor_layout(config).size // DESCRIPTOR_WORD_BITS


def codebook_words(config):
    """Program words of a codebook; each value is sign-extended to 8 or 16 bits."""
    return config.codebook_entries * codebook_value_bits(config) // DESCRIPTOR_WORD_BITS


def tap_table_words(config):
    """Program words of the tap table that follows the codebook of a convolution's pass: 16 bits for each tap.

    The accumulator of tap ``j * 2**tap_bits + i`` (row, column; ``tap_bits`` of the pass) lies
    ``j * row_pitch + i * output_words`` before that of tap 0.
    """
    return config.taps * 16 // DESCRIPTOR_WORD_BITS


def codebook_value_bits(config):
    """Bits of a codebook value in program memory."""
    return 8 if config.weight_bits <= 8 else 16


def entry_layout(config, index_bits):
    """A non-zero weight. Code 0 is no weight: it skips ``(index + 1) << index_bits`` rows."""
    return data.StructLayout({"index": index_bits, "code": config.code_bits})


def entry_address_shape(config):
    """Address of an entry: word and place in the word."""
    return ceil_log2(config.entry_depth) + ceil_log2(config.entries_per_word)


def row_bits(config):
    """Width of a row's address among a PE's accumulators."""
    return ceil_log2(config.acc_depth)


def beat_layout(config):
    """One step of the scan, broadcast to all PEs."""
    return data.StructLayout({
        "act": config.act_bits,
        "col": ceil_log2(config.block_cols),    # place of the column in its block
        "present": 1,                           # there is a non-zero activation; otherwise the block was empty
        "last": 1,                              # last beat of the block
        **pixel_fields(config),                 # wraps: last block of the pixel
    })


def position_fields(config):
    """Destination of a pixel's products: accumulator of slot 0 and tap 0; rows and columns of taps that are inside.

    None in an engine without convolutions, as of `pixel_fields`.
    """
    return convolution_only(config, {"base": row_bits(config), "tap_rows": 1 << config.tap_bits,
                                     "tap_cols": 1 << config.tap_bits})


def pixel_fields(config):
    """Fields that accompany a word through the scanner: its pixel's position; whether it is the pixel's last word."""
    return {**position_fields(config), **convolution_only(config, {"wraps": 1})}


def job_layout(config):
    """A non-empty slice that waits for the walker."""
    return data.StructLayout({
        "start": entry_address_shape(config),
        # The place of its last entry, from the first of the word it starts in.
        "last": range(config.entries_per_word - 1 + long_slice(config.length_bits)),
        "act": config.act_bits,
        **position_fields(config),
    })


def visit_layout(config):
    """A useful entry on its way to the multiplier."""
    return data.StructLayout({
        "row": row_bits(config),
        "code": config.code_bits,
        "act": config.act_bits,
    })


def drain_fields(config):
    """Flags that accompany a drained row: another pooling window wants it as well, so that it is not cleared."""
    return convolution_only(config, {"keep": 1})


def drain_step_layout(config):
    """A step of the drain, for all PEs at once: read (and clear) one row, add its bias."""
    return data.StructLayout({
        "row": row_bits(config),
        "bias_address": ceil_log2(config.entry_depth),
        "bias_last": 1,                         # the bias is complete with this word: take the row
        **drain_fields(config),
    })


def requant_layout():
    """A layer's requantisation, see `rtl.numbers`."""
    return data.StructLayout({"multiplier": MULTIPLIER_BITS, "pre_shift": 2, "activation": Activation})


def codebook_write_layout(config):
    """A codebook value on its way to every PE."""
    return data.StructLayout({"code": config.code_bits, "weight": signed(config.weight_bits)})


def tap_write_layout(config):
    """A value of the tap table on its way to every PE."""
    return data.StructLayout({"tap": 2 * config.tap_bits, "offset": row_bits(config)})


def table_layouts(config):
    """The tables of a layer, by name: what a value of each looks like on its way to every PE."""
    return {"codebook": codebook_write_layout(config), **convolution_only(config, {"taps": tap_write_layout(config)})}


def pe_layer_layout(config):
    """Settings of the scanned layer that each PE needs."""
    planes = len(config.plane_bits)
    return data.StructLayout({
        "input_signed": 1,
        **({"index_mode": ceil_log2(planes),
            "plane_offsets": data.ArrayLayout(ceil_log2(config.entry_depth), planes - 1)} if planes > 1 else {}),
        **convolution_only(config, {"tap_bits": 2}),
    })


def cluster_layer_layout(config):
    """Settings of the scanned layer that each cluster needs."""
    return data.StructLayout({
        "slice_base": range(config.slice_depth),
        "entry_base": range(config.entry_depth),
        "pe": pe_layer_layout(config),
    })


def control_layout(config):
    """Control signals to all PEs in each cycle: hold, drain a row, write a value of a table."""
    return data.StructLayout({
        "hold": 1,                  # the walkers wait: the drain runs, or the tables are not there yet
        "drain": 1,
        "drain_step": drain_step_layout(config),
        **{name: field for table, layout in table_layouts(config).items()
           for name, field in ((f"write_{table}", 1), (table, layout))},
    })


def control_flags(config):
    """Fields of the control that make something happen; the others mean nothing without them."""
    return ("hold", "drain", *(f"write_{table}" for table in table_layouts(config)))


def memory_write_layout(config):
    """A word of the image, and where in a PE's memory it goes."""
    return data.StructLayout({"address": ceil_log2(max(config.entry_depth, config.slice_depth)),
                              "word": max(*config.plane_bits, config.slice_word_bits)})


def cluster_write_layout(config):
    """A word of the image, and which memory of which of a cluster's PEs it is for."""
    return data.StructLayout({"slices": 1, "planes": len(config.plane_bits), "place": ceil_log2(config.cluster_pes),
                              **dict(memory_write_layout(config).members)})


def load_write_layout(config):
    """A word of the image, and where in which memory of which PE it goes."""
    return data.StructLayout({"kind": 8, "pe": 8, "address": 16,
                              "word": max(*config.plane_bits, config.slice_word_bits, DESCRIPTOR_WORD_BITS)})


def counters_layout():
    """All performance counters, in the order of WAIT's answer.

    Not an array: Yosys's abc9 takes bit 0 of an array's element n for bit n of the array.
    """
    return data.StructLayout(dict.fromkeys(COUNTERS, 32))


