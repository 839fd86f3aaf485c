# SPDX-License-Identifier: Apache-2.0
"""Small components in Amaranth's own simulator, where a build with Verilator would take longer than the test."""

from amaranth.sim import Simulator

__all__ = ["simulate"]


def simulate(component, *testbenches):
    """Runs coroutine functions beside each other, from the start until all have returned.

    Parameters
    ----------
    component : wiring.Component
        Clocked by the domain ``sync``.
    testbenches : coroutine functions
        Each is called with the simulator's context.
    """
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()
