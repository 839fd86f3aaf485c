# SPDX-License-Identifier: Apache-2.0
"""Every file that a command reads, damaged in many ways: the command ends well or with errors in words."""

import json
import os
import re
import signal
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from host import compile as host_compile
from host import demo, run, sensitivity, train
from host.bench import __main__ as bench
from host.datasets import load_dataset
from host.device.pe_trace import SERIES, STATES
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.study import __main__ as study
from host.study.subject import QUICK_EPOCHS, Effort
from host.view import __main__ as view
from host.view.recording import FORMAT, VERSION
from nonzero.errors import INTERRUPTED, UserError, run_command
from rtl.build import __main__ as build
from rtl.config import PRESETS
from rtl.protocol import COUNTERS
from tests.support.networks import random_network
from tests.support.tflite_models import lite_file

STOPPED = "stopped here, since all files are read"
TINY = ["--preset", "tiny", "--max-loss", "100", "-o", "out"]
EPOCHS = ["--share-epochs", "0"]
DATA = "npz:data.npz"

MEASURE = "host.verification.measure.run_batch"

READERS = {
    # name: command, file that is damaged, arguments, what to stop at once all files are read
    "compile .pt": (host_compile, "m.pt", ["m.pt", "--no-prune", *TINY], None),
    "compile module": (host_compile, "module.pt", ["module.pt", "--no-prune", *TINY], None),
    "compile legacy": (host_compile, "legacy.pt", ["legacy.pt", "--no-prune", *TINY], None),
    "compile .safetensors": (host_compile, "m.safetensors", ["m.safetensors", "--no-prune", *TINY], None),
    "compile .pt2": (host_compile, "m.pt2", ["m.pt2", "--no-prune", *TINY], None),
    "compile .onnx": (host_compile, "m.onnx", ["m.onnx", "--no-prune", *TINY], None),
    "compile .tflite": (host_compile, "m.tflite", ["m.tflite", "--no-prune", *TINY], None),
    "compile --data": (host_compile, "data.npz", ["m.pt", "--data", DATA, "--no-prune", *EPOCHS, *TINY], None),
    "compile --calib npy": (host_compile, "calib.npy", ["m.pt", "--calib", "npy:calib.npy", "--no-prune", *TINY], None),
    "compile --calib idx": (host_compile, "calib.idx", ["m.pt", "--calib", "idx:calib.idx", "--no-prune", *TINY], None),
    "compile --check npz": (host_compile, "check.npz", ["m.pt", "--check", "check.npz", "--no-prune", *TINY], None),
    "compile --check pt2": (host_compile, "m.pt2", ["m.pt", "--check", "m.pt2", "--no-prune", *TINY], None),
    "compile --config": (host_compile, "engine.toml", ["m.pt", "--config", "engine.toml", "--no-prune", "-o", "out"],
                         "host.compile.compile_model"),
    "compile --recipe": (host_compile, "recipe.toml", ["m.pt", "--recipe", "recipe.toml", *TINY],
                         "host.compile.compile_model"),
    "sensitivity": (sensitivity, "m.pt", ["m.pt", "--data", DATA, "-o", "out"], "host.sensitivity.scan"),
    "bench recipes": (bench, "m.pt", ["recipes", "m.pt", "--data", DATA, "-o", "out"], "host.bench.recipes.prune"),
    "bench recipes --recipe": (bench, "recipe.toml", ["recipes", "m.pt", "--data", DATA, "--recipe", "recipe.toml",
                                                      "-o", "out"], "host.bench.recipes.prune"),
    "bench seconds": (bench, "m.img", ["seconds", "--layer", "LeNet-300-100", "--board", "icebreaker", "--model",
                                       "m.img", "--data", DATA, "-o", "out"], "host.bench.__main__.run_seconds"),
    "demo --model": (demo, "m.pt", ["--model", "m.pt", "-o", "out"], "host.demo.compile_model"),
    "train --data": (train, "planes.npz", ["lenet-300-100", "--data", "npz:planes.npz", "-o", "t.pt"],
                     "host.train.train"),
    "train goes on": (train, "t.pt.checkpoint", ["lenet-300-100", "--data", "npz:planes.npz", "--epochs", "2",
                                                 "--batch", "10", "-o", "t.pt"], None),
    "run": (run, "m.img", ["m.img", "--data", DATA, "--device", "sim:tiny", "--limit", "2"], MEASURE),
    "run serial": (run, "m.img", ["m.img", "--data", DATA, "--device", "serial:nosuch", "--limit", "2"], MEASURE),
    "run --data": (run, "data.npz", ["m.img", "--data", DATA, "--device", "sim:tiny", "--limit", "2"], MEASURE),
    "run sim:FILE.toml": (run, "engine.toml", ["m.img", "--data", DATA, "--device", "sim:engine.toml", "--limit", "2"],
                          MEASURE),
    "run baked": (run, "m.img", ["m.img", "--data", DATA, "--device", "sim:icebreaker?baked=m.img", "--limit", "2"],
                  MEASURE),
    "view": (view, "run.json", ["run.json", "-o", "run.html"], None),
    "build --config": (build, "engine.toml", ["--verilog", "--config", "engine.toml", "-o", "engine.v"],
                       "rtl.build.__main__.write_verilog"),
    "build --bake": (build, "m.img", ["--board", "icebreaker", "--bake", "m.img", "-o", "out"],
                     "rtl.build.__main__.build_bitstream"),
    "study --known": (study, "study.json", ["--known", "study.json", "--data", "npz:planes.npz", "--quick", "-o",
                                            "out"], "host.study.workers.run_workers"),
    "study --data": (study, "planes.npz", ["--data", "npz:planes.npz", "--quick", "-o", "out"],
                     "host.study.workers.run_workers"),
}

