# SPDX-License-Identifier: Apache-2.0
"""Signatures of the connections between the units of an engine, one for each pair; single streams need none.

Directions are those of the unit named first, whose member is ``Out`` of the signature; the other unit's is ``In``.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import ceil_log2

from rtl.descriptor import convolution_only, descriptor_layout
from rtl.image_format import image_offset_bits
from rtl.layouts import cluster_layer_layout, requant_layout, table_layouts
from rtl.numbers import Activation
from rtl.protocol import Status

__all__ = ["act_read_port", "act_write_port", "acts_port", "drain_port", "flow", "host_read_port", "host_write_port",
           "image_port", "inference_port", "program_port", "progress_port", "report_port", "request_port", "scan_port",
           "settings_port", "table_port", "word_port"]


def flow(shape, *, always_valid=False):
    """A stream of ``shape`` without back-pressure: the receiver takes each item in the cycle in which it is ``valid``.

    With ``always_valid`` there is an item in every cycle.
    """
    return stream.Signature(shape, always_ready=True, always_valid=always_valid)


def request_port(packet_bytes):
    """From the link to the commands: a request with a payload of at most ``packet_bytes``, and its response.

    Members
    -------
    pending : Out(1), opcode : Out(8), length : Out(range(packet_bytes + 1))
        There is a request, until ``respond``.
    payload : Out(stream.Signature(8))
        Its payload; bytes that are not taken are discarded.
    respond : In(1), status : In(Status), response_bytes : In(range(packet_bytes + 1))
        Answer with a payload of ``response_bytes``: this status, then bytes of ``body``.
    body : In(stream.Signature(8))
    """
    lengths = range(packet_bytes + 1)
    return Signature({
        "pending": Out(1), "opcode": Out(8), "length": Out(lengths), "payload": Out(stream.Signature(8)),
        "respond": In(1), "status": In(Status), "response_bytes": In(lengths), "body": In(stream.Signature(8)),
    })


def image_port(config):
    """From the commands to the loader: the bytes of an image.

    Members
    -------
    begin : Out(1)
        Start over with the next byte.
    bytes : Out(stream.Signature(8))
    offset : In(image_offset_bits)
        Bytes of the image taken since ``begin``; 0 after an error and after the last byte.
    status : In(Status)
        OK, or what is wrong with the image.
    """
    return Signature({
        "begin": Out(1), "bytes": Out(stream.Signature(8)), "offset": In(image_offset_bits(config)),
        "status": In(Status),
    })


def inference_port():
    """From the commands to the sequencer.

    Members
    -------
    run : Out(1)
        Start an inference; only while ``ready``.
    ready : In(1), running : In(1)
        An inference can start; one runs.
    settled : In(1)
        Neither accumulators are being cleared nor a program read ahead.
    """
    return Signature({"run": Out(1), "ready": In(1), "running": In(1), "settled": In(1)})


def host_write_port(config):
    """From the commands to the activation writer: words from the host, byte by byte.

    Members
    -------
    byte : Out(8), shift : Out(1)
        The next byte of a word; bytes move down, so that the first ends up lowest.
    write : Out(1), address : Out
        The word is complete with this byte; its address.
    """
    return Signature({"byte": Out(8), "shift": Out(1), "write": Out(1), "address": Out(ceil_log2(config.act_depth))})


def host_read_port(config):
    """From the commands to the scanner: read a word while nothing is scanned; it comes three cycles later."""
    return Signature({"address": Out(ceil_log2(config.act_depth)), "word": In(config.pes * config.act_bits)})


def program_port(config):
    """From the sequencer to the program.

    Members
    -------
    rewind : Out(1)
        Back to the first descriptor.
    load_tables : Out(1), fetch : Out(1)
        Send the next tables in the program to the PEs; read the next descriptor. If both are asked for, the tables are
        first. Only while ``busy`` is low.
    next : In(descriptor_layout)
        The descriptor fetched last.
    busy : In(1)
    """
    return Signature({
        "rewind": Out(1), "load_tables": Out(1), "fetch": Out(1), "next": In(descriptor_layout(config)), "busy": In(1),
    })


def scan_port(config):
    """From the sequencer to the scanner and the clusters: the layer that is scanned.

    Members
    -------
    start : Out(1), next : Out(descriptor_layout)
        A layer begins; its descriptor.
    layer : Out(descriptor_layout)
        Its descriptor from the cycle after ``start`` on.
    """
    layout = descriptor_layout(config)
    return Signature({"start": Out(1), "next": Out(layout), "layer": Out(layout)})


def drain_port(config):
    """From the sequencer to the drain.

    Members
    -------
    start : Out(1), layer : Out(descriptor_layout)
        Drain that layer, as it is in the cycle of ``start``.
    clear : Out(1)
        Zero every accumulator instead and write nothing; with ``start``.
    busy : In(1)
        Words are left to be written.
    """
    return Signature({"start": Out(1), "layer": Out(descriptor_layout(config)), "clear": Out(1), "busy": In(1)})


def table_port(config):
    """From the program to the PEs: the values of each table, see `table_layouts`.

    Members
    -------
    codebook : Out(flow(codebook_write_layout)), taps : Out(flow(tap_write_layout))
        The tap table follows the codebook of a convolution's pass.
    busy : Out(1)
        Values are being sent; each comes a cycle later.
    """
    return Signature({**{name: Out(flow(layout)) for name, layout in table_layouts(config).items()}, "busy": Out(1)})


def settings_port(config):
    """To a cluster: the layer that is scanned, and the constants of the one that drains.

    Members
    -------
    start : Out(1), layer : Out(cluster_layer_layout), requant : Out(requant_layout)
    """
    return Signature({
        "start": Out(1), "layer": Out(cluster_layer_layout(config)), "requant": Out(requant_layout(config)),
    })


def report_port(config):
    """Status of a cluster, and its event counts.

    Members
    -------
    full : Out(1)
        A queue is at its limit: it has room only for items in flight. Registered.
    idle : Out(1)
        Every entry of every beat so far has reached its accumulator. Registered.
    useful : Out(range(cluster_pes + 1)), dropped : Out(range(cluster_pes + 1))
        Multiplications and empty slices in a cycle. Registered.
    """
    return Signature({
        "full": Out(1), "idle": Out(1),
        "useful": Out(range(config.cluster_pes + 1)), "dropped": Out(range(config.cluster_pes + 1)),
    })


def acts_port(config):
    """From a cluster to the activation writer: output activations of a row that was drained.

    Members
    -------
    acts : Out(act_bits).array(cluster_pes // pes_per_requantizer)
        One output for each requantiser. That of its last PE is valid a cycle after ``coming``; those of its earlier PEs
        preceded it, in order, one a cycle.
    coming : Out(1)
    """
    return Signature({
        "acts": Out(config.act_bits).array(config.cluster_pes // config.pes_per_requantizer), "coming": Out(1),
    })


def word_port(config):
    """From the drain to the activation writer.

    Members
    -------
    arrived : In(1)
        The PEs' activations of the next row are there.
    complete : In(1)
        With them the word is complete: always, or at the end of a pooling window.
    address : Out, write : Out(1)
        To the activation memory.
    busy : Out(1)
        Words are left to be written.
    start : Out(1), pool : Out(4), activation : Out(Activation)
        A drain begins; the edge of its pooling windows; the layer's activation function. Only with convolutions.
    swap : Out(1)
        Swap the halves of the word. Only with convolutions.
    """
    return Signature({
        "arrived": In(1), "complete": In(1), "address": Out(ceil_log2(config.act_depth)), "write": Out(1),
        "busy": Out(1),
        **convolution_only(config, {"start": Out(1), "pool": Out(4), "activation": Out(Activation), "swap": Out(1)}),
    })


def progress_port():
    """From the drain to the scanner: which words of the next layer's input are there.

    Members
    -------
    growing : Out(1)
        Some words cannot be read yet.
    grows : Out(1)
        One more word, in reading order, can be read two cycles later, beyond the layer's ``chase_words``.
    """
    return Signature({"growing": Out(1), "grows": Out(1)})


def act_write_port(config):
    """From the activation writer to the activation memory."""
    return Signature({
        "enable": Out(1), "address": Out(ceil_log2(config.act_depth)), "word": Out(config.pes * config.act_bits),
    })


def act_read_port(config):
    """From the scanner to the activation memory.

    Members
    -------
    enable : Out(1), address : Out
    word : In(pes * act_bits), nonzero : In(pes)
        The word, a cycle later and until the next one; which of its activations are not zero.
    """
    return Signature({
        "enable": Out(1), "address": Out(ceil_log2(config.act_depth)),
        "word": In(config.pes * config.act_bits), "nonzero": In(config.pes),
    })
