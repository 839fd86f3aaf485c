# SPDX-License-Identifier: Apache-2.0
"""What the compiler's report tells of an image, and whose report counts."""

import json

import numpy as np
import pytest

from host.decoding.decode import Decoded, decode
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.reporting.image_report import output_scale_of_report, weights_of_report
from host.view.recording import layer_figures
from tests.support.networks import SMALL, random_network


@pytest.fixture
def decoded() -> Decoded:
    """A network of three layers."""
    network = random_network(np.random.default_rng(3), SMALL, [60, 30, 20, 10], 0.3)
    return decode(parse_image(image_file(pack(network, SMALL)), SMALL), SMALL)


def report_of(decoded: Decoded) -> dict:
    """A report of this image."""
    layers = [{"name": layer.name, "weights_kept": layer.weights_kept, "weights_total": layer.codes.size + 5,
               "output_scale": 0.5 ** number} for number, layer in enumerate(decoded.network.layers)]
    return {"config_hash": SMALL.hash.hex(), "layers": layers}


def test_the_report_tells_how_many_weights_there_were_and_the_scale(tmp_path, decoded):
    file = tmp_path / "report.json"
    assert weights_of_report(file, decoded) is None and output_scale_of_report(file, decoded) is None
    file.write_text(json.dumps(report_of(decoded)))
    totals = weights_of_report(file, decoded)
    assert totals == [layer.codes.size + 5 for layer in decoded.network.layers]
    assert [layer["weights_total"] for layer in layer_figures(decoded, totals)] == totals
    assert output_scale_of_report(file, decoded) == 0.25


@pytest.mark.parametrize("change", [
    {"config_hash": "00"}, {"layers": None}, {"layers": [[]]}, {"layers": [{}]}, {"layers": []}, {"layers": {"a": 1}},
    {"weights_kept": 0}, {"name": "other"}, [], "x", None])
def test_the_report_of_another_image_counts_for_nothing(tmp_path, decoded, change):
    report = report_of(decoded)
    if not isinstance(change, dict):
        report = change
    elif change.keys() <= report.keys():
        report |= change
    else:
        report["layers"][1] |= change
    for text in (json.dumps(report), "[" * 100_000):
        (tmp_path / "report.json").write_text(text)
        assert weights_of_report(tmp_path / "report.json", decoded) is None
        assert output_scale_of_report(tmp_path / "report.json", decoded) is None


@pytest.mark.parametrize("total", [3, 1e9, 1 << 60, None])
def test_a_number_of_weights_that_cannot_be_counts_for_nothing(tmp_path, decoded, total):
    report = report_of(decoded)
    report["layers"][1]["weights_total"] = total
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert weights_of_report(tmp_path / "report.json", decoded) is None
    assert output_scale_of_report(tmp_path / "report.json", decoded) == 0.25


@pytest.mark.parametrize("scale", [0.0, -1.5, float("nan"), float("inf"), 1, "1.0", None, []])
def test_a_scale_that_cannot_be_counts_for_nothing(tmp_path, decoded, scale):
    report = report_of(decoded)
    report["layers"][-1]["output_scale"] = scale
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert output_scale_of_report(tmp_path / "report.json", decoded) is None
    assert weights_of_report(tmp_path / "report.json", decoded) is not None
