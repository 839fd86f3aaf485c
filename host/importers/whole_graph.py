# SPDX-License-Identifier: Apache-2.0
"""Follows all steps of a model, also those whose values are several joined one behind the other.

A joined value is never made. What works on each channel by itself works on each of its members; a layer with weights
becomes a sum of layers, one for each member: ``W [a; b] = W_a a + W_b b``.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from host.importers.graph_state import Value, in_rows
from host.importers.layer_drafts import Draft
from host.importers.part_rules import RULES
from host.importers.part_slices import among_rows, for_channels, for_inputs, for_rows, selection, stacked
from host.importers.product_graph import ProductGraph
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    AddPart,
    AffinePart,
    ConvPart,
    FlattenPart,
    JoinPart,
    LinearPart,
    MulPart,
    NormPart,
    PadPart,
    Part,
    PoolPart,
    SqueezePart,
    Step,
    UpsamplePart,
    shown,
)
from host.importers.supported_layers import size_text
from host.network.layers import VALUES_LIMIT
from rtl.numbers import Activation

__all__ = ["WholeGraph"]

BY_CHANNEL = (ActivationPart, AdaptivePoolPart, FlattenPart, PadPart, PoolPart, SqueezePart, UpsamplePart)
"""Kinds of parts that do the same to each channel."""


class Joined(NamedTuple):
    """Values one behind the other along their first axis: ``members``, of which each has a shape of as many axes."""

    members: tuple[Value, ...]

    @property
    def sizes(self) -> list[int]:
        """Channels, or values, of each member."""
        return [one.shape[0] for one in self.members if one.shape]

    @property
    def firsts(self) -> list[int]:
        """The first channel of each member."""
        return [sum(self.sizes[:place]) for place in range(len(self.members))]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the joined value."""
        return (sum(self.sizes), *(self.members[0].shape or ())[1:])


