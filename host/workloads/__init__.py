# SPDX-License-Identifier: Apache-2.0
"""Networks that the benchmarks draw: EIE's nine layers, and whole networks with convolutions."""
