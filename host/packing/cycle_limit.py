# SPDX-License-Identifier: Apache-2.0
"""An upper bound of an inference's cycles: the engine's watchdog stops an inference that takes longer."""

import math
from typing import Any

from host.packing.pack import PackedNetwork, PackedPass
from rtl.config import EngineConfig
from rtl.descriptor import descriptor_words
from rtl.image_format import LIMIT_STEP
from rtl.structure import counter_bits

__all__ = ["cycle_limit"]

MARGIN = 2
"""A broken engine never ends, so the bound need not be tight."""

PASS_CYCLES = 100
"""Cycles of a pass in addition to its work: to fill and empty the pipeline, and from layer to layer."""


def cycle_limit(packed: PackedNetwork) -> int:
    """Cycles that no inference of ``packed`` reaches, whatever its activations: a multiple of `LIMIT_STEP`.

    The bound assumes that no activation is zero, that no tap falls outside the output, and that every PE waits after
    each broadcast for the PE with most entries. Queues and zeros only save cycles.
    """
    cycles = sum(_pass_cycles(one, packed.config) for layer in packed.layers for one in layer.passes)
    most = (1 << counter_bits(packed.config)) // LIMIT_STEP - 1
    return min(MARGIN * cycles // LIMIT_STEP + 1, most) * LIMIT_STEP


def _pass_cycles(one: PackedPass, config: EngineConfig) -> int:
    """Greatest number of cycles from the start of a pass to that of the next."""
    fields: dict[str, Any] = dict(one.descriptor)
    lengths = one.encoded.lengths
    scan = math.prod(one.encoded.scan.pixels) * (int(lengths.max(axis=0).sum()) + lengths.shape[1])
    drained = len(one.encoded.slots) * fields["pool"] ** 2 * fields["pooled_cols"] * fields["pooled_rows"]
    drain = drained * config.row_cycles
    tables = descriptor_words(config) + config.codebook_entries + config.taps + config.table_entries
    return scan + drain + tables + PASS_CYCLES
