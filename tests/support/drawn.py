# SPDX-License-Identifier: Apache-2.0
"""A small network that is drawn at random, as AlexNet and VGG-16 are."""

from host.workloads.whole_networks import Drawn, Stage
from tests.support.networks import CONVOLUTIONS

SMALL = Drawn("small", (3, 12, 12), (
    Stage("conv1", 6, 0.6, 0.7, 3, padding=1, pool=3, pool_stride=2),
    Stage("conv2", 10, 0.5, 0.5, 3, stride=2, groups=2), Stage("fc1", 20, 0.4, 0.4), Stage("fc2", 7, 0.5, 1.0)),
    CONVOLUTIONS)
"""Two convolutions, one of them with groups and one with pooling, and two fully connected layers."""
