# SPDX-License-Identifier: Apache-2.0
"""The benchmarks, on tiny layers and a small engine: the same functions as on the large ones."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from host.reporting.tables import geomean, text_table, write_figure, write_json
from host.workloads.compile_layer import Options, compile_drawn
from host.workloads.drawn_layers import draw
from host.workloads.eie_layers import CONFIG, EIE_LAYERS, Layer
from nonzero.errors import run_command
from sim.bench.__main__ import main
from sim.bench.ablation import VARIANTS, ablation_figure, ablation_table, empty_slices_cost, run_ablation, skips_cost
from sim.bench.density import crossing, dense_energy, density_figure, density_table, run_density, sparse_energy
from sim.bench.eie import eie_table, run_eie
from sim.bench.eie_format import encode_eie
from sim.bench.index_overhead import INDEX_WIDTHS, index_overhead, overhead_table
from tests.support.networks import SMALL

TINY = (Layer("tiny", 60, 30, 0.3, 0.5, 1.5), Layer("tinier", 33, 9, 0.1, 1.0))
OPTIONS = Options(SMALL)


def test_layers_run_in_rtl_as_predicted():
    found = run_eie(TINY, OPTIONS, [1, 2], 3)
    assert [(row["name"], row["seed"]) for row in found["rows"]] \
        == [("tiny", 1), ("tiny", 2), ("tinier", 1), ("tinier", 2)]
    assert found["inferences_simulated"] == 12 and found["cycles_from"] == "rtl"
    assert found["mismatches"] == found["counter_mismatches"] == 0
    for row in found["rows"]:
        assert row["rtl_cycles"] == row["predicted_cycles"] > row["ideal_cycles"] > 0
        assert row["ratio"] == pytest.approx(row["rtl_cycles"] / row["ideal_cycles"])
        assert row["bits_per_weight"] > row["bound_bits_per_weight"] > 4
        assert sum(row["storage_bits_per_weight"].values()) == pytest.approx(row["bits_per_weight"])
        assert row["imbalance"] >= 1 and row["depths"]["entry_depth"] == SMALL.entry_depth
        assert {"eie_ratio", "queue_stalls", "eie_format_bits_per_weight"} <= row.keys()
    assert found["worst_ratio"] == max(row["ratio"] for row in found["rows"])
    assert found["geomean_eie_ratio"] == pytest.approx(1.5)
    table = eie_table(found)
    assert "tinier" in table and "12 inferences, 0 differ from golden, 0 counters" in table
    json.dumps(found)


def test_what_the_engine_gets_wrong_is_counted(monkeypatch):
    def wrong(one, *, seed):
        given = honest(one, seed=seed)
        given.outputs[0][1, 0] ^= 1
        given.counters["cycles"][0] += 1
        return given

    from sim.bench import running
    honest = running.simulate
    monkeypatch.setattr(running, "simulate", wrong)
    found = run_eie(TINY[:1], OPTIONS, [1], 3)
    assert (found["mismatches"], found["counter_mismatches"]) == (1, 1)


def unpacked(form, rows, cols):
    """The matrix of EIE's format, entry by entry."""
    pes = len(form.pointers)
    codes = np.zeros((rows, cols), np.uint8)
    for pe in range(pes):
        for col in range(cols):
            place = -1
            for at in range(form.pointers[pe, col], form.pointers[pe, col + 1]):
                place += int(form.zeros[at]) + 1
                codes[place * pes + pe, col] = form.codes[at]
    return codes


@pytest.mark.parametrize("rows, density", [(10, 0.5), (250, 0.02), (7, 1), (5, 0)])
def test_the_format_of_eie(rows, density):
    rng = np.random.default_rng(rows)
    codes = np.where(rng.random((rows, 9)) < density, rng.integers(1, 16, (rows, 9)), 0).astype(np.uint8)
    form = encode_eie(codes, 4)
    assert np.array_equal(unpacked(form, rows, 9), codes)
    assert form.bits == 8 * len(form.codes) + 16 * 4 * 10
    assert (len(form.codes) == np.count_nonzero(codes)) == (density != 0.02)


