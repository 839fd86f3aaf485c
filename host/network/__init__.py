# SPDX-License-Identifier: Apache-2.0
"""Networks in floats: layers, what pruning has disconnected, and the zoo of networks by name."""
