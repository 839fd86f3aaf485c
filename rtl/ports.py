# SPDX-License-Identifier: Apache-2.0
"""The ports of a component that is emitted alone."""

from amaranth.hdl import Signal, ValueCastable

__all__ = ["component_ports"]


def component_ports(component):
    """The ``ports`` for `amaranth.back.rtlil.convert`, which refuses the constants among a component's members.

    There is one, for ``ready``, in each stream without back-pressure.

    Parameters
    ----------
    component : wiring.Component

    Returns
    -------
    list of Signal
    """
    members = (value.as_value() if isinstance(value, ValueCastable) else value
               for _, _, value in component.signature.flatten(component))
    return [value for value in members if isinstance(value, Signal)]
