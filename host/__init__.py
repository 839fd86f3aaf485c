# SPDX-License-Identifier: Apache-2.0
"""The toolchain: from a trained PyTorch network to the memory image of the engine and back."""
