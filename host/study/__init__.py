# SPDX-License-Identifier: Apache-2.0
"""Ways to compress a network, compared on the same network and data: ``python -m host.study --help``."""
