# SPDX-License-Identifier: Apache-2.0
"""A device beside its models: what it computes must be golden's outputs and the cycle model's counters."""