class WholeGraph(ProductGraph):
    """Takes all steps of a model, and follows its values by their names.

    ``input_shape`` and ``exact`` are those of `host.importers.graph_state.GraphState`.
    """

    def __init__(self, input_shape: tuple[int, ...] | None, *, exact: bool = False) -> None:
        super().__init__(input_shape, exact=exact)
        self.values: dict[str, Value | Joined] = {}

    def follow(self, steps: Sequence[Step], output: str) -> None:
        """Adds all ``steps`` of a graph, in the order of computation; the network gives the value named ``output``."""
        readers = Counter(name for step in steps for name in step.takes)
        readers[output] += 1
        known = {name for step in steps for name in step.takes} - {step.gives for step in steps}
        self.values |= {name: self.value(shared=readers[name] > 1) for name in known}
        for step in steps:
            self.values[step.gives] = self._step(step.part, [self.values[name] for name in step.takes],
                                                 shared=readers[step.gives] > 1)
        if steps:
            last = self.values[output]
            self.take(self._heads(last) if isinstance(last, Joined) else last)
        self._end()

    def _end(self) -> None:
        """No part follows."""
        self.keep_zeros()
        used, look = set[int](), [self.draft]
        while look:
            one = look.pop()
            if one is not None and id(one) not in used:
                used.add(id(one))
                look += [one.source, one.added if isinstance(one.added, Draft) else None]
        if not self.problems:
            self.problems += [f"layer {shown(draft.part.name)} is not used: the network's output does not depend on it"
                              for draft in self.drafts if id(draft) not in used]

    def _step(self, part: Part, taken: list[Value | Joined], *, shared: bool) -> Value | Joined:
        """The value that ``part`` makes of those that it takes."""
        if isinstance(part, JoinPart):
            return self._join(part, taken, shared=shared)
        first = taken[0]
        if isinstance(part, AddPart | MulPart):
            other, of = taken[1], self.one if isinstance(part, AddPart) else self.product
            if isinstance(first, Joined) and isinstance(other, Joined) and first.sizes == other.sizes:
                return _together([of(_member(part, place), one, two, shared=shared) for place, (one, two)
                                  in enumerate(zip(first.members, other.members, strict=True))])
            first, other = (self._gathered(one, f"{part.name}.joined") if isinstance(one, Joined) else one
                            for one in (first, other))
            return of(part, first, other, shared=shared)
        if not isinstance(first, Joined):
            return self.one(part, first, shared=shared)
        if isinstance(part, BY_CHANNEL) and (parts := _for_members(part, first)):
            return _together([self.one(own, one, shared=shared)
                              for own, one in zip(parts, first.members, strict=True)])
        if isinstance(part, NormPart | AffinePart) and self._fits(part, first):
            return _together([
                self.one(_member(for_channels(part, begin, size, first.shape[0]), place), one, shared=shared)
                for place, (one, begin, size) in enumerate(zip(first.members, first.firsts, first.sizes, strict=True))])
        if isinstance(part, LinearPart | ConvPart) and (found := self._weighted(part, first, shared=shared)):
            return found
        return self.one(part, self._gathered(first, f"{part.name}.joined"), shared=shared)

    def _join(self, part: JoinPart, taken: list[Value | Joined], *, shared: bool) -> Value | Joined:
        members = [one for value in taken for one in (value.members if isinstance(value, Joined) else [value])]
        for place, one in enumerate(members):
            self.take(one)
            self.keep_zeros()
            members[place] = self.value(shared=one.shared and self.draft is one.draft)
        if len({len(one.shape or ()) for one in members}) > 1:
            members = [one._replace(shape=one.shape and in_rows(one.shape)) for one in members]
        shapes = [one.shape for one in members if one.shape]
        if len(shapes) == len(members) and len({shape[1:] for shape in shapes}) > 1:
            self.take(members[0])
            self.refuse(part, f"joins values of {' and '.join(map(size_text, shapes))}; only channels of maps of one "
                              "size, or flat values, are joined")
            return self.value(shared=shared)
        return _together([one._replace(shared=one.shared or shared) for one in members])

    @staticmethod
    def _fits(part: NormPart | AffinePart, joined: Joined) -> bool:
        """Whether a norm has as many channels as the value, or a constant one value for all or one for each."""
        channels = joined.shape[0]
        if isinstance(part, NormPart):
            return all(tensor is None or tensor.problem or tensor.shape == (channels,)
                       for tensor in (part.mean, part.variance, part.scale, part.shift))
        shape = part.constant.shape
        return part.constant.values == 1 or (max(shape, default=1) == channels == math.prod(shape))

    def _weighted(self, part: LinearPart | ConvPart, joined: Joined, *, shared: bool) -> Value | Joined | None:
        """A layer with weights: the sum of one for each member; None if weights and members do not fit together."""
        channels, groups = joined.shape[0], part.groups if isinstance(part, ConvPart) else 1
        shape = part.weight.shape
        if part.weight.problem or len(shape) < 2 or groups < 1 or shape[1] * groups != channels or shape[0] % groups:
            return None
        if isinstance(part, ConvPart) and groups > 1:
            each, rows = shape[1], shape[0] // groups
            if any(size % each for size in joined.sizes):
                return None
            members = zip(joined.members, joined.firsts, joined.sizes, strict=True)
            return _together([
                self.one(_member(for_rows(part, begin // each * rows, size // each * rows, size // each), place), one,
                          shared=shared)
                for place, (one, begin, size) in enumerate(members)])
        last = len(joined.members) - 1
        return self._summed([
            replace(for_inputs(part, begin, size), name=part.name if place == last else f"{part.name}[{place}]",
                    bias=part.bias if place == last else None)
            for place, (begin, size) in enumerate(zip(joined.firsts, joined.sizes, strict=True))],
            joined, shared=shared)

    def _summed(self, parts: Sequence[LinearPart | ConvPart], joined: Joined, *, fixed: bool = False,
                shared: bool) -> Value:
        """The sum of ``parts``, of which each takes one member; the last one has the bias."""
        terms: list[Draft] = []
        for part, one in zip(parts, joined.members, strict=True):
            self.take(one)
            problem = self._place_problem(part)
            if problem:
                self.refuse(part, problem)
            else:
                RULES[type(part)](self, part)
            self.before = part
            if self.draft is None or self.shape is None:
                return self.value(shared=shared)
            self.draft.fixed, self.draft.added = fixed, terms[-1] if terms else None
            self.draft.terms = tuple(terms)
            terms.append(self.draft)
        return self.value(shared=shared)

    def _gathered(self, joined: Joined, name: str) -> Value:
        """The joined value, by layers that put each member in its place."""
        total, image = joined.shape[0], len(joined.shape) > 1
        if total * max(joined.sizes) > VALUES_LIMIT:
            self.take(joined.members[0])
            self.refuse(JoinPart(name), f"joins {total:,} values, too many to be put in their places; join fewer")
            return self.value(shared=False)
        last = len(joined.members) - 1
        parts = [selection(name if place == last else f"{name}[{place}]", begin, size, total, image=image)
                 for place, (begin, size) in enumerate(zip(joined.firsts, joined.sizes, strict=True))]
        found = self._summed(parts, joined, fixed=True, shared=False)
        return found._replace(shape=(total, found.shape[2])) if found.shape and len(joined.shape) == 2 else found

    def _heads(self, joined: Joined) -> Value:
        """The joined value as the network's output.

        Linear layers of one value become one layer. Those of several values get all outputs, of which those of the
        others are zero, and their sums are added. Else layers of their own put each value in its place.
        """
        heads = [one.draft for one in joined.members if one.draft is not None and not one.shared
                 and _is_plain(one.draft)]
        parts = [one.part for one in heads if isinstance(one.part, LinearPart)]
        total = joined.shape[0]
        if len(parts) < len(joined.members) or total * max(part.weight.shape[1] for part in parts) > VALUES_LIMIT:
            return self._gathered(joined, "outputs")
        if all(one.source is heads[0].source for one in heads):
            # The first in the order of computation stays.
            first = min(heads, key=self._number)
            first.part = stacked("+".join(part.name for part in parts), parts)
            self.drafts = [one for one in self.drafts if one is first or one not in heads]
            return joined.members[heads.index(first)]._replace(shape=(total,))
        for head, part, begin in zip(heads, parts, joined.firsts, strict=True):
            head.part = among_rows(part, begin, total)
        order = sorted(heads, key=self._number)
        for number, head in enumerate(order):
            head.added, head.terms = (order[number - 1], tuple(order[:number])) if number else (None, ())
        return joined.members[heads.index(order[-1])]._replace(shape=(total,))


def _is_plain(draft: Draft) -> bool:
    """Whether a layer is linear with its own weights, biases and nothing else, and gives a vector."""
    return isinstance(draft.part, LinearPart) and not draft.part.weight.problem and draft.added is None \
        and not draft.part.fixed and draft.part.out_map is None \
        and draft.activation is Activation.IDENTITY and not draft.scales


def _together(members: Sequence[Value]) -> Value | Joined:
    """The ``members`` joined; if the shape of any is not known, a value without one."""
    lost = [one for one in members if one.shape is None]
    return lost[0]._replace(lost=any(one.lost for one in members)) if lost else Joined(tuple(members))


def _for_members(part: Part, joined: Joined) -> list[Part]:
    """What ``part``, one of `BY_CHANNEL`, does to each member; empty if it does not leave the first axis as it is."""
    if isinstance(part, SqueezePart):
        rank = len(joined.shape) + len(part.axes) * part.adds
        if any(axis % rank == 0 for axis in part.axes):
            return []
    if isinstance(part, FlattenPart) and part.shape:
        values = math.prod(joined.shape)
        cut = tuple(size or values // math.prod(one for one in part.shape if one) for size in part.shape)
        if math.prod(cut) != values or (cut != (values,) and cut[0] != joined.shape[0]):
            return []
        return [FlattenPart(f"{part.name}[{place}]", () if len(cut) == 1 else (size, *cut[1:]))
                for place, size in enumerate(joined.sizes)]
    if isinstance(part, FlattenPart):
        return [part] * len(joined.members)
    return [_member(part, place) for place in range(len(joined.members))]


def _member(part, place: int):  # type: ignore[no-untyped-def]
    """The part for the member ``place`` of a joined value, under a name of its own."""
    return replace(part, name=f"{part.name}[{place}]")
