# SPDX-License-Identifier: Apache-2.0
"""From a memory image back to an integer network, as the engine would read it."""
