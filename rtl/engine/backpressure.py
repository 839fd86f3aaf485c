# SPDX-License-Identifier: Apache-2.0
"""Back-pressure: the levels from which a queue is full, so that there is room for what is still under way to it.

Beats and slices travel in streams without back-pressure. A queue that is full stops the scanner through registers, and
everything that the scanner has sent until then arrives: so a queue must call itself full some places early.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from rtl.structure import broadcast_cycles

from .gather import Gather
from .scanner import Scanner
from .slices import SliceLookup

__all__ = ["beat_queue_limit", "job_queue_limit", "jobs_under_way"]

SPARE_BEATS = 2
"""Places kept free beyond those that the registers need."""


def beats_under_way(config):
    """Beats that may still reach a cluster once a queue in it is full, as its register ``full`` tells."""
    return 1 + Gather.stop_cycles + Scanner.stop_cycles + broadcast_cycles(config) + SPARE_BEATS


def jobs_under_way(config):
    """Slices that may still reach a PE's queue once it is full.

    Behind a queue of beats these are the ones in the lookup and one in the register before it; without such a queue the
    scanner has to stop.
    """
    return SliceLookup.latency_cycles(config) + (1 if config.beat_queue_depth else beats_under_way(config))


def beat_queue_limit(config):
    """Beats with which a cluster's queue is full."""
    return config.beat_queue_depth - beats_under_way(config)


def job_queue_limit(config):
    """Slices with which a PE's queue is full.

    Behind a queue of beats one place stays unused, which saves a bit of the queue's level.
    """
    return config.queue_depth - jobs_under_way(config) - (config.beat_queue_depth > 0)
