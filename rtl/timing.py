# SPDX-License-Identifier: Apache-2.0
"""Cycles from one unit of the engine to another, and the levels of its queues, for whoever predicts or draws a run.

Each unit states its own latency, and they are summed here: so this module stands above the engine.
"""

from .engine.backpressure import beat_queue_limit, job_queue_limit
from .engine.cluster import Cluster
from .engine.gather import Gather
from .engine.pe import ProcessingElement
from .engine.requantize import Requantizer
from .engine.slices import SliceLookup

__all__ = ["beat_queue_limit", "drain_cycles", "job_queue_limit", "lookup_cycles", "quiet_cycles"]


def lookup_cycles(config):
    """Cycles from a beat at the slice lookup to its jobs."""
    return SliceLookup.latency_cycles(config)


def quiet_cycles(config):
    """Cycles from walkers that have nothing left to decode to the sequencer that knows it."""
    return Gather.quiet_cycles(config)


def drain_cycles(config):
    """Cycles from the drain's step that completes a row to the row's activations."""
    return (ProcessingElement.total_cycles(config) + Cluster.turn_cycles(config)
            + Requantizer.latency_cycles(config))
