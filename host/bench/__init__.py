# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the toolchain and of what it makes: ``python -m host.bench --help``."""
