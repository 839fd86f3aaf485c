# SPDX-License-Identifier: Apache-2.0
"""The driver: the same for an engine in simulation and on a board."""
