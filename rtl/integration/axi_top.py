# SPDX-License-Identifier: Apache-2.0
"""The engine behind AXI: packets over AXI4-Stream, status and counters over AXI4-Lite."""

from enum import IntEnum

from amaranth.hdl import C, Cat, ClockDomain, ClockSignal, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.engine.engine import Engine
from rtl.layouts import counters_layout
from rtl.protocol import COUNTERS, PROTOCOL_VERSION

__all__ = ["ADDRESS_BITS", "IDENTIFICATION", "AxiEngine", "Register", "Registers", "Response"]

ADDRESS_BITS = 12
"""Width of AXI4-Lite addresses: the registers take a page of 4 KiB."""

AXI_LITE = {
    "awaddr": In(ADDRESS_BITS), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
    "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
    "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
    "araddr": In(ADDRESS_BITS), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
    "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
}
"""The slave's ports without their prefix."""

IDENTIFICATION = int.from_bytes(b"NZEN", "little")


class Register(IntEnum):
    """Byte addresses; 32 bits each, all read-only. The counters follow each other from COUNTERS on."""

    IDENTIFICATION = 0x00
    PROTOCOL_VERSION = 0x04
    CONFIG_HASH_LOW = 0x08
    CONFIG_HASH_HIGH = 0x0C
    PES = 0x10
    PACKET_BYTES = 0x14
    STATUS = 0x18
    """Bit 0 loaded, 1 busy, 2 running, 3 error (the newest response was not OK), 8 to 15 its `Status`."""
    COUNTERS = 0x20


class Response(IntEnum):
    """Response codes of AXI4-Lite."""

    OKAY = 0
    SLVERR = 2


class Registers(wiring.Component):
    """An AXI4-Lite slave whose registers can be read only: a write has no effect, and OKAY in answer.

    An address without a register, or between two, gives SLVERR and zeros. One read and one write at a time; no output
    follows an input within a cycle.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    awaddr, awprot, awvalid, awready, wdata, wstrb, wvalid, wready, bresp, bvalid, bready,
    araddr, arprot, arvalid, arready, rdata, rresp, rvalid, rready
        Signals of AXI4-Lite.
    loaded, busy, running, last_status, counters
        The `Engine`'s.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            **AXI_LITE,
            "loaded": In(1), "busy": In(1), "running": In(1), "last_status": In(8),
            "counters": In(counters_layout()),
        })

    def _contents(self):
        """The readable registers, by address."""
        config_hash = int.from_bytes(self.config.hash, "little")
        state = Cat(self.loaded, self.busy, self.running, self.last_status != 0, C(0, 4), self.last_status)
        contents = {
            Register.IDENTIFICATION: IDENTIFICATION, Register.PROTOCOL_VERSION: PROTOCOL_VERSION,
            Register.CONFIG_HASH_LOW: config_hash & 0xFFFF_FFFF, Register.CONFIG_HASH_HIGH: config_hash >> 32,
            Register.PES: self.config.pes, Register.PACKET_BYTES: self.config.packet_bytes, Register.STATUS: state,
        }
        return contents | {Register.COUNTERS + 4 * place: self.counters[name] for place, name in enumerate(COUNTERS)}

    def elaborate(self, platform):
        m = Module()
        contents = self._contents()

        m.d.comb += self.arready.eq(~self.rvalid)
        with m.If(self.arvalid & self.arready):
            m.d.sync += [self.rvalid.eq(1), self.rresp.eq(Response.OKAY)]
            with m.Switch(self.araddr):
                for address, content in contents.items():
                    with m.Case(address):
                        m.d.sync += self.rdata.eq(content)
                with m.Default():
                    m.d.sync += [self.rdata.eq(0), self.rresp.eq(Response.SLVERR)]
        with m.If(self.rvalid & self.rready):
            m.d.sync += self.rvalid.eq(0)

        # Address and data may come in any order: each waits for the other.
        address_held, data_held, known = Signal(), Signal(), Signal(name="known")
        m.d.comb += [self.awready.eq(~address_held), self.wready.eq(~data_held)]
        with m.If(self.awvalid & self.awready):
            m.d.sync += address_held.eq(1)
            with m.Switch(self.awaddr):
                with m.Case(*contents):
                    m.d.sync += known.eq(1)
                with m.Default():
                    m.d.sync += known.eq(0)
        with m.If(self.wvalid & self.wready):
            m.d.sync += data_held.eq(1)
        with m.If(address_held & data_held & ~self.bvalid):
            m.d.sync += [self.bvalid.eq(1), self.bresp.eq(Mux(known, Response.OKAY, Response.SLVERR))]
            m.d.sync += [address_held.eq(0), data_held.eq(0)]
        with m.If(self.bvalid & self.bready):
            m.d.sync += self.bvalid.eq(0)
        return m


class AxiEngine(wiring.Component):
    """An engine with the ports that a system-on-chip needs.

    Bytes of requests go in at ``s_axis`` and responses come out at ``m_axis``, see `rtl.protocol`; where a transfer of
    ``s_axis`` ends means nothing, and ``m_axis_tlast`` marks the last byte of each response.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    aclk : In(1), aresetn : In(1)
        Clock of all ports; reset, low-active, which changes with the clock.
    s_axis_tdata : In(8), s_axis_tvalid : In(1), s_axis_tready : Out(1)
    m_axis_tdata : Out(8), m_axis_tvalid : Out(1), m_axis_tready : In(1), m_axis_tlast : Out(1)
    s_axil_awaddr : In(12), ... s_axil_rready : In(1)
        AXI4-Lite, 32 bits, see `Registers`.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "aclk": In(1), "aresetn": In(1),
            "s_axis_tdata": In(8), "s_axis_tvalid": In(1), "s_axis_tready": Out(1),
            "m_axis_tdata": Out(8), "m_axis_tvalid": Out(1), "m_axis_tready": In(1), "m_axis_tlast": Out(1),
            **{f"s_axil_{name}": member for name, member in AXI_LITE.items()},
        })

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]
        m.submodules.engine = engine = Engine(self.config, observed=True)
        m.submodules.registers = registers = Registers(self.config)
        # AXI wants every `valid` low during a reset, from its first cycle on.
        m.d.comb += [
            engine.rx.payload.eq(self.s_axis_tdata), engine.rx.valid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(engine.rx.ready),
            self.m_axis_tdata.eq(engine.tx.payload), self.m_axis_tvalid.eq(engine.tx.valid & self.aresetn),
            engine.tx.ready.eq(self.m_axis_tready), self.m_axis_tlast.eq(engine.last),
        ]
        m.d.comb += [getattr(registers, name).eq(getattr(engine, name))
                     for name in ("loaded", "busy", "running", "last_status", "counters")]
        for name, member in AXI_LITE.items():
            port, inner = getattr(self, f"s_axil_{name}"), getattr(registers, name)
            if member.flow is In:
                m.d.comb += inner.eq(port)
            elif name in ("bvalid", "rvalid"):
                m.d.comb += port.eq(inner & self.aresetn)
            else:
                m.d.comb += port.eq(inner)
        return m
