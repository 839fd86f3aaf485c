# SPDX-License-Identifier: Apache-2.0
"""An engine's structure as its configuration determines it: widths of counters, registers on long wires.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.utils import ceil_log2, exact_log2

from .image_format import LIMIT_STEP


def counter_bits(config):
    """Width of a performance counter.

    Without convolutions each entry is visited at most once, and the activation memory is scanned a few times.
    """
    if config.tap_bits:
        return 32
    steps = config.pes * max(config.entry_depth * config.entries_per_word, config.act_depth)
    return min(32, max(24, ceil_log2(steps) + 6))


def limit_bits(config):
    """Width of the header's ``cycle_limit`` in the engine, which counts in `LIMIT_STEP` cycles."""
    return counter_bits(config) - exact_log2(LIMIT_STEP)


def scan_groups(config):
    """Groups of blocks in which a word of activations goes through the scanner, to keep wires short."""
    blocks = config.pes // config.block_cols
    return blocks // 4 if blocks > 4 else 1


def broadcast_cycles(config):
    """Registers between the scanner and a PE: none for a single cluster, up to three for 64 PEs and more."""
    return 0 if config.clusters == 1 else 1 if config.clusters <= 4 else 2 if config.clusters <= 8 else 3


def unhurried_cycles(config):
    """Registers to a cluster for signals that are not time-critical: one more than for beats."""
    return broadcast_cycles(config) + (config.clusters > 1)


