# SPDX-License-Identifier: Apache-2.0
"""The variants of an engine, with convolutions and without, with tables of activation functions and without, and the
units in which they differ."""

from dataclasses import dataclass, replace

from .act_writer import ActivationWriter
from .drain import Drain
from .order import VectorOrder
from .pixels import PixelOrder
from .pooling import PoolingDrain, PoolingWriter
from .requantize import Requantizer
from .scatter import ScatterWalker
from .table_requantize import TableRequantizer
from .walker import Walker

__all__ = ["CONVOLUTIONS", "FULLY_CONNECTED", "Variant", "variant"]


@dataclass(frozen=True)
class Variant:
    """Classes of components, each called with an `EngineConfig`.

    Attributes
    ----------
    order : type
        In the scanner: chooses the order in which words are read.
    walker : type
        In a PE: turns a slice into the rows of its entries.
    drain : type
        Chooses the order in which rows are drained.
    writer : type
        Turns the clusters' activations into words of the activation memory.
    requantizer : type
        In a cluster: turns totals into activations.
    """

    order: type
    walker: type
    drain: type
    writer: type
    requantizer: type = Requantizer


FULLY_CONNECTED = Variant(order=VectorOrder, walker=Walker, drain=Drain, writer=ActivationWriter)
CONVOLUTIONS = Variant(order=PixelOrder, walker=ScatterWalker, drain=PoolingDrain, writer=PoolingWriter)
"""They run fully connected layers as well."""


def variant(config):
    """The variant that an engine of the configuration ``config`` is."""
    found = CONVOLUTIONS if config.tap_bits else FULLY_CONNECTED
    return replace(found, requantizer=TableRequantizer) if config.act_table else found
