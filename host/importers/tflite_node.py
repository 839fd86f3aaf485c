# SPDX-License-Identifier: Apache-2.0
"""An operator of a TensorFlow Lite graph, whose inputs and options are checked where they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from host.importers.chain_tracer import Dataflow
from host.importers.source_layers import Part, UnsupportedPart
from host.importers.stored_tensor import StoredTensor
from host.importers.tflite_tensors import LiteTensor

__all__ = ["LiteNode"]

NAME_LIMIT = 80


@dataclass(frozen=True)
class LiteNode:
    """An operator of the graph.

    Attributes
    ----------
    kind : str
        Its name in tflite.BuiltinOperator, or that of a custom operator.
    operator : tflite.Operator
    inputs, outputs : sequence of int
        Numbers of tensors; -1 for an input that is left out.
    tensors : sequence of LiteTensor
        All of the graph.
    flow : Dataflow
        Values and parts of the nodes before it.
    """

    kind: str
    operator: Any
    inputs: Sequence[int]
    outputs: Sequence[int]
    tensors: Sequence[LiteTensor]
    flow: Dataflow

    @property
    def label(self) -> str:
        """Its name for the user: that of its output."""
        return self.tensors[self.outputs[0]].name[:NAME_LIMIT] or f"{self.kind.lower()}_{self.outputs[0]}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the activations that it takes, channels last."""
        return self.tensors[self.inputs[0]].shape

    def options(self, name: str) -> Any:
        """Its options, of the table ``name`` of the library. Raises `ValueError` if it has none."""
        import tflite
        table = self.operator.BuiltinOptions()
        if table is None:
            raise ValueError(f"{name} is missing")
        options = getattr(tflite, name)()
        options.Init(table.Bytes, table.Pos)
        return options

    def constant(self, number: int) -> StoredTensor | None:
        """The constant at input ``number``, from 0; None if the node leaves that input out."""
        if number >= len(self.inputs) or self.inputs[number] < 0:
            return None
        return self.flow.constant(str(self.inputs[number]))

    def required(self, number: int) -> StoredTensor:
        """The constant at input ``number``, from 0. Raises `ValueError` if it is missing."""
        found = self.constant(number)
        if found is None:
            raise ValueError(f"input {number} is missing")
        return found

    def refused(self, problem: str) -> list[Part]:
        """The part of a layer that cannot be run; ``problem`` continues the sentence that begins with the layer's name.
        """
        return [UnsupportedPart(self.label, problem)]
