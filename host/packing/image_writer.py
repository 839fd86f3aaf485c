# SPDX-License-Identifier: Apache-2.0
"""Writes the memory image of a packed network, as `host.image.image` and `docs/formats.md` define it."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from host.packing.cycle_limit import cycle_limit
from host.packing.pack import PackedLayer, PackedNetwork
from rtl.image_file import HOST_MAGIC, with_crc
from rtl.image_format import (
    HEADER_BYTES,
    IMAGE_MAGIC,
    IMAGE_VERSION,
    MOST_SECTION_WORDS,
    SECTION_BYTES,
    SectionKind,
    header_layout,
    section_layout,
)

__all__ = ["engine_image", "image_file"]


def engine_image(packed: PackedNetwork) -> bytes:
    """The part of the image of ``packed`` that the engine parses: header, sections, CRC-32."""
    sections = [_section(SectionKind.PROGRAM.value, 0, 0, packed.program)]
    for pe, words in enumerate(packed.slices):
        sections += _split(SectionKind.SLICES.value, pe, 0, words)
    for number, plane in enumerate(packed.planes):
        for pe, parts in enumerate(plane):
            for start, words in parts:
                sections += _split(SectionKind.ENTRIES.value + number, pe, start, words)
    body = b"".join(sections)
    layout = header_layout()
    header = layout.const({
        "magic": IMAGE_MAGIC, "version": IMAGE_VERSION, "sections": len(sections),
        "config_hash": int.from_bytes(packed.config.hash, "little"),
        "image_bytes": HEADER_BYTES + len(body) + 4,
        "layers": sum(len(layer.passes) for layer in packed.layers), "input_words": packed.input_words,
        "cycle_limit": cycle_limit(packed),
    }).as_bits().to_bytes(HEADER_BYTES, "little")
    return with_crc(header + body)


def image_file(packed: PackedNetwork) -> bytes:
    """The whole image file of ``packed``; the same bytes for the same network."""
    host = json.dumps({
        "input_order": packed.source.channels.tolist(), "input_shape": packed.quantized.input_axes,
        "input_scale": packed.quantized.input_scale, "input_signed": packed.quantized.input_signed,
        **_output_ends(packed),
        "layers": [{"name": layer.quantized.name, "output_base": layer.output_base,
                    "output_words": layer.output_words,
                    "output_order": layer.placement.read_by(layer.quantized).channel_positions.tolist(),
                    **_convolution_fields(layer),
                    **_source_fields(layer),
                    **({"bands": packed.fold.bands} if packed.fold and layer is packed.layers[0] else {})}
                   for layer in packed.layers],
    }, separators=(",", ":"), sort_keys=True).encode()
    return engine_image(packed) + with_crc(HOST_MAGIC + len(host).to_bytes(4, "little") + host)


def _output_ends(packed: PackedNetwork) -> dict[str, Any]:
    """Scale and offset of each output, if they have their own."""
    last = packed.quantized.layers[-1]
    if not isinstance(last.output_scale, np.ndarray):
        return {}
    return {"output_scale": last.output_scale.tolist(), "output_offset": last.output_offset.tolist()}


def _source_fields(layer: PackedLayer) -> dict[str, Any]:
    """Where a layer takes its inputs from, unless it is the layer before."""
    one = layer.quantized
    found: dict[str, Any] = {} if one.source is None else {"source": one.source}
    if one.added is not None:
        passes = [each for each in layer.passes if each.encoded.added]
        found |= {"added": one.added, "added_passes": len(passes) // len(layer.assignment.passes)}
    return found


def _convolution_fields(layer: PackedLayer) -> dict[str, Any]:
    geometry = layer.quantized.geometry
    if geometry is None:
        return {}
    told = {name: value for name, value in asdict(geometry).items() if value is not None}
    return {"geometry": told, "output_step": len(layer.placement.channels)}


def _split(kind: int, pe: int, start: int, words: np.ndarray) -> list[bytes]:
    """Sections for any number of words; none for none."""
    return [_section(kind, pe, start + first, words[first:first + MOST_SECTION_WORDS])
            for first in range(0, len(words), MOST_SECTION_WORDS)]


def _section(kind: int, pe: int, start: int, words: np.ndarray) -> bytes:
    header = section_layout().const({"kind": SectionKind.PROGRAM, "pe": pe, "start": start, "count": len(words)})
    content = header.as_bits().to_bytes(SECTION_BYTES, "little")
    # Kinds above `SectionKind.ENTRIES` stand for the further planes.
    return bytes([kind]) + content[1:] + words.tobytes()
