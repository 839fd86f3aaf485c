# SPDX-License-Identifier: Apache-2.0
"""Latencies between the engine's units, in cycles, and the limits of its queues, for the cycle model and the viewer.

Each unit states its own latency; this module adds them up.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from .backpressure import beat_queue_limit, job_queue_limit
from .cluster import Cluster
from .gather import Gather
from .pe import ProcessingElement
from .program import Program
from .scanner import Scanner
from .sequencer import Sequencer
from .slices import SliceLookup
from .variants import variant

__all__ = [
    "SETTLE_CYCLES", "beat_queue_limit", "drain_cycles", "fetch_cycles", "forwards", "job_queue_limit", "late_cycles",
    "lookup_cycles", "quiet_cycles", "table_cycles",
]

SETTLE_CYCLES = Sequencer.settle_cycles

fetch_cycles = Program.fetch_cycles
table_cycles = Program.table_cycles
late_cycles = Program.late_cycles
quiet_cycles = Gather.quiet_cycles
forwards = Scanner.forwards


def lookup_cycles(config):
    """Cycles from a beat that enters the lookup, or leaves the queue before it, to the beat's jobs."""
    return Cluster.queue_cycles(config) + SliceLookup.latency_cycles(config)


def drain_cycles(config):
    """Cycles from the drain's step that completes a row to the row's activations."""
    return (ProcessingElement.total_cycles(config) + Cluster.turn_cycles(config)
            + variant(config).requantizer.latency_cycles(config))
