# SPDX-License-Identifier: Apache-2.0
"""Writes ``docs/results.md``, all of whose figures come from JSON files that are committed.

``docs/figures/commands.toml`` names the commands that measure each file. ::

    python docs/results.py               # docs/results.md anew
    python docs/results.py --take eie    # after its commands: docs/figures/eie.json, then docs/results.md
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Callable, Sequence

from figure_tables import (
    ABSENT,
    DOCS,
    EXACT,
    PUBLISHED,
    ROOT,
    SOURCES,
    Figures,
    Row,
    baselines,
    command_block,
    count,
    errors,
    exact,
    figures_table,
    kept,
    kib,
    markdown_table,
    measured,
    percent,
    published,
)
from mlperf_table import mlperf_tiny

from host.device.target import UART_BITS
from nonzero.errors import end_with
from nonzero.files import write_whole
from rtl.config import PRESETS

PAGE = DOCS / "results.md"

NETWORKS = {"LeNet-5": "networks-lenet-5", "AlexNet": "networks-alexnet", "VGG-16": "networks-vgg-16"}
"""Networks with convolutions, and the source of their run in RTL."""


def lenet_300_100() -> str:
    han, deep = PUBLISHED["han"], PUBLISHED["deep_compression"]

    def paper(found: Figures) -> str:
        row = next(row for row in found["rows"] if row["method"] == "paper")
        return f"{percent(row['kept'])}, {percent(row['test_error'])}; mean of {len(row['seeds'])} seeds"

    def seconds(found: Figures) -> str:
        engine, over = found["rows"][0]["engine_seconds"] * 1e6, found["rows"][0]["over_engine"]
        return (f"{engine:.2f} us on the engine at {found['fmax_mhz']} MHz; {engine * over['best']:.2f} us with the "
                f"best library ({over['best']:.1f} times), {engine * over['cut']:.2f} us with dense torch on the "
                f"reduced network ({over['cut']:.1f} times); {found['processor']}")

    def ready(name: str, source: str) -> list[Row]:
        """A network of ``models/``."""
        return [
            Row(f"`models/{name}.safetensors`: weights kept", "models",
                lambda found: kept(found[f"{name}.safetensors"])),
            Row("... test error on the engine", source, lambda found: percent(found["test_error_engine"])),
            Row("... cycles per image", source, lambda found: f"{found['rtl']['cycles_per_image']:.1f}"),
            Row(f"... {EXACT}", source, lambda found: exact(found["rtl"])),
            *(Row(f"... on the chip with `{preset}`, everything counted", chosen, lambda found:
              kib(found["onchip_bytes"])) for preset, chosen in (
                ("default", source), ("tiny", f"{source}-tiny"), ("up5k", f"{source}-up5k")))]

    return figures_table(
        Row("weights kept", "demo", kept, han["lenet_300_100_kept"]),
        Row("test error", "demo", errors, han["lenet_300_100_errors"]),
        Row("on the chip with `default`, everything counted", "demo", lambda found: kib(found["onchip_bytes"])),
        Row("on the chip with `tiny`, everything counted; of which slice lengths", "tiny", lambda found:
            f"{kib(found['onchip_bytes'])}; {kib(found['storage_bits']['slices'] / 8)}", deep["lenet_300_100_size"]),
        Row(EXACT, "demo", lambda found: exact(found["rtl"])),
        Row("cycles per image", "demo", lambda found: f"{found['rtl']['cycles_per_image']:.1f}"),
        Row("... over max(useful MACs / PEs, broadcasts) of each layer", "demo",
            lambda found: f"{found['rtl']['cycles_over_limit']:.3f}"),
        Row("... over useful MACs / PEs", "demo", lambda found: f"{found['rtl']['cycles_over_ideal']:.3f}"),
        *ready("lenet-300-100", "ready"), *ready("lenet-300-100-fast", "fast"),
        Row("... one input, on the ULX3S's engine at its highest clock and in libraries on one thread", "seconds",
            seconds),
        Row("the rules of Han et al. alone: weights kept, test error", "study", paper,
            f"{han['lenet_300_100_kept']}, {han['lenet_300_100_error']}"))


def eie() -> str:
    def published_ratios(found: Figures) -> str:
        return f"{found['geomean_eie_ratio']:.2f}, {max(row['eie_ratio'] for row in found['rows']):.2f}"

    def ratios(found: Figures) -> str:
        return f"{found['geomean_ratio']:.3f}, {found['worst_ratio']:.3f}"

    def overhead(name: str) -> str:
        def cell(found: Figures) -> str:
            row = min(found["index_overhead"]["rows"], key=lambda row: row["overhead"])
            return f"{100 * row[name]:.1f} % with {row['index_bits']} bits"

        return measured("density", cell)

    def simulated(found: Figures) -> str | None:
        total = found["inferences_simulated"]
        return total and f"{total - found['mismatches']} of {total}; {found['counter_mismatches']}"

    return figures_table(
        Row("cycles over [ideal](glossary.md#ideal-cycles): geometric mean, worst layer", "eie", ratios,
            measured("eie", published_ratios)),
        Row("... with densities of rows and columns uneven by a factor of four", "eie-uneven", ratios),
        Row("... with the short queues and the shared requantisers of `wide`", "eie-wide", ratios),
        Row("inferences in RTL equal to golden; counters that differ from the prediction", "eie-rtl", simulated),
        Row("bits per weight over the bound of code and position, everything counted", "eie", lambda found:
            f"{found['geomean_bits_over_bound']:.3f}", "in EIE's format " + measured("eie", lambda found:
            f"{found['geomean_eie_format_over_bound']:.2f}")),
        Row("bits beyond the weights of 32 bits, at the best width of an index and with dummy weights", "density",
            lambda found: overhead("overhead"), f"without dummy weights {overhead('claimed')}"))


def mechanisms() -> str:
    found = SOURCES["eie-ablation"].read()
    rows = [["", "", *[ABSENT] * 4]] if found is None else [
        [one["without"], one["instead"], f"{one['geomean_ratio']:.3f}", f"{one['worst_ratio']:.3f}",
         f"{one['cycles_times']:.3f}", f"{one['geomean_bits_over_bound']:.3f}"] for one in found["variants"]]
    table = markdown_table(["without", "instead", "cycles over ideal", "worst layer", "cycles, times",
                            "bits over the bound"], rows)
    return f"{table}\n\n{command_block(['eie-ablation'])}"


def densities() -> str:
    found = SOURCES["density"].read()
    crossovers = {} if found is None else found["crossovers"]
    shares = [f"{100 * float(share):.0f} %" for share in crossovers.get("cycles", ())] or [""]
    rows = [[name, *("never" if value is None else f"{100 * value:.0f} %"
                     for value in crossovers.get(name, {}).values())] if crossovers else [name, ABSENT]
            for name in ("cycles", "energy")]
    storage = measured("density", lambda one: f"{100 * one['crossovers']['storage']:.0f} %")
    return (f"{markdown_table(['activations not zero', *shares], rows)}\n\nStorage is equal at: {storage}.\n\n"
            f"{command_block(['density'])}")


def networks() -> str:
    def worst(one: Figures) -> str:
        layer = max(one["layers"], key=lambda layer: layer["ratio"])
        return f"{layer['ratio']:.2f} ({layer['name']})"

    def rtl(found: Figures) -> str:
        (one,) = found["networks"]
        wrong = one["mismatches"] + one["counter_mismatches"]
        return f"{found['images']} of {count(one['rtl_cycles'])} cycles; {wrong}"

    forms: tuple[Callable[[Figures], str], ...] = (
        lambda one: f"{100 * one['weights_kept'] / one['weights']:.1f} %", lambda one: str(one["config"]["pes"]),
        lambda one: f"{one['ratio']:.2f}", worst, lambda one: f"{one['storage_ratio']:.1f} times")
    rows = []
    for name, source in NETWORKS.items():
        cells = [measured("networks", lambda found, form=form, name=name: form(
            next(one for one in found["networks"] if one["name"] == name))) for form in forms]
        rows.append([name, *cells, PUBLISHED["deep_compression"].get(f"{name}_smaller", ""), measured(source, rtl)])
    table = markdown_table(["network", "weights kept", "PEs", "cycles over ideal", "worst layer",
                            "smaller than dense float32, everything counted", "published",
                            "images in RTL; layers and counters that differ"], rows)
    return f"{table}\n\n{command_block(['networks', *NETWORKS.values()])}"


def lenet_5() -> str:
    han, deep = PUBLISHED["han"], PUBLISHED["deep_compression"]
    return figures_table(
        Row("`models/lenet-5.safetensors`: weights kept, test error on the engine", "models", lambda found:
            f"{kept(found['lenet-5.safetensors'])}, {percent(found['lenet-5.safetensors']['test_error_engine'])}"),
        Row("... test error of the dense network", "models",
            lambda found: percent(found["lenet-5.safetensors"]["test_error_dense"])),
        Row("... on the chip with `conv`, everything counted", "lenet-5", lambda found: kib(found["onchip_bytes"])),
        Row("... on the chip with `models/four.toml`, everything counted", "lenet-5-four",
            lambda found: kib(found["onchip_bytes"]), deep["lenet_5_size"]),
        Row(f"... {EXACT}", "lenet-5", lambda found: exact(found["rtl"])),
        Row("... cycles per image with `conv`", "lenet-5", lambda found: count(found["rtl"]["cycles_per_image"])),
        Row("fewer weights: kept, test error on the engine, on the chip", "lenet-5-small", lambda found:
            f"{kept(found)}, {percent(found['test_error_engine'])}, {kib(found['onchip_bytes'])}"),
        Row("channels that share out evenly among the PEs: weights kept", "lenet-5-sixteen", kept,
            han["lenet_5_kept"]),
        Row("... test error", "lenet-5-sixteen", errors, han["lenet_5_error"]),
        Row("... on the chip with `conv`, everything counted", "lenet-5-sixteen",
            lambda found: kib(found["onchip_bytes"])),
        Row(f"... {EXACT}", "lenet-5-sixteen-rtl", exact),
        Row("... cycles per image; over useful MACs / PEs", "lenet-5-sixteen-rtl",
            lambda found: f"{count(found['cycles_per_image'])}; {found['cycles_over_ideal']:.2f}"),
        Row("the rules of Han et al. alone: weights kept; test error", "lenet-5-paper",
            lambda found: f"{kept(found)}; {errors(found)}", f"{han['lenet_5_kept']}, {han['lenet_5_error']}"))


def fashion() -> str:
    return figures_table(
        Row("weights kept", "fashion", kept), Row("test error", "fashion", errors),
        Row("on the chip with `default`, everything counted", "fashion", lambda found: kib(found["onchip_bytes"])),
        Row("cycles per image", "fashion", lambda found: count(found["cycles_per_image"]["predicted"])),
        Row(EXACT, "fashion-rtl", exact))


def boards() -> str:
    def memories(one: Figures) -> str:
        return f"{one['ram_blocks']}" + (f" and {one['large_rams']} large" if "large_rams" in one else "")

    rows = [[f"`{one['board']}`", one["part"], f"`{one['preset']}`, {one['pes']} PEs", f"{one['clock_target_mhz']:g}",
             f"{one['fmax_mhz']:g}", count(one["luts"]), memories(one), str(one["dsps"]),
             f"{one['bitstream_bytes'] / 1024:.0f}", f"{one['seconds'] / 60:.0f}"] for one in baselines()]
    return markdown_table(["board", "FPGA", "engine", "clock", "highest clock", "LUT4", "block RAMs", "multipliers",
                           "bitstream, KiB", "built in, minutes"], rows)


def builds() -> str:
    rows = [[f"{one['board']}, {one['preset']}", count(one["luts_per_pe"]), count(one["pes"] * one["fmax_mhz"]),
             ", ".join(f"{clock:g}" for clock in one["fmax_mhz_by_seed"].values()),
             "this" if one["current"] else "earlier", f"`{one['command']}`"] for one in baselines()]
    return markdown_table(["board, preset", "LUT4 per PE", "million multiplications a second at the highest clock",
                           "highest clock of each seed", "engine", "command"], rows)


def simulated_boards() -> str:
    conv = next(one for one in baselines() if one["preset"] == "conv")
    baud = tomllib.loads((ROOT / "constraints" / f"{conv['board']}.toml").read_text())["baud"]

    def whole(found: Figures) -> tuple[float, float]:
        return found["engine_images_per_second"], found["link_images_per_second"]

    def engine_alone(found: Figures) -> tuple[float, float]:
        """At the clock of its bitstream, and behind the board's link."""
        return (conv["clock_target_mhz"] * 1e6 / found["cycles_per_image"],
                baud / UART_BITS / found["link_bytes_per_image"])

    rows = []
    for board, network, source, speeds in (
            ("iCEBreaker, `tiny`", "lenet-300-100", "board-icebreaker", whole),
            ("ULX3S, `default`", "lenet-300-100", "board-ulx3s-85f", whole),
            ("ULX3S, `conv`: engine alone, link calculated", "lenet-5", "lenet-5", engine_alone)):
        cells: tuple[Callable[[Figures], str], ...] = (
            exact, lambda run: count(run["cycles_per_image"]), lambda run, speeds=speeds: count(speeds(run)[0]),
            lambda run, speeds=speeds: f"{speeds(run)[1]:.1f}")
        rows.append([board, f"`{network}`", *(measured(source, lambda found, cell=cell: cell(found.get("rtl", found)))
                                              for cell in cells), source])
    table = markdown_table(["board", "network of `models/`", EXACT, "cycles per image", "images a second, engine",
                            "images a second, bits of the serial link", "from"], rows)
    return f"{table}\n\n{command_block(row[-1] for row in rows)}"


