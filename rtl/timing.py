# SPDX-License-Identifier: Apache-2.0
"""Cycles from one unit of the engine to another, derived from `EngineConfig`."""

from .structure import broadcast_cycles


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


def quiet_cycles(config):
    """Registers between the walkers, once they have nothing left to decode, and the sequencer."""
    return 1 + config.deep_pipeline


