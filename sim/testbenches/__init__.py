# SPDX-License-Identifier: Apache-2.0
"""cocotb test benches, one file for each unit of the engine; the runners are in ``tests/rtl/``."""
