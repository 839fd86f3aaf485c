# SPDX-License-Identifier: Apache-2.0
"""From a model file to the memory image: the settings, the steps, and what each step leaves for the next."""
