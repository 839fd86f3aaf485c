# SPDX-License-Identifier: Apache-2.0
"""Addresses of a network's input and of each layer's outputs in the activation memory."""

from collections.abc import Sequence

from host.network.graph import Sources
from host.packing.mapping import MappedLayer
from rtl.config import EngineConfig

__all__ = ["act_bases", "act_words"]


def act_bases(mapped: Sequence[MappedLayer], wires: Sequence[Sources], config: EngineConfig) -> list[int]:
    """Addresses of the network's input and of each layer's output.

    One after the other if all fit at once, so that every layer can be read after an inference. Else a layer that is
    drained once overwrites its own inputs, if nothing reads them any more by then; one with several passes of rows,
    which all read them, does not. In a chain it writes to the other end of the memory; in other graphs each goes to the
    lowest free address.

    Parameters
    ----------
    mapped : sequence of MappedLayer
    wires : sequence of Sources
        Where each layer takes its inputs from.
    config : EngineConfig
    """
    words = _words(mapped)
    if sum(words) <= config.act_depth:
        return [sum(words[:number]) for number in range(len(words))]
    if not _is_chain(wires):
        return _by_lifetime(mapped, wires, words)
    bases, high = [0], False
    for one in mapped:
        high ^= len(one.assignment.passes) > 1
        bases.append(config.act_depth - one.output_words if high else 0)
    return bases


def act_words(mapped: Sequence[MappedLayer], wires: Sequence[Sources]) -> list[int]:
    """Words of activation memory that are needed up to each layer, with what later layers still read.

    In a chain a layer needs its inputs and its outputs, or the more of the two if it may overwrite its inputs.

    Parameters
    ----------
    mapped, wires
        See `act_bases`.
    """
    words = _words(mapped)
    if not _is_chain(wires):
        bases = _by_lifetime(mapped, wires, words)
        return [base + count for base, count in zip(bases[1:], words[1:], strict=True)]
    return [before + after if len(one.assignment.passes) > 1 else max(before, after)
            for one, before, after in zip(mapped, words, words[1:], strict=False)]


def _words(mapped: Sequence[MappedLayer]) -> list[int]:
    """Words of the network's input and of each layer's outputs."""
    return [mapped[0].source.words, *(one.output_words for one in mapped)]


def _is_chain(wires: Sequence[Sources]) -> bool:
    return all(one == (number - 1, None) for number, one in enumerate(wires))


def _by_lifetime(mapped: Sequence[MappedLayer], wires: Sequence[Sources], words: list[int]) -> list[int]:
    """Each value at the lowest address that no value which is still read takes."""
    last = [max((number for number, one in enumerate(wires) if value - 1 in one), default=len(wires))
            for value in range(len(words))]
    bases = [0]
    for number, one in enumerate(mapped):
        several = len(one.assignment.passes) > 1
        live = sorted((bases[value], bases[value] + words[value]) for value in range(number + 1)
                      if last[value] > number or (last[value] == number and several))
        base = 0
        for begin, end in live:
            if base + words[number + 1] <= begin:
                break
            base = max(base, end)
        bases.append(base)
    return bases
