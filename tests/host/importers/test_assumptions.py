# SPDX-License-Identifier: Apache-2.0
"""Files of tensors: what is assumed is said layer by layer, and what shows that it is no chain is refused by name."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from host import compile as host_compile
from host import sensitivity
from host.importers.load_network import load_network
from host.importers.torch_archive import EXPORT
from host.network.zoo import build
from nonzero.errors import run_command
from tests.support.model_files import refusal, saved
from tests.support.torch_models import assert_computes, mlp, prefixed

OTHERWISE = f"if forward() does anything else, save the model as .pt2, which tells it: {EXPORT}"
NOTHING_ELSE = "; and nothing else, such as another activation, a residual, a scaling, or a layer used twice"
LEFT_OUT = "tensors of training, which inference does without, are left out: "


def test_layers_are_told_one_by_one(tmp_path):
    model = nn.Sequential(nn.Linear(6, 50), nn.BatchNorm1d(50), nn.ReLU(), nn.Linear(50, 1100), nn.ReLU(),
                          nn.Linear(1100, 3)).eval()
    network = load_network(saved(tmp_path, model.state_dict()))
    assert_computes(network, model)
    assert network.assumptions == (
        "the file holds tensors only, so what forward() does with them is assumed: '0' 6 -> 50, then batch "
        "normalisation '1' directly behind it with eps 1e-05, then ReLU; '3' 50 -> 1,100, then ReLU; '5' 1,100 -> 3"
        + NOTHING_ELSE,
        OTHERWISE, f"{LEFT_OUT}'1.num_batches_tracked'")


def test_the_lines_that_are_named_make_a_file_with_nothing_to_assume(tmp_path):
    """The lines are run as a user would run them."""
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(5, 5), nn.Linear(5, 5)

        def forward(self, inputs):
            return self.second(self.first(inputs))
    model = Own()
    namespace = {"torch": torch, "model": model, "example": torch.rand(1, 5)}
    exec(EXPORT.replace("model.pt2", str(tmp_path / "model.pt2")), namespace)
    network = load_network(tmp_path / "model.pt2")
    assert network.assumptions == ()
    assert_computes(network, model, 5)
    assumed = load_network(saved(tmp_path, model.state_dict()))
    assert "'second' 5 -> 5, then ReLU; 'first' 5 -> 5; and" in assumed.assumptions[0]
    assert assumed.assumptions[1] == "the shapes of the layers allow several orders; the file's is taken"


@pytest.mark.parametrize(("sizes", "several"), [
    ((6, 5, 4, 3), False), ((6, 2, 6), True), ((6, 6, 6), True), ((4, 3, 5, 3, 2), False), ((6,) + (4,) * 300, True),
    ((6,) + (5,) * 12 + (3,), True), ((6, 5), False),
])
def test_whether_the_shapes_leave_the_order_open(tmp_path, sizes, several):
    sizes = sizes[:200]
    network = load_network(saved(tmp_path, mlp(*sizes).state_dict()))
    assert network.assumptions[0].startswith("the file holds tensors only, so what forward() does with them is assumed")
    assert ("the shapes of the layers allow several orders; the file's is taken" in network.assumptions) == several
    if len(sizes) > 25:
        assert f"; and so on for {len(sizes) - 25} more layers; and nothing else" in network.assumptions[0]


def test_numbers_order_a_safetensors_file_and_this_is_said(tmp_path):
    save_file({f"fc{number}.weight": torch.rand(4, 4) for number in range(1, 12)}, tmp_path / "m.safetensors")
    assert "the shapes of the layers allow several orders; that of the numbers in the names is taken" \
        in load_network(tmp_path / "m.safetensors").assumptions
    save_file({"out.weight": torch.rand(3, 4), "in.weight": torch.rand(4, 5)}, tmp_path / "m.safetensors")
    assumptions = load_network(tmp_path / "m.safetensors").assumptions
    assert assumptions and not any("orders" in one for one in assumptions)


def test_a_pickled_module_leaves_nothing_to_assume(tmp_path):
    assert load_network(saved(tmp_path, mlp(6, 5, 5, 3))).assumptions == ()


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "net.", "module._orig_mod.",
                                    "model.net.module."])
def test_wrappers_are_dropped(tmp_path, prefix):
    model = mlp(6, 5, 3)
    network = load_network(saved(tmp_path, prefixed(prefix, model)))
    assert [layer.name for layer in network.layers] == ["0", "2"]
    assert_computes(network, model)
    lenet = build("lenet-5")
    network = load_network(saved(tmp_path, {"state_dict": prefixed(prefix, lenet)}), known="lenet-5")
    assert [layer.name for layer in network.layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert_computes(network, lenet, 784)


def test_what_a_training_leaves_in_a_dictionary_is_left_out_with_a_note(tmp_path):
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).eval()
    state = {**prefixed("model.", model), "criterion.weight": torch.rand(3),
             "val_loss.loss_fn.pos_weight": torch.rand(1), "bce_loss.pos_weight": torch.rand(3)}
    network = load_network(saved(tmp_path, {"state_dict": state, "epoch": 3}))
    assert_computes(network, model)
    assert network.assumptions[-1] == (
        f"{LEFT_OUT}'model.1.num_batches_tracked', 'criterion.weight', 'val_loss.loss_fn.pos_weight', "
        "'bce_loss.pos_weight'")


def test_an_averaged_model_is_read(tmp_path):
    model = mlp(6, 5, 3)
    network = load_network(saved(tmp_path, AveragedModel(model).state_dict()))
    assert_computes(network, model)
    assert network.assumptions[-1] == f"{LEFT_OUT}'n_averaged'"


def test_masks_of_pruning_are_multiplied_out(tmp_path):
    model = mlp(6, 5, 3)
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    prune.random_unstructured(model[2], "bias", amount=0.5)
    network = load_network(saved(tmp_path, prefixed("module.", model)))
    assert network.layers[0].weights_kept == 15
    assert_computes(network, model)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weight_normalisation_is_multiplied_out(tmp_path):
    model = mlp(6, 5, 3)
    nn.utils.weight_norm(model[0])
    with torch.no_grad():
        model[0].weight_g.mul_(torch.rand(5, 1) + 0.5)
    assert_computes(load_network(saved(tmp_path, model.state_dict())), model)


def test_entries_beside_the_model_are_named(tmp_path):
    state = {**mlp(6, 5, 3).state_dict(), "_extra_state": {"scale": 2}}
    checkpoint = {"model": state, "mean": torch.rand(6), "rng": torch.get_rng_state(), "epoch": 3}
    network = load_network(saved(tmp_path, checkpoint))
    assert network.assumptions[-1] == "not read, though it may belong to the model: '_extra_state', 'mean'"


def shadow(model):
    return {"decay": 0.99, "shadow_params": [value.detach() for value in model.parameters()]}


@pytest.mark.parametrize(("make", "reason"), [
    (lambda: {"model": mlp(6, 5, 3).state_dict(), "ema": mlp(6, 5, 3).state_dict()}, "models under each of model, ema"),
    (lambda: {"model": mlp(6, 5, 3).state_dict(), "ema": shadow(mlp(6, 5, 3))},
     "models under each of model, ema.shadow_params"),
    (lambda: {"model": mlp(6, 5, 3), "best_model": mlp(6, 5, 3)}, "models under each of model, best_model"),
    (lambda: {"state_dict": mlp(6, 5, 3).state_dict(), "callbacks": {"EMA": {"model": mlp(6, 5, 3).state_dict()}}},
     "models under each of state_dict, callbacks.EMA.model"),
    (lambda: {**mlp(6, 5, 3).state_dict(), "teacher": mlp(6, 5, 3).state_dict()},
     "a dictionary with tensors and with models under each of teacher"),
    (lambda: {**mlp(6, 5, 3).state_dict(), **prefixed("ema.", mlp(6, 5, 3))},
     "beside its other tensors it has some under names with 'ema', a second copy of the model"),
    (lambda: {**prefixed("model.", mlp(6, 5, 6)), **prefixed("model_ema.", mlp(6, 5, 6))},
     "beside its other tensors it has some under names with 'ema', a second copy of the model"),
    (lambda: {**prefixed("online.", mlp(4, 8, 4)), **prefixed("late.", mlp(4, 8, 4))},
     "under 'online' and 'late' it has the same layers in the same shapes, as two copies of a model"),
    (lambda: {**prefixed("nets.a.", mlp(4, 8, 4)), **prefixed("nets.b.", mlp(4, 8, 4)), "z.weight": torch.rand(2, 4)},
     "under 'nets.a' and 'nets.b' it has the same layers in the same shapes"),
    (lambda: {**prefixed("body.", mlp(6, 8)), **prefixed("head_a.", mlp(8, 4)), **prefixed("head_b.", mlp(8, 2))},
     "layer 'head_b.0' takes 8 inputs, but the layer before it, 'head_a.0', gives 4"),
    (lambda: {**mlp(6, 5, 3).state_dict(), "scale": torch.ones(())}, "layer 'model' has the parameters 'scale', which"),
    (lambda: {**mlp(6, 5, 3).state_dict(), "mean": torch.ones(6)}, "layer 'model' has the parameters 'mean', which"),
    (lambda: {**mlp(6, 5, 3).state_dict(), "norm.weight": torch.ones(3), "norm.bias": torch.ones(3)},
     "layer 'norm' has a weight of the shape [3], as layer normalisations and PReLU have; if its forward() is"),
    (lambda: nn.Sequential(nn.Linear(6, 5), nn.PReLU(), nn.Linear(5, 3)).state_dict(), "layer '1' has a weight of the"),
    (lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)).state_dict(), "layer '0' comes before the first linear"),
    (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))).state_dict(),
     'a parametrisation; before saving, call torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")'),
    (lambda: {"0.weight": torch.rand(5, 6), "0.weight_orig": torch.rand(5, 6), "0.weight_mask": torch.ones(5, 6)},
     "layer '0' has the parameters 'weight', 'weight_orig', 'weight_mask', a pruning mask; call"),
    (lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU()).state_dict(),
     "layer '0' is a convolution (weight of the shape [2, 1, 3])"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict(), "layer '0' is a convolution ("),
    (lambda: nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 3)).state_dict(), "layer '1' takes 6 inputs, but"),
])
def test_what_is_no_single_chain_is_refused(tmp_path, make, reason):
    answer = refusal(saved(tmp_path, make()))
    assert reason in answer
    assert "'bias', which are not" not in answer


def test_blocks_of_the_same_shape_are_a_chain(tmp_path):
    """Blocks whose names differ in numbers only follow each other."""
    model = nn.Sequential(OrderedDict(block1=mlp(6, 9, 6), relu1=nn.ReLU(), block2=mlp(6, 9, 6)))
    network = load_network(saved(tmp_path, model.state_dict()))
    assert_computes(network, model)
    assert "'block1.0' 6 -> 9, then ReLU; 'block1.2' 9 -> 6, then ReLU; 'block2.0'" in network.assumptions[0]


def test_models_beside_what_is_no_model(tmp_path):
    """An optimiser, a loss and other tensors are none; the same dictionary under two names is one model."""
    model = mlp(6, 5, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 6)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    network = load_network(saved(tmp_path, {"model": state, "state_dict": state, "optimizer": optimizer.state_dict(),
                              "loss": nn.CrossEntropyLoss(torch.rand(3)), "rng": {"cpu": torch.get_rng_state()}}))
    assert_computes(network, model)


def test_the_compiler_tells_assumptions_before_it_trains(tmp_path, capsys):
    torch.save(mlp(6, 6, 3).state_dict(), tmp_path / "model.pt")
    np.savez(tmp_path / "data.npz", x_train=np.random.default_rng(0).random((60, 6), np.float32),
             y_train=np.arange(60) % 3, x_test=np.zeros((9, 6), np.float32), y_test=np.arange(9) % 3)
    data = ["--data", f"npz:{tmp_path / 'data.npz'}", "-o", str(tmp_path / "out")]
    assert run_command(host_compile.main, [str(tmp_path / "model.pt"), *data, "--density", "0.5", "--json",
                                           "--save", str(tmp_path / "saved.safetensors")]) == 0
    told = capsys.readouterr()
    assumed = load_network(tmp_path / "model.pt").assumptions
    assert len(assumed) == 2
    for sentence in assumed:
        assert told.err.count(f"note: {sentence}\n") == 1
        assert told.err.index(f"note: {sentence}\n") < told.err.index("prune and retrain: ")
    assert json.loads(told.out)["notes"][:2] == list(assumed)
    # What was saved says itself what it is.
    assert run_command(host_compile.main, [str(tmp_path / "saved.safetensors"), *data, "--no-prune"]) == 0
    assert "assumed" not in capsys.readouterr().err
    assert run_command(sensitivity.main, [str(tmp_path / "model.pt"), *data, "--densities", "0.5"]) == 0
    assert f"note: {assumed[0]}\n" in capsys.readouterr().err
