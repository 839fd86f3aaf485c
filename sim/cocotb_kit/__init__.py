# SPDX-License-Identifier: Apache-2.0
"""Parts of test benches: harness, stream drivers and monitors, link requests."""
