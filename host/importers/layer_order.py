# SPDX-License-Identifier: Apache-2.0
"""Restores the order of the layers of a file that sorts its tensors by name, as safetensors does."""

import re
from collections.abc import Sequence

from host.importers.source_layers import LinearPart, NormPart, Part, shown
from host.importers.torch_archive import EXPORT
from nonzero.errors import UserError

PARTS_LIMIT = 256
"""Greatest number of layers that are ordered; the search recurses once for each."""

STEPS_LIMIT = 5_000
"""Greatest number of steps of the search; layers of different shapes need a few each."""


def order_parts(parts: Sequence[Part]) -> list[Part]:
    """Orders linear layers and batch normalisations so that each one's inputs are the outputs before it.

    Layers whose names differ only in numbers (fc1, fc2, fc10) keep the order of the numbers, if such
    an order chains. Exactly one order must remain; a batch normalisation directly follows a
    linear layer. If there are unsupported parts, only these are returned, to be refused.

    Parameters
    ----------
    parts : sequence of Part
        In the order of the file.

    Raises
    ------
    UserError
        If no order chains, or several do.
    """
    unsupported: list[Part] = [part for part in parts if _sizes(part) is None]
    if unsupported or len(parts) < 2:
        return unsupported or list(parts)
    if len(parts) > PARTS_LIMIT:
        raise UserError(f"it has {len(parts):,} layers, more than {PARTS_LIMIT}")
    waiting = sorted(parts, key=lambda part: _number_key(part.name))
    orders = _orders(waiting, numbered=True) or _orders(waiting, numbered=False)
    if len(orders) == 1:
        return orders[0]
    reason = "several orders fit the shapes" if orders else "no order fits the shapes"
    shapes = "; ".join(f"{shown(part.name)} {_describe(part)}" for part in waiting[:20])
    raise UserError("a safetensors file does not keep the order of the layers, and "
                    f"{reason}: {shapes}. Number the layers' names in order (fc1, fc2, ...), or save them "
                    f"with torch.save, which keeps the order; or save the model as .pt2: {EXPORT}")


def has_other_orders(parts: Sequence[Part]) -> bool:
    """Whether the shapes of ``parts``, linear layers and batch normalisations, allow more than one order.

    More than `PARTS_LIMIT` of them are not searched: they count as ambiguous.
    """
    if len(parts) < 2 or any(_sizes(part) is None for part in parts):
        return False
    return len(parts) > PARTS_LIMIT or len(_orders(parts, numbered=False)) > 1


def _sizes(part: Part) -> tuple[int, int] | None:
    """Outputs and inputs, if they are known."""
    if isinstance(part, LinearPart) and len(part.weight.shape) == 2:
        return part.weight.shape[0], part.weight.shape[1]
    if isinstance(part, NormPart) and len(part.mean.shape) == 1:
        return part.mean.shape[0], part.mean.shape[0]
    return None


def _describe(part: Part) -> str:
    rows, cols = _sizes(part) or (0, 0)
    return f"{cols:,} -> {rows:,}" if isinstance(part, LinearPart) else f"normalises {rows:,}"


def _number_key(name: str) -> list[str | int]:
    """Sorts fc2 before fc10: the texts and numbers of a name by turns."""
    pieces = re.split(r"([0-9]{1,18})", name)
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)]


def _orders(parts: Sequence[Part], *, numbered: bool) -> list[list[Part]]:
    """Up to two orders that chain, by depth-first search; both the same if `STEPS_LIMIT` ran out.

    ``numbered`` keeps parts whose names differ only in numbers in the order in which they are given.
    """
    families: dict[str, list[Part]] = {}
    for index, part in enumerate(parts):
        families.setdefault(re.sub("[0-9]", "", part.name) if numbered else str(index), []).append(part)
    queues = list(families.values())
    used = [0] * len(queues)
    trail: list[Part] = []
    found: list[list[Part]] = []
    steps = 0

    def search() -> None:
        nonlocal steps
        steps += 1
        if len(trail) == len(parts):
            found.append(list(trail))
        for index, queue in enumerate(queues):
            if len(found) >= 2 or steps > STEPS_LIMIT:
                return
            if used[index] < len(queue) and _follows(queue[used[index]], trail):
                trail.append(queue[used[index]])
                used[index] += 1
                search()
                used[index] -= 1
                trail.pop()

    search()
    if steps > STEPS_LIMIT:
        return [list(parts), list(parts)]
    return found


def _follows(part: Part, trail: Sequence[Part]) -> bool:
    if not trail:
        return isinstance(part, LinearPart)
    if isinstance(part, NormPart) and not isinstance(trail[-1], LinearPart):
        return False
    before, sizes = _sizes(trail[-1]), _sizes(part)
    return before is not None and sizes is not None and before[0] == sizes[1]
