# SPDX-License-Identifier: Apache-2.0
"""Where each layer takes its inputs from: a graph in the order of computation.

A layer computes ``activation(weight @ x + bias + y)``, where ``x`` are the outputs of its source, and ``y``, if there
is one, those of a second layer, which are added to the sums: a residual connection.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["INPUT", "Sources", "input_readers", "is_chain", "only_reader", "sources"]

INPUT = ""
"""Name of the network's input as a source."""


class Placed(Protocol):
    """A layer of a graph: float, shared or integer.

    Attributes
    ----------
    name : str
    source : str or None
        The layer whose outputs it takes, or `INPUT`; None for the layer before it, the first layer's input.
    added : str or None
        The layer whose outputs are added to its sums, or `INPUT`; None for none.
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str | None: ...

    @property
    def added(self) -> str | None: ...


class Sources(NamedTuple):
    """Numbers of the layers whose outputs a layer takes; -1 for the network's input.

    Attributes
    ----------
    source : int
    added : int or None
    """

    source: int
    added: int | None


def sources(layers: Sequence[Placed]) -> list[Sources]:
    """Where each layer takes its inputs from.

    Parameters
    ----------
    layers : sequence of Placed
        In the order of computation.

    Raises
    ------
    ValueError
        For the name of a layer that does not come before.
    """
    known, found = {INPUT: -1}, []
    for number, layer in enumerate(layers):
        for name in (layer.source, layer.added):
            if name is not None and name not in known:
                raise ValueError(f"layer '{layer.name}' takes the outputs of '{name}', which does not come before it")
        found.append(Sources(number - 1 if layer.source is None else known[layer.source],
                             None if layer.added is None else known[layer.added]))
        known[layer.name] = number
    return found


def only_reader(layers: Sequence[Placed]) -> list[int | None]:
    """For each layer the number of the one that takes its outputs as its source, if no other reads them; else None.

    Parameters
    ----------
    layers : sequence of Placed
        In the order of computation; the outputs of the last are the network's.
    """
    found = sources(layers)
    reads: list[list[tuple[int, bool]]] = [[] for _ in layers]
    for number, (source, added) in enumerate(found):
        if source >= 0:
            reads[source].append((number, True))
        if added is not None and added >= 0:
            reads[added].append((number, False))
    return [one[0][0] if len(one) == 1 and one[0][1] and number + 1 < len(layers) else None
            for number, one in enumerate(reads)]


def input_readers(layers: Sequence[Placed]) -> int:
    """How often ``layers`` take the network's input, as their source or to add it."""
    return sum((one.source == -1) + (one.added == -1) for one in sources(layers))


def is_chain(layers: Sequence[Placed]) -> bool:
    """Whether each of ``layers`` takes the outputs of the one before it, and nothing else."""
    return all(one == (number - 1, None) for number, one in enumerate(sources(layers)))
