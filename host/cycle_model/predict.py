# SPDX-License-Identifier: Apache-2.0
"""The cycle model: predicts exactly how many cycles an inference takes, and the engine's other counters.

Its inputs are which activations are zero, the lengths of slices and the taps of entries, but no values.
`host.cycle_model.tables` turns them into tables, from which `host.cycle_model.loop` simulates each cycle.
"""

from dataclasses import dataclass

import numpy as np

from host.cycle_model.loop import simulate
from host.cycle_model.tables import active_inputs, engine_constants, image_tables
from host.decoding.decode import Decoded
from host.quantization.work import layer_work
from nonzero.progress import progress, waiting
from rtl.protocol import COUNTERS

__all__ = ["Prediction", "predict"]

BLOCK_INPUTS = 8
"""Inputs from one step of the progress bar to the next."""


@dataclass(frozen=True)
class Prediction:
    """Predicted values of the engine's counters.

    Attributes
    ----------
    counters : dict of int64 array, shape ``[n]``
        `rtl.protocol.COUNTERS` by name, for each inference.
    pass_ends : int64 array, shape ``[n, passes]``
        The cycle in which each pass of the program was handed to the drain.
    useful_macs, broadcasts : int64 array, shape ``[n, layers]``
        Multiplications and broadcasts of each layer (of all its passes). What two bands of a convolution both compute
        (`host.image.space_to_depth`) is counted once here, and twice by the counter.
    """

    counters: dict[str, np.ndarray]
    pass_ends: np.ndarray
    useful_macs: np.ndarray
    broadcasts: np.ndarray

    def ideal_cycles(self, pes: int) -> np.ndarray:
        """Useful multiplications over the number ``pes`` of PEs: float64 ``[n]``."""
        return self.useful_macs.sum(axis=1) / pes

    def limit_cycles(self, pes: int) -> np.ndarray:
        """Sum over the layers of the greater of two numbers: useful multiplications over ``pes`` PEs, and broadcasts.

        Returns a float64 array, shape ``[n]``.
        """
        return np.maximum(self.useful_macs / pes, self.broadcasts).sum(axis=1)


def predict(decoded: Decoded, acts: np.ndarray, outputs: list[np.ndarray]) -> Prediction:
    """Predicts inferences.

    Parameters
    ----------
    decoded : Decoded
        The image that the engine runs.
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    outputs : list of int64 array, shape ``[n, rows]``
        Output activations of every layer, see `host.quantization.golden_model.forward`.
    """
    inputs = active_inputs(decoded, acts, outputs)
    active = np.concatenate(inputs, axis=1)
    tables = image_tables(decoded, np.cumsum([0, *(one.shape[1] for one in inputs)]).tolist())
    engine = engine_constants(decoded.config)
    with waiting("cycle model"):
        found = [simulate(active[:0], tables, engine)]
    found += [simulate(active[first:first + BLOCK_INPUTS], tables, engine)
              for first in progress("cycle model", range(0, len(active), BLOCK_INPUTS), f"{BLOCK_INPUTS} inputs")]
    counts = np.concatenate(found)
    owner = np.array([one.layer for one in decoded.passes])
    useful_macs, broadcasts = (np.stack([counts[name][:, owner == number].sum(axis=1)
                                         for number in range(len(outputs))], axis=1)
                               for name in ("useful_macs", "broadcasts"))
    first, fold = decoded.network.layers[0], decoded.image.layers[0].get("fold")
    if fold and fold.bands > 1:
        useful_macs[:, 0] = [round(layer_work(first, one != 0).sum()) for one in acts]
    return Prediction({name: counts[name].sum(axis=1) for name in COUNTERS}, counts["end"], useful_macs, broadcasts)
