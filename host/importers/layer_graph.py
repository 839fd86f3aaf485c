# SPDX-License-Identifier: Apache-2.0
"""Puts the layers of a model together, part by part along its graph."""

from dataclasses import replace

from host.importers.graph_state import GraphState, Value, form, in_rows
from host.importers.layer_drafts import Draft
from host.importers.part_rules import RULES
from host.importers.source_layers import (
    ActivationPart,
    AddPart,
    AffinePart,
    ConvPart,
    FlattenPart,
    LinearPart,
    NormPart,
    PadPart,
    Part,
    SoftmaxPart,
    UnsupportedPart,
    shown,
)
from host.importers.supported_layers import size_text
from host.network.activations import at_zero
from host.network.graph import INPUT
from rtl.numbers import Activation

__all__ = ["LayerGraph"]


class LayerGraph(GraphState):
    """Takes the parts one by one: groups them into layers, and follows the shape of what flows between them."""

    def add(self, part: Part, other: "Value | None" = None) -> None:
        """Adds ``part``, which takes the current value: a new layer, a part of the one before, or a problem in
        `problems`. A sum takes ``other`` as well.
        """
        problem = self._place_problem(part)
        if problem:
            self.refuse(part, problem)
        elif isinstance(part, AddPart):
            assert other is not None
            self._sum(part, other)
        elif type(part) in RULES:
            RULES[type(part)](self, part)
        if not isinstance(part, FlattenPart | AffinePart | PadPart):
            self.before = part

    def one(self, part: Part, value: Value, other: Value | None = None, *, shared: bool) -> Value:
        """The value that ``part`` makes of ``value``, a sum of ``value`` and ``other``; several parts read it or not
        (``shared``)."""
        self.take(value)
        self.add(part, other)
        # A part that begins no layer, such as a flatten, gives what others may read as well.
        return self.value(shared=shared or self.shared)

    def _sum(self, part: AddPart, other: "Value") -> None:
        """One of the two layers gets the other's outputs added to its sums, if it may; else a layer of its own."""
        if other.pad:
            first = self.value(shared=self.shared)
            self.take(other)
            self.keep_zeros()
            other = self.value(shared=self.shared)
            self.take(first)
        if self.shape is None or other.shape is None:
            self.shape = None
            return
        shape = other.shape
        if len(self.shape) != len(shape):
            self.shape, shape = in_rows(self.shape), in_rows(shape)
        if self.shape != shape:
            self.refuse(part, f"adds {size_text(shape)} values to {size_text(self.shape)}; only values of one "
                              "shape are added")
            return
        if not self._of_one_form(self.value(shared=self.shared), other._replace(shape=shape)):
            self.refuse(part, f"adds {size_text(self.shape)} values of a flattened map to others; add before it is "
                              "flattened")
            return
        pairs = [(self.draft, other.draft, self.shared), (other.draft, self.draft, other.shared)]
        for one, added, shared in pairs:
            if one is not None and not shared and one.takes_more and one.added is None and (
                    added is None or self._number(added) < self._number(one)):
                one.added, self.draft, self.shared = INPUT if added is None else added, one, False
                if one.implied:
                    one.activation, one.implied = Activation.IDENTITY, False
                return
        self.identity(part.name)
        assert self.draft is not None
        self.draft.added = INPUT if other.draft is None else other.draft

    @staticmethod
    def _of_one_form(one: "Value", other: "Value") -> bool:
        """Whether two values of one shape lie in memory alike; a fully connected layer may give its outputs as the map
        that the other value is."""
        assert one.shape is not None and other.shape is not None
        forms = form(one.draft, one.shape), form(other.draft, other.shape)
        for value, wanted in ((one, forms[1]), (other, forms[0])):
            draft = value.draft
            if forms[0] != forms[1] and draft is not None and isinstance(draft.part, LinearPart) \
                    and draft.part.out_map is None and not value.shared:
                draft.part = replace(draft.part, out_map=wanted)
                return True
        return forms[0] == forms[1]

    def _number(self, draft: Draft) -> int:
        return next(number for number, one in enumerate(self.drafts) if one is draft)

    def _place_problem(self, part: Part) -> str:
        before = self.before
        if isinstance(part, UnsupportedPart):
            return part.problem
        if self.pad and not (isinstance(part, PadPart | ConvPart)
                             or (isinstance(part, ActivationPart) and at_zero(part.activation) == 0)):
            self.keep_zeros()
        if isinstance(before, SoftmaxPart):
            return f"follows the softmax {shown(before.name)}, which may only be last"
        if isinstance(before, UnsupportedPart) or not isinstance(part, NormPart | ActivationPart | SoftmaxPart):
            return ""
        if self.draft is None and not (isinstance(part, NormPart) and self.shape is not None):
            return "" if self.lost else ("comes before the first linear layer or convolution; only torch.nn.Flatten, "
                                         "Dropout, Identity, padding, upsampling and pooling may: leave it out, and "
                                         "give the data as it comes out of it")
        return self._softmax_problem(part) if isinstance(part, SoftmaxPart) else ""

    def _softmax_problem(self, part: SoftmaxPart) -> str:
        """Why the order of the outputs is not that of its inputs."""
        shape = self.shape
        if part.axis is None or shape is None or (len(shape) == 1 and part.axis in (1, -1)) \
                or (shape[1:] == (1, 1) and part.axis in (1, -3)):
            return ""
        return (f"is a softmax over axis {part.axis} of {size_text(shape)} outputs; only one over all of them may be "
                "left out: put torch.nn.Flatten() before it and use dim=1, or leave it out of the model")
