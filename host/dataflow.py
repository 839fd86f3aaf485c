# SPDX-License-Identifier: Apache-2.0
"""The way of the activations through the graph of an exported model, which must be one chain."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from host.parts import Part, UnsupportedPart
from host.tensors import StoredTensor

__all__ = ["Dataflow", "transposed"]


@dataclass
class Dataflow:
    """Follows the activations from the input on, and gathers the parts of the model.

    Attributes
    ----------
    at : str
        Name of the value that the next node must take.
    shape : (channels, height, width), optional
        Of an input, if the file tells it.
    constants : dict
        The tensors of the file by the names of the values that they are.
    """

    at: str
    shape: tuple[int, ...] | None
    constants: dict[str, StoredTensor]
    parts: list[Part] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.seen.add(self.at)

    def takes(self, node: str, kind: str, inputs: Sequence[str]) -> bool | None:
        """Whether a node takes the activations: False, and a problem, if it takes others as well; None if it takes
        none."""
        taken = [name for name in inputs if name in self.seen]
        if not taken:
            return None
        if taken != [self.at]:
            self.refuse(node, f"is {kind} of several values, or of one from before; Nonzero runs chains of layers, "
                              "without residual connections and branches: retrain without")
        return taken == [self.at]

    def refuse(self, node: str, problem: str) -> None:
        self.parts.append(UnsupportedPart(node, problem))

    def go_on(self, output: str, *parts: Part) -> None:
        """The node gave these parts, and its output is what flows on."""
        self.parts += parts
        self.at = output
        self.seen.add(output)

    def flattens(self, sizes: Sequence[int | None], node: str, kind: str) -> bool | None:
        """What a new shape (None or -1 for what is not told) does: flatten (True), or give the input its shape (False);
        None, and a problem, for any other."""
        if len(sizes) == 2:
            return True
        channels, height, width = (tuple(sizes[1:]) if len(sizes) == 4 else (None, None, None))
        if not self.parts and channels and height and width and min(channels, height, width) > 0:
            self.shape = (channels, height, width)
            return False
        self.refuse(node, f"is {kind} to {len(sizes)} axes; only the input may be cut into channels, rows and columns, "
                          "and only a flatten may follow: use torch.nn.Flatten()")
        return None


def transposed(tensor: StoredTensor) -> StoredTensor:
    """A matrix with its axes swapped."""
    if tensor.problem or len(tensor.shape) != 2:
        return StoredTensor(tensor.shape, problem=tensor.problem or "is transposed, but not a matrix")
    return StoredTensor(tensor.shape[::-1], tensor.values, lambda: tensor.read().T)
