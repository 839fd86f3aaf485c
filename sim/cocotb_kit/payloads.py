# SPDX-License-Identifier: Apache-2.0
"""Stream payloads between Python values and the bits of an Amaranth shape."""

from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data


def pack(shape: Any, value: Any) -> int:
    """The bits of a value, as an unsigned integer.

    Parameters
    ----------
    shape : ShapeLike
    value : int, mapping or sequence
        A mapping by field name for a struct (fields left out are zero) or one field of a union, a sequence
        for an array, otherwise an integer.

    Raises
    ------
    ValueError
        If an integer does not fit its shape, a field is unknown, or a sequence has the wrong length.
    """
    if not isinstance(shape, data.Layout):
        plain = Shape.cast(shape)
        number = int(value.value if hasattr(value, "value") else value)
        low = -(1 << plain.width - 1) if plain.signed else 0
        if not low <= number < low + (1 << plain.width):
            raise ValueError(f"{number} does not fit {plain!r}")
        return number & ((1 << plain.width) - 1)
    if isinstance(shape, data.ArrayLayout):
        if len(value) != shape.length:
            raise ValueError(f"an array of {shape.length} items cannot be {len(value)} items")
        value = dict(enumerate(value))
    fields = dict(iter(shape))
    unknown = [key for key in value if key not in fields]
    if unknown:
        raise ValueError(f"the layout has no field {unknown[0]!r}; it has {', '.join(map(repr, fields))}")
    bits = 0
    for key, item in value.items():
        bits |= pack(fields[key].shape, item) << fields[key].offset
    return bits


def unpack(shape: Any, bits: int) -> Any:
    """The value that ``bits``, an int, has in ``shape``: a dict for a struct or union, a list for an array, or an int.
    """
    if isinstance(shape, data.Layout):
        values = {key: unpack(field.shape, bits >> field.offset & (1 << field.width) - 1)
                  for key, field in iter(shape)}
        return list(values.values()) if isinstance(shape, data.ArrayLayout) else values
    plain = Shape.cast(shape)
    bits &= (1 << plain.width) - 1
    return bits - (1 << plain.width) if plain.signed and bits >> plain.width - 1 else bits