def robustness() -> str:
    def mutants(found: Figures) -> str:
        return f"{count(found['mutants'])}; {found['mismatches']}"

    def conversions(found: Figures) -> str:
        outcomes = ", ".join(f"{count(value)} {name}" for name, value in found["counts"].items())
        return f"{count(found['conversions'])}: {outcomes}"

    return figures_table(
        *(Row(text, "faults", lambda found, key=key: count(found[key])) for key, text in (
            ("flipped_bits", "single bits of a small image flipped, each of which is noticed"),
            ("mutated_packets", "mutated packets, after which the engine is exact"),
            ("random_bytes", "random bytes, after which the engine is exact"),
            ("resets", "resets in the middle of load, run and read-out, after which the engine is exact"))),
        *(Row(f"images for `{preset}` with a right CRC and wrong contents; wrong ones among them", source, mutants)
          for preset in PRESETS for source in (f"images-{preset}", f"images-{preset}-more") if source in SOURCES),
        Row("model files and ways of data beside torch, by outcome", "conversions", conversions),
        Row("packing of VGG-16's fully connected layers", "encode", lambda found:
            f"{count(found['weights_total'])} weights in {found['pack_seconds'] + found['image_seconds']:.1f} s"))


TABLES = {table.__name__: table for table in (
    lenet_300_100, eie, mechanisms, densities, networks, lenet_5, fashion, mlperf_tiny, boards, builds,
    simulated_boards, robustness, published)}


def page() -> str:
    """The whole of ``docs/results.md``."""
    outline = (DOCS / "figures" / "outline.md").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda name: TABLES[name[1]](), outline)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python docs/results.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--take", action="append", default=[], choices=SOURCES, metavar="NAME",
                        help="first copy what the commands of this source have written (can be repeated): "
                        + ", ".join(SOURCES))
    for name in parser.parse_args(argv).take:
        SOURCES[name].take()
    write_whole(PAGE, page().encode())
    missing = [name for name, source in SOURCES.items() if source.read() is None]
    sys.stdout.write(f"{PAGE}\n" + (f"not measured: {', '.join(missing)}\n" if missing else ""))


if __name__ == "__main__":
    end_with(main)
