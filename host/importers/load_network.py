# SPDX-License-Identifier: Apache-2.0
"""Reads a trained network from a model file, which may come from anybody.

Nothing in the file is executed, and what the file claims is checked before memory is allocated:
see `host.importers.safe_pickle` and `host.importers.torch_archive`. These files are accepted:

* a ``.pt2`` file of torch.export.save (`host.importers.torch_export`), from any class of modules;
* an ``.onnx`` file (`host.importers.onnx_file`), told by its suffix;
* ``torch.save(model, path)`` for a ``torch.nn.Sequential`` of standard layers;
* ``torch.save(model.state_dict(), path)``, or a checkpoint dictionary with such a dictionary inside;
* a ``.safetensors`` file of the state dictionary.

Convolutions need the images' shape (`load_network`), unless the file knows it.

The last two hold tensors only. If the file describes its network beside them, as those of host.train and of
``host.compile --save`` do (`host.importers.description`), or if the user says which network of `host.network.zoo` it
is, it is read as that. Else it is a chain of linear layers in the order of the file (a safetensors file, which has
none, is ordered by shapes and numbers in names), with a ReLU behind each but the last, and batch normalisation with eps
= 1e-5 between a linear layer and its ReLU; `host.network.layers.Network.assumptions` says so. A softmax or log-softmax
at the end is dropped: it does not change which output is greatest.
"""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from host.datasets import Dataset, load_dataset
from host.importers.build_network import assemble
from host.importers.description import KEY
from host.importers.fold_normalization import fold_inputs
from host.importers.onnx_file import read_onnx
from host.importers.safe_pickle import Record
from host.importers.source_layers import Part, shown
from host.importers.state_dict import read_tensors
from host.importers.stored_tensor import StoredTensor, dtype_problem, shape_problem
from host.importers.torch_archive import SAVE_AGAIN, Checkpoint, open_zip, read_checkpoint
from host.importers.torch_export import is_exported, read_exported
from host.importers.torch_layers import module_parts
from host.importers.torch_save import find_model
from host.network.layers import Network
from nonzero.errors import UserError, check_all
from nonzero.strict_json import parse_json

FILE_LIMIT = 1 << 32
"""Bytes of a model file: the largest network with its optimiser's state."""

HEADER_LIMIT = 1 << 23
"""Bytes of the header of a safetensors file."""

TENSORS_LIMIT = 20_000
"""Entries of a state dictionary."""

PROBLEMS_LIMIT = 40
"""Problems listed for one file."""

_SAFETENSORS_FORMATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def load_network(path: Path, *, input_shape: tuple[int, ...] | None = None,
                 normalize: tuple[float, float] | None = None, known: str | None = None) -> Network:
    """Reads the network in the model file ``path``; its name is the file's, without the suffix.

    Parameters
    ----------
    path : Path
        A file as described at the top of this module.
    input_shape : (channels, height, width), optional
        Of an image; networks with convolutions need it if their file does not tell it.
    normalize : (mean, std), optional
        The inputs were normalised to ``(x - mean) / std`` in training. This is folded into the first
        layer, so that the network takes ``x`` itself, and a zero of ``x`` stays a zero.
    known : str, optional
        The network of `host.network.zoo` that a file of tensors is of.

    Raises
    ------
    UserError
        If the file cannot be read, is damaged or hostile, or holds anything but a chain of layers that
        the engine runs, with finite weights. It lists all problems of the layers.
    """
    if normalize is not None:
        _check_normalize(*normalize)
    try:
        network = _load(Path(path), input_shape, known)
        return network if normalize is None else fold_normalization(network, *normalize)
    except UserError as error:
        problems = error.problems[:PROBLEMS_LIMIT]
        if len(error.problems) > PROBLEMS_LIMIT:
            problems.append(f"and {len(error.problems) - PROBLEMS_LIMIT:,} more problems")
        raise UserError([f"{path}: {problem}" for problem in problems]) from None


def load_with_data(path: Path, data: str, *, input_shape: tuple[int, ...] | None = None,
                   normalize: tuple[float, float] | None = None,
                   known: str | None = None) -> tuple[Network, Dataset]:
    """A network, as `load_network`, and the dataset ``data``, whose images tell the shape if nothing else does.

    The images come in the order in which the network takes them, and the dataset's notes say what that took.

    Raises `UserError` with the problems of both.
    """
    datasets: list[Dataset] = []

    def read_data() -> Dataset:
        datasets.append(load_dataset(data))
        return datasets[0]

    def read_network() -> Network:
        shape = input_shape or (datasets[0].image_shape if datasets else None)
        try:
            return load_network(path, input_shape=shape, normalize=normalize, known=known)
        except UserError:
            if input_shape is None and shape is not None:
                # The channels may be last, or the file may know better.
                last = [(shape[2], *shape[:2])] if datasets[0].train_images.ndim == 4 else []
                for other in (*last, None):
                    with suppress(UserError):
                        return load_network(path, input_shape=other, normalize=normalize, known=known)
            raise
    dataset, network = check_all(read_data, read_network)
    if dataset.input_count != network.inputs:  # what to say is `Dataset.require`'s
        return network, dataset
    return network, dataset.fitted(network.input_axes or input_shape)


def fold_normalization(network: Network, mean: float, std: float) -> Network:
    """The network that computes from ``x`` what ``network`` computes from ``(x - mean) / std``.

    Raises
    ------
    UserError
        If ``std`` is not positive, either is not finite, or `fold_inputs` refuses.
    """
    _check_normalize(mean, std)
    first = fold_inputs(network.layers[0], np.float64(std), -(np.float64(mean) / std),
                        f"the mean {mean} and the std {std}")
    return replace(network, layers=(first, *network.layers[1:]))


