# SPDX-License-Identifier: Apache-2.0
"""Predicts every performance counter of an inference exactly, by simulating each clock cycle."""
