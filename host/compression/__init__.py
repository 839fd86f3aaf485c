# SPDX-License-Identifier: Apache-2.0
"""Fewer weights, and fewer different ones: pruning with retraining, then weight sharing."""
