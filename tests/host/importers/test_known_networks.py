# SPDX-License-Identifier: Apache-2.0
"""Networks of the zoo: taken for what the user says that they are, and for nothing else."""

import pytest
import torch

from host import compile as host_compile
from host import demo, sensitivity
from host.importers.load_network import load_network
from host.importers.torch_archive import EXPORT
from host.network.zoo import build
from nonzero.errors import UserError, run_command
from tests.support.model_files import refusal, saved
from tests.support.torch_models import mlp


@pytest.mark.parametrize("name", ["lenet-5"])
def test_a_network_like_one_of_the_zoo_is_not_taken_for_it(tmp_path, name):
    answer = refusal(saved(tmp_path, build(name).state_dict()))
    assert answer == (f"its tensors could be those of {name}, but do not tell its activations and its pooling; if it "
                      f"is that network of host.network.zoo, add --known {name}; if not, save the model as .pt2: "
                      f"{EXPORT}")


def test_a_network_of_the_zoo_that_the_user_names_is_announced(tmp_path):
    state = build("lenet-5").state_dict()
    state["conv1.weight"], state["conv1.bias"] = state["conv1.weight"][:6], state["conv1.bias"][:6]
    state["conv2.weight"] = state["conv2.weight"][:, :6]
    assert load_network(saved(tmp_path, state), known="lenet-5").assumptions == (
        "read as LeNet-5 with 6 of 20 channels in 'conv1': ReLU, max pooling, as --known lenet-5 says",)


@pytest.mark.parametrize(("make", "known", "reason"), [
    (lambda: mlp(6, 5, 3).state_dict(), "lenet-5", "it is not the LeNet-5 of --known lenet-5: it has no ten"),
    (lambda: {**build("lenet-5").state_dict(), "more.weight": torch.rand(2, 2)}, "lenet-5",
     "it is not the LeNet-5 of --known lenet-5: it has a tensor 'more.weight' too many"),
    (lambda: build("lenet-5").state_dict(), "lenet-300-100", "it is not the LeNet-300-100 of --known lenet-300-100"),
    (lambda: mlp(6, 5, 3), "lenet-5", "it tells its network by itself; leave out --known lenet-5"),
    (lambda: build("lenet-5").state_dict(), "lenet-6", "network must be one of lenet-300-100, lenet-5, "),
])
def test_a_network_of_the_zoo_that_it_is_not(tmp_path, make, known, reason):
    assert reason in refusal(saved(tmp_path, make()), known=known)


def test_an_exported_program_needs_no_name(tmp_path):
    program = torch.export.export(mlp(6, 5, 3).eval(), (torch.rand(1, 6),))
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(UserError, match="it tells its network by itself; leave out --known vgg-16"):
        load_network(tmp_path / "model.pt2", known="vgg-16")


def test_the_name_of_a_network_is_an_option(tmp_path, capsys):
    torch.manual_seed(0)
    torch.save(build("lenet-5").state_dict(), tmp_path / "model.pt")
    arguments = [str(tmp_path / "model.pt"), "-o", str(tmp_path / "out"), "--preset", "conv", "--density", "0.01",
                 "--max-loss", "100"]
    assert run_command(host_compile.main, arguments) == 2
    assert "add --known lenet-5; if not, save the model as .pt2" in capsys.readouterr().err
    assert run_command(host_compile.main, [*arguments, "--known", "lenet-5"]) == 0
    told = "read as LeNet-5: ReLU, max pooling, as --known lenet-5 says"
    captured = capsys.readouterr()
    assert f"note: {told}\n" in captured.err and told in captured.out
    assert run_command(demo.main, ["--known", "lenet-5", "-o", str(tmp_path / "demo")]) == 2
    assert "error: --known lenet-5 says what the file of --model holds; add --model" in capsys.readouterr().err
    for command in (host_compile, sensitivity, demo):
        with pytest.raises(SystemExit):
            command.main([*arguments, "--known", "lenet-6"])
        assert "invalid choice: 'lenet-6'" in capsys.readouterr().err