def _check_normalize(mean: float, std: float) -> None:
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise UserError(f"the normalisation needs a finite mean and a positive std, not {mean} and {std}")


def _load(path: Path, input_shape: tuple[int, ...] | None, known: str | None) -> Network:
    try:
        if not path.exists():
            raise UserError("there is no such file")
        if not path.is_file():
            raise UserError("it is a directory or a device, not a file; name the model file itself")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise UserError(f"it is empty; {SAVE_AGAIN}")
            if size > FILE_LIMIT:
                raise UserError(f"it has {size:,} bytes, more than {FILE_LIMIT:,}; {SAVE_AGAIN}")
            if path.suffix == ".onnx":
                _refuse_known(known)
                flow = read_onnx(path)
                return _assembled(path.stem, flow.parts, flow.shape, input_shape, flow.assumptions)
            start = file.read(9)
            file.seek(0)
            if start.startswith(b"PK\x03\x04") and is_exported((archive := open_zip(file)).namelist()):
                _refuse_known(known)
                flow = read_exported(archive)
                return _assembled(path.stem, flow.parts, flow.shape, input_shape, flow.assumptions)
            file.seek(0)
            if path.suffix == ".safetensors" or start[8:] == b"{":
                _check_header(file, size)
                return _load_safetensors(path, input_shape, known)
            return _load_checkpoint(path.stem, read_checkpoint(file), input_shape, known)
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror or error}") from None


def _refuse_known(known: str | None) -> None:
    if known is not None:
        raise UserError(f"it tells its network by itself; leave out --known {known}")


def _load_checkpoint(name: str, checkpoint: Checkpoint, input_shape: tuple[int, ...] | None,
                     known: str | None) -> Network:
    """What torch.save wrote."""
    model, description = find_model(checkpoint)
    if type(model) is Record:
        _refuse_known(known)
        return assemble(name, module_parts(checkpoint, model), input_shape)
    _check_count(len(model))
    tensors, unread = {}, []
    for key, value in model.items():
        if (tensor := checkpoint.tensor(value)) is not None:
            tensors[str(key)] = tensor
        elif type(value) is Record and str(key).endswith(("weight", "bias")):
            tensors[str(key)] = StoredTensor((), problem=f"is not a torch tensor but a {value.name}")
        else:
            unread.append(shown(key))
    if model is not checkpoint.root:
        unread += [shown(key) for key, value in checkpoint.root.items()
                   if (tensor := checkpoint.tensor(value)) is not None and not tensor.problem]
    reading = read_tensors(tensors, ordered=True, description=description, known=known)
    notes = (f"not read, though it may belong to the model: {', '.join(unread[:5])}",) if unread else ()
    return _assembled(name, reading.parts, reading.shape, input_shape, (*reading.assumptions, *notes))


def _assembled(name: str, parts: list[Part], own_shape: tuple[int, ...] | None,
               input_shape: tuple[int, ...] | None, assumptions: Sequence[str] = ()) -> Network:
    """From a file that may tell the axes of an input itself."""
    if own_shape and input_shape and own_shape != input_shape \
            and (len(own_shape) == 3 or math.prod(own_shape) != math.prod(input_shape)):
        own, given = (" x ".join(map(str, shape)) for shape in (own_shape, input_shape))
        raise UserError(f"it takes images of {own} values, not of {given}; leave out --input-shape, or give other data")
    return assemble(name, parts, own_shape or input_shape, exact=own_shape is not None, assumptions=assumptions)


def _check_count(tensors: int) -> None:
    if tensors > TENSORS_LIMIT:
        raise UserError(f"its state dictionary has {tensors:,} entries, more than {TENSORS_LIMIT:,}")


def _check_header(file: IO[bytes], size: int) -> None:
    """Raises `UserError` unless a safetensors file of ``size`` bytes has a header that names each tensor once."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise UserError(f"it is a damaged or cut-off safetensors file: its header claims {length:,} bytes "
                        f"of the file's {size:,} (at most {HEADER_LIMIT:,}); save it again")
    try:
        parse_json(file.read(length))
    except ValueError as error:
        raise UserError(f"it is a damaged safetensors file (header: {str(error)[:120]}); save it again") from None


def _load_safetensors(path: Path, input_shape: tuple[int, ...] | None, known: str | None) -> Network:
    try:
        # The library checks that shapes, number formats and positions agree with each other.
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            _check_count(len(names))
            tensors = {name: _safetensor(file, name) for name in names}
            description = (file.metadata() or {}).get(KEY)
            reading = read_tensors(tensors, ordered=False, description=description, known=known)
            return _assembled(path.stem, reading.parts, reading.shape, input_shape, reading.assumptions)
    except SafetensorError as error:
        raise UserError(f"it is a damaged safetensors file ({error}); save it again") from None


def _safetensor(file: Any, name: str) -> StoredTensor:
    entry = file.get_slice(name)
    shape = tuple(entry.get_shape())
    dtype = _SAFETENSORS_FORMATS.get(entry.get_dtype(), str(entry.get_dtype()))
    if problem := dtype_problem(dtype) or shape_problem(shape):
        return StoredTensor(shape, problem=problem)

    def load() -> np.ndarray:
        tensor = file.get_tensor(name)
        return (tensor.float() if dtype == "bfloat16" else tensor).numpy()
    return StoredTensor(shape, math.prod(shape), load)
