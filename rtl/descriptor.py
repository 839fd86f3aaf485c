# SPDX-License-Identifier: Apache-2.0
"""The record of a pass in program memory: the descriptor, and what follows it.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.hdl import Shape, signed
from amaranth.lib import data, enum

from .numbers import MULTIPLIER_BITS, Activation

DESCRIPTOR_WORD_BITS = 32
"""Width of a word of program memory."""


class LayerKind(enum.Enum, shape=2):
    """Kind of layer that a descriptor describes."""

    FULLY_CONNECTED = 0
    CONVOLUTION = 1


def descriptor_layout(config):
    """A layer's record in program memory; its codebook follows."""
    return data.StructLayout({**_layer_fields(tables=config.act_table),
                              **convolution_only(config, _convolution_fields())})


def whole_descriptor(config, bits):
    """A descriptor, from its bits, with the fields of a convolution and of a table in every engine.

    An engine without convolutions does not have the former: there a pass is one pixel with all its words. An engine
    without tables reserves the bits of the latter, which are 0.

    Parameters
    ----------
    config : EngineConfig
        The engine whose descriptor it is.
    bits : int
        The descriptor as a number, in `descriptor_layout` of that engine.
    """
    own = descriptor_layout(config).from_bits(bits)
    whole = data.StructLayout({**_layer_fields(tables=True), **_convolution_fields()})
    if config.tap_bits:
        return whole.from_bits(bits)
    inputs, outputs = int(own.input_words), int(own.output_words)
    pixel = {"last_block": config.pes // config.block_cols - 1, "pixel_words": inputs, "pixel_step": inputs,
             "row_step": inputs, "row_pitch": outputs, "output_pixel_words": outputs,
             **dict.fromkeys(("pool", "pool_step", "scan_cols", "scan_rows", "out_cols", "out_rows", "pooled_cols",
                              "pooled_rows"), 1)}
    return whole.from_bits(bits | whole.const(pixel).as_bits())


def largest(field):
    """The greatest number that the field called ``field`` of a descriptor can hold, one of a convolution's among them.
    """
    shape = Shape.cast({**_layer_fields(tables=False), **_convolution_fields()}[field])
    return (1 << (shape.width - shape.signed)) - 1


def _layer_fields(*, tables):
    """Fields of every pass, with those of an engine whose layers may have ``tables`` of their activation functions.

    Addresses count words of the memory concerned; all PEs share them. ``chase_words`` is the number of input words
    that may be read at once: the rest become readable as the drain of the layer before writes them.
    """
    return {
        "kind": LayerKind,
        "activation": Activation,
        "input_signed": 1,
        "index_mode": 2,        # position in EngineConfig.index_bits
        "pre_shift": 2,         # position in numbers.PRE_SHIFTS
        **({"table": 1,         # a table of the activation function follows
            "table_bank": 1,    # it lies there; the pass before, which may still be drained, has the other one
            "reserved": 6} if tables else {"reserved": 8}),
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
        "last_block": 5,        # last block that is scanned in a pixel's last word
        "pixel_words": 16,
        "pixel_step": 16,       # words from a scanned pixel to the next of its row
        "row_step": 16,         # words from the start of a scanned row to the next
        "scan_cols": 16,
        "scan_rows": 16,
        "first_x": signed(16),  # output column that tap column 0 of the first pixel adds to
        "first_y": signed(16),
        "out_cols": 16,         # columns of the convolution's output, before pooling
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


def act_table_words(config):
    """Program words of a table of an activation function, which follows the other tables of a pass that has one."""
    return config.table_entries * config.act_bits // DESCRIPTOR_WORD_BITS


def codebook_value_bits(config):
    """Bits of a codebook value in program memory."""
    return 8 if config.weight_bits <= 8 else 16


def convolution_only(config, fields):
    """The dict ``fields`` in an engine ``config`` with convolutions; an empty dict in others.

    ``fields`` are those of a layout, or the members of a component.
    """
    return fields if config.tap_bits else {}


def table_only(config, fields):
    """The dict ``fields`` in an engine ``config`` with tables of activation functions; an empty dict in others."""
    return fields if config.act_table else {}
