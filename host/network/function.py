# SPDX-License-Identifier: Apache-2.0
"""An activation function by its name and parameters; `host.network.activations` computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from rtl.numbers import Activation

__all__ = ["KINDS", "AnyActivation", "Function"]


class _Kind(NamedTuple):
    """What is known of a kind of function; each is called with its parameters.

    Attributes
    ----------
    signed, monotone : callable
        Whether a value may be negative, and whether none falls.
    """

    signed: Callable[..., bool]
    monotone: Callable[..., bool]


def _always(*_: float) -> bool:
    return True


def _never(*_: float) -> bool:
    return False


def _positive(slope: float) -> bool:
    return slope > 0


def _not_negative(slope: float) -> bool:
    return slope >= 0


KINDS = {
    "clamp": _Kind(lambda low, high: low < 0, _always),
    "leaky ReLU": _Kind(_positive, _not_negative),
    "sigmoid": _Kind(_never, _always),
    "tanh": _Kind(_always, _always),
    "hard sigmoid": _Kind(_never, lambda slope, shift: slope >= 0),
    "hard swish": _Kind(_always, _never),
    "SiLU": _Kind(_always, _never),
    "GELU": _Kind(_always, _never),
    "GELU (tanh)": _Kind(_always, _never),
    "ELU": _Kind(_positive, _not_negative),
    "softplus": _Kind(_never, _always),
    "square": _Kind(lambda factor: factor < 0, _never),
}
"""Kinds of functions, by name."""


@dataclass(frozen=True)
class Function:
    """An activation function other than `rtl.numbers.Activation`; those of `host.network.activations` make them.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    parameters : tuple of float
    """

    kind: str
    parameters: tuple[float, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether a value may be negative."""
        return KINDS[self.kind].signed(*self.parameters)

    @property
    def monotone(self) -> bool:
        """Whether no value falls."""
        return KINDS[self.kind].monotone(*self.parameters)

    @property
    def name(self) -> str:
        """For messages and hashes."""
        return self.kind + (f"({', '.join(f'{one:g}' for one in self.parameters)})" if self.parameters else "")


AnyActivation: TypeAlias = Activation | Function
"""The activation function of a layer with float weights."""
