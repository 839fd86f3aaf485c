# SPDX-License-Identifier: Apache-2.0
"""Gates that several units need."""

from amaranth.hdl import Cat


def but_lowest(bits):
    """The value ``bits`` without the lowest bit that is set."""
    return Cat(bits[number] & bits[:number].any() for number in range(len(bits)))
