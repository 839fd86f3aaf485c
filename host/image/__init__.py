# SPDX-License-Identifier: Apache-2.0
"""The memory image as both sides see it: `host.packing` writes it, `host.decoding` reads it."""
