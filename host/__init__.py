# SPDX-License-Identifier: Apache-2.0
"""The toolchain: from a trained PyTorch network to the memory image of the engine and back."""

import nonzero  # noqa: F401 - says where numba and matplotlib keep what they compile, before either is imported
