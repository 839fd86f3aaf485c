# SPDX-License-Identifier: Apache-2.0
"""The order of layers in safetensors files, which sort their tensors by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from host.importers.load_network import load_network
from nonzero.errors import UserError


def safetensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A file of linear layers (two sizes) and batch normalisations (one size)."""
    state = {f"{name}.weight": torch.rand(shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if len(shape) == 1:
            leaves = ("bias", "running_mean", "running_var")
            state |= {f"{name}.{leaf}": torch.rand(shape) + 0.1 for leaf in leaves}
    save_file(state, path / "model.safetensors")
    return path / "model.safetensors"


@pytest.mark.parametrize(("shapes", "order"), [
    ({"input": (5, 6), "hidden": (4, 5), "output": (3, 4)}, ["input", "hidden", "output"]),
    ({"hidden1": (5, 5), "hidden2": (5, 5), "entry": (5, 6), "exit": (3, 5)},
     ["entry", "hidden1", "hidden2", "exit"]),
    ({"bn1": (5,), "bn2": (5,), "fc1": (5, 6), "fc2": (5, 5), "fc3": (3, 5)}, ["fc1", "fc2", "fc3"]),
    ({"fc": (6, 6), "fc2": (6, 6), "fc10": (6, 6)}, ["fc", "fc2", "fc10"]),
    ({"fc1": (3, 4), "fc2": (4, 5)}, ["fc2", "fc1"]),
])
def test_shapes_and_numbers_order_the_layers(tmp_path: Path, shapes: dict, order: list[str]) -> None:
    network = load_network(safetensors(tmp_path, shapes))
    assert [layer.name for layer in network.layers] == order


@pytest.mark.parametrize(("shapes", "reason"), [
    ({"encoder": (2, 6), "decoder": (6, 2)}, "several orders fit the shapes"),
    ({"a": (6, 6), "b": (6, 6)}, "several orders fit the shapes"),
    ({"a": (5, 6), "b": (3, 4)}, "no order fits the shapes"),
    ({"fc1": (5, 6), "bn": (4,)}, "no order fits the shapes"),
    # Ten alike layers have millions of orders, none of which leads to the last: the search gives up.
    ({name: (6, 6) for name in "abcdefghij"} | {"x": (7, 8)}, "several orders fit the shapes"),
])
def test_an_order_that_cannot_be_restored_is_refused(tmp_path: Path, shapes: dict, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        load_network(safetensors(tmp_path, shapes))
    assert reason in str(caught.value)
    assert "Number the layers' names in order (fc1, fc2, ...), or save them with" in str(caught.value)
