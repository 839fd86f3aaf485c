# SPDX-License-Identifier: Apache-2.0
"""The engine's clock: an FPGA's PLL, and the reset that lasts until it is ready."""

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

__all__ = ["PLLS", "add_clock", "ecp5_dividers", "gowin_dividers", "ice40_dividers", "xilinx_dividers"]

ECP5_MHZ = (400, 800)
"""Range of the ECP5 PLL's oscillator, in MHz."""

GOWIN_MHZ, GOWIN_PHASE_MHZ = (500, 1250), (3, 500)
"""Ranges of a GW2A's PLL, in MHz: its oscillator and its phase detector."""

XILINX_MHZ, XILINX_PHASE_MHZ = (800, 1600), (19, 450)
"""The same of a 7-series PLL, speed grade 1, in MHz."""

ICE40_MHZ, ICE40_PHASE_MHZ = (533, 1066), (10, 133)
"""Ranges of the iCE40 PLL's oscillator and of its phase detector, in MHz."""

ICE40_FILTER_MHZ = (17, 26, 44, 66, 101)
"""Phase detector's frequencies, in MHz, at which the next filter begins; the first filter is 1."""

ICE40_START_CYCLES = 1 << 9
"""Block RAM of an iCE40 loses what is written in the first microseconds."""


def _refuse(input_mhz, output_mhz):
    raise ValueError(f"clock must be a frequency that a PLL makes from {input_mhz} MHz, not {output_mhz} MHz")


