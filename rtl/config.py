# SPDX-License-Identifier: Apache-2.0
"""`EngineConfig`: all sizes of an engine, validated in one place."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields

__all__ = ["PRESETS", "RANGES", "ConfigError", "EngineConfig", "preset"]

RANGES = {"pes": (2, 256), "act_bits": (8, 16), "weight_bits": (2, 16), "code_bits": (4, 8), "acc_bits": (24, 32),
          "entries_per_word": (2, 16), "entry_depth": (16, 65536), "length_bits": (2, 8), "slice_word_bits": (4, 256),
          "slice_depth": (4, 65536), "act_depth": (4, 65536), "acc_depth": (8, 65536), "queue_depth": (16, 1024),
          "program_depth": (16, 65536), "packet_bytes": (64, 32768)}
"""Least and greatest value of a field of `EngineConfig`; addresses in descriptors have 16 bits."""


class ConfigError(ValueError):
    """A configuration that no engine can have; the message has every problem of the iterable ``problems``, a line each.
    """

    def __init__(self, problems):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class EngineConfig:
    """Everything that is fixed when an engine is built. `RANGES` has the least and greatest values.

    Parameters
    ----------
    pes : int
        Processing elements; also the lanes of an activation word. A power of two, 2 to 256.
    act_bits : int
        Width of a stored activation, 8 or 16.
    weight_bits : int
        Width of a codebook value (two's complement), 2 to 16.
    code_bits : int
        Width of a weight code, 4 to 8; code 0 is never a weight.
    direct_weights : bool
        The code is the weight itself (two's complement); there is no codebook.
    acc_bits : int
        Width of accumulators and biases, 24 to 32.
    index_bits : tuple of int
        Widths of the relative index that the engine can decode, ascending; the compiler picks one for each
        layer. The narrowest is stored with the codes, every further bit in a plane of its own that only
        the layers that use it fill.
    entries_per_word : int
        Entries in a word of entry memory, a power of two.
    entry_depth : int
        Words of entry memory for each PE; biases live there as well.
    single_port : bool
        Entry memory has one address for loading and running, as the large memories of an iCE40 UP5K want it; where
        block RAM has two ports, it is smaller without. Nor have the UP5K's block RAMs a ninth bit for each byte
        (`act_flag_bits`), and its clock is too slow for registers to be worth their cells (`deep_pipeline`).
    length_bits : int
        Width of a slice length; the compiler splits the rows of a layer with longer slices into passes.
    slice_word_bits : int
        Width of a word of slice memory: the lengths of one block of columns.
    slice_depth : int
        Words of slice memory for each PE.
    act_depth : int
        Words of activation memory, each of `pes` activations.
    acc_depth : int
        Accumulators for each PE: the rows of a layer that a PE can hold in one pass.
    tap_bits : int
        The engine runs convolutions: kernels of up to ``2**tap_bits`` taps a side in one pass. 0: fully connected
        layers only.
    queue_depth : int
        Slices waiting in a PE. A power of two, at least 16.
    beat_queue_depth : int
        Beats waiting before the slice lookup of a cluster, in a block RAM: it evens out the clusters, so that the
        queues of its PEs can be short. A power of two, at least 16, or 0 for none.
    pes_per_requantizer : int
        PEs that share a requantiser (and its multiplier) and take turns: 1, 2 or 4. A row then takes as many cycles
        to drain.
    program_depth : int
        Words (32 bits) of program memory.
    packet_bytes : int
        The longest payload of a link packet.
    act_table : bool
        A layer may have a table of its activation function: 256 values, which take the place of its 8-bit activations.

    Raises
    ------
    ConfigError
        If values are out of range or do not fit each other; with all problems.
    """

    pes: int = 16
    act_bits: int = 8
    weight_bits: int = 8
    code_bits: int = 4
    direct_weights: bool = False
    acc_bits: int = 32
    index_bits: tuple[int, ...] = (4, 6)
    entries_per_word: int = 4
    entry_depth: int = 2048
    single_port: bool = False
    length_bits: int = 4
    slice_word_bits: int = 32
    slice_depth: int = 1024
    act_depth: int = 1024
    acc_depth: int = 512
    tap_bits: int = 0
    queue_depth: int = 32
    beat_queue_depth: int = 0
    pes_per_requantizer: int = 1
    program_depth: int = 256
    packet_bytes: int = 1024
    act_table: bool = False

    def __post_init__(self):
        object.__setattr__(self, "index_bits", tuple(self.index_bits))
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)

    def _problems(self):
        wrong_types = [f"{field.name} must be {'true or false' if isinstance(field.default, bool) else 'an integer'}"
                       f", not {getattr(self, field.name)!r}"
                       for field in fields(self) if field.name != "index_bits"
                       and type(getattr(self, field.name)) is not type(field.default)]
        wrong_types += [f"index_bits must be integers, not {width!r}"
                        for width in self.index_bits if type(width) is not int]
        if wrong_types:
            yield from wrong_types
            return
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                yield f"{name} must be {low} to {high}, not {value}"
        for name in ("pes", "entries_per_word", "queue_depth", "packet_bytes"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                yield f"{name} must be a power of two, not {value}"
        if self.beat_queue_depth and not (16 <= self.beat_queue_depth <= 1024
                                          and self.beat_queue_depth & (self.beat_queue_depth - 1) == 0):
            yield f"beat_queue_depth must be 0 or a power of two, 16 to 1024, not {self.beat_queue_depth}"
        if self.act_bits not in (8, 16):
            yield f"act_bits must be 8 or 16, not {self.act_bits}"
        if not self.index_bits or list(self.index_bits) != sorted(set(self.index_bits)) or len(self.index_bits) > 4 \
                or not all(2 <= width <= 8 for width in self.index_bits):
            yield f"index_bits must be one to four ascending widths from 2 to 8, not {list(self.index_bits)}"
        if self.length_bits > 0 and self.pes > 0:
            block = self.slice_word_bits // self.length_bits
            if block * self.length_bits != self.slice_word_bits or block < 2 or block & (block - 1):
                yield (f"slice_word_bits must be length_bits ({self.length_bits}) times a power of two of at least 2, "
                       f"not {self.slice_word_bits}")
            elif self.pes % block:
                yield f"slice_word_bits / length_bits = {block} columns must divide the {self.pes} PEs"
            elif self.tap_bits and self.pes // block > 32:
                yield (f"slice_word_bits / length_bits must be at least {self.pes // 32} columns with {self.pes} PEs "
                       f"and convolutions, not {block}")
        if self.pes_per_requantizer not in (1, 2, 4) or self.pes_per_requantizer > self.pes > 0:
            yield (f"pes_per_requantizer must be 1, 2 or 4, and at most the {self.pes} PEs, not "
                   f"{self.pes_per_requantizer}")
        if self.tap_bits not in (0, 2, 3):
            yield f"tap_bits must be 0, 2 or 3, not {self.tap_bits}"
        elif self.index_bits and self.tap_bits and self.index_bits[-1] < 2 * self.tap_bits:
            yield (f"index_bits must have a width of at least {2 * self.tap_bits}, the two coordinates of a tap, not "
                   f"{list(self.index_bits)}")
        if self.packet_bytes < self.pes * self.act_bytes + 4:
            yield (f"packet_bytes must hold an activation word ({self.pes * self.act_bytes} bytes) and its address, "
                   f"not {self.packet_bytes}")
        if self.act_table and self.act_bits != 8:
            yield f"act_table needs an act_bits of 8, not {self.act_bits}"
        if self.direct_weights and self.weight_bits != self.code_bits:
            yield f"weight_bits must equal code_bits ({self.code_bits}) with direct_weights, not {self.weight_bits}"

    @property
    def act_bytes(self):
        """Bytes of an activation on the link."""
        return self.act_bits // 8

    @property
    def operand_bits(self):
        """Width of a broadcast activation: one bit more than stored, so that it is always signed."""
        return self.act_bits + 1

    @property
    def deep_pipeline(self):
        """Registers behind the memories of a PE and within its walker: an iCE40 has few cells, and a slow clock."""
        return not self.single_port

    @property
    def hurried(self):
        """Has low-latency shortcuts between layers: with 2 to 4 clusters, whose wires are short; not an iCE40."""
        return self.deep_pipeline and 1 < self.clusters <= 4

    @property
    def act_flag_bits(self):
        """Bits beside each activation in memory: whether it is not zero; none on an iCE40, whose words have no room."""
        return 0 if self.single_port else 1

    @property
    def act_word_bits(self):
        """Width of a word of activation memory."""
        return self.pes * (self.act_bits + self.act_flag_bits)

    @property
    def cluster_pes(self):
        """PEs of a cluster: what they are told comes in registers that they share."""
        return min(self.pes, 4)

    @property
    def clusters(self):
        """Clusters of the engine."""
        return self.pes // self.cluster_pes

    @property
    def row_cycles(self):
        """Cycles from one row of the drain to the next: its bias is read, and the PEs take turns at requantisers."""
        return max(self.bias_words, self.pes_per_requantizer)

    @property
    def block_cols(self):
        """Columns whose lengths share a slice word."""
        return self.slice_word_bits // self.length_bits

    @property
    def entry_word_bits(self):
        """Width of plane 0 of the entry memory: codes and the narrowest relative index."""
        return self.entries_per_word * (self.code_bits + self.index_bits[0])

    @property
    def plane_bits(self):
        """Widths of all planes of the entry memory; the first holds the codes."""
        steps = (wide - narrow for narrow, wide in zip(self.index_bits, self.index_bits[1:], strict=False))
        return (self.entry_word_bits, *(self.entries_per_word * step for step in steps))

    @property
    def bias_words(self):
        """Entry-memory words that one bias takes (plane 0)."""
        return -(-self.acc_bits // self.entry_word_bits)

    @property
    def codebook_entries(self):
        """Codebook values that the program holds for each layer; 0 with direct weights."""
        return 0 if self.direct_weights else 1 << self.code_bits

    @property
    def taps(self):
        """Taps that a kernel can have in one pass; 0 without convolutions."""
        return 1 << 2 * self.tap_bits if self.tap_bits else 0

    @property
    def table_entries(self):
        """Values of a layer's table of its activation function; 0 in an engine without tables."""
        return 1 << self.act_bits if self.act_table else 0

    @property
    def hash(self):
        """Identity of the configuration: the first 8 bytes of a SHA-256 over its fields.

        ``act_table`` is among them only if it is true, so that engines without it keep their images.
        """
        found = {name: value for name, value in asdict(self).items() if name != "act_table" or value}
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).digest()[:8]


PRESETS = {
    # Four 32 KiB single-port memories, 16 bits wide, hold the entries of an iCE40 UP5K; its 30 block RAMs the rest.
    "tiny": EngineConfig(pes=4, acc_bits=24, index_bits=(4,), entries_per_word=2, entry_depth=16384, single_port=True,
                         slice_word_bits=16, slice_depth=256, act_depth=256, acc_depth=256, queue_depth=16,
                         pes_per_requantizer=4, packet_bytes=256),
    # The same memories for half the PEs: twice the columns, and four times the activations.
    "up5k": EngineConfig(pes=2, acc_bits=24, index_bits=(4,), entry_depth=16384, single_port=True,
                         slice_word_bits=8, act_depth=1024, acc_depth=256, queue_depth=16, packet_bytes=256),
    # Half an engine: what a GW2A-18 has block RAM for, and an LFE5U-25F multipliers.
    "small": EngineConfig(pes=8, acc_bits=28, index_bits=(5,), entry_depth=1024, slice_depth=512, act_depth=512,
                          packet_bytes=256),
    "default": EngineConfig(),
    # Short words and a requantiser (that is, a multiplier) for two PEs: what an LFE5U-25F has room for 16 of.
    "medium": EngineConfig(acc_bits=28, index_bits=(5,), entries_per_word=2, entry_depth=1024, slice_word_bits=16,
                           slice_depth=512, act_depth=512, packet_bytes=256, pes_per_requantizer=2),
    # Likewise, with twice the PEs and twice the entries in each.
    "large": EngineConfig(pes=32, acc_bits=28, index_bits=(5,), entries_per_word=2, entry_depth=2048,
                          slice_word_bits=16, slice_depth=512, act_depth=512, pes_per_requantizer=2),
    # Likewise, with three 18 kbit block RAMs for each PE, and a queue of beats for four: what an LFE5U-85F has for 64.
    "wide": EngineConfig(pes=64, acc_bits=28, index_bits=(5,), entries_per_word=2, entry_depth=1024,
                         slice_word_bits=16, slice_depth=512, act_depth=256, queue_depth=16, beat_queue_depth=64,
                         packet_bytes=128, pes_per_requantizer=4),
    # The default with convolutions. The first one of LeNet-5 has sums of 2 channels of 24 x 24 in each PE.
    "conv": EngineConfig(length_bits=5, slice_word_bits=40, slice_depth=512, acc_depth=2048, act_depth=2048,
                         tap_bits=3, program_depth=512),
}


def preset(name):
    """The preset called ``name``. Raises `ConfigError` naming those that exist."""
    if name not in PRESETS:
        raise ConfigError([f"preset must be one of {', '.join(PRESETS)}, not '{name}'"])
    return PRESETS[name]
