# SPDX-License-Identifier: Apache-2.0
"""Reads a trained network from a model file of unknown origin.

Nothing in the file is executed, and what the file claims is checked before memory is allocated:
see `nonzero.safe_pickle` and `host.importers.torch_archive`. These files are accepted:

* a ``.pt2`` file of torch.export.save (`host.importers.torch_export`), from any class of modules;
* a ``.tflite`` file of TensorFlow Lite (`host.importers.tflite_file`), told by its suffix or its bytes 4 to 7;
* an ``.onnx`` file (`host.importers.onnx_file`), told by its suffix;
* ``torch.save(model, path)`` for a ``torch.nn.Sequential`` of standard layers;
* ``torch.save(model.state_dict(), path)``, or a checkpoint dictionary with such a dictionary inside;
* a ``.safetensors`` file of the state dictionary.

Convolutions need the images' shape (`load_network`), unless the file knows it.

The last two hold tensors only. If the file also describes its network, as those of host.train and of
``host.compile --save`` do (`host.importers.description`), or if the user says which network of `host.network.zoo` it
is, it is read as that network. Otherwise it is read as a chain of linear layers in the order of the file (a safetensors
file, which has none, is ordered by shapes and numbers in names), with a ReLU behind each but the last, and batch
normalisation with eps = 1e-5 between a linear layer and its ReLU; `host.network.layers.Network.assumptions` says so. A
softmax or log-softmax at the end is dropped: it does not change which output is greatest.
"""

import os
from contextlib import suppress
from pathlib import Path

from host.datasets import Dataset, load_dataset
from host.importers.fold_normalization import check_normalize, fold_normalization
from host.importers.model_file import ModelFile
from host.importers.onnx_file import ONNX
from host.importers.safetensors_file import SAFETENSORS
from host.importers.tflite_file import TFLITE
from host.importers.torch_archive import SAVE_AGAIN
from host.importers.torch_export import TORCH_EXPORT
from host.importers.torch_save import TORCH_SAVE
from host.network.layers import Network
from nonzero.errors import UserError, check_all

FORMATS = (ONNX, TFLITE, TORCH_EXPORT, SAFETENSORS, TORCH_SAVE)
"""Tried in order; the last one accepts any file and reports an error if it cannot read it."""

FILE_LIMIT = 1 << 32
"""Greatest size of a model file in bytes: that of the largest network with its optimiser's state."""


PROBLEMS_LIMIT = 40
"""Greatest number of problems listed for a file."""


def load_network(path: Path, *, input_shape: tuple[int, ...] | None = None,
                 normalize: tuple[float, float] | None = None, known: str | None = None) -> Network:
    """Reads the network in the model file ``path``; its name is the file's, without the suffix.

    Parameters
    ----------
    path : Path
        A file as described at the top of this module.
    input_shape : (channels, height, width), optional
        Shape of an image; networks with convolutions need it if their file does not tell it.
    normalize : (mean, std), optional
        The inputs were normalised to ``(x - mean) / std`` in training. This is folded into the first
        layer, so that the network takes ``x`` itself, and a zero of ``x`` stays a zero.
    known : str, optional
        The network of `host.network.zoo` to which a file of tensors belongs.

    Raises
    ------
    UserError
        If the file cannot be read, is damaged or hostile, or holds anything but a chain of layers that
        the engine runs, with finite weights. It lists all problems of the layers.
    """
    if normalize is not None:
        check_normalize(*normalize)
    try:
        network = _load(Path(path), input_shape, known)
        return network if normalize is None else fold_normalization(network, *normalize)
    except UserError as error:
        problems = error.problems[:PROBLEMS_LIMIT]
        if len(error.problems) > PROBLEMS_LIMIT:
            problems.append(f"and {len(error.problems) - PROBLEMS_LIMIT:,} more problems")
        raise UserError([f"{path}: {problem}" for problem in problems]) from None


def load_with_data(path: Path, data: Dataset | str, *, input_shape: tuple[int, ...] | None = None,
                   normalize: tuple[float, float] | None = None,
                   known: str | None = None) -> tuple[Network, Dataset]:
    """Reads a network, as `load_network`, and a dataset whose images give the input shape if nothing else does.

    The images are put into the axis order that the network takes; notes of the dataset say what was changed.

    Parameters
    ----------
    path : Path
        The model file.
    data : Dataset or str
        The dataset, or its name (`host.datasets.load_dataset`).
    input_shape : tuple of int, optional
        Channels, height and width of an input.
    normalize : (float, float), optional
        Mean and standard deviation by which the training normalised its inputs.
    known : str, optional
        The network of `host.network.zoo` to which a file of tensors belongs.

    Raises
    ------
    UserError
        With the problems of both.
    """
    datasets: list[Dataset] = []

    def read_data() -> Dataset:
        datasets.append(load_dataset(data) if isinstance(data, str) else data)
        return datasets[0]

    def read_network() -> Network:
        shape = input_shape or (datasets[0].image_shape if datasets else None)
        try:
            return load_network(path, input_shape=shape, normalize=normalize, known=known)
        except UserError:
            if input_shape is None and shape is not None:
                # The data's channels may be last, or the file may tell the shape itself.
                last = [(shape[2], *shape[:2])] if datasets[0].train_images.ndim == 4 else []
                for other in (*last, None):
                    with suppress(UserError):
                        return load_network(path, input_shape=other, normalize=normalize, known=known)
            raise
    dataset, network = check_all(read_data, read_network)
    if dataset.input_count != network.inputs:  # what to say is `Dataset.require`'s
        return network, dataset
    return network, dataset.fitted(network.input_axes or input_shape)


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
            model = ModelFile(path, file, size, file.read(9), input_shape, known)
            file.seek(0)
            chosen = next(one for one in FORMATS if one.recognises(model))
            file.seek(0)
            return chosen.read(model)
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror or error}") from None


