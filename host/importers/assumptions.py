# SPDX-License-Identifier: Apache-2.0
"""Assumptions about a network whose file holds tensors only, in sentences for the user."""

from collections.abc import Sequence

from host.importers.source_layers import LinearPart, NormPart, Part, shown
from host.importers.torch_archive import EXPORT

__all__ = ["chain_sentences", "left_out_sentence"]

LAYERS_NAMED = 24
"""Layers that the sentences name one by one."""

TENSORS_NAMED = 5


def chain_sentences(parts: Sequence[Part], order: str) -> tuple[str, ...]:
    """Assumptions about linear layers and normalisations, which come in the order of computation.

    Parameters
    ----------
    parts : sequence of Part
        Parts of the network, in the order of computation.
    order : str
        Origin of the order, for the user, if the shapes allow other orders; else empty.
    """
    linears = [index for index, part in enumerate(parts) if isinstance(part, LinearPart)]
    layers = []
    for number, index in enumerate(linears[:LAYERS_NAMED]):
        end = linears[number + 1] if number + 1 < len(linears) else len(parts)
        layers.append(_layer(parts[index:end], last=number + 1 == len(linears)))
    if len(linears) > LAYERS_NAMED:
        layers.append(f"and so on for {len(linears) - LAYERS_NAMED} more layers")
    assumed = (f"the file holds tensors only, so what forward() does with them is assumed: {'; '.join(layers)}; and "
               "nothing else, such as another activation, a residual, a scaling, or a layer used twice")
    orders = (f"the shapes of the layers allow several orders; {order} is taken",) if order else ()
    return assumed, *orders, f"if forward() does anything else, save the model as .pt2, which tells it: {EXPORT}"


def _layer(parts: Sequence[Part], *, last: bool) -> str:
    """A linear layer and the normalisations behind it."""
    linear, *norms = parts
    assert isinstance(linear, LinearPart)
    rows, cols = linear.weight.shape if len(linear.weight.shape) == 2 else (0, 0)
    without = "" if linear.bias else " without a bias"
    steps = [f"{shown(linear.name)} {cols:,} -> {rows:,}{without}"]
    steps += [f"batch normalisation {shown(norm.name)} directly behind it with eps {norm.eps:g}" for norm in norms
              if isinstance(norm, NormPart)]
    return ", then ".join(steps if last else [*steps, "ReLU"])


def left_out_sentence(names: Sequence[str]) -> tuple[str, ...]:
    """A sentence that names the tensors ``names``, which inference does not need; empty if there are none."""
    if not names:
        return ()
    more = f" and {len(names) - TENSORS_NAMED} more" if len(names) > TENSORS_NAMED else ""
    listed = ", ".join(map(shown, names[:TENSORS_NAMED]))
    return (f"tensors of training, which inference does without, are left out: {listed}{more}",)
