# SPDX-License-Identifier: Apache-2.0
"""Stream payloads and memory words, derived from `EngineConfig`.

The RTL takes its signals from these layouts, and the host packs with them. `rtl.descriptor` has the layouts of program
memory, `rtl.image_format` those of an image. All fields are little-endian; the first field of a layout lies in the
least significant bits.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.hdl import Const, signed
from amaranth.lib import data
from amaranth.utils import ceil_log2

from .descriptor import DESCRIPTOR_WORD_BITS, convolution_only, table_only
from .numbers import MULTIPLIER_BITS, Activation
from .protocol import COUNTERS


def long_slice(length_bits):
    """Entries that an all-ones length stands for; slices of ``2**length_bits - 1`` entries or more are padded to it.

    A stored length below that is the number of entries itself.
    """
    return (1 << (length_bits + 1)) - 1


def field_or_zero(view, name):
    """The field ``name``, of one bit, in the record ``view``; a constant 0 if the engine's layout does not have it."""
    return view[name] if name in view.shape().members else Const(0, 1)


def entry_layout(config, index_bits):
    """A non-zero weight. Code 0 is no weight: it skips ``(index + 1) << index_bits`` rows.

    ``config`` is the engine's; ``index_bits`` is the width of the relative index, one of ``config.index_bits``.
    """
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
        # Place of the slice's last entry, counted from the first entry of the word in which the slice starts.
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
    """Flags that accompany a drained row. ``keep``: another pooling window needs it as well, so it is not cleared."""
    return convolution_only(config, {"keep": 1})


def drain_step_layout(config):
    """A step of the drain, for all PEs at once: read (and clear) one row, add its bias."""
    return data.StructLayout({
        "row": row_bits(config),
        "bias_address": ceil_log2(config.entry_depth),
        "bias_last": 1,                         # the bias is complete with this word: take the row
        **drain_fields(config),
    })


def requant_layout(config):
    """A layer's requantisation, see `rtl.numbers`."""
    return data.StructLayout({"multiplier": MULTIPLIER_BITS, "pre_shift": 2, "activation": Activation,
                              **table_only(config, {"table": 1, "table_bank": 1})})


def codebook_write_layout(config):
    """A codebook value on its way to every PE."""
    return data.StructLayout({"code": config.code_bits, "weight": signed(config.weight_bits)})


def tap_write_layout(config):
    """A value of the tap table on its way to every PE."""
    return data.StructLayout({"tap": 2 * config.tap_bits, "offset": row_bits(config)})


def act_table_write_layout(config):
    """A value of a table of an activation function on its way to every requantiser; the bank is the highest bit of
    the place."""
    return data.StructLayout({"place": config.act_bits + 1, "act": config.act_bits})


def table_layouts(config):
    """Layouts by table's name: a value of each of a layer's tables on its way to every PE."""
    return {"codebook": codebook_write_layout(config), **convolution_only(config, {"taps": tap_write_layout(config)}),
            **table_only(config, {"act_table": act_table_write_layout(config)})}


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
    """Fields of the control that trigger an action; the others have no effect without them."""
    return ("hold", "drain", *(f"write_{table}" for table in table_layouts(config)))


def memory_write_layout(config):
    """A word of the image, and its address in a PE's memory."""
    return data.StructLayout({"address": ceil_log2(max(config.entry_depth, config.slice_depth)),
                              "word": max(*config.plane_bits, config.slice_word_bits)})


def cluster_write_layout(config):
    """A word of the image, its address, and the memory and the PE of a cluster that it is for."""
    return data.StructLayout({"slices": 1, "planes": len(config.plane_bits), "place": ceil_log2(config.cluster_pes),
                              **dict(memory_write_layout(config).members)})


def load_write_layout(config):
    """A word of the image, with its memory, PE and address."""
    return data.StructLayout({"kind": 8, "pe": 8, "address": 16,
                              "word": max(*config.plane_bits, config.slice_word_bits, DESCRIPTOR_WORD_BITS)})


def counters_layout():
    """All performance counters, in the order of WAIT's answer.

    Not an array: Yosys's abc9 takes bit 0 of an array's element n for bit n of the array.
    """
    return data.StructLayout(dict.fromkeys(COUNTERS, 32))


