# SPDX-License-Identifier: Apache-2.0
"""Models and dictionaries that are no chain for the engine: refused in words, all their problems at once."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from host.importers import build_network
from host.importers.load_network import load_network
from host.importers.torch_archive import EXPORT
from nonzero.errors import UserError
from tests.support.model_files import LEGACY, refusal, saved
from tests.support.torch_models import plain


class Net(nn.Module):
    """A user's own class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)


def test_a_class_of_the_user_is_refused_by_name(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path, Net()))
    assert message == ("it refers to the class or function 'tests.host.importers.test_refusals.Net', but nothing in "
                       f"a model file is ever run; if it is your own class, save the model as .pt2: {EXPORT}")


def assert_lines_start(lines: list[str], starts: list[str]) -> None:
    assert [line[:len(start)] for line, start in zip(lines, starts, strict=False)] == starts
    assert len(lines) == len(starts)


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_all_unsupported_layers_of_a_model_are_listed_at_once(tmp_path: Path, options: dict) -> None:
    inner = nn.Sequential(nn.Conv1d(1, 2, 3), nn.LPPool2d(2, 2), nn.Softsign(), nn.Flatten(0),
                          nn.BatchNorm1d(6, track_running_stats=False), nn.ModuleList())
    model = nn.Sequential(inner, nn.Linear(6, 3), nn.Mish(), nn.Softmax(dim=0))
    assert_lines_start(refusal(saved(tmp_path, model, **options)).splitlines(), [
        "layer '0.0' is a torch.nn.Conv1d, which is read only from a graph; save it as .pt2: ",
        "layer '0.1' is a torch.nn.LPPool2d; ",
        "layer '0.2' is torch.nn.Softsign, an activation function that the engine does not run; ",
        "layer '0.3' is a Flatten with start_dim or end_dim; ",
        "layer '0.4' is a batch normalisation without running statistics",
        "layer '0.5' is a torch.nn.ModuleList, which does not say in which order",
        "layer '2' is torch.nn.Mish, an activation function",
        "layer '3' is a softmax over another axis",
    ])


def test_all_problems_of_a_state_dictionary_are_listed_at_once(tmp_path: Path) -> None:
    spoilt = torch.zeros(5, 6)
    spoilt[0, :3] = torch.tensor([np.nan, np.inf, -np.inf])
    path = saved(tmp_path, {
        "conv.weight": torch.zeros(2, 1, 3, 3), "conv.bias": torch.zeros(2), "norm.weight": torch.zeros(6),
        "rnn.weight_ih_l0": torch.zeros(2, 2), "attention.in_proj_weight": torch.zeros(2, 2),
        "slim.weight_orig": torch.zeros(2, 1), "slim.weight_u": torch.zeros(2), "slim.weight_v": torch.zeros(2),
        "p.parametrizations.weight.original0": torch.zeros(2, 1),
        "fc1.weight": spoilt, "fc1.bias": torch.zeros(4), "fc2.weight": torch.zeros(3, 7),
        "fc3.weight": torch.zeros(2, 3, dtype=torch.int8), "fc4.weight": torch.eye(2).to_sparse(),
        "fc5.weight": torch.zeros(2, 2, device="meta"),
        "fc6.weight": torch.zeros(2, 2, dtype=torch.complex64),
        "fc7.weight": torch.zeros(2, 2).to(torch.float8_e4m3fn), "fc8.weight": np.zeros((2, 2)),
        "fc9.weight": torch.full((2, 3), 1e300, dtype=torch.float64), "fc10.weight": torch.zeros(0, 2),
    })
    assert_lines_start(refusal(path).splitlines(), [
        "layer 'conv' is a convolution (weight of the shape [2, 1, 3, 3])",
        "layer 'norm' has a weight of the shape [6], as layer normalisations and PReLU have",
        "layer 'rnn' has the parameters 'weight_ih_l0', as recurrent layers have",
        "layer 'attention' has the parameters 'in_proj_weight', as attention has",
        "layer 'slim' has the parameters 'weight_orig', 'weight_u', 'weight_v', a spectral normalisation",
        "layer 'p.parametrizations.weight' has the parameters 'original0', a parametrisation",
        "layer 'fc1': its bias has the shape [4], but the layer has 5 outputs",
        "layer 'fc2' takes 7 inputs, but the layer before it, 'fc1', gives 5 outputs",
        "layer 'fc1': its weight has 1 NaN and 2 infinite values among 30",
        "layer 'fc3': its weight has the number format int8",
        "layer 'fc4': its weight is sparse", "layer 'fc5': its weight is on the device 'meta'",
        "layer 'fc6': its weight has the number format complex64",
        "layer 'fc7': its weight has an unsupported number format",
        "layer 'fc8': its weight is not a torch tensor",
        "layer 'fc9': its weight has 0 NaN and 6 infinite values among 6",
        "layer 'fc10': its weight has an axis whose length is not between 1 and 1,048,576",
    ])


