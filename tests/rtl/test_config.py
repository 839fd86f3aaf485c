# SPDX-License-Identifier: Apache-2.0
"""`EngineConfig`: presets, validation, TOML."""

import dataclasses

import pytest

from rtl.config import PRESETS, ConfigError, EngineConfig, preset
from rtl.config_file import read_config
from rtl.structure import counter_bits


def test_presets_are_valid_and_differ():
    assert {name: config.pes for name, config in PRESETS.items()} \
        == {"tiny": 4, "up5k": 2, "small": 8, "default": 16, "medium": 16, "large": 32, "conv": 16, "wide": 64}
    assert len({config.hash for config in PRESETS.values()}) == 8


def test_every_field_is_in_the_hash():
    base = EngineConfig()
    changes = {"pes": 32, "act_bits": 16, "weight_bits": 7, "code_bits": 5, "acc_bits": 30, "index_bits": (4, 5),
               "entries_per_word": 8, "entry_depth": 4096, "length_bits": 8, "slice_word_bits": 64, "slice_depth": 512,
               "act_depth": 512, "acc_depth": 256, "queue_depth": 64, "program_depth": 512, "packet_bytes": 2048,
               "single_port": True, "tap_bits": 2, "pes_per_requantizer": 2, "beat_queue_depth": 16, "act_table": True}
    assert set(changes) | {"direct_weights"} == {field.name for field in dataclasses.fields(base)}
    assert all(dataclasses.replace(base, **{name: value}).hash != base.hash for name, value in changes.items())
    assert dataclasses.replace(base, weight_bits=4).hash \
        != dataclasses.replace(base, weight_bits=4, direct_weights=True).hash


@pytest.mark.parametrize("fields, message", [
    ({"pes": 12}, "pes must be a power of two, not 12"),
    ({"pes": 512}, "pes must be 2 to 256, not 512"),
    ({"act_bits": 12}, "act_bits must be 8 or 16, not 12"),
    ({"pes": "16"}, "pes must be an integer, not '16'"),
    ({"direct_weights": 1}, "direct_weights must be true or false, not 1"),
    ({"direct_weights": True}, "weight_bits must equal code_bits (4) with direct_weights, not 8"),
    ({"index_bits": (6, 4)}, "index_bits must be one to four ascending widths from 2 to 8, not [6, 4]"),
    ({"slice_word_bits": 30}, "slice_word_bits must be length_bits (4) times a power of two of at least 2, not 30"),
    ({"beat_queue_depth": 24}, "beat_queue_depth must be 0 or a power of two, 16 to 1024, not 24"),
    ({"beat_queue_depth": 8}, "beat_queue_depth must be 0 or a power of two, 16 to 1024, not 8"),
    ({"tap_bits": 1}, "tap_bits must be 0, 2 or 3, not 1"),
    ({"pes_per_requantizer": 3}, "pes_per_requantizer must be 1, 2 or 4, and at most the 16 PEs, not 3"),
    ({"pes": 2, "slice_word_bits": 8, "pes_per_requantizer": 4},
     "pes_per_requantizer must be 1, 2 or 4, and at most the 2 PEs, not 4"),
    ({"tap_bits": 3, "index_bits": (4, 5)},
     "index_bits must have a width of at least 6, the two coordinates of a tap, not [4, 5]"),
    ({"packet_bytes": 64, "pes": 64}, "packet_bytes must hold an activation word (64 bytes) and its address, not 64"),
])
def test_impossible_configurations_are_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        EngineConfig(**fields)
    assert message in caught.value.problems


def test_all_problems_come_at_once():
    with pytest.raises(ConfigError) as caught:
        EngineConfig(pes=12, act_bits=9, queue_depth=3)
    assert len(caught.value.problems) >= 3


def test_a_file_changes_a_preset(tmp_path):
    file = tmp_path / "engine.toml"
    file.write_text('preset = "tiny"\nacc_depth = 64\nindex_bits = [3, 5]\n')
    assert read_config(file) == dataclasses.replace(PRESETS["tiny"], acc_depth=64, index_bits=(3, 5))


@pytest.mark.parametrize("text, message", [
    ("pes = ", "cannot be read"), ("pees = 4", "unknown key 'pees'"), ('preset = "huge"', "preset must be one of tiny"),
    ("index_bits = 4", "index_bits must be a list"), ("pes = 4.5", "pes must be an integer"),
])
def test_bad_files_are_refused(tmp_path, text, message):
    file = tmp_path / "engine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(file)


def test_unknown_presets_name_the_known_ones():
    with pytest.raises(ConfigError, match="one of tiny, up5k, small, default, medium, large, wide, conv, not 'big'"):
        preset("big")


def test_counters_grow_with_the_memories():
    assert [counter_bits(config) for config in PRESETS.values()] == [24, 24, 24, 24, 24, 24, 24, 32]
    assert counter_bits(EngineConfig(entry_depth=65536)) == 6 + 4 + 16 + 2
    assert counter_bits(EngineConfig(pes=64, act_depth=65536)) == 6 + 6 + 16
    assert counter_bits(EngineConfig(pes=256, entry_depth=65536, entries_per_word=16)) == 32


def test_tables_are_a_field_of_the_hash_only_where_there_are_some():
    """Engines without them keep their images."""
    plain, tabled = EngineConfig(), EngineConfig(act_table=True)
    assert plain.hash.hex() == "d55156c410887311" != tabled.hash.hex()
    assert (plain.table_entries, tabled.table_entries) == (0, 256)
    with pytest.raises(ConfigError) as caught:
        EngineConfig(act_table=True, act_bits=16)
    assert caught.value.problems == ["act_table needs an act_bits of 8, not 16"]
