# SPDX-License-Identifier: Apache-2.0
"""Training in torch: the forward pass, samples, augmentation, several processes, resuming."""
