# SPDX-License-Identifier: Apache-2.0
"""Images whose checksums are right and whose contents are not."""

import json

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from nonzero.errors import UserError
from rtl.descriptor import descriptor_layout
from rtl.image_format import HEADER_BYTES, SECTION_BYTES
from tests.support.images import rebuilt
from tests.support.networks import SMALL, random_network


@pytest.fixture(scope="module")
def content():
    return image_file(pack(random_network(np.random.default_rng(5), SMALL, [60, 40, 8], 0.2), SMALL))


def use(content):
    """All that happens to an image before it goes to an engine."""
    image = parse_image(content, SMALL)
    decoded = decode(image, SMALL)
    acts = quantize_inputs(decoded.network, np.full((2, decoded.network.inputs), 200, np.uint8))
    predict(decoded, acts, forward(decoded.network, acts))


def test_rebuilding_changes_nothing_else(content):
    again = rebuilt(content)
    use(again)
    length = len(parse_image(content).engine)
    assert again[:length] == content[:length]
    assert json.loads(again[length + 8:-4]) == json.loads(content[length + 8:-4])


def setting(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(fields):
        for key in keys:
            fields = fields[key]
        fields[last] = value
    return change


MISSTATED = "its host part lacks or misstates"
CONTRADICTION = "the image's contents contradict each other"


@pytest.mark.parametrize("change, message", [
    (setting("input_scale", 0), f"{MISSTATED} the input scale (0)"),
    (setting("input_scale", float("nan")), f"{MISSTATED} the input scale (nan)"),
    (setting("input_scale", float("inf")), f"{MISSTATED} the input scale (inf)"),
    (setting("input_scale", True), f"{MISSTATED} the input scale (True)"),
    (setting("input_scale", "a"), f"{MISSTATED} the input scale ('a')"),
    (setting("output_scale", [1.0]), f"{MISSTATED} the scale of each output"),
    (setting("output_offset", 3), f"{MISSTATED} the scale of each output"),
    (setting("input_signed", 0), f"{MISSTATED} whether inputs are signed (0)"),
    (setting("input_signed", True), CONTRADICTION),
    (setting("input_order", 0, 1 << 40), f"{MISSTATED} an order of activations"),
    (setting("input_order", 0, 1 << 24), f"{MISSTATED} the input's shape ([60])"),
    (lambda fields: (fields.pop("input_shape"), setting("input_order", 0, 1 << 24)(fields)), CONTRADICTION),
    (setting("input_shape", [59]), f"{MISSTATED} the input's shape ([59])"),
    (setting("input_shape", [0, 60]), f"{MISSTATED} the input's shape ([0, 60])"),
    (setting("input_shape", [1] * 9), f"{MISSTATED} the input's shape"),
    (setting("input_shape", [1 << 24, 2]), f"{MISSTATED} the input's shape ([16777216, 2])"),
    (setting("input_shape", [60.0]), f"{MISSTATED} the input's shape ([60.0])"),
    (setting("input_shape", "60"), f"{MISSTATED} the input's shape ('60')"),
    (setting("input_order", 0, 10 ** 30), f"{MISSTATED} an order of activations"),
    (setting("input_order", [[0]]), f"{MISSTATED} an order of activations"),
    (setting("input_order", None), f"{MISSTATED} an order of activations"),
    (setting("layers", []), f"{MISSTATED} the layers' places"),
    (setting("layers", {}), f"{MISSTATED} the layers' places"),
    (setting("layers", 3), f"{MISSTATED} 'int' object is not iterable"),
    (setting("layers", 0, None), f"{MISSTATED} 'NoneType' object is not subscriptable"),
    (setting("layers", 0, "output_words", 0), CONTRADICTION),
    (setting("layers", 0, "output_words", 65536), f"{MISSTATED} the layers' places"),
    (setting("layers", 0, "output_words", 1.0), f"{MISSTATED} a count of words (1.0)"),
    (setting("layers", 0, "output_base", -1), f"{MISSTATED} a count of words (-1)"),
    (setting("layers", 0, "output_order", 0, 65535), CONTRADICTION),
])
def test_hostile_host_parts_are_refused(content, change, message):
    with pytest.raises(UserError) as caught:
        use(rebuilt(content, change))
    assert message in str(caught.value)


@pytest.mark.parametrize("field", ["input_words", "output_words"])
def test_a_pass_that_no_engine_holds_is_refused(content, field):
    layout = descriptor_layout(SMALL)
    start, size = HEADER_BYTES + SECTION_BYTES, layout.size // 8
    descriptor = int.from_bytes(content[start:start + size], "little")
    descriptor |= ((1 << layout[field].width) - 1) << layout[field].offset
    changes = {start + place: value for place, value in enumerate(descriptor.to_bytes(size, "little"))}
    with pytest.raises(UserError, match=rf"{CONTRADICTION} \(a pass of \d+ words of inputs and \d+ rows\)"):
        use(rebuilt(content, engine_change=changes))


def test_damage_anywhere_is_refused_or_harmless(content):
    """No byte of the engine part makes the models fail in another way, or take memory beyond measure."""
    rng = np.random.default_rng(0)
    length = len(parse_image(content).engine) - 4
    refused = 0
    for _ in range(150):
        changes = {int(place): int(rng.integers(256)) for place in rng.integers(24, min(length, 150), 2)}
        try:
            use(rebuilt(content, engine_change=changes))
        except UserError:
            refused += 1
    assert 20 < refused < 150