def ecp5_dividers(input_mhz, output_mhz):
    """Input, feedback and output divider of an ECP5 PLL: output = input * feedback / input divider (Lattice TN1263).

    Parameters
    ----------
    input_mhz, output_mhz : float
        Frequencies of the board's clock and of the engine's, in MHz.

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
            if ECP5_MHZ[0] <= output_mhz * output_divider <= ECP5_MHZ[1]:
                return input_divider, int(feedback), output_divider
    return _refuse(input_mhz, output_mhz)


def ice40_dividers(input_mhz, output_mhz):
    """DIVR, DIVF, DIVQ of an iCE40 PLL: output = input / (DIVR + 1) * (DIVF + 1) / 2**DIVQ (Lattice TN1251).

    Parameters
    ----------
    input_mhz, output_mhz : float
        Frequencies of the board's clock and of the engine's, in MHz.

    Raises
    ------
    ValueError
        If no dividers give exactly that frequency.
    """
    for divr in range(16):
        phase = input_mhz / (divr + 1)
        for divq in range(1, 7):
            divf = output_mhz * 2**divq / phase - 1
            if divf == int(divf) and 0 <= divf <= 127 and ICE40_PHASE_MHZ[0] <= phase <= ICE40_PHASE_MHZ[1] \
                    and ICE40_MHZ[0] <= output_mhz * 2**divq <= ICE40_MHZ[1]:
                return divr, int(divf), divq
    return _refuse(input_mhz, output_mhz)


def gowin_dividers(input_mhz, output_mhz):
    """Input, feedback and oscillator divider of a GW2A's PLL: output = input * feedback / input divider (UG286).

    Parameters
    ----------
    input_mhz, output_mhz : float
        Frequencies of the board's clock and of the engine's, in MHz.

    Raises
    ------
    ValueError
        If no dividers give exactly that frequency.
    """
    for input_divider in range(1, 65):
        feedback = output_mhz * input_divider / input_mhz
        low, high = GOWIN_PHASE_MHZ
        if feedback != int(feedback) or not 1 <= feedback <= 64 or not low <= input_mhz / input_divider <= high:
            continue
        for oscillator_divider in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128):
            if GOWIN_MHZ[0] <= output_mhz * oscillator_divider <= GOWIN_MHZ[1]:
                return input_divider, int(feedback), oscillator_divider
    return _refuse(input_mhz, output_mhz)


def xilinx_dividers(input_mhz, output_mhz):
    """Input divider, multiplier and output divider of a 7-series PLL: output = input * multiplier / both (UG472).

    Parameters
    ----------
    input_mhz, output_mhz : float
        Frequencies of the board's clock and of the engine's, in MHz.

    Raises
    ------
    ValueError
        If no dividers give exactly that frequency.
    """
    for input_divider in range(1, 57):
        if not XILINX_PHASE_MHZ[0] <= input_mhz / input_divider <= XILINX_PHASE_MHZ[1]:
            continue
        for output_divider in range(1, 129):
            multiplier = output_mhz * input_divider * output_divider / input_mhz
            if multiplier == int(multiplier) and 2 <= multiplier <= 64 \
                    and XILINX_MHZ[0] <= output_mhz * output_divider <= XILINX_MHZ[1]:
                return input_divider, int(multiplier), output_divider
    return _refuse(input_mhz, output_mhz)


def _ecp5_pll(m, port, input_mhz, output_mhz, clock, locked):
    input_divider, feedback, output_divider = ecp5_dividers(input_mhz, output_mhz)
    m.submodules.oscillator = oscillator = io.Buffer("i", port)
    m.submodules.pll = Instance(
        "EHXPLLL", a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
        p_CLKI_DIV=input_divider, p_CLKFB_DIV=feedback, p_CLKOP_DIV=output_divider, p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_CPHASE=output_divider - 1, p_FEEDBK_PATH="CLKOP",
        p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
        i_CLKI=oscillator.i, i_CLKFB=clock, i_RST=0, i_STDBY=0, i_ENCLKOP=0, i_PLLWAKESYNC=0,
        # Inputs of a phase shift that is switched off; left open they would read as anything.
        i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1,
        o_CLKOP=clock, o_LOCK=locked)
    return locked


def _ice40_pll(m, port, input_mhz, output_mhz, clock, locked):
    divr, divf, divq = ice40_dividers(input_mhz, output_mhz)
    phase = input_mhz / (divr + 1)
    m.submodules.pll = Instance(
        "SB_PLL40_PAD", p_FEEDBACK_PATH="SIMPLE", p_DIVR=divr, p_DIVF=divf, p_DIVQ=divq,
        p_FILTER_RANGE=1 + sum(phase >= limit for limit in ICE40_FILTER_MHZ),
        i_PACKAGEPIN=port.io, i_RESETB=1, i_BYPASS=0, o_PLLOUTGLOBAL=clock, o_LOCK=locked)
    m.domains.start = start = ClockDomain(reset_less=True, local=True)
    m.d.comb += start.clk.eq(clock)
    waited = Signal(range(ICE40_START_CYCLES))
    with m.If(locked & ~waited.all()):
        m.d.start += waited.eq(waited + 1)
    return waited.all()


def _gowin_pll(m, port, input_mhz, output_mhz, clock, locked):
    input_divider, feedback, oscillator_divider = gowin_dividers(input_mhz, output_mhz)
    m.submodules.oscillator = oscillator = io.Buffer("i", port)
    m.submodules.pll = Instance(
        "rPLL", p_FCLKIN=f"{input_mhz:g}", p_DEVICE="GW2A-18C", p_IDIV_SEL=input_divider - 1, p_FBDIV_SEL=feedback - 1,
        p_ODIV_SEL=oscillator_divider, p_DYN_IDIV_SEL="false", p_DYN_FBDIV_SEL="false", p_DYN_ODIV_SEL="false",
        p_DYN_DA_EN="false", p_PSDA_SEL="0000", p_DUTYDA_SEL="1000", p_CLKFB_SEL="internal", p_CLKOUT_BYPASS="false",
        p_CLKOUTP_BYPASS="false", p_CLKOUTD_BYPASS="false", p_DYN_SDIV_SEL=2, p_CLKOUTD_SRC="CLKOUT",
        p_CLKOUTD3_SRC="CLKOUT", p_CLKOUT_FT_DIR=1, p_CLKOUTP_FT_DIR=1, p_CLKOUT_DLY_STEP=0, p_CLKOUTP_DLY_STEP=0,
        i_CLKIN=oscillator.i, i_CLKFB=0, i_RESET=0, i_RESET_P=0, i_IDSEL=Const(0, 6), i_FBDSEL=Const(0, 6),
        i_ODSEL=Const(0, 6), i_PSDA=Const(0, 4), i_DUTYDA=Const(0, 4), i_FDLY=Const(0, 4),
        o_CLKOUT=clock, o_LOCK=locked)
    return locked


def _xilinx_pll(m, port, input_mhz, output_mhz, clock, locked):
    input_divider, multiplier, output_divider = xilinx_dividers(input_mhz, output_mhz)
    m.submodules.oscillator = oscillator = io.Buffer("i", port)
    feedback, unbuffered = Signal(), Signal(name="unbuffered")
    m.submodules.pll = Instance(
        "PLLE2_BASE", p_CLKIN1_PERIOD=1000 / input_mhz, p_DIVCLK_DIVIDE=input_divider, p_CLKFBOUT_MULT=multiplier,
        p_CLKOUT0_DIVIDE=output_divider, i_CLKIN1=oscillator.i, i_CLKFBIN=feedback, i_RST=0, i_PWRDWN=0,
        o_CLKFBOUT=feedback, o_CLKOUT0=unbuffered, o_LOCKED=locked)
    m.submodules.buffer = Instance("BUFG", i_I=unbuffered, o_O=clock)
    return locked


PLLS = {"ecp5": _ecp5_pll, "ice40": _ice40_pll, "gowin": _gowin_pll, "xilinx7": _xilinx_pll}
"""Functions by the FPGA's family: each adds the PLL, which drives ``clock`` and ``locked``, and returns when the reset
may end."""


def add_clock(m, platform, family, oscillator_mhz, clock_mhz):
    """Adds the domain ``sync``, made from the board's oscillator; it stays in reset until the FPGA is ready.

    Parameters
    ----------
    m : Module
        The topmost.
    platform : amaranth.vendor platform
        The board.
    family : str
        One of `PLLS`.
    oscillator_mhz, clock_mhz : float
        Frequencies of the board's oscillator and of the engine's clock, in MHz.

    Raises
    ------
    ValueError
        If the PLL cannot make ``clock_mhz`` exactly.
    """
    # Constraints find the net by its name.
    clock, locked = Signal(name="engine_clock", attrs={"keep": 1}), Signal(name="locked")
    port = platform.request(platform.default_clk, dir="-")
    ready = PLLS[family](m, port, oscillator_mhz, clock_mhz, clock, locked)
    m.domains.sync = ClockDomain()
    m.d.comb += ClockSignal("sync").eq(clock)
    m.submodules.reset = ResetSynchronizer(~ready, domain="sync")
    platform.add_clock_constraint(clock, clock_mhz * 1e6)
