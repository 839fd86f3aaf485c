# SPDX-License-Identifier: Apache-2.0
"""Seconds of engine and libraries, on tiny networks. How long anything takes is never asserted."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch.nn import functional

from host.api import EngineNetwork
from host.bench import jobs, seconds
from host.bench.__main__ import NETWORKS, main
from host.bench.jobs import Baseline, baselines, drawn_job, float_network, image_job, lenet_image, read_baseline
from host.bench.libraries import Method, exact_acts, methods_for
from host.bench.seconds import run_seconds, seconds_figure, seconds_table
from host.bench.timing import Timed, time_side_by_side
from host.datasets import load_dataset
from host.device.target import Target
from host.image.image import parse_image
from host.network.activate import activate
from host.network.layers import Geometry, Linear, Network
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.run import run_image
from host.workloads.compile_layer import Options, compile_drawn
from host.workloads.drawn_layers import draw
from host.workloads.eie_layers import PUBLISHED_US, Layer
from nonzero.errors import UserError, run_command
from rtl.config import PRESETS
from rtl.numbers import Activation
from tests.support.networks import SMALL, random_acts, random_network

BASELINE = Baseline("board", 50.0, "default")
TINY = (Layer("tiny", 60, 30, 0.3, 0.5), Layer("NT-We", 33, 9, 0.1, 1.0))
METHODS = {method.name: method for method in methods_for("cpu")}


def chain(rng, sizes, density, activations):
    layers = [Linear(f"fc{number}", np.where(rng.random((rows, cols)) < density, rng.normal(size=(rows, cols)), 0)
                     .astype(np.float32), rng.normal(size=rows).astype(np.float32), activation)
              for number, (cols, rows, activation) in enumerate(zip(sizes, sizes[1:], activations, strict=False))]
    return Network("chain", tuple(layers))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("sizes, activations", [
    ((40, 30), (Activation.RELU,)), ((40, 30), (Activation.IDENTITY,)), ((1, 1), (Activation.IDENTITY,)),
    ((50, 40, 20, 10), (Activation.RELU, Activation.IDENTITY, Activation.RELU))])
def test_every_method_computes_the_network(name, sizes, activations):
    rng = np.random.default_rng(len(sizes))
    network = chain(rng, sizes, 0.3, activations)
    for vector in (rng.random(sizes[0]) * (rng.random(sizes[0]) < 0.5), rng.normal(size=sizes[0])):
        expected = vector
        for layer in network.layers:
            expected = layer.weight.astype(np.float64) @ expected + layer.bias
            expected = activate(expected, layer.activation)
        acts = exact_acts(network, vector)
        np.testing.assert_allclose(acts[-1], expected, rtol=1e-12, atol=1e-12)
        call = METHODS[name].prepare(network, acts)
        tolerance = METHODS[name].tolerance * max(np.abs(expected).max(), 1e-9)
        for _ in range(2):
            np.testing.assert_allclose(np.asarray(call()).reshape(-1), expected, rtol=0, atol=tolerance)


def test_methods_are_of_every_kind():
    assert {method.kind for method in METHODS.values()} == {"dense", "cut", "sparse", "int8"}
    assert (METHODS["torch dense"].kind, METHODS["torch dense, cut"].kind) == ("dense", "cut")


def test_the_cut_network_is_without_dead_neurons_and_unused_inputs(monkeypatch):
    network = chain(np.random.default_rng(5), (50, 40, 20, 10), 1.0,
                    (Activation.RELU, Activation.RELU, Activation.IDENTITY))
    one, two, _ = (layer.weight for layer in network.layers)
    one[:, 7:50] = 0
    one[[3, 4]] = 0
    two[:, 9] = 0
    two[11] = 0
    shapes = []
    linear = functional.linear
    monkeypatch.setattr(functional, "linear", lambda values, weight, bias: shapes.append(tuple(weight.shape))
                        or linear(values, weight, bias))
    acts = exact_acts(network, np.arange(50) / 50)
    outputs = METHODS["torch dense, cut"].prepare(network, acts)()
    assert shapes == [(37, 7), (19, 37), (10, 19)]
    np.testing.assert_allclose(outputs, acts[-1], rtol=1e-4, atol=1e-4)
    one[:] = 0
    acts = exact_acts(network, np.ones(50))
    np.testing.assert_allclose(METHODS["torch dense, cut"].prepare(network, acts)(), acts[-1], rtol=1e-4, atol=1e-4)


def test_the_best_is_of_the_network_as_it_is(monkeypatch):
    """The best method is that of the whole network, also where the network without dead neurons is faster."""
    monkeypatch.setattr(seconds, "methods_for", lambda device: [
        replace(method, seconds=lambda call, count, each=1.0 if name == "torch dense, cut" else 2.0: each * count)
        for name, method in METHODS.items()])
    (row,) = run_seconds([drawn_job(TINY[0], SMALL)], 1, BASELINE, repeats=1)["rows"]
    assert row["over_engine"]["best"] == 2 * row["over_engine"]["cut"] == row["over_engine"]["dense"]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_command(main, ["seconds", "--device", "cuda", "--layer", "NT-We", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err == ("error: --device cuda needs an NVIDIA GPU and a torch build with CUDA, and "
                                       "torch finds none; use --device cpu\n")


def test_methods_take_turns():
    made = []

    def method(name, block_seconds):
        def measured(call, count):
            made.append((name, count))
            return block_seconds.pop(0)
        return Timed(lambda: made.append((name, "warm")), measured)

    found = time_side_by_side({"a": method("a", [1e-3, 2.0, 8.0, 4.0]), "b": method("b", [1.0, 5.0, 3.0, 7.0])}, 3)
    assert made[:4] == [("a", "warm"), ("a", 1), ("b", "warm"), ("b", 1)]
    assert made[4::2] == [(name, "warm") for name in "abbaab"]
    assert made[5::2] == [(name, {"a": 2, "b": 1}[name]) for name in "abbaab"]
    assert (found["a"].median, found["a"].least, found["a"].quartiles, found["a"].calls) == (2, 1, (1.5, 3), 2)
    assert (found["b"].median, found["b"].least, found["b"].calls) == (5, 3, 1)


def test_seconds_of_the_engine_and_ratios(tmp_path):
    found = run_seconds((drawn_job(layer, SMALL) for layer in TINY), 2, BASELINE, repeats=2)
    assert (found["fmax_mhz"], found["pes"], found["batch"], found["threads"], found["repeats"]) == (50, 16, 1, 1, 2)
    assert [row["name"] for row in found["rows"]] == ["tiny", "NT-We"]
    for layer, row in zip(TINY, found["rows"], strict=True):
        network, acts = draw(layer, SMALL, 1, 4)
        cycles = compile_drawn(network, acts, Options(SMALL)).prediction.counters["cycles"].mean()
        assert row["cycles"] == cycles > 0 and row["engine_seconds"] == pytest.approx(cycles / 50e6)
        assert row["sizes"] == [layer.inputs, layer.outputs] and row["weights_kept"] == network.weights_kept
        assert row["methods"].keys() == METHODS.keys() == found["call_seconds"].keys()
        times = {name: one["seconds"] for name, one in row["methods"].items()}
        sparse = min(times[name] for name, method in METHODS.items() if method.kind == "sparse")
        assert row["over_engine"] == pytest.approx({
            "dense": times["torch dense"] / row["engine_seconds"], "sparse": sparse / row["engine_seconds"],
            "best": min(times[name] for name in times if name != "torch dense, cut") / row["engine_seconds"],
            "cut": times["torch dense, cut"] / row["engine_seconds"]})
        for name, one in row["methods"].items():
            assert 0 < one["least_seconds"] <= one["quartiles"][0] <= one["seconds"] <= one["quartiles"][1]
            assert one["calls_per_block"] >= 1 and one["error"] <= METHODS[name].tolerance
    assert found["rows"][0]["published_us"] is None and found["rows"][1]["published_us"]["eie"] == 8.0
    assert found["rows"][0]["enlarged"] == {}
    table = seconds_table(found)
    assert "16 PEs (default) at 50.0 MHz, placed and routed for board" in table and "60 x 30" in table
    assert "published" in table and "* the board's engine" not in table
    seconds_figure(found).savefig(tmp_path / "plot.svg")
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")


def test_memories_that_grew_are_told():
    job = drawn_job(Layer("large", 700, 400, 0.3, 0.5), SMALL)
    assert job.enlarged.keys() == {"acc_depth", "act_depth", "slice_depth", "entry_depth"}
    table = seconds_table(run_seconds([job], 1, BASELINE, repeats=1))
    assert "large*" in table and "it was given more: large entry_depth" in table and "published" not in table


def test_a_method_that_computes_something_else_is_found(monkeypatch):
    wrong = Method("wrong", "dense", lambda network, acts: lambda: acts[-1] + 1, 0.05, lambda call, count: 1.0)
    monkeypatch.setattr(seconds, "methods_for", lambda device: [wrong])
    with pytest.raises(RuntimeError, match="wrong computes 'one weight' wrong: an error of 1 of the greatest output"):
        run_seconds([], 0, BASELINE)


@pytest.mark.parametrize("pre_shift", [0, 5])
def test_the_float_network_is_what_the_integers_approximate(pre_shift):
    rng = np.random.default_rng(3)
    network = random_network(rng, SMALL, [30, 40], 0.4)
    (layer,) = network.layers
    network = replace(network, layers=(replace(layer, pre_shift=pre_shift, multiplier=layer.multiplier << pre_shift),))
    acts = random_acts(rng, network, 5, 0.5)
    for vector, outputs in zip(acts, forward(network, acts)[0], strict=True):
        exact = exact_acts(float_network(network), vector)[-1]
        low, high = (-128, 127) if network.layers[0].activation.signed else (0, 255)
        assert np.abs(exact.clip(low, high) - outputs).max() <= 1 and np.abs(outputs).max() > 10


def test_lenet_has_its_density_and_inputs():
    config = PRESETS["default"]
    image = lenet_image(config, 0.02)
    job = image_job("LeNet", image, config, "mnist")
    # Neurons without weights left are gone.
    hidden1, hidden2, outputs = (layer.rows for layer in job.network.layers)
    assert job.network.inputs == 784 and 290 <= hidden1 <= 300 and 95 <= hidden2 <= 100 and outputs == 10
    assert job.network.weights_kept / 266_200 == pytest.approx(0.02, rel=0.05)
    assert 0.15 < job.act_density < 0.25 and job.enlarged == {}
    acts = quantize_inputs(jobs.decode(image, config).network, load_dataset("mnist").test_images[:1])
    assert np.array_equal(job.vector, acts[0])
    assert 150 < job.cycles < 440


def test_an_image_that_needs_more_inputs_than_the_data_has():
    config = PRESETS["default"]
    network = random_network(np.random.default_rng(1), config, [800, 5], 0.5)
    image = parse_image(image_file(pack(network, config)), config)
    with pytest.raises(UserError, match=r"'mnist' has 784 values for each image, the network needs [78]"):
        image_job("large", image, config, "mnist")


@pytest.mark.parametrize(("change", "what"), [
    ({"table": np.zeros(256, np.int64)}, "an activation function by a table"),
    ({"geometry": Geometry((50, 1, 1), (1, 1))}, "a convolution or pooling"),
])
def test_an_image_of_other_layers_is_refused_by_name(change, what):
    """Tables and windows have no place in the libraries; without them the network would be another one."""
    network = random_network(np.random.default_rng(4), PRESETS["default"], [50, 20, 5], 0.5)
    first, second = network.layers
    with pytest.raises(UserError) as caught:
        float_network(replace(network, layers=(first, replace(second, **change))))
    assert str(caught.value) == ("the libraries are timed on linear layers with ReLU or no activation function, and "
                                 f"layer '{second.name}' has {what}; give another image")


def test_an_image_runs_in_rtl_as_the_job_says(monkeypatch):
    config = replace(SMALL, act_depth=256, slice_depth=1024)
    network = random_network(np.random.default_rng(2), config, [784, 12, 8], 0.1)
    image = parse_image(image_file(pack(network, config)), config)
    monkeypatch.setattr(jobs, "IMAGES", 20)
    run = run_image(EngineNetwork(image, config, b""), Target("sim:small", config), load_dataset("mnist"), 20)
    assert run.figures()["cycles_per_image"] == image_job("small", image, config, "mnist").cycles


def test_boards_have_the_clock_and_engine_of_their_baselines(tmp_path):
    found = read_baseline("ulx3s-85f")
    assert "ulx3s-85f" in baselines() and found.config == PRESETS["default"] and found.fmax_mhz > 10
    fields = {"fmax_mhz": 12.5, "config_hash": PRESETS["tiny"].hash.hex()}
    (tmp_path / "baseline_small.json").write_text(json.dumps(fields))
    assert read_baseline("small", tmp_path) == Baseline("small", 12.5, "tiny")
    (tmp_path / "baseline_old.json").write_text(json.dumps({**fields, "config_hash": "00"}))
    with pytest.raises(UserError, match=r"small, default, medium, large, wide, conv\), but its config_hash is '00'"):
        read_baseline("old", tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "baseline_old.json").write_text(text)
        with pytest.raises(UserError, match=r"cannot be read .* build the board anew"):
            read_baseline("old", tmp_path)
    with pytest.raises(UserError, match=r"--board must have a baseline, one of old, small, not '../x'"):
        read_baseline("../x", tmp_path)


def test_the_command_measures_a_layer_and_an_image(tmp_path, capsys, monkeypatch):
    arguments = ["seconds", "--layer", "LeNet-300-100", "--repeats", "1", "--json", "-o", str(tmp_path)]
    config = PRESETS["default"]
    network = random_network(np.random.default_rng(2), config, [784, 20, 10], 0.1)
    (tmp_path / "model.img").write_bytes(image_file(pack(network, config)))
    monkeypatch.setattr(jobs, "IMAGES", 5)
    for extra, name, sizes in (([], "LeNet-300-100", [784, 300, 100, 10]),
                               (["--model", str(tmp_path / "model.img")], "model.img", [784, 20, 10])):
        assert run_command(main, arguments + extra) == 0
        printed = capsys.readouterr().out
        found = json.loads(printed)
        assert found == json.loads((tmp_path / "seconds.json").read_text())
        (row,) = found["rows"]
        assert (row["name"], row["sizes"], row["enlarged"]) == (name, sizes, {})
        assert row["engine_seconds"] == pytest.approx(row["cycles"] / found["fmax_mhz"] / 1e6)
        ElementTree.parse(tmp_path / "seconds.svg")
    assert run_command(main, [*arguments, "--density", "2"]) == 2
    assert "density must be above 0 and at most 1, not 2.0" in capsys.readouterr().err


def test_published_times_are_of_networks_of_the_bench():
    assert set(PUBLISHED_US) < set(NETWORKS) and len(NETWORKS) == 10


@pytest.mark.parametrize("arguments, message", [
    (["seconds", "--threads", "0"], "must be a whole number of at least 1, not '0'"),
    (["seconds", "--layer", "Alex-9"], "invalid choice: 'Alex-9'"),
    (["seconds", "--help"], "python -m host.bench seconds --layer LeNet-300-100 --model"),
])
def test_wrong_arguments_and_help(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    printed = capsys.readouterr()
    assert message in printed.out + printed.err
