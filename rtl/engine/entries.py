# SPDX-License-Identifier: Apache-2.0
"""Entry memory: this PE's non-zero weights as (code, relative index), and its biases."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.layouts import entry_layout, memory_write_layout, pe_layer_layout

__all__ = ["EntryMemory"]


class EntryMemory(wiring.Component):
    """Memory of entry words: written while loading, read while running.

    Codes and narrowest indices lie in plane 0. Every further index bit lies in a plane of its own, which holds only
    the layers that use it: its address is that of plane 0 minus the layer's offset. A word can be read in
    each cycle; a cycle later it lies at the memory's output, where it stays until the next read, and can be taken into
    the register behind it, since the memory is slow. An ECP5's block RAM contains that register
    (`rtl.build.absorb_registers`); without ``config.deep_pipeline`` there is none.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(memory_write_layout), load_planes : In(planes)
        A word of the image, and the plane that it is for, if any.
    layer : In(pe_layer_layout)
        The layer that is scanned.
    address : In, read : In(1)
        The word to be read.
    bias_address : In, bias : In(1)
        With ``bias`` a word of plane 0 at this address is read as well, by the port that words are written by; with
        ``config.single_port`` it is read instead.
    take : In(1)
        The word at the memory's output goes into the register.
    word : Out(ArrayLayout(entry_layout, entries_per_word))
        Entries of the word in the register (or at the memory's output), indices extended with zeros to the widest
        width.
    raw : Out(entry_word_bits)
        The undecoded word of plane 0 at ``bias_address``; it comes when a word read at the same time could be in the
        register.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(memory_write_layout(config)),
            "load_planes": In(len(config.plane_bits)),
            "layer": In(pe_layer_layout(config)),
            "address": In(ceil_log2(config.entry_depth)),
            "bias_address": In(ceil_log2(config.entry_depth)),
            "bias": In(1),
            "read": In(1),
            "take": In(1),
            "word": Out(data.ArrayLayout(entry_layout(config, config.index_bits[-1]), config.entries_per_word)),
            "raw": Out(config.entry_word_bits),
        })

    def _plane(self, m, number, width):
        """A plane's word, and for plane 0 the one for biases."""
        config = self.config
        m.submodules[f"plane_{number}"] = plane = memory.Memory(shape=width, depth=config.entry_depth, init=[])
        write = plane.write_port()
        read = plane.read_port()
        place = self.address if number == 0 else self.address - self.layer.plane_offsets[number - 1]
        m.d.comb += [write.en.eq(self.load_planes[number]), write.data.eq(self.load.word)]
        if config.single_port:
            if number == 0:
                place = Mux(self.bias, self.bias_address, place)
            address = Signal(ceil_log2(config.entry_depth), name=f"plane_{number}_address")
            m.d.comb += [
                address.eq(Mux(write.en, self.load.address, place)),
                write.addr.eq(address), read.addr.eq(address), read.en.eq(self.read & ~write.en),
            ]
            return read.data, read.data
        word = Signal.like(read.data, name=f"plane_{number}_word", reset_less=True)
        with m.If(self.take):
            m.d.sync += word.eq(read.data)
        m.d.comb += [read.addr.eq(place), read.en.eq(self.read)]
        if number > 0:
            m.d.comb += write.addr.eq(self.load.address)
            return word, None
        # Biases are read where words are written: the address of both is the same for all PEs of a cluster.
        bias_read = plane.read_port()
        bias = Signal.like(bias_read.data, name="bias_word", reset_less=True)
        address = Mux(self.bias, self.bias_address, self.load.address)
        m.d.comb += [write.addr.eq(address), bias_read.addr.eq(address), bias_read.en.eq(1)]
        m.d.sync += bias.eq(bias_read.data)
        return word, bias

    def elaborate(self, platform):
        m = Module()
        config = self.config
        planes, biases = zip(*(self._plane(m, number, width) for number, width in enumerate(config.plane_bits)),
                             strict=True)
        m.d.comb += self.raw.eq(biases[0])

        narrow = config.index_bits[0]
        entry_bits = config.code_bits + narrow
        for place in range(config.entries_per_word):
            entry = planes[0][place * entry_bits:(place + 1) * entry_bits]
            index = [entry[:narrow]]
            for number, width in enumerate(config.plane_bits[1:], start=1):
                step = width // config.entries_per_word
                extension = planes[number][place * step:(place + 1) * step]
                index.append(Mux(self.layer.index_mode >= number, extension, 0))
            m.d.comb += [
                self.word[place].index.eq(Cat(index)),
                self.word[place].code.eq(entry[narrow:]),
            ]
        return m
