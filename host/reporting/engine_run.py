# SPDX-License-Identifier: Apache-2.0
"""Results of an engine with test images, and its figures as reports have them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from host.cycle_model.predict import Prediction
from host.device.batch import Batch
from host.device.target import UART_BITS, Target
from host.reporting.number_text import ratio
from host.verification.compare import Comparison
from nonzero.errors import UserError

__all__ = ["EngineRun"]


@dataclass(frozen=True)
class EngineRun:
    """Results of the engine, with those of golden model and cycle model if it was verified.

    Attributes
    ----------
    target : Target
    pes : int
        PEs of the engine.
    batch : Batch
        Outputs, counters and times.
    test_metrics : dict of float
        Figures of the images (`host.training.metrics.metrics`); empty if the scale of values is not known.
    metric : str
        Name of the one that is the error, "error" or "mse".
    seconds : float
        Wall-clock time of loading and of all inferences.
    comparison : Comparison, optional
        Differences from the models.
    prediction : Prediction, optional
        The cycle model's counters.
    recording : dict, optional
        For `host.view`, if the target records what the PEs do.
    """

    target: Target
    pes: int
    batch: Batch
    test_metrics: dict[str, float]
    metric: str
    seconds: float
    comparison: Comparison | None = None
    prediction: Prediction | None = None
    recording: dict[str, Any] | None = None

    def figures(self) -> dict[str, Any]:
        """As in ``report.json`` under ``rtl``. Times are None where nothing is known of them."""
        images, means = len(self.batch.latencies), {name: float(values.mean())
                                                    for name, values in self.batch.counters.items()}
        error = self.test_metrics.get(self.metric)
        accuracy = {} if error is None or self.metric != "error" else {"accuracy": 100 - error}
        return {
            "device": self.target.name, "images": images, "pes": self.pes, "cycles_per_image": means["cycles"],
            "counters": means, "metric": self.metric, "test_error": error, "test_metrics": self.test_metrics,
            **accuracy, "seconds": round(self.seconds, 2), **self._times(images, means["cycles"]),
            **self._verified(means["cycles"]),
        }

    def _times(self, images: int, cycles: float) -> dict[str, Any]:
        """Times as measured, and the times that engine and link alone would take."""
        latencies = self.batch.latencies
        measured = not np.isnan(latencies).any()
        clock, baud, link_bytes = self.target.clock_mhz, self.target.baud, self.batch.link_bytes / images
        link_us = None if baud is None else link_bytes * UART_BITS * 1e6 / baud
        engine_us = None if clock is None else cycles / clock
        return {
            "latency_ms": {name: float(np.percentile(latencies, share)) * 1000 for name, share in
                           (("median", 50), ("p99", 99), ("max", 100))} if measured else None,
            "images_per_second": ratio(images, float(latencies.sum())) if measured else None,
            "engine_us_per_image": engine_us, "engine_images_per_second": ratio(1e6, engine_us),
            "link_bytes_per_image": link_bytes, "link_us_per_image": link_us,
            "link_images_per_second": ratio(1e6, link_us), "packets_repeated": self.batch.repeated,
        }

    def _verified(self, cycles: float) -> dict[str, Any]:
        if self.comparison is None or self.prediction is None:
            return {}
        ideal, limit = self.prediction.ideal_cycles(self.pes), self.prediction.limit_cycles(self.pes)
        return {
            "mismatches": self.comparison.mismatches, "layers_compared": self.comparison.layers,
            "ideal_cycles_per_image": float(ideal.mean()), "limit_cycles_per_image": float(limit.mean()),
            "predicted_cycles_per_image": float(self.prediction.counters["cycles"].mean()),
            "cycles_over_limit": ratio(cycles, float(limit.mean())),
            "cycles_over_ideal": ratio(cycles, float(ideal.mean())),
            "cycle_mismatches": self.comparison.counter_mismatches["cycles"],
            "counter_mismatches": self.comparison.counter_mismatches,
        }

    def check(self) -> None:
        """Raises `UserError` if the engine differs from its models."""
        if self.comparison is not None and self.comparison.differs:
            raise UserError("the engine differs from its models: see the figures above")
