# SPDX-License-Identifier: Apache-2.0
"""What a compilation and a run are told as: tables, pages, charts."""
