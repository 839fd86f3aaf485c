# SPDX-License-Identifier: Apache-2.0
"""Reads dictionaries of tensors: finds their layers, and states what is assumed of everything else.

A state dictionary holds tensors only. Signs of anything but a chain of linear layers, such as copies of a model or
parameters of other layers, are found by their names and refused. The rest is assumed, and the user is told so
(`host.importers.assumptions`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from host.importers.assumptions import chain_sentences, left_out_sentence
from host.importers.description import described
from host.importers.known_networks import announcement, looks_like, zoo_parts
from host.importers.layer_order import has_other_orders, order_parts
from host.importers.source_layers import ActivationPart, LinearPart, NormPart, Part, UnsupportedPart, shown
from host.importers.stored_tensor import StoredTensor, masked, weight_normed
from host.importers.torch_archive import EXPORT
from nonzero.errors import UserError

__all__ = ["COPY", "TENSORS_LIMIT", "Reading", "read_tensors", "without_wrappers"]

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""Prefixes of torch.nn.DataParallel, torch.compile, and of modules that hold the network."""

WRAPPERS_DEEP = 8
"""Greatest number of prefixes that are dropped from a name."""

NAMES_DEEP = 8
"""Places of a name, between its dots, in which copies of layers are looked for."""

COPY = re.compile(r"(?:^|[._])(?:ema|swa|shadow|averaged|teacher|target)(?:[._]|$)|(?:^|[._])(?:ema|shadow)_?params")
"""Names of second copies of a model that training keeps."""

_LOSS = re.compile(r"(?:^|[._])(?:criterion|loss)(?:[._]|$)")

_NORM_LEAVES = {"weight", "bias", "running_mean", "running_var"}

_SAVE_ONE = f"save only the one that is meant, or save it as .pt2: {EXPORT}"

_AS_EXPORTED = f"if its forward() is a chain that Nonzero runs, save the model as .pt2: {EXPORT}"


@dataclass(frozen=True)
class Reading:
    """The network as which tensors were read.

    Attributes
    ----------
    parts : list of Part
        Parts in the order of computation.
    shape : tuple of int, optional
        Shape of an input, if it is known.
    assumptions : tuple of str
        See `host.network.layers.Network`.
    """

    parts: list[Part]
    shape: tuple[int, ...] | None = None
    assumptions: tuple[str, ...] = ()


def read_tensors(tensors: Mapping[str, StoredTensor], *, ordered: bool, description: object = None,
                 known: str | None = None) -> Reading:
    """The layers of a file's tensors.

    Parameters
    ----------
    tensors : mapping of str to StoredTensor
        Tensors by their names in the file.
    ordered : bool
        Whether the file keeps the order of its tensors.
    description : str, optional
        The file's description of them (`host.importers.description`).
    known : str, optional
        The network of `host.network.zoo` that the user says it is.

    Raises
    ------
    UserError
        If there is more than one model, if nothing says how the tensors of a convolution are applied, or as
        `described`, `zoo_parts` and `order_parts`.
    """
    if description is not None and known is None:
        return Reading(*described(description, tensors))
    kept, left_out = without_wrappers(tensors)
    notes = left_out_sentence(left_out)
    if known is not None:
        return Reading(*zoo_parts(known, kept), (announcement(known, kept), *notes))
    if (name := looks_like(kept)) is not None:
        raise UserError(f"its tensors could be those of {name}, but do not tell its activations and its pooling; if it "
                        f"is that network of host.network.zoo, add --known {name}; if not, save the model as .pt2: "
                        f"{EXPORT}")
    _refuse_copies(kept)
    parts = _parts(kept)
    several = has_other_orders(parts)
    order = "the file's" if ordered else "that of the numbers in the names"
    parts = parts if ordered else order_parts(parts)
    return Reading(_with_relus(parts), None, (*chain_sentences(parts, order if several else ""), *notes))


def without_wrappers(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], list[str]]:
    """``tensors`` without the prefixes that all their names have, and the names of those that inference does without:
    counters, and the weights of a loss.
    """
    kept = {key: tensor for key, tensor in tensors.items() if not _is_counter(key) and not _is_loss(key, tensor)}
    left_out = [key for key in tensors if key not in kept]
    for _ in range(WRAPPERS_DEEP):
        prefix = next((one for one in WRAPPERS if kept and all(key.startswith(one) for key in kept)), None)
        if prefix is None:
            break
        kept = {key.removeprefix(prefix): tensor for key, tensor in kept.items()}
    return kept, left_out


def _is_counter(key: str) -> bool:
    return key.rpartition(".")[2] in ("num_batches_tracked", "n_averaged")


def _is_loss(key: str, tensor: StoredTensor) -> bool:
    """Whether this is a weight of each class, as torch.nn.CrossEntropyLoss has."""
    name, _, leaf = key.rpartition(".")
    return leaf in ("weight", "pos_weight") and len(tensor.shape) == 1 and bool(_LOSS.search(name[-200:]))


def _with_relus(parts: Sequence[Part]) -> list[Part]:
    """Puts a ReLU before every linear layer but the first, as the parts of a state dictionary imply."""
    with_relus: list[Part] = []
    first = True
    for part in parts:
        if isinstance(part, LinearPart):
            with_relus += [] if first else [ActivationPart("relu")]
            first = False
        with_relus.append(part)
    return with_relus


# --- More than one model ---


