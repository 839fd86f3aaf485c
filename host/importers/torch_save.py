# SPDX-License-Identifier: Apache-2.0
"""Finds the only model in a file of torch.save, which may hold other data as well."""

import re
from collections import deque
from typing import Any

from host.importers.build_network import assemble, assemble_fitting
from host.importers.description import KEY
from host.importers.known_networks import refuse_known
from host.importers.model_file import ModelFile, ModelFormat
from host.importers.source_layers import in_a_row, shown
from host.importers.state_dict import COPY, check_count, read_tensors
from host.importers.stored_tensor import StoredTensor
from host.importers.torch_archive import EXPORT, OTHER_TENSORS, SAVE_AGAIN, STORAGES, Checkpoint, read_checkpoint
from host.importers.torch_layers import module_parts
from host.network.layers import Network
from nonzero.errors import UserError, printable
from nonzero.safe_pickle import Record

__all__ = ["TORCH_SAVE", "find_model"]

SEARCHED_DEEP = 4
"""Depth of nested dictionaries to which a second model is searched for."""

STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
"""Entries of a checkpoint dictionary that may hold the model."""

HARMLESS = frozenset({
    "argparse.Namespace", "builtins.bytearray", "builtins.complex", "builtins.set", "builtins.slice",
    "collections.Counter", "collections.OrderedDict", "collections.defaultdict", "collections.deque",
    "builtins.dict", "builtins.int", "builtins.list", "builtins.float", "_codecs.encode",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.ndarray",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
    "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath",
    "torch.Size", "torch.Tensor", "torch.device", "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout", "torch.storage.UntypedStorage",
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state", "torch.per_tensor_affine", "torch.per_channel_affine",
    *OTHER_TENSORS,
    *(f"torch.{storage}Storage" for storage in [*STORAGES, "QInt8", "QUInt8", "QInt32"]),
})
"""Names of plain data that checkpoints refer to. They are never called either: listing them only
keeps honest files from being refused."""

_NUMBER_FORMAT = re.compile(r"torch\.(bool|q?u?int\d+|b?float\d\w*|complex\d+)")

_WHICH = f"and nothing says which is meant; save only one of them, or save it as .pt2: {EXPORT}"


def find_model(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The pickled model or state dictionary of the file, and the file's description of it, or None.

    `host.importers.description` defines that description.

    Parameters
    ----------
    checkpoint : Checkpoint
        Content of the file.

    Raises
    ------
    UserError
        If the file refers to anything that is neither plain data nor part of torch, or holds no model, or several.
    """
    strange = [name for name in checkpoint.names if name not in HARMLESS
               and not name.startswith("torch.nn.modules.") and not _NUMBER_FORMAT.fullmatch(name)]
    if strange:
        raise UserError([_strange_problem(name) for name in strange])
    root = checkpoint.root
    entries = root if type(root) is dict else {}
    key = next((key for key in STATE_KEYS if _is_model(checkpoint, entries.get(key))), None)
    model = root if key is None else root[key]
    if key is None and not _is_model(checkpoint, root):
        raise UserError(_no_model(root))
    if others := [name for name, value in _models(checkpoint) if value is not model]:
        names = ", ".join([*([] if key is None else [key]), *others[:9]])
        raise UserError(f"it is a dictionary with {'tensors and with ' if key is None else ''}models under each of "
                        f"{printable(names)}, {_WHICH}")
    return model, None if key is None else root.get(KEY)


def _strange_problem(name: str) -> str:
    if name.startswith("torch.nn.utils.prune."):
        return (f"it refers to {shown(name)}; call torch.nn.utils.prune.remove(layer, \"weight\") for each layer that "
                "was pruned before saving")
    return (f"it refers to the class or function {shown(name)}, but nothing in a model file is ever run; if it is your "
            f"own class, save the model as .pt2: {EXPORT}")


def _no_model(root: Any) -> str:
    if type(root) is not dict:
        kind = root.name if type(root) is Record else type(root).__name__
        return f"it holds a {shown(kind)}, not a model or a state dictionary; {SAVE_AGAIN}"
    names = ", ".join(map(shown, list(root)[:10])) or "none"
    return (f"it is a dictionary with no model; its entries are {names}. A model is expected under one of "
            f"{', '.join(STATE_KEYS)}; or {SAVE_AGAIN}")


def _is_model(checkpoint: Checkpoint, value: Any) -> bool:
    if type(value) is dict:
        return any(checkpoint.tensor(entry) is not None for entry in value.values())
    return type(value) is Record and value.name.startswith("torch.nn.modules.")


def _models(checkpoint: Checkpoint) -> list[tuple[str, Any]]:
    """Everything in the file that looks like a model, with its name: dictionaries with matrices that are weights, lists
    of matrices whose name marks them as a copy, and pickled modules except losses."""
    found: list[tuple[str, Any]] = []
    waiting, seen = deque([("", checkpoint.root, 0)]), set[int]()
    while waiting:
        name, value, depth = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) is Record and value.name.startswith("torch.nn.modules."):
            found += [(name, value)] if ".loss." not in value.name else []
        elif type(value) is list and COPY.search(name):
            found += [(name, value)] if any(_is_matrix(checkpoint, one) for one in value) else []
        elif type(value) is dict:
            if any(str(key).endswith("weight") and _is_matrix(checkpoint, one) for key, one in value.items()):
                found.append((name, value))
            waiting += [(f"{name}.{str(key)[:80]}".lstrip("."), one, depth + 1) for key, one in value.items()
                        if depth < SEARCHED_DEEP and type(one) in (dict, list, Record)]
    return found


def _is_matrix(checkpoint: Checkpoint, value: Any) -> bool:
    tensor = checkpoint.tensor(value)
    return tensor is not None and len(tensor.shape) >= 2


def network_of_checkpoint(name: str, checkpoint: Checkpoint, input_shape: tuple[int, ...] | None,
                     known: str | None) -> Network:
    """Builds the network from the contents of a file of torch.save: a model, or a dictionary of tensors.

    Parameters
    ----------
    name : str
        Name of the network.
    checkpoint : Checkpoint
        The file.
    input_shape : tuple of int or None
        Channels, height and width of an input, unless the file gives them.
    known : str or None
        The network of `host.network.zoo` that the user says the tensors are of.

    Raises
    ------
    UserError
        If there is not one model that can be read, and as `assemble`.
    """
    model, description = find_model(checkpoint)
    if type(model) is Record:
        refuse_known(known)
        return assemble(name, in_a_row(module_parts(checkpoint, model)), input_shape)
    check_count(len(model))
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
    return assemble_fitting(name, in_a_row(reading.parts), reading.shape, input_shape, (*reading.assumptions, *notes))


def _network(model: ModelFile) -> Network:
    return network_of_checkpoint(model.path.stem, read_checkpoint(model.file), model.input_shape, model.known)


TORCH_SAVE = ModelFormat(lambda model: True, _network)
