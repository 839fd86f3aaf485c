# SPDX-License-Identifier: Apache-2.0
"""From floats to the integers that the engine computes with, and the golden model of what it computes."""
