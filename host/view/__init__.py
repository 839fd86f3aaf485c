# SPDX-License-Identifier: Apache-2.0
"""A look at one run: ``python -m host.view RUN``."""
