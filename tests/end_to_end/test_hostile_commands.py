# SPDX-License-Identifier: Apache-2.0
"""Command lines that cannot work: each is answered in a line that says why, and leaves nothing behind."""

import os

import numpy as np
import pytest
import torch

from host import compile as host_compile
from host import demo, run, train
from host.bench import __main__ as bench
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.study import __main__ as study
from nonzero.errors import run_command
from rtl.build import __main__ as build
from rtl.config import PRESETS
from sim.bench import __main__ as sim_bench
from tests.support.networks import random_network

LENET = ["lenet-300-100", "--data", "npz:planes.npz", "--epochs", "1", "--batch", "10", "-o"]
VERILOG = ["--verilog", "--preset", "tiny", "-o"]
MODEL = ["m.pt", "--no-prune", "-o"]
HUGE = str(1 << 70)

DEVICE = ["m.pt", "--data", "npz:data.npz", "--device"]
SMALL = ["small.img", "--data", "npz:planes.npz", "--device"]

CASES = [
    # command, arguments, part of the answer
    (host_compile, ["nosuch.pt"], "nosuch.pt: there is no such file"),
    (host_compile, ["directory"], "it is a directory or a device, not a file"),
    (host_compile, ["pipe"], "it is a directory or a device, not a file"),
    (host_compile, ["/dev/zero"], "it is a directory or a device, not a file"),
    (host_compile, ["x" * 5000], "File name too long"),
    (host_compile, ["empty.pt"], "it is empty"),
    (host_compile, ["text.pt"], "it is not a model file"),
    (host_compile, ["cut.pt"], "it is a damaged or cut-off zip file"),
    (host_compile, ["nan.pt"], "layer '0': its weight has 600 NaN and 0 infinite values"),
    (host_compile, ["shape.pt"], "layer '2' takes 29 inputs, but the layer before it, '0', gives 30"),
    (host_compile, ["bias.pt"], "must fit 32 bits"),
    (host_compile, [*MODEL, "out", "--calib", "npy:pipe"], "'pipe' must be a file"),
    (host_compile, [*MODEL, "out", "--data", "idx:file"], "must hold 'train-images-idx3-ubyte'"),
    (host_compile, ["m.pt", "--data", "npz:one.npz"], "must have at least 2 training images"),
    (host_compile, ["m.pt", "--data", "npz:planes.npz"], "has 784 values for each image, but the network has 20"),
    (host_compile, [*MODEL, "file"], "output directory 'file' cannot be written: 'file' is no directory"),
    (host_compile, [*MODEL, "file/out"], "output directory 'file/out' cannot be written: 'file' is no directory"),
    (host_compile, [*MODEL, "taken"], "output 'taken/report.html' must be a file"),
    (host_compile, [*MODEL, "x" * 300], "File name too long"),
    (host_compile, [*MODEL, "out", "--seed", "-1"], f"--seed must be 0 to {(1 << 63) - 1}, not -1"),
    (host_compile, [*MODEL, "out", "--seed", HUGE], f"--seed must be 0 to {(1 << 63) - 1}, not {HUGE}"),
    (host_compile, ["m.pt", "--density", "nan"], "density must be above 0 and at most 1, not nan"),
    (host_compile, ["m.pt", "--density", "inf"], "density must be above 0 and at most 1, not inf"),
    (host_compile, ["m.pt", "--quality", "nan"], "quality must be 0 or more, not nan"),
    (host_compile, ["m.pt", "--keep", "0=0.1,0=0.2"], "must name each layer once, not as in '0=0.1,0=0.2'"),
    (host_compile, ["m.pt", "--keep", "="], "must be like fc1=0.08,fc2=0.1, not '='"),
    (host_compile, ["m.pt", "--normalize", "0,nan"], "a finite mean and a positive std, not 0.0 and nan"),
    (host_compile, ["m.pt", "--normalize", "0,1e-45"], "with the mean 0.0 and the std 1e-45 folded in"),
    (host_compile, ["m.pt", "--nosuch"], "unrecognized arguments: --nosuch"),
    (host_compile, ["m.pt", "--config", "pipe"], "configuration 'pipe' must be a file"),
    (host_compile, ["m.pt", "--config", "/dev/zero"], "configuration '/dev/zero' must be a file"),
    (host_compile, ["m.pt", "--config", "cut.pt"], "configuration 'cut.pt' cannot be read"),
    (host_compile, ["m.pt", "--config", "list.toml"], "configuration 'list.toml': preset must be a name"),
    (host_compile, ["m.pt", "--config", "huge.toml"], "pes must be 2 to 256, not 99999999999999999999"),
    (train, ["nosuch", "--data", "npz:planes.npz", "-o", "t.pt"], "network must be one of lenet-300-100"),
    (train, [*LENET, "directory"], "output 'directory' must be a file"),
    (train, [*LENET, "pipe"], "output 'pipe' must be a file"),
    (train, [*LENET, ""], "output '.' must be a file"),
    (train, [*LENET, "file/t.pt"], "'file' is no directory"),
    (train, [*LENET, "t.pt", "--seed", HUGE], f"seed must be 0 to {(1 << 63) - 1}, not {HUGE}"),
    (train, [*LENET, "t.pt", "--epochs", "-1"], "epochs must be 1 to 100000, not -1"),
    (train, [*LENET, "t.pt", "--batch", HUGE], "batch must be 1 to 20, the training images"),
    (train, [*LENET, "t.pt", "--learning-rate", "inf"], "learning rate must be above 0 and at most 10, not inf"),
    (train, [*LENET, "stale.pt"], "checkpoint 'stale.pt.checkpoint' cannot be read"),
    (run, ["nosuch.img", "--data", "npz:data.npz"], "image 'nosuch.img' cannot be read: No such file"),
    (run, ["directory", "--data", "npz:data.npz"], "image 'directory' must be a file"),
    (run, ["pipe", "--data", "npz:data.npz"], "image 'pipe' must be a file"),
    (run, ["/dev/zero", "--data", "npz:data.npz"], "image '/dev/zero' must be a file"),
    (run, ["m.pt", "--data", "npz:data.npz"], "'m.pt' is no memory image"),
    (run, ["file", "--data", "npz:data.npz"], "image 'file' is truncated"),
    (run, ["m.pt", "--data", "npz:data.npz", "--seed", "0"], "--seed must be 1 to 1073741824, not 0"),
    (run, ["m.pt", "--data", "npz:unlabelled.npz"], "unlabelled.npz"),
    (run, ["m.pt", "--data", "idx:nosuch"], "nosuch"),
    (run, ["small.img", "--data", "npz:data.npz", "--device", "sim:tiny"], "has 20 values for each image"),
    (run, [*SMALL, "sim:default"], "was made for preset tiny, the engine has preset default"),
    (run, [*SMALL, "sim:tiny", "--limit", "21"], "must be 1 to 20, not 21"),
    (run, [*SMALL, "sim:tiny", "--limit", "-1"], "must be 1 to 20, not -1"),
    (run, [*DEVICE, ""], "device must be sim:PRESET, sim:FILE.toml, sim:BOARD"),
    (run, [*DEVICE, "sim:"], "not 'sim:'"),
    (run, [*DEVICE, "sim:huge"], "followed by a preset (tiny, up5k, small, default, medium, large, wide, conv"),
    (run, [*DEVICE, "sim:pipe.toml"], "'pipe.toml' must be a file"),
    (run, [*DEVICE, "sim:tiny?baud=1"], "unknown key 'baud'; known are none"),
    (run, [*DEVICE, "sim:ulx3s-85f?x=1&y"], "unknown key 'x'; known are preset"),
    (run, [*DEVICE, "serial:p?baud=fast"], "baud must be 1 to 1e+08, not 'fast'"),
    (run, [*DEVICE, "serial:p?clock_mhz=inf"], "clock_mhz must be 0.001 to 10000"),
    (run, [*DEVICE, "serial:p?board=../x"], "tang-primer-20k, ulx3s-85f, not '../x'"),
    (run, [*SMALL, "serial:nosuch", "--limit", "9"], "port 'nosuch' cannot be opened: [Errno 2]"),
    (run, [*SMALL, "serial:pipe", "--limit", "9"], "(DISCONNECTED): the port cannot be"),
    (run, ["m.pt"], "the following arguments are required: --data"),
    (demo, ["--images", "0"], "--images must be 1 to 10000, not 0"),
    (demo, ["-o", "file"], "output directory 'file' cannot be written"),
    (demo, ["-o", "out", "--seed", HUGE], f"--seed must be 0 to {(1 << 63) - 1}, not {HUGE}"),
    (demo, ["--model", "nosuch.pt"], "nosuch.pt: there is no such file"),
    (demo, ["-o", "taken"], "output 'taken/report.html' must be a file"),
    (bench, [], "the following arguments are required: COMMAND"),
    (bench, ["encode", "--scale", "0"], "invalid choice: 0"),
    (bench, ["encode", "-o", "file"], "output directory 'file' cannot be written"),
    (study, ["--seeds", "0"], "--seeds must be 1 to 1000, not 0"),
    (study, ["--workers", "0"], "--workers must be 1 to 256, not 0"),
    (study, ["--network", "vgg"], "network must be one of lenet-300-100"),
    (study, ["--method", "magic"], "invalid choice: 'magic'"),
    (study, ["--data", "npz:data.npz", "-o", "out"], "has 20 values for each image"),
    (study, ["-o", "file"], "output directory 'file' cannot be written"),
    (study, ["-o", "taken"], "output 'taken/study.html' must be a file"),
    (sim_bench, ["density", "-o", "file"], "output directory 'file' cannot be written"),
    (sim_bench, ["eie", "--uneven", "--ablate", "-o", "taken"], "eie-uneven-ablation.svg' must be a file"),
    (sim_bench, ["eie", "--no-rtl", "--pes", "1000"], "pes must be 2 to 256, not 1000"),
    (sim_bench, ["eie", "--no-rtl", "--index-bits=-3,99999999999999999999"], "index_bits"),
    (build, ["--unit", "nosuch"], "invalid choice: 'nosuch'"),
    (build, ["--unit", "scanner", "-o", "file"], "output directory 'file' cannot be written"),
    (build, [], "one of the arguments --board --unit --verilog is required"),
    (build, ["--board", ""], "board must be one of"),
    (build, ["--verilog", "--preset", ""], "one of tiny, up5k, small, default, medium, large, wide, conv, not ''"),
    (build, [*VERILOG, "directory"], "output 'directory' must be a file"),
    (build, [*VERILOG, "pipe"], "output 'pipe' must be a file"),
    (build, [*VERILOG, "file/engine.v"], "'file' is no directory"),
    (build, [*VERILOG, "engine.v", "--config", "pipe"], "configuration 'pipe' must be a file"),
    (build, ["--board", "ulx3s-85f", "-o", "file"], "'file' is no directory"),
    (build, ["--board", "ulx3s-85f", "-o", "out", "--seed", "-1"], f"--seed must be 0 to {(1 << 31) - 1}, not -1"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory full of strange files."""
    place = tmp_path_factory.mktemp("hostile")
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3))

    def save(name, **changes):
        torch.save({**model.state_dict(), **{key.replace("_", "."): value for key, value in changes.items()}},
                   place / name)
    _0_weight, _2_weight = model[0].weight.detach(), model[2].weight.detach()
    save("m.pt")
    save("nan.pt", **{"0_weight": _0_weight * float("nan")})
    save("shape.pt", **{"2_weight": _2_weight[:, :29]})
    save("bias.pt", **{"2_bias": torch.full((3,), 1e38)})
    (place / "cut.pt").write_bytes((place / "m.pt").read_bytes()[:700])
    for name, content in (("empty.pt", ""), ("text.pt", "hello" * 9), ("file", "x"), ("stale.pt.checkpoint", "x"),
                          ("list.toml", "preset = ['tiny']"), ("huge.toml", "pes = 99999999999999999999")):
        (place / name).write_text(content)
    (place / "directory").mkdir()
    for name in ("report.html", "study.html", "eie-uneven-ablation.svg"):
        (place / "taken" / name).mkdir(parents=True)
    os.mkfifo(place / "pipe")
    os.mkfifo(place / "pipe.toml")
    labels = np.arange(20) % 3
    for name, shape in (("data.npz", (20, 20)), ("planes.npz", (20, 28, 28)), ("one.npz", (1, 20))):
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        np.savez(place / name, x_train=images, y_train=labels[:len(images)], x_test=images,
                 y_test=labels[:len(images)])
    np.savez(place / "unlabelled.npz", x_train=images, x_test=images)
    network = random_network(np.random.default_rng(5), PRESETS["tiny"], [784, 8], 0.2)
    (place / "small.img").write_bytes(image_file(pack(network, PRESETS["tiny"])))
    return place


@pytest.mark.parametrize("command, arguments, answer", CASES)
def test_commands_that_cannot_work_say_why(place, monkeypatch, capsys, command, arguments, answer):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    try:
        status = run_command(command.main, arguments)
    except SystemExit as caught:  # how argparse refuses
        status = caught.code
    assert status == 2
    assert answer in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


def test_all_problems_are_told_at_once(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run_command(host_compile.main, ["m.pt", "-o", "file", "--seed", "-1", "--config", "pipe"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" must ")[0].split(" cannot ")[0] for line in lines] \
        == ["error: --seed", "error: output directory 'file'", "error: configuration 'pipe'"]
    assert run_command(host_compile.main, ["text.pt", "-o", "out", "--data", "npz:nosuch.npz"]) == 2
    told = capsys.readouterr().err
    assert "text.pt" in told and "nosuch.npz" in told
