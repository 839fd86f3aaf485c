# SPDX-License-Identifier: Apache-2.0
"""Records of the PEs by the simulator, beside the engine's own counters and the cycle model."""

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.device import Device
from host.device.pe_trace import SERIES, STATES
from host.image.image import parse_image
from host.network.layers import Geometry
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from rtl.engine.engine import Engine
from rtl.structure import broadcast_cycles
from sim.simulator.link import SimulationLink, build_link
from tests.support.networks import CONVOLUTIONS, SMALL, random_acts, random_convolutions, random_network

COUNTER_OF = {"cycles": "cycles", "beats": "beats", "broadcasts": "broadcasts", "stalls": "stall_cycles",
              "drains": "drain_cycles"}


def fully_connected(rng):
    return random_network(rng, SMALL, [60, 30, 20, 10], 0.4)


def convolutions(rng):
    geometry = Geometry((2, 8, 8), (3, 3), padding=(1, 1), pool=2, pool_stride=2)
    return random_convolutions(rng, CONVOLUTIONS, [(6, geometry)], [10], 0.5)


@pytest.fixture(scope="module", params=[(SMALL, fully_connected), (CONVOLUTIONS, convolutions)],
                ids=["fully connected", "convolutions"])
def simulated(request):
    """Counters, predictions and bins of three inferences, in bins of 7 cycles and in bins of 1."""
    config, network = request.param
    rng = np.random.default_rng(1)
    network = network(rng)
    image = parse_image(image_file(pack(network, config)), config)
    acts = random_acts(rng, network, 3, 0.7)
    decoded = decode(image, config)
    build = build_link(Engine(config), capacity_bytes=config.packet_bytes + 16, record_pes=True)
    found = {}
    for width in (1, 7):
        with SimulationLink(build, bin_cycles=width) as link:
            device = Device(link, config)
            device.load(image)
            counters = [one.counters for one in device.inferences(acts)]
            found[width] = device.pe_bins()
        assert len(counters) == len(found[width]) == len(acts)
    return config, counters, predict(decoded, acts, forward(decoded.network, acts)), found


def test_bins_add_up_to_the_counters(simulated):
    config, counters, prediction, found = simulated
    for width, inferences in found.items():
        assert len(inferences) == len(counters)
        for number, (bins, counted) in enumerate(zip(inferences, counters, strict=True)):
            series = dict(zip(SERIES, bins.series, strict=True))
            assert bins.spent.shape == (len(STATES), len(series["cycles"]), config.pes)
            assert {name: series[name].sum() for name in COUNTER_OF} \
                == {name: counted[counter] for name, counter in COUNTER_OF.items()} \
                == {name: prediction.counters[counter][number] for name, counter in COUNTER_OF.items()}
            assert bins.spent[0].sum() == counted["useful_macs"] == prediction.counters["useful_macs"][number]
            assert bins.dropped.sum() == counted["dropped_slices"]
            assert (bins.spent.sum(axis=0) == series["cycles"][:, None]).all()
            assert series["cycles"].min() >= 1 and series["cycles"].max() == width


def test_passes_end_where_the_cycle_model_says(simulated):
    _, counters, prediction, found = simulated
    for number, bins in enumerate(found[7]):
        passes, cycles = bins.series[:2]
        assert (np.diff(passes) >= 0).all()
        ends = [int(cycles[passes <= one].sum()) for one in range(prediction.pass_ends.shape[1])]
        assert ends == [*prediction.pass_ends[number, :-1], counters[number]["cycles"]]


def test_wide_bins_are_sums_of_narrow_ones(simulated):
    _, _, _, found = simulated
    for wide, narrow in zip(found[7], found[1], strict=True):
        starts = np.cumsum(wide.series[1]) - wide.series[1]
        assert (narrow.series[1] == 1).all()
        assert (np.add.reduceat(narrow.spent, starts, axis=1) == wide.spent).all()
        assert (np.add.reduceat(narrow.series[1:], starts, axis=1) == wide.series[1:]).all()
        assert (np.add.reduceat(narrow.dropped, starts) == wide.dropped).all()
        assert (np.add.reduceat(narrow.level_sum, starts) == wide.level_sum).all()
        assert (np.maximum.reduceat(narrow.level_max, starts) == wide.level_max).all()


def test_states_and_levels_mean_what_they_say(simulated):
    """In bins of one cycle: who has slices in the queue has something to do, and a drain holds all PEs."""
    config, _, _, found = simulated
    for bins in found[1]:
        busy, held, walking, stalled, waiting, ended = bins.spent.astype(bool)
        assert (bins.level_sum == bins.level_max).all() and bins.level_max.max() <= config.queue_depth
        assert (busy | held | walking)[bins.level_max > 0].all()
        assert not stalled[bins.series[4] == 0].any() and not (waiting | ended)[bins.series[4] == 1].any()
        # The counter's register takes a cycle, and the way to the PEs as many as a broadcast.
        drains = np.roll(bins.series[5], broadcast_cycles(config) - 1) == 1
        assert drains.any() and (busy | held)[drains].all()
    assert all(bins.spent[state].any() for state in range(3) for bins in found[1])
