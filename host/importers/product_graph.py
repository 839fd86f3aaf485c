# SPDX-License-Identifier: Apache-2.0
"""Products of two values of a model, by the squares of their sum and of their difference."""

from host.importers.graph_state import Value
from host.importers.layer_graph import LayerGraph
from host.importers.source_layers import ActivationPart, AddPart, AffinePart, MulPart, UpsamplePart
from host.importers.stored_tensor import number_of
from host.importers.supported_layers import size_text
from host.network.activations import square

__all__ = ["ProductGraph"]


class ProductGraph(LayerGraph):
    """A `LayerGraph` that multiplies values as well."""

    def product(self, part: AddPart | MulPart, one: Value, two: Value, *, shared: bool) -> Value:
        """The product of two values, by three layers: ``x y = ((x + y)**2 - (x - y)**2) / 4``.

        The squares are tables. `host.quantization.even_products` makes the ranges of ``x`` and ``y`` alike.

        Parameters
        ----------
        part : MulPart
        one, two : Value
            Of one shape; or one of them has a value for each channel of the other.
        shared : bool
            Several parts read the product.
        """
        one, two = self._alike(part, one, two)
        if one.shape is None or two.shape is None:
            return one if one.shape is None else two
        if one.draft is two.draft and one.before is two.before:
            return self.one(ActivationPart(part.name, square()), one._replace(shared=True), shared=shared)
        halves = []
        for place, sign in enumerate((1.0, -1.0)):
            name = f"{part.name}[{place}]"
            factor = self.one(AffinePart(name, "mul", number_of(sign)), one._replace(shared=True), shared=False)
            if factor.draft is not None:
                factor.draft.kept = True
            total = self.one(AddPart(name), factor, two._replace(shared=True), shared=False)
            halves.append(self.one(ActivationPart(name, square(sign / 4)), total, shared=False))
        return self.one(AddPart(part.name), *halves, shared=shared)

    def _alike(self, part: AddPart | MulPart, one: Value, two: Value) -> tuple[Value, Value]:
        """Both values in the shape of the larger one: a value for each channel stands at all pixels."""
        found = []
        for value in (one, two):
            self.take(value)
            self.keep_zeros()
            found.append(self.value(shared=value.shared))
        first, second = (value.shape for value in found)
        if first is None or second is None or first == second:
            return found[0], found[1]
        for place, (small, large) in enumerate(((first, second), (second, first))):
            if len(small) == len(large) == 3 and small == (large[0], 1, 1):
                found[place] = self.one(UpsamplePart(f"{part.name}.pixels", (large[1], large[2])), found[place],
                                         shared=True)
                return found[0], found[1]
        self.take(found[0])
        self.refuse(part, f"multiplies {size_text(first)} values by {size_text(second)}; only values of one shape are "
                          "multiplied, or a map by a value for each of its channels")
        return self.value(shared=True), found[1]
