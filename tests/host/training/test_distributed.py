# SPDX-License-Identifier: Apache-2.0
"""Training in two processes: the result of one process but for rounding, checkpoints that either can take up."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from host.datasets import load_dataset
from host.train import TrainSettings, main, train
from host.training.augment import AUGMENTATIONS, Augmenter
from host.training.distributed import ALONE, Group, process_group
from host.training.samples import Samples
from nonzero.errors import UserError
from tests.support.paths import ROOT

EPOCHS = 12
RUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost",
       "--nproc-per-node", "2", "-m", "host.train"]
LOOPBACK = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture
def data(tmp_path):
    """600 images of three classes: a bright stripe in one third of the image."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 600)
    images = rng.integers(0, 120, (600, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 8 * label:8 + 8 * label] += 60
    np.savez(tmp_path / "data.npz", x_train=images[:500], y_train=labels[:500], x_test=images[500:],
             y_test=labels[500:])
    return f"npz:{tmp_path / 'data.npz'}"


def arguments(data, output):
    """Batches of an odd number of images, so that the processes' parts differ in size."""
    return ["lenet-300-100", "--data", data, "-o", str(output), "--batch", "51", "--epochs", str(EPOCHS)]


def together(data, output, *options):
    ended = subprocess.run([*RUN, *arguments(data, output), *options], cwd=ROOT, env=LOOPBACK, check=False, text=True,
                           capture_output=True)
    assert ended.returncode == 0, ended.stderr
    return ended


def same(tmp_path, one, other):
    weights = [torch.load(tmp_path / f"{name}.pt", weights_only=True)["state_dict"] for name in (one, other)]
    curves = [json.loads((tmp_path / f"{name}.curve.json").read_text()) for name in (one, other)]
    assert len(weights[0]) == len(weights[1]) == 6 and len(curves[0]) == EPOCHS
    return (all(torch.allclose(weights[0][name], weights[1][name], rtol=0.01, atol=0.002) for name in weights[0])
            and [point["epoch"] for point in curves[0]] == [point["epoch"] for point in curves[1]]
            and all(abs(a["loss"] - b["loss"]) < 1e-3 and abs(a["held_out_error"] - b["held_out_error"]) < 2.5
                    for a, b in zip(*curves, strict=True)))


def test_two_processes_train_as_one_and_take_up_each_others_checkpoints(data, tmp_path):
    main(arguments(data, tmp_path / "alone.pt"))
    said = together(data, tmp_path / "two.pt")
    assert said.stdout.count("test error") == 1 and said.stdout.startswith(f"{tmp_path / 'two.pt'}: lenet-300-100")
    assert same(tmp_path, "alone", "two") and not (tmp_path / "two.pt.checkpoint").exists()

    checkpoint = tmp_path / "mixed.pt.checkpoint"
    with subprocess.Popen([*RUN, *arguments(data, tmp_path / "mixed.pt")], cwd=ROOT, env=LOOPBACK,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        while not checkpoint.exists() and killed.poll() is None:
            time.sleep(0.005)
        kept = checkpoint.read_bytes()
        killed.terminate()
    checkpoint.write_bytes(kept)
    assert 1 <= len(torch.load(checkpoint, weights_only=True)["curve"]) < EPOCHS
    main([*arguments(data, tmp_path / "mixed.pt"), "--resume"])
    assert same(tmp_path, "alone", "mixed")


def test_two_processes_go_on_from_the_checkpoint_of_one(data, tmp_path, monkeypatch):
    main(arguments(data, tmp_path / "alone.pt"))

    def write(path, state):
        write_state(path, state)
        if len(state.get("curve", [])) == EPOCHS // 2:
            raise KeyboardInterrupt
    write_state = sys.modules["host.train"].write_state
    monkeypatch.setattr("host.train.write_state", write)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(data, tmp_path / "mixed.pt"))
    together(data, tmp_path / "mixed.pt", "--resume")
    assert same(tmp_path, "alone", "mixed")
    one, other = (json.loads((tmp_path / f"{name}.curve.json").read_text()) for name in ("alone", "mixed"))
    firsts = [[point["loss"] for point in curve[:EPOCHS // 2]] for curve in (one, other)]
    assert firsts[0] == firsts[1]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_the_parts_of_a_batch_make_it_up(data, augmentation):
    dataset = load_dataset(data)
    samples = Samples(dataset.train_images, dataset.train_labels, augment=1.0, augmentation=augmentation)
    whole, *parts = ([*samples.batches(51, torch.Generator().manual_seed(0), part)]
                     for part in (slice(None), Group(0, 2).part, Group(1, 2).part))
    assert len(whole) == 500 // 51
    for (images, labels), (even, even_labels), (odd, odd_labels) in zip(whole, *parts, strict=True):
        assert torch.equal(labels[::2], even_labels) and torch.equal(labels[1::2], odd_labels)
        torch.testing.assert_close(images[::2], even)
        torch.testing.assert_close(images[1::2], odd)


def test_a_part_is_deformed_as_in_the_whole():
    images = torch.rand(7, 64)
    whole, part = (Augmenter(8, 8)(images, torch.Generator().manual_seed(0), one) for one in (slice(None), slice(2, 5)))
    torch.testing.assert_close(whole[2:5], part)


def test_a_batch_with_less_images_than_processes_is_refused(data):
    with pytest.raises(UserError, match=r"batch must be at least 3, one image for each process of torchrun, not 2; "):
        train(TrainSettings("lenet-300-100", batch=2), load_dataset(data), group=Group(0, 3))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in (("WORLD_SIZE", "3"), ("LOCAL_WORLD_SIZE", "3"), ("RANK", "2"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="must be at most 2, the GPUs of this machine, not 3; give fewer"), \
            process_group():
        pass


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as group:
        assert group is ALONE and group.leads and group.sum(2.5) == 2.5
        model = torch.nn.Linear(2, 2)
        assert group.forward(model) is model


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "x"}, {"WORLD_SIZE": "2", "RANK": "0"},
                                         {"WORLD_SIZE": "2", "RANK": "-1", "LOCAL_RANK": "0"},
                                         {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}])
def test_half_an_environment_is_refused(monkeypatch, environment):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"the environment has WORLD_SIZE=.*; start with torchrun, or unset"), \
            process_group():
        pass