def test_padding_zeros_of_eie():
    """Sixteen zeros and a weight: a padding zero that stands for 15 zeros and itself, then the weight."""
    codes = np.zeros((40, 1), np.uint8)
    codes[[16, 39], 0] = 3, 5
    form = encode_eie(codes, 1)
    assert form.codes.tolist() == [0, 3, 0, 5] and form.zeros.tolist() == [15, 0, 15, 6]
    assert form.pointers.tolist() == [[0, 4]]


def test_ablation_has_every_variant(tmp_path):
    found = run_ablation(TINY[:1], OPTIONS, [1], 2)
    assert [one["without"] for one in found["variants"]] == [variant.missing for variant in VARIANTS]
    assert [one["cycles_from"] for one in found["variants"]] \
        == ["rtl", "cycle model", "cycle model", "rtl", "rtl", "rtl"]
    assert found["variants"][0]["cycles_times"] == 1
    assert found["mismatches"] == found["counter_mismatches"] == 0
    assert "early skip" in ablation_table(found)
    write_figure(tmp_path / "plot.svg", ablation_figure(found))
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")


def test_modelled_variants_change_what_they_say():
    network, acts = draw(Layer("sparse", 40, 30, 0.05, 1.0), SMALL, 1, 1)
    decoded = compile_drawn(network, acts, OPTIONS).decoded
    before, costly, heavy = (one.passes[0] for one in (decoded, empty_slices_cost(decoded), skips_cost(decoded)))
    assert (before.lengths == 0).any() and costly.lengths.min() == 1
    assert costly.lengths.sum() - before.lengths.sum() == (before.lengths == 0).sum()
    for pe in range(SMALL.pes):
        # Those that were not empty have the same entries as before; the others one that is no weight.
        slices = np.split(costly.taps[pe], np.cumsum(costly.lengths[pe])[:-1])
        pairs = list(zip(slices, before.lengths[pe], strict=True))
        assert np.concatenate([one for one, length in pairs if length]).tolist() == before.taps[pe].tolist()
        assert all(one.tolist() == [-1] for one, length in pairs if not length)
        assert len(heavy.taps[pe]) == len(before.taps[pe]) and not heavy.taps[pe].any()


def test_density_has_every_cell_and_its_crossovers(tmp_path):
    layer = Layer("swept", 40, 30, 0.5, 0.5)
    found = run_density(OPTIONS, layer=layer, weight_densities=(0.1, 1.0), act_densities=(0.2, 1.0))
    assert found["dense"]["cycles"] == 40 * 8 and found["dense"]["bits"] == 1200 * 4 + 30 * 32
    assert len(found["cells"]) == 4 and found["mismatches"] == found["counter_mismatches"] == 0
    first, last = found["cells"][0], found["cells"][-1]
    assert (first["weight_density"], first["act_density"]) == (0.1, 0.2) and last["act_density"] == 1
    assert last["cycles"] > 320 > first["cycles"] and last["energy_pj"] > 10 * first["energy_pj"]
    assert found["crossovers"]["storage"] < 1 and 0.1 < found["crossovers"]["cycles"]["1"] < 1
    assert "40 x 30, 4 PEs" in density_table(found)
    assert found["index_overhead"]["weight_density"] == 0.11 and len(found["index_overhead"]["rows"]) == 7
    write_figure(tmp_path / "plot.svg", density_figure(found))


def test_index_overhead_counts_dummies():
    """Before the weights lie 31, 32, 0 and 64 zeros: with 5 bits none, one, none and two dummies."""
    codes = np.zeros((2, 66), np.uint8)
    codes.reshape(-1)[[31, 64, 65, 130]] = 3
    four, five = index_overhead(codes, (4, 5))
    assert five == {"index_bits": 5, "claimed": 0.15625, "dummies_per_weight": 0.75,
                    "overhead": (4 * 5 + 3 * 37) / (4 * 32)}
    assert four["dummies_per_weight"] == (1 + 2 + 0 + 4) / 4
    assert overhead_table([five])[1] == [["5", "15.6%", "0.750", "102.3%"]]