def with_hook() -> nn.Module:
    model = nn.Linear(6, 3)
    model.register_forward_hook(print)
    return model


def with_module_as_hook() -> nn.Module:
    model = nn.Linear(6, 3)
    model.register_forward_hook(nn.ReLU())
    return model


def with_pruning() -> nn.Module:
    model = nn.Linear(6, 3)
    prune.l1_unstructured(model, "weight", amount=0.5)
    model.weight = model.weight.detach()
    return model


@pytest.mark.parametrize(("value", "start"), [
    (lambda: nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "layer '0' comes before the first linear layer or conv"),
    (lambda: nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), "layer '0' comes before the first linear"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(3)),
     "layer '1': its weight has the shape [3], but the layer has 2 outputs"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.Softmax(1), nn.ReLU()), "layer '2' follows the softmax '1', "),
    (nn.Sequential, "it has no linear layer; "), (nn.Flatten, "it has no linear layer; "),
    (dict, "it is a dictionary with no model; its entries are none. "),
    (lambda: {"epoch": 3, "name": "x"}, "it is a dictionary with no model; its entries are 'epoch', 'name'"),
    (lambda: {"model": plain(), "net": plain()}, "it is a dictionary with models under each of model, net, "),
    (lambda: [torch.zeros(2, 2)], "it holds a 'list', not a model or a state dictionary; "),
    (lambda: torch.zeros(2, 2), "it holds a 'torch._utils._rebuild_tensor_v2', not a model"),
    (with_hook, "it refers to the class or function 'builtins.print', but nothing in a model file"),
    (with_module_as_hook, "layer 'model' has hooks, which are code; "),
    (with_pruning, "it refers to 'torch.nn.utils.prune.L1Unstructured'; call torch.nn.utils.prune.remove"),
    (lambda: nn.Sequential(*(nn.Linear(1, 1) for _ in range(257))), "it has 257 layers, more than"),
    (lambda: nn.Sequential(OrderedDict({"a" * 101: nn.Linear(1, 1)})), "layer 'model' has children whose"),
])
def test_models_that_the_engine_cannot_run_are_refused(tmp_path: Path, value: object, start: str) -> None:
    lines = refusal(saved(tmp_path, value())).splitlines()  # type: ignore[operator]
    assert lines[0].startswith(start), lines


def test_values_that_are_too_great_when_folded_are_refused(tmp_path: Path) -> None:
    state = {"fc.weight": torch.full((2, 2), 1e38), "bn.weight": torch.full((2,), 1e9),
             "bn.running_mean": torch.zeros(2), "bn.running_var": torch.ones(2)}
    assert refusal(saved(tmp_path, state)).startswith(
        "batch normalisation 'bn': folded into the layer before, it has 0 NaN and 4 infinite values among 4")
    state["bn.running_var"] -= 2
    assert refusal(saved(tmp_path, state)).startswith(
        "batch normalisation 'bn': its running_var has values that are not positive")
    path = saved(tmp_path, {"fc.weight": torch.full((2, 2), 1e38)})
    with pytest.raises(UserError, match=r"layer 'fc': with the mean 0\.5 and the std 0\.001 folded in, it "):
        load_network(path, normalize=(0.5, 0.001))


@pytest.mark.parametrize("normalize", [(0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_an_impossible_normalisation_is_refused(tmp_path: Path, normalize: tuple[float, float]) -> None:
    path = saved(tmp_path, plain())
    with pytest.raises(UserError, match="the normalisation needs a finite mean and a positive std, not "):
        load_network(path, normalize=normalize)


def test_networks_beyond_the_limit_are_refused_before_they_are_read(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, plain())
    monkeypatch.setattr(build_network, "VALUES_LIMIT", 60)
    monkeypatch.setattr(build_network, "read_layer", None)
    assert refusal(path) == "its tensors have 74 values, more than 60; the engine holds far fewer"


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    state = {f"layer{index}.strange": torch.zeros(1) for index in range(100)}
    lines = refusal(saved(tmp_path, state)).splitlines()
    assert len(lines) == 41
    assert lines[-1] == "and 60 more problems"
