# SPDX-License-Identifier: Apache-2.0
"""The networks of ``models/`` give the figures that stand beside them, on the golden model and all test images."""

import json

import numpy as np
import pytest

from host.compilation.state import Settings
from host.compilation.steps import compile_model
from host.compression.share_weights import ShareSettings
from host.demo import ready_settings
from host.importers.load_network import load_network
from host.network.zoo import build
from nonzero.shipped import MODELS
from rtl.config import PRESETS, preset

FIGURES = json.loads((MODELS / "figures.json").read_text())
CONVOLUTIONAL = [name for name, config in PRESETS.items() if config.tap_bits]


def packed(name, chosen):
    return compile_model(Settings(MODELS / name, preset(chosen), chosen, prune=False, data="mnist",
                                  sharing=ShareSettings(epochs=0)))


@pytest.mark.parametrize("name", FIGURES)
def test_networks_have_the_figures_beside_them(name):
    """Figures with the demo's settings; of a network without convolutions also those on other engines."""
    figures = FIGURES[name]
    settings = ready_settings(MODELS / name)
    assert settings.preset == figures["preset"]
    works = [compile_model(settings)]
    if settings.preset not in CONVOLUTIONAL:
        works += [packed(name, other) for other in ("up5k", "tiny")]
    for work in works:
        assert work.quantized.weights_kept == figures["weights_kept"]
        assert round(work.test_errors["engine"], 2) == figures["test_error_engine"]


@pytest.mark.parametrize("name", FIGURES)
def test_files_hold_few_weights_of_few_values(name):
    figures = FIGURES[name]
    whole = build(figures["network"]).state_dict()
    network = load_network(MODELS / name)
    assert network.assumptions == ()
    assert sum(whole[f"{layer.name}.weight"].numel() for layer in network.layers) == figures["weights_total"]
    assert all(len(np.unique(layer.weight)) <= 16 for layer in network.layers)
    assert (MODELS / name).stat().st_size < 1 << 19
    readme = (MODELS / "README.md").read_text()
    share = 100 * figures["weights_kept"] / figures["weights_total"]
    row = (f"`{name}`", f"{figures['weights_kept']:,} ({share:.2f} %)", f"{figures['weights_total']:,}",
           f"{figures['test_error_engine']:.2f} %", f"{figures['test_error_dense']:.2f} %")
    assert f"| {' | '.join(row)} |" in readme


def test_every_model_has_figures():
    assert sorted(path.name for path in MODELS.glob("*.safetensors")) == sorted(FIGURES) != []
