# SPDX-License-Identifier: Apache-2.0
"""The engine whose units are tested one by one."""

from rtl.config import EngineConfig

UNIT = EngineConfig(pes=4, index_bits=(3, 4, 6), entry_depth=70, slice_word_bits=16, slice_depth=20, act_depth=24,
                    acc_depth=13, queue_depth=16, program_depth=90, packet_bytes=64)
"""Memories so small that random addresses meet, and none as deep as a power of two or as another."""
