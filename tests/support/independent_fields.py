# SPDX-License-Identifier: Apache-2.0
"""Fields of configurations and descriptors, from docs/formats.md alone: nothing of this project is imported."""

import hashlib
import json

COMMON = {"act_bits": 8, "weight_bits": 8, "code_bits": 4, "direct_weights": False, "act_table": False}
"""Fields that all presets have in common."""

PLAIN_FIELDS = (
    ("kind", 2), ("activation", 1), ("input_signed", 1), ("index_mode", 2), ("pre_shift", 2), ("table", 1),
    ("table_bank", 1), ("zeros", 6), ("multiplier", 16), ("input_base", 16), ("input_words", 16), ("chase_words", 16),
    ("output_base", 16), ("output_words", 16), ("slice_base", 16), ("entry_base", 16), ("bias_base", 16),
    ("plane_1", 16), ("plane_2", 16), ("plane_3", 16), ("more_zeros", 16))

PIXEL_FIELDS = (
    ("tap_bits", 2), ("hold_sums", 1), ("pool", 4), ("pool_step", 4), ("last_block", 5), ("pixel_words", 16),
    ("pixel_step", 16), ("row_step", 16), ("scan_cols", 16), ("scan_rows", 16), ("first_x", -16), ("first_y", -16),
    ("out_cols", 16), ("out_rows", 16), ("first_row", 16), ("row_pitch", 16), ("pooled_cols", 16), ("pooled_rows", 16),
    ("output_pixel_words", 16), ("band_step", 16))
"""Name and bits of each field; negative is two's complement."""


def configuration_hash(config):
    """The 8 bytes by which an image names a configuration, a dict of all fields."""
    text = json.dumps({name: config[name] for name in sorted(config) if name != "act_table" or config[name]})
    return hashlib.sha256(text.encode("ascii")).digest()[:8]
