# SPDX-License-Identifier: Apache-2.0
"""What goes onto a board: clock, serial port, engine."""

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import connect

from .engine import Engine
from .uart import Uart

__all__ = ["Top", "pll_dividers"]

PLL_MHZ = (400, 800)
"""Range of the ECP5 PLL's oscillator."""


def pll_dividers(input_mhz, output_mhz):
    """Input, feedback and output divider of an ECP5 PLL: output = input * feedback / input divider (Lattice TN1263).

    Raises
    ------
    ValueError
        If no dividers give exactly that frequency.
    """
    for input_divider in range(1, 9):
        feedback = output_mhz * input_divider / input_mhz
        if feedback != int(feedback) or not 1 <= feedback <= 80 or input_mhz / input_divider < 3.125:
            continue
        for output_divider in range(1, 129):
            if PLL_MHZ[0] <= output_mhz * output_divider <= PLL_MHZ[1]:
                return input_divider, int(feedback), output_divider
    raise ValueError(f"clock must be a frequency that a PLL makes from {input_mhz} MHz, not {output_mhz} MHz")


class Top(wiring.Component):
    """The engine behind the board's USB serial port.

    Parameters
    ----------
    config : EngineConfig
    oscillator_mhz, clock_mhz : float
        The board's oscillator and the engine's clock.
    baud : int
        Bits per second of the serial port.
    """

    def __init__(self, config, oscillator_mhz, clock_mhz, baud):
        self.config = config
        self.oscillator_mhz = oscillator_mhz
        self.clock_mhz = clock_mhz
        self.baud = baud
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        self._clock(m, platform)
        m.submodules.uart = uart = Uart(round(self.clock_mhz * 1e6 / self.baud))
        m.submodules.engine = engine = Engine(self.config)
        connect(m, uart.received, engine.rx)
        connect(m, engine.tx, uart.sent)
        pins = platform.request("uart", 0, dir={"rx": "-", "tx": "-", "rts": "-", "dtr": "-"})
        m.submodules.rx = rx = io.Buffer("i", pins.rx)
        m.submodules.tx = tx = io.Buffer("o", pins.tx)
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.d.comb += [uart.rx_pin.eq(rx.i), tx.o.eq(uart.tx_pin), led.o.eq(engine.running)]
        return m

    def _clock(self, m, platform):
        """The engine's clock from the oscillator; it stays in reset until the PLL has locked."""
        input_divider, feedback, output_divider = pll_dividers(self.oscillator_mhz, self.clock_mhz)
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        # Constraints find the net by its name.
        clock, locked = Signal(name="engine_clock", attrs={"keep": 1}), Signal()
        m.domains.sync = ClockDomain()
        m.submodules.pll = Instance(
            "EHXPLLL", a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_CLKI_DIV=input_divider, p_CLKFB_DIV=feedback, p_CLKOP_DIV=output_divider, p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=output_divider - 1, p_FEEDBK_PATH="CLKOP",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            i_CLKI=oscillator.i, i_CLKFB=clock, i_RST=0, i_STDBY=0, i_ENCLKOP=0, i_PLLWAKESYNC=0,
            # Inputs of a phase shift that is switched off; left open they would read as anything.
            i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1,
            o_CLKOP=clock, o_LOCK=locked)
        m.d.comb += ClockSignal("sync").eq(clock)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        platform.add_clock_constraint(clock, self.clock_mhz * 1e6)
