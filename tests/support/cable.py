# SPDX-License-Identifier: Apache-2.0
"""A pseudo-terminal as the cable to a simulated engine, which may lose and damage bytes."""

import os
import random
import select
import threading
import tty
from collections.abc import Callable

from sim.simulator.link import SimulationLink

Fault = Callable[[bytes], bytes]
"""Changes the bytes that go one way."""


def sound(content: bytes) -> bytes:
    return content


def silent(content: bytes) -> bytes:
    return b""


def dropping(rate: float, seed: int) -> Fault:
    """Each byte is lost with this probability."""
    choices = random.Random(seed)
    return lambda content: bytes(byte for byte in content if choices.random() >= rate)


def flipping(rate: float, seed: int) -> Fault:
    """Each byte has one wrong bit with this probability."""
    choices = random.Random(seed)
    return lambda content: bytes(byte ^ (1 << choices.randrange(8) if choices.random() < rate else 0)
                                 for byte in content)


def preceding(garbage: bytes, rate: float, seed: int) -> Fault:
    """Garbage comes before some of what is sent."""
    choices = random.Random(seed)
    return lambda content: (garbage if content and choices.random() < rate else b"") + content


class Cable:
    """Between ``path``, a serial port, and an engine; a context manager.

    Parameters
    ----------
    link : SimulationLink
    to_engine, from_engine : Fault
        May be replaced at any time.
    """

    def __init__(self, link: SimulationLink, to_engine: Fault = sound, from_engine: Fault = sound) -> None:
        self.link = link
        self.to_engine = to_engine
        self.from_engine = from_engine
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._stop, self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._carry)

    def _carry(self) -> None:
        while True:
            ready, _, _ = select.select([self._master, self._stop], [], [])
            if self._stop in ready:
                return
            content = self.to_engine(os.read(self._master, 64))
            answer = b"".join(self.link.exchange([content])) if content else b""
            for first in range(0, len(faulty := self.from_engine(answer)), 64):
                os.write(self._master, faulty[first:first + 64])

    def __enter__(self) -> "Cable":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stopping, b".")
        self._thread.join()
        for file in (self._master, self._slave, self._stop, self._stopping):
            os.close(file)
