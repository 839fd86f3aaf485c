# SPDX-License-Identifier: Apache-2.0
"""Reports of a compilation and of a run: tables, pages, charts."""
