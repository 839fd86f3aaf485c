# SPDX-License-Identifier: Apache-2.0
"""Every number and name that a command takes, out of range or none at all: refused in words, or taken."""

import numpy as np
import pytest
import torch

from host import compile as host_compile
from host import demo, run, sensitivity, train
from host.bench import __main__ as bench
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import UserError, run_command
from rtl.build import __main__ as build
from rtl.config import PRESETS
from sim.bench import __main__ as sim_bench
from tests.support.networks import random_network

VALUES = ["nan", "inf", "-inf", "-1", "0", "0.5", "1e400", str(1 << 70), "9" * 5000, "", " ", "x", "0x10", "1_0", "½",
          "²", "a\nb", "1,2", "1=2", "--", "x" * 5000]

DATA = ["--data", "npz:data.npz"]
COMPILE = ["m.pt", *DATA, "--preset", "tiny", "--share-epochs", "0", "-o", "out"]
RUN = ["m.img", *DATA, "--device", "sim:tiny", "--limit", "2"]
TRAIN = ["lenet-300-100", "--data", "npz:planes.npz", "--epochs", "1", "--batch", "10", "-o", "t.pt"]
BOARD = ["--board", "icebreaker", "-o", "out"]
EIE = ["eie", "--no-rtl", "-o", "out"]

OPTIONS = [
    # command, arguments, options: the value follows, or stands in place of V
    (host_compile, COMPILE, ["--density V", "--quality V", "--keep V", "--keep 0=V", "--share-bits V", "--seed V",
                             "--share-epochs V", "--share-init V", "--input-shape V", "--input-shape V,4,5",
                             "--normalize V", "--normalize V,1", "--normalize 0,V", "--preset V", "--config V",
                             "--recipe V", "--calib V", "--calib npy:V", "--data V", "--data idx:V", "--data cifar10:V",
                             "--data V:V", "--augmentation V", "--check V", "--max-loss V", "--save V",
                             "-o V"]),
    (train, TRAIN, ["--epochs V", "--batch V", "--learning-rate V", "--seed V", "--data V", "--augmentation V",
                    "-o V"]),
    (run, RUN, ["--limit V", "--seed V", "--data V", "--device V", "--device sim:V", "--device serial:V",
                "--device serial:nosuch?baud=V", "--device serial:nosuch?clock_mhz=V", "--device serial:nosuch?V",
                "--device serial:nosuch?board=V", "--device sim:icebreaker?baked=V", "--device sim:icebreaker?config=V",
                "--trace V", "--waves V"]),
    (sensitivity, ["m.pt", *DATA, "-o", "out"], ["--densities V", "--densities 0.5,V", "--tolerance V", "-o V"]),
    (bench, ["encode", "--scale", "16", "-o", "out"], ["--scale V", "-o V"]),
    (bench, ["seconds", "--layer", "LeNet-300-100", "-o", "out"],
     ["--layer V", "--threads V", "--repeats V", "--density V", "--board V", "--device V", "--model V"]),
    (bench, ["recipes", "m.pt", *DATA, "-o", "out"], ["--density V", "--seeds V", "--recipe V"]),
    (bench, ["conversions", "--network", "relu", "-o", "out"], ["--network V", "--format V", "--seed V", "-o V"]),
    (demo, ["-o", "out"], ["--images V", "--seed V", "--model V", "-o V"]),
    (build, BOARD, ["--board V", "--clock V", "--boot-kib V", "--seed V", "--seeds V", "--preset V", "--config V",
                    "--bake V", "-o V"]),
    (build, ["--unit", "walker", "-o", "out"], ["--unit V", "--part V", "--seed V", "--preset V"]),
    (build, ["--verilog", "-o", "engine.v"], ["--top V", "--preset V", "--config V", "-o V"]),
    (sim_bench, EIE, ["--layer V", "--pes V", "--queue V", "--beat-queue V", "--index-bits V", "--entries-per-word V",
                      "--pes-per-requantizer V", "--seeds V", "--vectors V", "-o V"]),
    (sim_bench, ["networks", "--no-rtl", "-o", "out"], ["--network V", "--images V", "--seed V"]),
    (sim_bench, ["faults", "-o", "out"], ["--packets V", "--bytes V", "--resets V", "--seed V"]),
    (sim_bench, ["axi", "-o", "out"], ["--packets V", "--seed V"]),
]

WORK = ["host.compile.compile_model", "host.compile.write_outputs", "host.verification.measure.run_batch",
        "host.sensitivity.scan", "host.bench.__main__.measure_encode", "host.bench.__main__.run_seconds",
        "host.bench.recipes.prune", "host.bench.__main__.measure_conversions", "host.demo.compile_model",
        "rtl.build.__main__.build_bitstream", "rtl.build.__main__.build_unit", "rtl.build.__main__.write_verilog",
        "host.train.train", "sim.bench.__main__.run_eie", "sim.bench.__main__.run_networks",
        "sim.bench.__main__.run_faults", "sim.bench.__main__.run_axi"]
"""Functions that do the commands' work with valid options: it is not done here."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a model, its image and data."""
    place = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(5)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3))
    torch.save(model.state_dict(), place / "m.pt")
    labels = np.arange(20) % 3
    for name, shape in (("data.npz", (20, 20)), ("planes.npz", (20, 28, 28))):
        images = rng.integers(0, 256, shape, np.uint8)
        np.savez(place / name, x_train=images, y_train=labels, x_test=images, y_test=labels)
    (place / "m.img").write_bytes(image_file(pack(random_network(rng, PRESETS["tiny"], [20, 8], 0.2), PRESETS["tiny"])))
    return place


@pytest.mark.parametrize("command, arguments, option", [
    pytest.param(command, arguments, option, id=f"{command.__name__} {arguments[0]} {option}")
    for command, arguments, options in OPTIONS for option in options])
def test_strange_values_are_taken_or_refused_in_words(place, monkeypatch, capsys, command, arguments, option):
    def stopped(*_, **__):
        raise UserError("stopped here")
    for work in WORK:
        monkeypatch.setattr(work, stopped)
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    for value in VALUES:
        name, _, form = option.partition(" ")
        try:
            status = run_command(command.main, [*arguments, f"{name}={form.replace('V', value)}" if name[:2] == "--"
                                                else f"{name}{value}"])
        except SystemExit as caught:  # how argparse refuses
            status = caught.code
        err = capsys.readouterr().err
        assert status == 2 and "error: " in err, (value[:40], err)
        assert sorted(place.iterdir()) == before
