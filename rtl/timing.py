# SPDX-License-Identifier: Apache-2.0
"""Cycles and widths of an engine, derived from `EngineConfig`."""

from amaranth.utils import ceil_log2, exact_log2

from .image_format import LIMIT_STEP


def counter_bits(config):
    """Width of a performance counter.

    Without convolutions an inference takes each entry once and scans few times the activation memory.
    """
    if config.tap_bits:
        return 32
    steps = config.pes * max(config.entry_depth * config.entries_per_word, config.act_depth)
    return min(32, max(24, ceil_log2(steps) + 6))


def limit_bits(config):
    """Width of the header's ``cycle_limit`` in the engine, which counts in `LIMIT_STEP` cycles."""
    return counter_bits(config) - exact_log2(LIMIT_STEP)


def lookup_cycles(config):
    """From a beat at the slice lookup to its jobs."""
    return 4 + config.deep_pipeline


def beat_queue_limit(config):
    """Beats with which a cluster's queue is full: it still has room for those that are under way from the scanner."""
    return config.beat_queue_depth - _beats_under_way(config)


def job_queue_limit(config):
    """Slices with which a PE's queue is full: it still has room for those that are under way.

    Behind a queue of beats a place stays free: so what it holds is counted in a bit less.
    """
    return config.queue_depth - jobs_under_way(config) - (config.beat_queue_depth > 0)


def jobs_under_way(config):
    """Slices that may still reach a PE's queue after it was full.

    Behind a queue of beats only those in the lookup; without one the scanner has to stop.
    """
    return lookup_cycles(config) + (1 if config.beat_queue_depth else _beats_under_way(config))


def _beats_under_way(config):
    """Beats that may still reach a cluster after it was full: see `rtl.engine.cluster` and `rtl.engine.scanner`."""
    return 5 + broadcast_cycles(config)


def scan_groups(config):
    """Groups of blocks in which a word of activations goes through the scanner, to keep wires short."""
    blocks = config.pes // config.block_cols
    return blocks // 4 if blocks > 4 else 1


def broadcast_cycles(config):
    """Registers between the scanner and a PE: none for a single cluster, up to three for 64 PEs and more."""
    return 0 if config.clusters == 1 else 1 if config.clusters <= 4 else 2 if config.clusters <= 8 else 3


def quiet_cycles(config):
    """Registers between the walkers, once they have nothing left to decode, and the sequencer."""
    return 1 + config.deep_pipeline


def forwards(config):
    """Whether a word that is drained also goes to the scanner directly, if that has nothing else to scan."""
    return config.hurried and not config.tap_bits and scan_groups(config) == 1


def drain_cycles(config):
    """From the drain's step that completes a row to the row's activations."""
    from .engine.accumulate import Accumulator
    from .engine.requantize import Requantizer

    share = config.pes_per_requantizer
    # PEs that share take turns, through a register, or two in a deep pipeline.
    return (config.deep_pipeline + Accumulator.latency_cycles(config) + Requantizer.latency_cycles(config)
            + (share + config.deep_pipeline if share > 1 else 0))
