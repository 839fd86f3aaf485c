# SPDX-License-Identifier: Apache-2.0
"""Models on their way through the tools: read, quantised, packed, and read back from the image."""

import numpy as np
import torch

from host.compression.share_weights import ShareSettings, share_weights
from host.decoding.decode import decode
from host.image.image import parse_image
from host.importers.load_network import load_network
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.even_products import even_products
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.quantization.quantize import quantize
from tests.support.model_files import write
from tests.support.torch_models import Behind


def packed_error(directory, model, shape, config):
    """Asserts that an image holds what golden computes: weights, sources and sums, and the outputs of every layer.

    Returns the root of the mean squared error of the outputs, over their standard deviation.
    """
    network = load_network(write(directory, "pt2", model, shape))
    images = np.random.default_rng(0).normal(size=(30, *shape)).astype(np.float32)
    network = even_products(network, images)
    quantized = quantize(share_weights(network, config, None, ShareSettings(epochs=0)), config, images, classes=False)
    back = decode(parse_image(image_file(pack(quantized, config)), config), config).network
    acts = quantize_inputs(quantized, images)
    for layer, found, one, two in zip(quantized.layers, back.layers, forward(quantized, acts), forward(back, acts),
                                      strict=True):
        assert (layer.source, layer.added, layer.added_weight, layer.added_signed) \
            == (found.source, found.added, found.added_weight, found.added_signed)
        assert np.array_equal(layer.weights, found.weights) and np.array_equal(one, two)
    with torch.no_grad():
        exact = Behind(model)(torch.from_numpy(images)).flatten(1).numpy()
    values = quantized.layers[-1].floats(forward(quantized, acts)[-1])
    return float(np.sqrt(np.square(values - exact).mean()) / exact.std())
