# SPDX-License-Identifier: Apache-2.0
"""Saves a network in each format that networks are kept in, for `host.bench.conversions`."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from host.bench.conversion_subjects import ACTIVATIONS, Subject

__all__ = ["FORMATS", "OTHERWISE", "save"]

Writer = Callable[[nn.Module, Tensor, Path], None]
"""Writes a module, whose inputs are like the examples ``[n, ...]``, to a path."""


def _module(module: nn.Module, examples: Tensor, path: Path) -> None:
    torch.save(module, path)


def _state_dict(module: nn.Module, examples: Tensor, path: Path) -> None:
    torch.save(module.state_dict(), path)


def _safetensors(module: nn.Module, examples: Tensor, path: Path) -> None:
    _save_tensors(module.state_dict(), path)


def _save_tensors(content: Any, path: Path) -> None:
    safetensors.torch.save_file({key: value.clone().contiguous() for key, value in content.items()}, path)


def _exported(module: nn.Module, examples: Tensor, path: Path) -> None:
    torch.export.save(torch.export.export(module, (examples[:1],)), path)


def _exported_batch(module: nn.Module, examples: Tensor, path: Path) -> None:
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(module, (examples[:2],), dynamic_shapes=(({0: batch}),)), path)


def _onnx(module: nn.Module, examples: Tensor, path: Path) -> None:
    torch.onnx.export(module, (examples[:1],), path, dynamo=False)


def _onnx_older(module: nn.Module, examples: Tensor, path: Path) -> None:
    torch.onnx.export(module, (examples[:1],), path, dynamo=False, opset_version=13)


def _onnx_batch(module: nn.Module, examples: Tensor, path: Path) -> None:
    torch.onnx.export(module, (examples[:2],), path, dynamo=False, input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})


def _onnx_beside(module: nn.Module, examples: Tensor, path: Path) -> None:
    import onnx

    _onnx(module, examples, path)
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)


def _torchscript(module: nn.Module, examples: Tensor, path: Path) -> None:
    torch.jit.save(torch.jit.trace(module, examples[:1]), path)


FORMATS: dict[str, tuple[str, Writer]] = {
    "module": (".pt", _module), "state_dict": (".pt", _state_dict), "safetensors": (".safetensors", _safetensors),
    "pt2": (".pt2", _exported), "pt2, any batch": (".pt2", _exported_batch), "onnx": (".onnx", _onnx),
    "onnx, any batch": (".onnx", _onnx_batch), "onnx, weights beside": (".onnx", _onnx_beside),
    "onnx, older operators": (".onnx", _onnx_older),
    "torchscript": (".pt", _torchscript),
}
"""The suffix and how to write it, by name."""

FEW_SUBJECTS = {"relu", "tanh", "residual", "batch norm behind the relu", "image: convolution",
                "image: average pooling", "LeNet-5's names: max, relu"}

FEW = {"onnx, weights beside": FEW_SUBJECTS, "torchscript": FEW_SUBJECTS, "onnx, older operators": {
    *FEW_SUBJECTS, *ACTIVATIONS, "graph: gelu by tanh", "graph: inverted residual, hard swish by relu6", "layer norm"}}
"""Formats that treat most networks alike, and the networks with which they are tried."""

OTHERWISE = {"image: average pooling, divisor": ("onnx", "onnx, any batch")}
"""Formats that torch's own export silently writes wrong: ONNX's average pooling has no divisor."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Discards what is written to the terminal, by C++ as well: torch prints what it cannot export."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def save(subject: Subject, module: nn.Module, form: str, examples: Tensor, directory: Path) -> Path | None:
    """Saves a network in one format, if the format adds a case.

    Parameters
    ----------
    subject : Subject
    module : nn.Module
        The network of the subject, with its weights.
    form : str
        A name of `FORMATS`.
    examples : float32 tensor, shape ``[n, ...]``, n at least 2
        Inputs for torch's exporters.
    directory : Path
        Takes the file.

    Returns
    -------
    Path or None
        The file. None if torch cannot write it, if it would repeat the case of another subject, or if torch writes
        another network (`OTHERWISE`).
    """
    suffix, write = FORMATS[form]
    path = directory / f"network{suffix}"
    if form in OTHERWISE.get(subject.name, ()) or (form in FEW and subject.name not in FEW[form]) \
            or (form == "module" and type(module) is not nn.Sequential):
        return None
    if subject.saved is not None:
        if form not in ("state_dict", "safetensors"):
            return None
        content = subject.saved(module)
        if form == "state_dict":
            torch.save(content, path)
            return path
        if type(content) is not dict or not all(isinstance(value, Tensor) for value in content.values()):
            return None
        _save_tensors(content, path)
        return path
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        try:
            write(module, examples, path)
        except Exception:  # torch's exporters raise whatever the network leads to
            return None
    return path
