# SPDX-License-Identifier: Apache-2.0
"""The engine: one file for each step of its data path; `engine.py` connects them."""
