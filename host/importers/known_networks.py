# SPDX-License-Identifier: Apache-2.0
"""Reads state dictionaries of the zoo's networks, which do not say themselves how their tensors are applied."""

from argparse import ArgumentParser
from collections.abc import Mapping

from torch import nn

from host.importers.description import describe
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    ConvPart,
    FlattenPart,
    LinearPart,
    Part,
    PoolPart,
    shown,
)
from host.importers.stored_tensor import StoredTensor
from host.network.zoo import KNOWN, empty
from nonzero.errors import UserError

__all__ = ["add_known_option", "announcement", "description", "looks_like", "zoo_parts"]


def looks_like(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The convolutional network of the zoo that has ``tensors`` of these names and shapes; None if there is none.

    Neurons and channels may have been removed from it.
    """
    for name in KNOWN:
        model = empty(name)
        if any(isinstance(module, nn.Conv2d) for module in model.modules()) and not _differences(model, tensors):
            return name
    return None


def zoo_parts(name: str, tensors: Mapping[str, StoredTensor]) -> tuple[list[Part], tuple[int, ...] | None]:
    """The parts of the network ``name`` of the zoo, whole or without neurons and channels that were removed.

    If it has convolutions, channels, height and width of an input, too; else None.

    Parameters
    ----------
    tensors : mapping of StoredTensor
        Tensors of the file, by their names in the module.

    Raises
    ------
    UserError
        If these are not its tensors.
    """
    model = empty(name)
    if problems := _differences(model, tensors):
        raise UserError([f"it is not the {model.title} of --known {name}: {problem}" for problem in problems[:5]])
    parts = [_part(name, module, tensors) for name, module in model.named_modules() if not any(module.children())]
    shape = KNOWN[name].input_shape if any(isinstance(part, ConvPart) for part in parts) else None  # type: ignore[attr-defined]
    return [part for part in parts if part], shape


def description(name: str) -> str:
    """Description for a file with the tensors of a network of the zoo (`host.importers.description`)."""
    tensors = {key: StoredTensor(tuple(tensor.shape)) for key, tensor in empty(name).state_dict().items()}
    return describe(*zoo_parts(name, tensors))


def announcement(name: str, tensors: Mapping[str, StoredTensor]) -> str:
    """Sentence which says that ``tensors`` are read as those of the network ``name`` of the zoo."""
    model = empty(name)
    lost = [f"{tensors[key].shape[0]:,} of {len(whole):,} {'channels' if whole.dim() == 4 else 'neurons'} in "
            f"{shown(key.removesuffix('.weight'))}" for key, whole in model.state_dict().items()
            if key.endswith(".weight") and tensors[key].shape[0] < len(whole)]
    kinds = {nn.ReLU: "ReLU", nn.MaxPool2d: "max pooling"}
    found = [text for kind, text in kinds.items() if any(isinstance(one, kind) for one in model.modules())]
    with_lost = f" with {' and '.join(lost)}" if lost else ""
    return f"read as {model.title}{with_lost}: {', '.join(found)}, as --known {name} says"


def _differences(model: nn.Module, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Why tensors are not those of a network, or of it without some rows and columns; kernels must be complete."""
    whole = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    problems = [f"it has no tensor {shown(key)}" for key in whole if key not in tensors]
    problems += [f"it has a tensor {shown(key)} too many" for key in tensors if key not in whole]
    for key, shape in whole.items():
        given = tensors[key].shape if key in tensors else shape
        if len(given) != len(shape) or given[2:] != shape[2:] \
                or any(left > size for left, size in zip(given, shape, strict=True)):
            problems.append(f"{shown(key)} has the shape {list(given)}, not {list(shape)} or fewer rows and columns")
    return problems


def _part(name: str, module: nn.Module, tensors: Mapping[str, StoredTensor]) -> Part | None:
    """A leaf of a zoo network, whose options are of these kinds alone."""
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if isinstance(module, nn.Linear):
        assert weight is not None
        return LinearPart(name, weight, bias)
    if isinstance(module, nn.Conv2d):
        assert weight is not None
        return ConvPart(name, weight, bias, _pair(module.stride), _pair(module.padding), _pair(module.dilation),
                        module.groups)
    if isinstance(module, nn.MaxPool2d):
        return PoolPart(name, "max", _pair(module.kernel_size), _pair(module.stride), _pair(module.padding))
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return AdaptivePoolPart(name, "average", _pair(module.output_size))
    if isinstance(module, nn.Flatten):
        return FlattenPart(name)
    if isinstance(module, nn.ReLU):
        return ActivationPart(name)
    assert isinstance(module, nn.Dropout), name
    return None


def _pair(value: object) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    assert isinstance(pair, tuple)
    return pair[0], pair[1]


def add_known_option(parser: ArgumentParser) -> None:
    """Adds the option ``--known`` to ``parser``."""
    parser.add_argument("--known", choices=KNOWN, metavar="NAME", help="the network of host.network.zoo whose "
                        f"tensors the model file holds, if it holds nothing else: {', '.join(KNOWN)}")


def refuse_known(known: str | None) -> None:
    """Raises `UserError` if ``known``, the value of ``--known``, is not None: the file itself tells its network."""
    if known is not None:
        raise UserError(f"it tells its network by itself; leave out --known {known}")
