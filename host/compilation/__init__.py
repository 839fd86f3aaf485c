# SPDX-License-Identifier: Apache-2.0
"""Compilation of a model file to the memory image: the settings, the steps, and the state between steps."""