def _refuse_copies(tensors: Mapping[str, StoredTensor]) -> None:
    """Raises `UserError` if some of the tensors are a second copy of a model: according to their names, or because the
    same layers with the same shapes occur under two names. Names that differ only in numbers may be those of blocks."""
    heads = {".".join(key.split(".", NAMES_DEEP)[:NAMES_DEEP])[:1000] for key in tensors}
    copies = sorted({found.group().strip("._") for head in heads if (found := COPY.search(head))})
    if copies and not all(COPY.search(head) for head in heads):
        raise UserError(f"beside its other tensors it has some under names with {', '.join(map(shown, copies))}, a "
                        f"second copy of the model; {_SAVE_ONE}")
    groups: dict[str, dict[str, list[tuple[str, tuple[int, ...]]]]] = {}
    for key, tensor in tensors.items():
        places = key.split(".", NAMES_DEEP)[:NAMES_DEEP]
        for depth in range(1, len(places)):
            parent, rest = ".".join(places[:depth - 1]), ".".join(places[depth:])
            groups.setdefault(parent, {}).setdefault(places[depth - 1], []).append((rest, tensor.shape))
    for parent, children in groups.items():
        alike: dict[tuple, list[str]] = {}
        for child, layers in children.items():
            if sum(len(shape) == 2 for _, shape in layers) > 1:
                alike.setdefault(tuple(sorted(layers)), []).append(child)
        for names in alike.values():
            if len({re.sub("[0-9]+", "", name) for name in names}) > 1:
                both = " and ".join(shown(f"{parent}.{name}".lstrip(".")) for name in names[:2])
                raise UserError(f"under {both} it has the same layers in the same shapes, as two copies of a model; "
                                f"{_SAVE_ONE}")


# --- Layers ---


def _parts(tensors: Mapping[str, StoredTensor]) -> list[Part]:
    """The layers in the order of their first tensors; masks of torch.nn.utils.prune and lengths of weight_norm
    are multiplied out."""
    groups: dict[str, dict[str, StoredTensor]] = {}
    for key, tensor in tensors.items():
        name, _, leaf = key.rpartition(".")
        groups.setdefault(name, {})[leaf] = tensor
    # The other tensors of a layer with a parametrisation, which is refused, are not a layer.
    whole = groups.keys() - {name.partition(".parametrizations.")[0] for name in groups if ".parametrizations." in name}
    return [_group_part(name, leaves) for name, leaves in groups.items() if name in whole]


def _group_part(name: str, leaves: dict[str, StoredTensor]) -> Part:
    """The layer that has these parameters and buffers."""
    label = name or ("linear" if "weight" in leaves else "model")
    for leaf in ("weight", "bias"):
        if {f"{leaf}_orig", f"{leaf}_mask"} <= leaves.keys() and leaf not in leaves:
            leaves[leaf] = masked(leaves.pop(f"{leaf}_orig"), leaves.pop(f"{leaf}_mask"))
    if {"weight_g", "weight_v"} <= leaves.keys() and "weight" not in leaves:
        leaves["weight"] = weight_normed(leaves.pop("weight_v"), leaves.pop("weight_g"))
    if {"running_mean", "running_var"} <= leaves.keys() <= _NORM_LEAVES:
        return NormPart(label, leaves.get("weight"), leaves.get("bias"), leaves["running_mean"], leaves["running_var"])
    if not {"weight"} <= leaves.keys() <= {"weight", "bias"}:
        return UnsupportedPart(label, f"has the parameters {_listed(leaves)}, {_meaning(name, leaves)}")
    weight = leaves["weight"]
    if not weight.problem and len(weight.shape) != 2:
        shape = list(weight.shape)
        if len(shape) > 2:
            return UnsupportedPart(label, f"is a convolution (weight of the shape {shape}), and a state dictionary of "
                                          "tensors does not tell its stride, padding and pooling; save the model as "
                                          f".pt2: {EXPORT}")
        return UnsupportedPart(label, f"has a weight of the shape {shape}, as layer normalisations and PReLU have; "
                                      f"{_AS_EXPORTED}")
    return LinearPart(label, weight, leaves.get("bias"))


def _listed(leaves: Mapping[str, StoredTensor]) -> str:
    names = [repr(leaf[:40]) for leaf in leaves]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _meaning(name: str, leaves: Mapping[str, StoredTensor]) -> str:
    """A guess at a layer with unknown parameters, and a remedy."""
    if ".parametrizations." in f".{name}.":
        return ("a parametrisation; before saving, call torch.nn.utils.parametrize.remove_parametrizations(layer, "
                "\"weight\")")
    if "weight_u" in leaves:
        return "a spectral normalisation; call torch.nn.utils.remove_spectral_norm(layer) before saving"
    if "weight_mask" in leaves or "bias_mask" in leaves:
        return "a pruning mask; call torch.nn.utils.prune.remove(layer, \"weight\") before saving"
    if any(leaf.startswith("weight_ih") for leaf in leaves):
        return f"as recurrent layers have; {_AS_EXPORTED}"
    if any(leaf.startswith("in_proj") for leaf in leaves):
        return f"as attention has; {_AS_EXPORTED}"
    return f"which are not those of a linear layer (weight, bias) and which no layer here reads; {_AS_EXPORTED}"


TENSORS_LIMIT = 20_000
"""Entries of a state dictionary."""


def check_count(tensors: int) -> None:
    """Raises `UserError` if the number ``tensors`` of a state dictionary's entries exceeds `TENSORS_LIMIT`."""
    if tensors > TENSORS_LIMIT:
        raise UserError(f"its state dictionary has {tensors:,} entries, more than {TENSORS_LIMIT:,}")
