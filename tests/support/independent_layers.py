# SPDX-License-Identifier: Apache-2.0
"""Convolutions as docs/formats.md tells them, for the independent reader: nothing of this project is imported."""

import numpy as np


def ceil(dividend, divisor):
    """The quotient, rounded up."""
    return -(-dividend // divisor)


def pads(geometry):
    """Zeros before and behind the rows, and before and behind the columns."""
    return list(zip(geometry["padding"], geometry.get("end_padding", geometry["padding"]), strict=True))


def conv_shape(geometry):
    """Rows and columns of a convolution before pooling; ``geometry`` as in an image's JSON."""
    return [(size + sum(zeros) - kernel) // stride + 1 for size, zeros, kernel, stride in zip(
        geometry["in_shape"][1:], pads(geometry), geometry["kernel"], geometry["stride"], strict=True)]


def output_shape(geometry):
    """Rows and columns of a convolution's output; windows that do not fit are left out."""
    return [(size - geometry["pool"]) // geometry["pool_stride"] + 1 for size in conv_shape(geometry)]


def folded(geometry, bands):
    """Layer that the engine runs in the place of a folded convolution."""
    pooled = output_shape(geometry)
    pooled[0] = ceil(pooled[0], bands)
    kernel = [(k - 1 - p) // s + ceil(p, s) + 1 for k, p, s in zip(
        geometry["kernel"], geometry["padding"], geometry["stride"], strict=True)]
    size = [(h - 1) * geometry["pool_stride"] + geometry["pool"] - 1 + k for h, k in zip(pooled, kernel, strict=True)]
    phases = geometry["stride"][0] * geometry["stride"][1]
    return geometry | {"in_shape": [bands * geometry["in_shape"][0] * phases, *size], "kernel": kernel,
                       "stride": [1, 1], "padding": [0, 0], "end_padding": [0, 0],
                       "groups": bands * geometry["groups"]}


def fold_input(geometry, bands, image):
    """An input ``[channels, rows, columns]`` as the engine takes it."""
    runs, (s_rows, s_cols) = folded(geometry, bands), geometry["stride"]
    found = np.zeros(runs["in_shape"], np.int64)
    channels, height, width = geometry["in_shape"]
    begin = [ceil(p, s) for p, s in zip(geometry["padding"], geometry["stride"], strict=True)]
    band_rows = ceil(output_shape(geometry)[0], bands) * geometry["pool_stride"]
    for band, channel, i, j in np.ndindex(bands, channels, s_rows, s_cols):
        place = ((band * channels + channel) * s_rows + i) * s_cols + j
        for y, x in np.ndindex(*runs["in_shape"][1:]):
            row, col = (y - begin[0] + band * band_rows) * s_rows + i, (x - begin[1]) * s_cols + j
            if 0 <= row < height and 0 <= col < width:
                found[place, y, x] = image[channel, row, col]
    return found


def unfold_weights(geometry, bands, weights):
    """Weights of the convolution ``[rows, columns]`` from those of the folded one; both bands must have the same."""
    runs, (s_rows, s_cols) = folded(geometry, bands), geometry["stride"]
    rows, channels = len(weights) // bands, geometry["in_shape"][0] // geometry["groups"]
    weights = weights.reshape(bands, rows, channels, s_rows, s_cols, *runs["kernel"])
    found = np.zeros((rows, channels, *geometry["kernel"]), np.int64)
    for r, c in np.ndindex(*geometry["kernel"]):
        (row, i), (col, j) = ((divmod(tap - p, s)) for tap, p, s in zip(
            (r, c), geometry["padding"], geometry["stride"], strict=True))
        row, col = (step + ceil(p, s) for step, p, s in zip(
            (row, col), geometry["padding"], geometry["stride"], strict=True))
        found[:, :, r, c] = weights[0, :, :, i, j, row, col]
    assert (weights == weights[:1]).all() and np.count_nonzero(found) == np.count_nonzero(weights[0])
    return found.reshape(rows, -1)


def convolve(geometry, weights, image):
    """Sums of products ``[rows, output rows, output columns]`` before pooling."""
    (k_rows, k_cols), (s_rows, s_cols), groups = geometry["kernel"], geometry["stride"], geometry["groups"]
    rows, cols = conv_shape(geometry)
    padded = np.pad(image, ((0, 0), *pads(geometry)))
    kernels = weights.reshape(groups, len(weights) // groups, -1, k_rows, k_cols)
    found = np.zeros((*kernels.shape[:2], rows, cols), np.int64)
    for group, channels in enumerate(np.split(padded, groups)):
        for r, c in np.ndindex(k_rows, k_cols):
            met = channels[:, r:r + rows * s_rows:s_rows, c:c + cols * s_cols:s_cols][:, :rows, :cols]
            found[group] += np.tensordot(kernels[group, :, :, r, c], met, 1)
    return found.reshape(len(weights), rows, cols)


def pool(geometry, values):
    """The greatest value of each pooling window of ``[channels, rows, columns]``."""
    size, step, (rows, cols) = geometry["pool"], geometry["pool_stride"], output_shape(geometry)
    found = np.zeros((len(values), rows, cols), np.int64)
    for y, x in np.ndindex(rows, cols):
        found[:, y, x] = values[:, y * step:y * step + size, x * step:x * step + size].max(axis=(1, 2))
    return found


def requantise(totals, layer, act_bits):
    """Activations of sums with their biases (docs/numbers.md); without a table their order stays."""
    shift = 27 - act_bits
    narrow = np.clip(totals >> layer.shift, -1 << 17, (1 << 17) - 1)
    low, high = (-1 << act_bits - 1, (1 << act_bits - 1) - 1) if layer.table or not layer.activation \
        else (0, (1 << act_bits) - 1)
    found = np.clip(narrow * layer.multiplier + (1 << shift - 1) >> shift, low, high)
    return np.array(layer.table)[found % 256] if layer.table else found


def fields_about_pixels(one, runs, pixel_slots, bands):
    """Expected fields of a pass's descriptor ``one`` in an engine with convolutions."""
    if runs is None:
        return dict.fromkeys(("tap_bits", "hold_sums", "first_x", "first_y", "first_row", "band_step"), 0) \
            | dict.fromkeys(("pool", "pool_step", "scan_cols", "scan_rows", "out_cols", "out_rows", "pooled_cols",
                             "pooled_rows"), 1) \
            | dict.fromkeys(("pixel_words", "pixel_step", "row_step"), one.input_words) \
            | {"row_pitch": one.output_words, "output_pixel_words": pixel_slots}
    rows, cols = output_shape(runs)
    out_rows, out_cols = ((size - 1) * runs["pool_stride"] + runs["pool"] for size in (rows, cols))
    first_row = (one.first_y * out_cols + one.first_x) * one.output_words
    return {"pool": runs["pool"], "pool_step": runs["pool_stride"],
            "pixel_step": runs["stride"][1] * one.pixel_words,
            "row_step": runs["stride"][0] * runs["in_shape"][2] * one.pixel_words,
            "out_rows": out_rows, "out_cols": out_cols, "pooled_rows": rows, "pooled_cols": cols,
            "first_row": first_row % (1 << 16), "row_pitch": out_cols * one.output_words,
            "output_pixel_words": pixel_slots, "band_step": (bands - 1) * (rows * cols - 1) * pixel_slots}
