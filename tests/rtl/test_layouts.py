# SPDX-License-Identifier: Apache-2.0
"""Limits that follow from the contract's fields."""

import pytest

from rtl.config import PRESETS, RANGES
from rtl.descriptor import descriptor_layout, largest


@pytest.mark.parametrize(("field", "value"), [
    ("pool", 15), ("pixel_step", 65535), ("row_pitch", 65535), ("last_block", 31), ("first_x", 32767),
])
def test_largest_number_of_a_field(field, value):
    assert largest(field) == value


def test_a_descriptor_addresses_every_memory():
    layout = descriptor_layout(PRESETS["conv"])
    for memory, field in (("act_depth", "input_base"), ("slice_depth", "slice_base"), ("entry_depth", "entry_base"),
                          ("acc_depth", "first_row")):
        assert RANGES[memory][1] == largest(field) + 1 == 1 << layout[field].width
