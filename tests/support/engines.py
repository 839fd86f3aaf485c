# SPDX-License-Identifier: Apache-2.0
"""Engines in simulation, each built once."""

import functools

from rtl.engine.engine import Engine
from sim.simulator.link import build_link

__all__ = ["built_engine"]


@functools.cache
def built_engine(config):
    """The simulation of an engine of this configuration; its link has room for one packet of the greatest length."""
    return build_link(Engine(config), capacity_bytes=config.packet_bytes + 16)
