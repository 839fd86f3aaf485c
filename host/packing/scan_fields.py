# SPDX-License-Identifier: Apache-2.0
"""What a pass scans, and the fields of its descriptor that say so."""

from host.image.activation_layout import ActivationLayout
from host.network.layers import Geometry
from host.packing.added_passes import added_geometry
from host.packing.encode import EncodedPass
from host.packing.mapping import MappedLayer
from rtl.descriptor import largest

__all__ = ["pixel_fields", "scanned"]


def scanned(mapped: MappedLayer, one: EncodedPass,
             bases: tuple[int, int, int | None]) -> tuple[Geometry, ActivationLayout, int, bool]:
    """Shape, layout, address and sign of the activations that a pass scans.

    Parameters
    ----------
    mapped : MappedLayer
    one : EncodedPass
        The pass, one of ``mapped``.
    bases : (int, int, int or None)
        Addresses of the layer's inputs, its outputs and what is added.
    """
    layer = mapped.layer
    if not one.added:
        return layer.shape, mapped.source, bases[0], layer.input_signed
    assert mapped.added is not None and bases[2] is not None
    return added_geometry(layer), mapped.added, bases[2], layer.added_signed


def pixel_fields(mapped: MappedLayer, one: EncodedPass, shape: Geometry, source: ActivationLayout, *,
                 holds: bool) -> dict[str, int | list[int]]:
    """A pass's fields of `rtl.descriptor.descriptor_layout` about pixels.

    Parameters
    ----------
    mapped : MappedLayer
    one : EncodedPass
        The pass, one of ``mapped``.
    shape : Geometry
    source : ActivationLayout
        Both of what it scans, from `scanned`.
    holds : bool
        The next pass adds to the same accumulators.
    """
    scan, slots, pixel_words = one.scan, len(one.slots), source.pixel_words
    out_rows, out_cols = shape.computed_shape
    pooled_rows, pooled_cols = shape.out_shape
    return {
        "tap_bits": scan.tap_bits, "hold_sums": int(holds), "pool": shape.pool, "pool_step": shape.pool_stride,
        "pixel_words": pixel_words, "pixel_step": shape.stride[1] * pixel_words & largest("pixel_step"),
        "row_step": shape.stride[0] * shape.in_shape[2] * pixel_words & largest("row_step"),
        "scan_cols": scan.pixels[1], "scan_rows": scan.pixels[0], "first_x": scan.first[1], "first_y": scan.first[0],
        "out_cols": out_cols, "out_rows": out_rows,
        "first_row": (scan.first[0] * out_cols + scan.first[1]) * slots & largest("first_row"),
        "row_pitch": out_cols * slots,
        "pooled_cols": pooled_cols, "pooled_rows": pooled_rows, "output_pixel_words": mapped.pixel_slots,
        "band_step": mapped.band_step,
    }