VALUES = ["-1", "0", "1e400", "NaN", "9" * 30, "9" * 5000, "0.5", "null", '"x"', "[]", "{}", "true", "[[1]]",
          '"\\u0000"', '"\\ud800"']
"""Texts that take the place of a number or a text in JSON or TOML."""


def damaged(content, rng):
    """The contents of a file, damaged in one way after the other."""
    yield from (b"", content[:1], content[:len(content) // 2], content[:-1], content * 2, b"\0" * 4096,
                rng.bytes(1000), content[len(content) // 2:], content[::-1])
    for count in (1, 1, 1, 2, 8, 64):
        flipped = bytearray(content)
        for place in rng.integers(0, len(content), count):
            flipped[place] ^= 1 << int(rng.integers(8))
        yield bytes(flipped)
    for count in (1, 100):
        place = int(rng.integers(len(content)))
        yield content[:place] + rng.bytes(count) + content[place:]
        yield content[:place] + content[place + count:]
    if content.isascii():
        tokens = list(re.finditer(rb'-?\d+(\.\d+)?|"[^"]*"', content))
        for value in VALUES:
            token = tokens[int(rng.integers(len(tokens)))]
            yield content[:token.start()] + value.encode() + content[token.end():]


def attempt(command, arguments, capsys):
    """The exit status; whatever the command did, it said why in words."""
    try:
        status = run_command(command.main, arguments)
    except SystemExit as caught:  # how argparse refuses
        status = caught.code
    err = capsys.readouterr().err
    assert status in (0, 2) and (status == 0 or "error: " in err), err
    return status, err


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with one good file of each kind."""
    place = tmp_path_factory.mktemp("files")
    rng, tiny = np.random.default_rng(1), PRESETS["tiny"]
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3)).eval()
    torch.save(model.state_dict(), place / "m.pt")
    torch.save(model, place / "module.pt")
    torch.save(model.state_dict(), place / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(model.state_dict(), place / "m.safetensors")
    torch.export.save(torch.export.export(model, (torch.rand(1, 20),)), place / "m.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.rand(1, 20),), place / "m.onnx", dynamo=False)
    (place / "m.tflite").write_bytes(lite_file(*(layer.weight.detach().numpy() for layer in (model[0], model[2]))))
    labels = np.arange(20) % 3
    for name, shape in (("data.npz", (20, 20)), ("planes.npz", (20, 28, 28))):
        images = rng.integers(0, 256, shape, np.uint8)
        np.savez(place / name, x_train=images, y_train=labels, x_test=images, y_test=labels)
    np.savez(place / "check.npz", inputs=rng.random((20, 20), np.float32), outputs=rng.random((20, 3), np.float32))
    np.save(place / "calib.npy", rng.random((20, 20), np.float32))
    (place / "calib.idx").write_bytes(b"\0\0\x08\x02" + np.array([20, 20], ">u4").tobytes() + rng.bytes(400))
    (place / "engine.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in
                                               asdict(tiny).items()))
    (place / "recipe.toml").write_text('criterion = "magnitude"\nrounds = 2\nfinal_epochs = 1\ndropout = 0.1\n')
    network = random_network(rng, tiny, [20, 30, 8], 0.3)
    (place / "m.img").write_bytes(image_file(pack(network, tiny)))
    (place / "run.json").write_text(json.dumps(recording()))
    (place / "study.json").write_text(json.dumps(earlier_study(load_dataset(f"npz:{place / 'planes.npz'}"))))
    interrupt_training(place)
    return place


def interrupt_training(place):
    """Leaves a checkpoint of a training's first epoch there."""
    command, _, arguments, _ = READERS["train goes on"]
    write_state = train.write_state

    def interrupted(path, state):
        write_state(path, state)
        raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "write_state", interrupted)
        patch.chdir(place)
        assert run_command(command.main, arguments) == INTERRUPTED


def recording():
    """The least that `host.view` takes: one layer, one inference of 4 cycles on 2 PEs."""
    layer = {key: 4 for key in ("inputs", "outputs", "weights_total", "weights_kept", "entries", "index_bits", "bits")}
    image = {"number": 0, "label": 1, "answer": 1, "predicted_cycles": 4, "active": [4],
             "counters": {name: 4 if name in ("cycles", "useful_macs") else 0 for name in COUNTERS},
             "series": {name: [4 if name == "cycles" else 0] for name in SERIES},
             "spent": {name: [2, 2] if name in ("busy", "walking") else [0, 0] for name in STATES},
             "level_sum": [4, 0], "level_max": [1, 0]}
    return {"format": FORMAT, "version": VERSION, "tool": "nonzero", "device": "sim:tiny", "image": "m.img",
            "data": "mnist", "config_hash": "00", "pes": 2, "queue_depth": 4, "queue_limit": 3, "bin_cycles": 4,
            "layers": [{"name": "fc1", **layer}], "passes": [0], "images": [image]}


def earlier_study(dataset):
    """An earlier quick study of the dataset."""
    outcome = {"parameters": 10, "total": 20, "bits": 80, "place": "chip", "test_error": 1.5, "seconds": 2.5}
    return {"identity": study.study_identity("lenet-300-100", dataset, Effort.of(QUICK_EPOCHS)),
            "measured": [{"method": "dense", "setting": {}, "seed": 0, **outcome}]}


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_words(place, tmp_path, monkeypatch, capsys, name):
    command, file, arguments, stop = READERS[name]
    for one in place.iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())
    monkeypatch.chdir(tmp_path)
    if stop is not None:
        def stopped(*_, **__):
            raise UserError(STOPPED)
        monkeypatch.setattr(stop, stopped)
    content, rng = (tmp_path / file).read_bytes(), np.random.default_rng(7)
    status, err = attempt(command, arguments, capsys)
    assert (status, STOPPED in err) == ((0, False) if stop is None else (2, True)), err
    for mutant in damaged(content, rng):
        (tmp_path / file).write_bytes(mutant)
        attempt(command, arguments, capsys)


def test_what_is_no_readable_file_is_refused_in_words(place, tmp_path, monkeypatch, capsys):
    """In place of a file: nothing, a directory, a pipe, a device without end, a link to itself, a file that is too
    large to be read, and one that nobody may read."""
    kinds = {"nothing": lambda path: None, "directory": Path.mkdir, "pipe": os.mkfifo,
             "device": lambda path: path.symlink_to("/dev/zero"), "loop": lambda path: path.symlink_to(path),
             "huge": lambda path: os.truncate(os.open(path, os.O_WRONLY | os.O_CREAT), 1 << 40),
             "unreadable": lambda path: path.touch(0)}
    (tmp_path / "closed").touch(0)
    if os.access(tmp_path / "closed", os.R_OK):
        del kinds["unreadable"]  # root may read everything
    (tmp_path / "closed").unlink()
    for one in place.iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())
    monkeypatch.chdir(tmp_path)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for ever"))
    for name, (command, file, arguments, _) in READERS.items():
        if name == "train goes on":  # a checkpoint that cannot be read is written anew
            continue
        content = Path(file).read_bytes()
        for kind, make in kinds.items():
            os.remove(file)
            make(Path(file))
            signal.alarm(60)
            status, err = attempt(command, arguments, capsys)
            signal.alarm(0)
            assert status == 2, (name, kind, err)
            Path(file).rmdir() if kind == "directory" else Path(file).unlink(missing_ok=True)
            Path(file).write_bytes(content)
