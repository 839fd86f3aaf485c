# SPDX-License-Identifier: Apache-2.0
"""What test benches are made of: harness, stream drivers and monitors, link requests."""
