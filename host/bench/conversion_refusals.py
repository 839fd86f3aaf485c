# SPDX-License-Identifier: Apache-2.0
"""Networks of `host.bench.conversions` that are refused although the file tells all of them, and why."""

import re

__all__ = ["EXPORTED", "MODULES", "ONNX", "REFUSALS", "WITH_GRAPH", "is_expected"]

WITH_GRAPH = ("module", "pt2", "pt2, any batch", "onnx", "onnx, any batch", "onnx, weights beside",
              "onnx, older operators")
"""Formats that tell what is computed, so that nothing need be assumed."""

UNKNOWN = r"does not run|is a torch\.nn\.\w+; "
PARTS = rf"which selects some of its values; use all of them|{UNKNOWN}"
TWO = r"of those that take two, only sums, differences, products and concatenations run"
AXES = (r"put torch\.nn\.Flatten\(\) (before|between)|moves values into the batch axis|several of the batch|"
        r"takes 16 inputs, but the layer before it, '0', gives 4 outputs")
OTHER_AXES = rf"other axes than|{UNKNOWN}|is a Flatten with start_dim"
FIRST = r"comes before the first linear layer or convolution; only"

REFUSALS: dict[str, tuple[str, ...]] = {
    UNKNOWN: (
        "selu", "logsigmoid", "softsign", "threshold", "abs", "maximum of 0", "sine", "times itself positive",
        "normalised", "flipped", "rolled", "sorted", "cumulative", "exponential", "layer norm", "layer norm, no affine",
        "rms norm", "glu", "chunk", "permuted outputs", "greatest output's index", "embedding", "lstm", "gru",
        "einsum", "image: instance norm", "image: power pooling", "image: pixel shuffle",
        "image: half of the channels", "image: mirrored", "image: channels reversed", "image: unfolded",
        "graph: plain recurrent", "graph: layer norm first",
        "behind a convolution: selu", "behind a convolution: logsigmoid", "behind a convolution: threshold"),
    PARTS: ("part of the inputs", "part of the outputs", "image: every second row", "image: cut to the middle",
            "graph: siamese, halves of the input"),
    rf"{TWO}|{UNKNOWN}": (
        "bilinear", "image: response norm", "behind a convolution: softsign"),
    UNKNOWN + "|values have one axis behind the batch axis, or": (
        "group norm", "image: group norm", "image: channel shuffle"),
    r"is a max pooling over one axis, of values that may be negative": ("maxout",),
    r"batch normalisation (without running statistics|in training mode)": ("batch norm of the batch",),
    r"which may only be last": ("softmax in the middle", "image: softmax of channels, 1 x 1"),
    rf"is a softmax over another axis|{UNKNOWN}": ("image: softmax of channels",),
    FIRST: ("relu first", "sigmoid first", "inputs 0 to 1: relu first", "image: zero padding first",
            "image: max pooling of 1 first, relu", "image: relu first", "image: relu first, inputs 0 to 1"),
    r"is a PReLU of \d+ slopes; only one": ("prelu of channels", "image: prelu of channels"),
    r"is a mean over other axes": ("mean of the outputs", "less its mean", "image: mean of channels"),
    r"is computed in a way that is not known here; before the export, store it": ("spectral norm",),
    AXES: ("view as more rows", "view of an image as more rows", "linear on the last of two axes",
           "linear on the last of three axes", "linear on the last axis, mean", "linear on the last axis, flatten",
           "image: view of columns", "image: convolution, then linear on columns", "attention"),
    rf"{AXES}|{OTHER_AXES}": ("flatten of the last axes",),
    rf"pads with something other than zeros|{UNKNOWN}": (
        "image: circular padding", "image: reflected padding", "image: replicated padding"),
    r"windows have no gaps here; use dilation=1": ("image: max pooling, dilation",),
    r"but those of max pooling are (square here; use one number|at most as far apart here as they are wide)": (
        "image: max pooling, oblong", "image: max pooling, stride above the window",
        "image: max pooling of 1, stride 2"),
    r"divides by a number of its own; leave out divisor_override": ("image: average pooling, divisor",),
    rf"convolution over 3 axes|only torch\.nn\.Conv2d and ConvTranspose2d are supported|{UNKNOWN}": (
        "image: convolution of three axes",),
}
"""Names of the networks, by a regular expression that the refusal matches."""

MODULES = {
    r"is read only from a graph; save it as \.pt2": (
        "image: convolution of one axis", "image: convolution of one axis, batch norm",
        "image: convolution of one axis of 1", "image: convolution of one axis, pooling", "one axis: padding, stride",
        "one axis: padding same, dilation", "one axis: groups", "one axis: batch norm behind",
        "one axis: average pooling", "one axis: adaptive average", "one axis: pooling with padding",
        "one axis: uneven padding", "one axis: transposed"),
    r"calibration inputs must have 9 values each|but the network has 6 inputs; leave it out": (
        "linear on the last of two axes", "linear on the last of three axes"),
    OTHER_AXES: ("image: flatten of rows and columns",),
    UNKNOWN: ("tanhshrink", "behind a convolution: tanhshrink"),
    FIRST: ("batch norm first", "inputs 0 to 1: batch norm first"),
    r"remove it|prune\.remove": ("masks",),
}
"""The same of saved modules alone: they have no graph, and not every class is read."""

ONNX = {r"is computed in a way that is not known here; before the export, store it": ("weight norm",),
        UNKNOWN: ("image: flatten of rows and columns", "image: dense, then convolution")}
"""The same of ONNX files alone."""

EXPORTED = {UNKNOWN: ("mish", "behind a convolution: mish", "graph: gelu by tanh")}
"""The same of torch.export's files alone."""


def is_expected(network: str, form: str, said: str) -> bool:
    """Whether the refusal ``said`` is the one that the ``network`` of this name gets in the format ``form``.

    Where a format leaves anything to be assumed, every refusal is.
    """
    if form not in WITH_GRAPH:
        return True
    more = MODULES if form == "module" else ONNX if "onnx" in form else EXPORTED
    return any(re.search(pattern, said) for table in (REFUSALS, more) for pattern, names in table.items()
               if network in names)
