# SPDX-License-Identifier: Apache-2.0
"""What goes onto a board: clock, serial port, engine."""

from amaranth.hdl import Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import connect

from .clock import add_clock
from .engine import Engine
from .uart import Uart

__all__ = ["Top"]


class Top(wiring.Component):
    """The engine behind the board's USB serial port.

    Parameters
    ----------
    config : EngineConfig
    family : str
        The FPGA's, one of `rtl.clock.PLLS`.
    oscillator_mhz, clock_mhz : float
        The board's oscillator and the engine's clock.
    baud : int
        Bits per second of the serial port.
    """

    def __init__(self, config, family, oscillator_mhz, clock_mhz, baud):
        self.config = config
        self.family = family
        self.oscillator_mhz = oscillator_mhz
        self.clock_mhz = clock_mhz
        self.baud = baud
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        add_clock(m, platform, self.family, self.oscillator_mhz, self.clock_mhz)
        m.submodules.uart = uart = Uart(round(self.clock_mhz * 1e6 / self.baud))
        m.submodules.engine = engine = Engine(self.config)
        connect(m, uart.received, engine.rx)
        connect(m, engine.tx, uart.sent)
        pins = platform.request("uart", 0, dir={pin.name: "-" for pin in platform.lookup("uart", 0).ios})
        m.submodules.rx = rx = io.Buffer("i", pins.rx)
        m.submodules.tx = tx = io.Buffer("o", pins.tx)
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.d.comb += [uart.rx_pin.eq(rx.i), tx.o.eq(uart.tx_pin), led.o.eq(engine.running)]
        return m
