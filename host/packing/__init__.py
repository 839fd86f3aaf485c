# SPDX-License-Identifier: Apache-2.0
"""From an integer network to a memory image: rows to PEs, weights to entries, entries to memories."""
