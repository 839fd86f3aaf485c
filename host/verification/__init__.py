# SPDX-License-Identifier: Apache-2.0
"""Compares a device with its models: outputs with the golden model's, counters with the cycle model's."""
