# SPDX-License-Identifier: Apache-2.0
"""The figures of a run: means, times of engine and link, and what the models say."""

import numpy as np
import pytest

from host.api import EngineNetwork
from host.cycle_model.predict import Prediction
from host.datasets import Dataset
from host.device.batch import Batch
from host.device.target import Target
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.reporting.engine_run import EngineRun
from host.run import run_image
from host.verification.compare import Comparison
from nonzero.errors import UserError
from rtl.protocol import COUNTERS
from tests.support.images import perfect_batch
from tests.support.networks import SMALL, random_network

BATCH = Batch([], {"cycles": np.array([100, 300])}, np.array([0.001, 0.003]), link_bytes=200, repeated=3)
"""Two images."""

PREDICTION = Prediction({"cycles": np.array([100, 296])}, np.zeros((2, 1)), np.array([[240, 80], [80, 80]]),
                        np.array([[50, 30], [40, 5]]))
"""With 4 PEs the limits are 60 + 30 and 40 + 20 cycles, the useful multiplications alone take 80 and 40."""


def comparison(mismatches=0, **counters):
    return Comparison(2, 3, mismatches, dict.fromkeys(COUNTERS, 0) | counters, {})


def run(**more):
    return EngineRun(**{"target": Target("sim:small", SMALL), "pes": 4, "batch": BATCH, "metric": "error",
                        "test_metrics": {"error": 12.5}, "seconds": 1.234} | more)


def test_a_run_that_was_not_verified_has_means_and_times():
    assert run(target=Target("board", SMALL, clock_mhz=50.0, baud=1_000_000)).figures() == {
        "device": "board", "images": 2, "pes": 4, "cycles_per_image": 200, "counters": {"cycles": 200},
        "metric": "error", "test_error": 12.5, "test_metrics": {"error": 12.5}, "accuracy": 87.5, "seconds": 1.23,
        "latency_ms": {"median": pytest.approx(2), "p99": pytest.approx(2.98), "max": pytest.approx(3)},
        "images_per_second": pytest.approx(500), "engine_us_per_image": 4, "engine_images_per_second": 250_000,
        "link_bytes_per_image": 100, "link_us_per_image": 1000, "link_images_per_second": 1000, "packets_repeated": 3}


def test_a_simulation_has_no_times():
    batch = Batch([], BATCH.counters, np.full(2, np.nan), link_bytes=200)
    figures = run(batch=batch).figures()
    assert {name for name, value in figures.items() if value is None} == {
        "latency_ms", "images_per_second", "engine_us_per_image", "engine_images_per_second", "link_us_per_image",
        "link_images_per_second"}


def test_a_run_that_was_verified_has_the_models_beside_it():
    figures = run(comparison=comparison(1, cycles=1), prediction=PREDICTION).figures()
    assert figures.items() >= {
        "mismatches": 1, "layers_compared": 3, "ideal_cycles_per_image": 60.0, "limit_cycles_per_image": 75.0,
        "predicted_cycles_per_image": 198.0, "cycles_over_limit": 200 / 75, "cycles_over_ideal": 200 / 60,
        "cycle_mismatches": 1}.items()


@pytest.mark.parametrize("found", [comparison(1), comparison(cycles=1)])
def test_a_difference_is_an_error(found):
    run(comparison=comparison(), prediction=PREDICTION).check()
    with pytest.raises(UserError, match="the engine differs from its models"):
        run(comparison=found, prediction=PREDICTION).check()


def test_a_network_without_work_has_no_ratio(monkeypatch):
    """Nothing to multiply and nothing to broadcast: the limits are zero cycles."""
    network = random_network(np.random.default_rng(1), SMALL, [10, 6, 3], 0.0)
    image = parse_image(image_file(pack(network, SMALL)), SMALL)
    blank, labels = np.zeros((4, 10), np.uint8), np.zeros(4, np.int64)
    monkeypatch.setattr("host.verification.measure.run_batch", perfect_batch)
    data = Dataset("blank", blank, labels, blank, labels)
    figures = run_image(EngineNetwork(image, SMALL, b""), Target("sim:small", SMALL), data, 4).figures()
    assert figures["mismatches"] == figures["cycle_mismatches"] == 0 and figures["cycles_per_image"] > 0
    assert figures["cycles_over_ideal"] is None
