# SPDX-License-Identifier: Apache-2.0
"""A trained network on MNIST, from the training to the RTL of the default engine."""

from dataclasses import replace

import numpy as np
import torch

from host.api import EngineNetwork
from host.compilation.state import Settings
from host.compilation.steps import compile_model
from host.datasets import load_dataset
from host.device.target import parse_target
from host.run import run_image
from host.train import TrainSettings, train
from rtl.config import preset
from rtl.protocol import COUNTERS


def test_lenet_is_trained_pruned_and_run_in_rtl(tmp_path):
    """A network trained for seconds and pruned in one shot is far from its best, and far better than chance."""
    mnist = load_dataset("mnist")
    part = replace(mnist, train_images=mnist.train_images[:12_000], train_labels=mnist.train_labels[:12_000],
                   test_images=mnist.test_images[:1000], test_labels=mnist.test_labels[:1000])
    model, _ = train(TrainSettings("lenet-300-100", epochs=1, batch=64, augment=False), part)
    torch.save(model.state_dict(), tmp_path / "lenet.pt")
    np.save(tmp_path / "inputs.npy", mnist.train_images[:1000])

    config = preset("default")
    work = compile_model(Settings(tmp_path / "lenet.pt", config, density=0.1, calib=f"npy:{tmp_path / 'inputs.npy'}"))
    assert work.packed is not None and work.packed.quantized.weights_kept <= 26_620
    run = run_image(EngineNetwork.of(work), parse_target("sim:default"), part, 20)

    assert (run.comparison.images, run.comparison.layers, run.comparison.mismatches) == (20, 3, 0)
    assert run.comparison.counter_mismatches == dict.fromkeys(COUNTERS, 0)
    # Dense weights would take 266,200 / 16 cycles and more.
    assert 0 < run.comparison.mean_counters["cycles"] < 2000
    assert run.comparison.mean_counters["dropped_slices"] > 0
    assert run.metric == "error" and run.test_metrics["error"] <= 30