def test_index_overhead_of_a_random_matrix():
    network, _ = draw(Layer("drawn", 1000, 500, 0.11, 1.0), CONFIG, 1, 0)
    codes = network.layers[0].codes
    found = index_overhead(codes)
    assert [one["index_bits"] for one in found] == list(INDEX_WIDTHS)
    for one in found:
        longer = np.mean(codes == 0) ** (1 << one["index_bits"])
        assert one["dummies_per_weight"] == pytest.approx(longer / (1 - longer), rel=0.1, abs=1e-3)


def test_energy_of_one_weight():
    """The energy of one weight and one activation, counted by hand."""
    network, _ = draw(Layer("one", 4, 4, 0.0, 0.0), SMALL, 1, 0)
    network.layers[0].codes[2, 1] = 5
    acts = np.array([[0, 7, 0, 0]])
    one = compile_drawn(network, acts, OPTIONS)
    active = np.array([index >= 0 and acts[0, index] != 0 for index in one.image.input_order])
    counters = {name: float(values[0]) for name, values in one.prediction.counters.items()}
    assert counters["useful_macs"] == counters["broadcasts"] == 1
    # A word of inputs and flags, a slice word in each PE, an entry word, an accumulator read and written; a job in and
    # out of the queue (11 bits of address, 6 of the last place, 8 of activation); codebook, multiplication, addition.
    bits = 4 * 9 + 4 * 16 + 4 * (4 + 3) + 2 * 32
    assert sparse_energy(one, active, counters) == pytest.approx(bits / 32 * 5 + 2 * 25 / 32 + 1 + 3.1 + 0.1)
    assert dense_energy(4, 4, SMALL) == pytest.approx((16 * 4 + 4 * 8) / 32 * 5 + 16 * (2 + 3.1 + 0.1))


def test_crossings_are_interpolated():
    assert crossing([0.1, 1.0], [10, 0.1]) == pytest.approx(10 ** -0.5)
    assert crossing([0.1, 0.5, 1.0], [4, 2, 1]) is None
    assert crossing([0.1, 0.5], [0.9, 0.5]) == 0.1


def test_tables_means_and_files(tmp_path):
    assert geomean([2, 8]) == pytest.approx(4)
    assert text_table(["a", "bb"], [["ccc", "1"]]) == "a    bb\nccc   1"
    write_json(tmp_path / "new" / "file.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "file.json").read_text()) == {"a": 1}


def test_the_eie_command_writes_what_it_prints(tmp_path, capsys):
    assert run_command(main, ["eie", "--no-rtl", "--layer", "NT-We", "--seeds", "1", "--vectors", "1", "--json",
                              "-o", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "eie.json").read_text())
    assert printed["cycles_from"] == "cycle model" and printed["rows"][0]["rtl_cycles"] is None
    assert printed["geomean_ratio"] < 1.2 and printed["config"]["pes"] == 64
    assert run_command(main, ["eie", "--no-rtl", "--layer", "NT-We", "--queue", "20", "-o", str(tmp_path)]) == 2
    assert "queue_depth must be a power of two, not 20" in capsys.readouterr().err
    assert [layer.name for layer in EIE_LAYERS][:2] == ["Alex-6", "Alex-7"]


@pytest.mark.parametrize("arguments, message", [
    (["eie", "--index-bits", "3,x"], "must be like 3,5,6, not '3,x'"),
    (["eie", "--seeds", "0"], "must be a whole number from 1 to 10000, not '0'"),
    (["eie", "--vectors", "1000000000000"], "must be a whole number from 1 to 10000, not '1000000000000'"),
    (["eie", "--layer", "Alex-9"], "invalid choice: 'Alex-9'"),
])
def test_bad_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
