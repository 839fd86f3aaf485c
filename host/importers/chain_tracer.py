# SPDX-License-Identifier: Apache-2.0
"""Follows the activations through the graph of an exported model, which must be one chain."""

import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

from host.importers.source_layers import (
    ActivationPart,
    AddPart,
    AffinePart,
    FlattenPart,
    JoinPart,
    LinearPart,
    MulPart,
    Part,
    Step,
    UnsupportedPart,
    shown,
)
from host.importers.stored_tensor import COMPUTED, StoredTensor, number_of
from host.network.activations import hard_sigmoid, hard_swish, sigmoid, silu
from host.network.function import Function

__all__ = ["ARITHMETIC", "Dataflow"]

INPUTS_LIMIT = 1 << 24
"""Greatest number of values of an input that is scaled or shifted."""

STEPS_LIMIT = 16
"""Most steps from a tensor of the file to a weight; each nests one call deeper when it is read."""

ARITHMETIC = ("; only sums, differences, products and quotients with a constant in the file run, and on the input only "
              "if the file tells its shape: do it in the weights of a layer, or for the input by --normalize MEAN,STD "
              "or in the data")
"""Advice about sums and products that cannot be folded."""


@dataclass
class Dataflow:
    """Follows the activations from the input on, and gathers the parts of the model.

    Attributes
    ----------
    begin : str
        Name of the model's input in the file.
    at : str
        The activations that the next part takes, by the name of the step that makes them; ``""`` is the input.
    others : tuple of str
        Further activations that it takes, of a sum or a concatenation.
    sizes : sequence of int, str or None
        Sizes of the axes of the model's input, of which the first is the batch axis if there are several; None for a
        size that the file does not give, a name for one that it leaves open. Empty if the file gives no axes.
    constants : dict
        The tensors of the file by the names of the values that they are.
    names : dict
        All values so far that are activations: the step that makes them, by their name in the file.
    steps : list of Step
        Parts found so far, in the order of computation.
    """

    begin: InitVar[str]
    sizes: Sequence[int | str | None]
    constants: dict[str, StoredTensor]
    at: str = ""
    others: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    depths: dict[str, int] = field(default_factory=dict)
    """Operations by which constants are computed, one from another."""
    assumptions: list[str] = field(default_factory=list)
    """Sentences for `Network.assumptions`."""
    flattened: dict[str, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    """Rows, columns and channels of the maps that flat activations were, by step, where channels come last."""

    def __post_init__(self, begin: str) -> None:
        self.names[begin] = ""

    def takes(self, node: str, kind: str, inputs: Sequence[str], *, adds: bool = False,
              joins: bool = False, multiplies: bool = False) -> bool | None:
        """Whether a node takes activations; if it does, the next parts take the same.

        Parameters
        ----------
        node : str
            Its name, for the user.
        kind : str
            Its operation.
        inputs : sequence of str
            Names of the values that it takes.
        adds : bool
            It is the sum of its inputs, or the difference of two, so that it may take several: `add_up` takes them.
        joins, multiplies : bool
            It joins its inputs, so that it may take any number; or it is the product of two.

        Returns
        -------
        bool or None
            True if it takes one value, or several that it may take. False if it takes more; then a part that
            cannot be run is noted. None if it takes no activations.
        """
        taken = [self.names[name] for name in inputs if name in self.names]
        if not taken:
            return None
        self.at, self.others = taken[0], tuple(taken[1:])
        if len(taken) == 1 or joins or (adds and len(taken) == len(inputs)) or (multiplies and len(inputs) == 2):
            return True
        self.others = ()
        self.refuse(node, f"is {kind} of {'several values' if len(set(taken)) > 1 else 'a value and itself'}; of those "
                          "that take two, only sums, differences, products and concatenations run: retrain without it")
        return False

    def gated(self, inputs: Sequence[str]) -> Function | None:
        """The function ``x * f(x)`` that a product is, if it is one that is known; then the next part takes ``x``.

        Parameters
        ----------
        inputs : sequence of str
            Names of the two values that are multiplied.
        """
        taken = [self.names.get(name, "?") for name in inputs]
        for value, gate in (taken, taken[::-1]) if len(taken) == 2 else ():
            for step in self.steps:
                if step.gives == gate and step.takes == (value,) and isinstance(step.part, ActivationPart):
                    found = {sigmoid(): silu(), hard_sigmoid(): hard_swish()}.get(step.part.activation)
                    if found:
                        self.at, self.others = value, ()
                        return found
        return None

    def is_at(self, name: str) -> bool:
        """Whether the value ``name`` of the file is the one that the next part takes."""
        return self.names.get(name) == self.at

    def assume_no_dropout(self, node: str) -> None:
        """Records that the dropout at the node named ``node``, which the file runs as in training, is left out."""
        self.assumptions.append(f"layer {shown(node)} was exported as in training, where it drops values by chance; it "
                                "is left out, as in inference: call model.eval() before the export")

    def add_up(self, node: str, *, minus: bool = False) -> None:
        """Adds the parts for the sum of all values that the next part takes; then it takes this sum.

        Parameters
        ----------
        node : str
            Name of the node, for the user.
        minus : bool
            All values but the first are taken off it.
        """
        total, *others = self.at, *self.others
        for number, other in enumerate(others, 1):
            self.others = ()
            if minus:
                self.at = other
                self._step(AffinePart(f"{node}.negative", "mul", number_of(-1.0)))
                other = self.at
            name = node if number == len(others) else f"{node}[{number}]"
            self.at = total
            if other == total:
                self._step(AffinePart(name, "mul", number_of(2.0)))
            else:
                self.others = (other,)
                self._step(AddPart(name))
            total = self.at
        self.others = ()

    def refuse(self, node: str, problem: str) -> None:
        """Notes that the node named ``node`` cannot be run; ``problem`` continues a sentence that begins with its name.
        """
        self._step(UnsupportedPart(node, problem))

    def _step(self, part: Part) -> None:
        takes = (self.at, *self.others) if isinstance(part, AddPart | JoinPart | MulPart) else (self.at,)
        gives = f"#{len(self.steps)}"
        self.steps.append(Step(part, takes, gives))
        if self.at in self.flattened and not isinstance(part, LinearPart):
            self.flattened.setdefault(gives, self.flattened[self.at])
        self.at = gives

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Axes of one input, if the file gives all of their sizes."""
        axes = self.sizes[1:] or self.sizes
        known = tuple(size for size in axes if type(size) is int)
        return known if known and len(known) == len(axes) else None

    @property
    def batch(self) -> int | str | None:
        """Size of the batch axis, which must not change; None if it is not known, or there is only one axis."""
        return self.sizes[0] if len(self.sizes) > 1 else None

    def go_on(self, output: str, *parts: Part) -> None:
        """Adds the ``parts`` that a node becomes, and continues at its output, the value named ``output``."""
        for part in parts:
            if isinstance(part, LinearPart) and len(self.sizes) > 2 and not self.shape \
                    and not any(isinstance(one.part, FlattenPart | UnsupportedPart) for one in self.steps):
                self.refuse(part.name, f"works on the last of {len(self.sizes)} axes; put torch.nn.Flatten() before "
                                       "it, and train it on all values of an input")
            self._step(part)
        self.names[output] = self.at

    def reshaped(self, sizes: Sequence[int | None], node: str, kind: str) -> Part:
        """The part that gives the activations new axes.

        Parameters
        ----------
        sizes : sequence of int or None
            The new axes, the batch's first; None or -1 for a size that follows from the others.
        node : str
            Name of the node, for the user.
        kind : str
            Its operation.
        """
        shape = tuple(max(0, size or 0) for size in sizes[1:])
        if shape == (0,):
            return FlattenPart(node)
        if 1 <= len(shape) <= 3 and shape.count(0) <= 1:
            return FlattenPart(node, shape)
        return UnsupportedPart(node, f"is {kind} to {len(sizes)} axes; values have one axis behind the batch axis, or "
                                     "channels, rows and columns: use torch.nn.Flatten() or torch.nn.Unflatten()")

    def affine(self, node: str, operation: str, constant: StoredTensor) -> list[Part]:
        """The part for ``x operation constant``; empty if the constant cannot be told from the file.

        Parameters
        ----------
        node : str
            Name of the node, for the user.
        operation : str
            "add", "sub", "mul", "div" or "rsub".
        constant : StoredTensor
            A constant; on the model's input, of a shape that can be broadcast to that of the input.
        """
        shape = self.shape
        if not self._at_input:
            return [] if constant.problem or constant.values > INPUTS_LIMIT else [AffinePart(node, operation, constant)]
        if shape is None or math.prod(shape) > INPUTS_LIMIT or constant.problem:
            return []
        sizes = (1, *shape)[-len(constant.shape) or len(shape) + 1:]
        fits = len(constant.shape) <= len(shape) + 1 and all(
            one in (1, size) for one, size in zip(constant.shape, sizes, strict=False))
        return [AffinePart(node, operation, constant)] if fits else []

    @property
    def _at_input(self) -> bool:
        """Whether nothing but sums and products with constants stands between the model's input and the next part."""
        at = self.at
        while at:
            step = self.steps[int(at.removeprefix("#"))]
            if not isinstance(step.part, AffinePart):
                return False
            at, = step.takes
        return True

    def end(self, outputs: Sequence[str], way_out: str) -> None:
        """Ends at the values named ``outputs``, one behind the other if they are several.

        Parameters
        ----------
        outputs : sequence of str
            Values of the file.
        way_out : str
            What helps if one of them is not computed from the input.
        """
        if not outputs or any(name not in self.names for name in outputs):
            self.at = self.steps[-1].gives if self.steps else ""
            self.refuse("output", f"is not the last layer's alone; {way_out}")
            return
        ends = [self.names[name] for name in outputs]
        if len(ends) > 1:
            for place, at in enumerate(ends):
                self.at = at
                self._step(FlattenPart(f"outputs[{place}]"))
                ends[place] = self.at
            names = ", ".join(map(shown, outputs))
            self.assumptions.append(f"its {len(ends)} outputs {names} are given one behind the other, in this order")
            self.at, self.others = ends[0], tuple(ends[1:])
            self._step(JoinPart("outputs"))
        self.at = ends[0] if len(ends) == 1 else self.at

    def constant(self, name: str) -> StoredTensor:
        """The tensor of the file under the name of a value."""
        return self.constants.get(name, StoredTensor((), problem=COMPUTED))

    def derive(self, output: str, tensor: StoredTensor, *sources: str) -> None:
        """Records a value that is computed from constants.

        Parameters
        ----------
        output : str
            Name of the value.
        tensor : StoredTensor
            The value itself.
        sources : str
            Names of the constants from which it is computed.
        """
        self.depths[output] = 1 + max(self.depths.get(source, 0) for source in sources)
        if self.depths[output] > STEPS_LIMIT:
            tensor = StoredTensor(tensor.shape, problem=COMPUTED)
        self.constants[output] = tensor
