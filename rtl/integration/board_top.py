# SPDX-License-Identifier: Apache-2.0
"""Top level of a board: clock, serial port, engine, LEDs, and an image if the bitstream is to hold one."""

from amaranth.hdl import Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import connect
from amaranth.utils import ceil_log2

from rtl.engine.engine import Engine
from rtl.protocol import Status

from .boards import led_port
from .boot import Boot
from .clock import add_clock
from .uart import Uart

__all__ = ["LONGEST_GAP_S", "Top"]

LONGEST_GAP_S = 0.1
"""A packet whose bytes stop for this time, rounded up to a power of two of cycles, is discarded. A busy computer may
well pause for some hundredths of a second between two bytes."""


class Top(wiring.Component):
    """The engine behind the board's USB serial port.

    Parameters
    ----------
    config : EngineConfig
    family : str
        The FPGA's, one of `rtl.integration.clock.PLLS`.
    oscillator_mhz, clock_mhz : float
        The board's oscillator and the engine's clock.
    baud : int
        Bits per second of the serial port.
    leds : dict
        Port by what it shows, of those that the board has (see `rtl.integration.boards.led_port`): ``loaded``, a whole
        image is in the memories; ``busy``, an inference runs; ``error``, the newest request was refused.
    boot : bytes
        Packets for the engine before the link opens, see `Boot`; none if empty.
    gap_cycles : int, optional
        Cycles without a byte, rounded up to a power of two, after which a packet is discarded; by default those of
        `LONGEST_GAP_S`.
    """

    def __init__(self, config, family, oscillator_mhz, clock_mhz, baud, leds=None, boot=b"", gap_cycles=None):
        self.config = config
        self.family = family
        self.oscillator_mhz = oscillator_mhz
        self.clock_mhz = clock_mhz
        self.baud = baud
        self.leds = leds or {}
        self.boot = boot
        self.gap_cycles = gap_cycles or round(clock_mhz * 1e6 * LONGEST_GAP_S)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        add_clock(m, platform, self.family, self.oscillator_mhz, self.clock_mhz)
        m.submodules.uart = uart = Uart(round(self.clock_mhz * 1e6 / self.baud))
        m.submodules.engine = engine = Engine(self.config, observed=True, gap_bits=ceil_log2(self.gap_cycles))
        if self.boot:
            m.submodules.boot = boot = Boot(self.boot)
            connect(m, uart.received, boot.from_uart)
            connect(m, boot.to_uart, uart.sent)
            connect(m, boot.to_engine, engine.rx)
            connect(m, engine.tx, boot.from_engine)
            m.d.comb += [boot.engine_busy.eq(engine.busy), boot.uart_lost.eq(uart.lost), engine.lost.eq(boot.lost)]
        else:
            connect(m, uart.received, engine.rx)
            connect(m, engine.tx, uart.sent)
            m.d.comb += engine.lost.eq(uart.lost)
        pins = platform.request("uart", 0, dir={pin.name: "-" for pin in platform.lookup("uart", 0).ios})
        m.submodules.rx = rx = io.Buffer("i", pins.rx)
        m.submodules.tx = tx = io.Buffer("o", pins.tx)
        m.d.comb += [uart.rx_pin.eq(rx.i), tx.o.eq(uart.tx_pin)]
        shown = {"loaded": engine.loaded, "busy": engine.running, "error": engine.last_status != Status.OK}
        for name, port in self.leds.items():
            m.submodules[f"led_{name}"] = led = io.Buffer("o", led_port(platform, port))
            # A register, so that no wire to a pin lengthens a path.
            m.d.sync += led.o.eq(shown[name])
        return m
