# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the toolchain and of what it makes."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host.bench.conversions import (
    FORMS,
    SUBJECTS,
    check_conversions,
    conversions_table,
    figures,
    measure_conversions,
)
from host.bench.encode import encode_table, measure_encode
from host.bench.jobs import LENET, baselines, jobs_for, read_baseline
from host.bench.mlperf_tiny import ROWS, measure_mlperf_tiny, mlperf_tiny_table
from host.bench.recipes import compare_recipes, recipes_table
from host.bench.seconds import run_seconds, seconds_figure, seconds_table
from host.compression.recipe import LENET_300_100_DENSITY, RECIPES
from host.datasets import SPECS
from host.importers.known_networks import add_known_option
from host.importers.load_network import load_with_data
from host.reporting.tables import write_figure, write_json
from host.workloads.eie_layers import EIE_LAYERS
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, check_seed, end_with, say_notes
from nonzero.files import check_files

__all__ = ["main"]

EXAMPLES = """examples:
  python -m host.bench encode             # a quarter of a minute; with scipy installed, compares with it
  python -m host.bench encode --scale 8   # sizes over 8: a second
  python -m host.bench seconds            # nine layers and LeNet-300-100 in this machine's libraries: two minutes
  python -m host.bench seconds --layer LeNet-300-100 --model build/demo/model.img
  python -m host.bench recipes model.pt --data mnist --density 0.017   # ways of pruning: a minute each
  python -m host.bench mlperf-tiny FOLDER --network "keyword spotting"   # a quarter of an hour, most of it training
  python -m host.bench conversions        # what becomes of 410 networks in ten formats: half an hour
  python -m host.bench conversions --network tanh --network "LeNet-5's names" --format state_dict"""

NETWORKS = [*(layer.name for layer in EIE_LAYERS), LENET]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{text}'")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = CommandParser("python -m host.bench", description=__doc__, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-o", "--output", type=Path, default=Path("build/bench"), metavar="DIR",
                        help="where JSON and plots go (build/bench)")
    common.add_argument("--json", action="store_true", help="print the figures as JSON")

    encode = commands.add_parser("encode", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter,
                                 help="pack VGG-16's fully connected layers, 123 million weights",
                                 description="Times the packing of VGG-16's fully connected layers; writes "
                                 "encode.json.")
    encode.add_argument("--scale", type=int, default=1, choices=[1, 2, 4, 8, 16], help="divide all sizes by this (1)")

    seconds = commands.add_parser("seconds", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                                  formatter_class=argparse.RawDescriptionHelpFormatter,
                                  help="one input vector on the engine and in this machine's libraries",
                                  description="EIE's nine layers and LeNet-300-100, batch 1: the engine's predicted "
                                  "cycles at a board's clock beside dense, sparse and 8-bit libraries, and torch's "
                                  "dense without what pruning has cut off, timed on this machine; writes seconds.json "
                                  "and .svg.")
    seconds.add_argument("--layer", action="append", choices=NETWORKS, metavar="NAME",
                         help="only this one (can be repeated): " + ", ".join(NETWORKS))
    seconds.add_argument("--board", default="ulx3s-85f",
                         help=f"whose measured clock and engine: {', '.join(baselines())} (ulx3s-85f)")
    seconds.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: the GPU's libraries too (cpu)")
    seconds.add_argument("--threads", type=_count, default=1, help="of torch on the processor (1)")
    seconds.add_argument("--repeats", type=_count, default=30, help="blocks of calls for each median (30)")
    seconds.add_argument("--density", type=float, default=LENET_300_100_DENSITY,
                         help=f"share of LeNet-300-100's weights to keep ({LENET_300_100_DENSITY})")
    seconds.add_argument("--model", type=Path, metavar="IMAGE",
                         help="memory image of host.compile, in place of a LeNet-300-100 with random weights")
    seconds.add_argument("--data", default="mnist", metavar="SPEC", help=f"the image's inputs: {SPECS} (mnist)")

    recipes = commands.add_parser("recipes", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                                  formatter_class=argparse.RawDescriptionHelpFormatter,
                                  help="compare recipes of pruning by held-out error",
                                  description="Prunes a model with each recipe, at equal numbers of epochs; writes "
                                  "recipes.json.")
    recipes.add_argument("model", type=Path, help="dense model, as for host.compile")
    recipes.add_argument("--data", required=True, metavar="SPEC", help=SPECS)
    add_known_option(recipes)
    recipes.add_argument("--density", type=float, default=LENET_300_100_DENSITY,
                         help=f"share of all weights to keep ({LENET_300_100_DENSITY})")
    recipes.add_argument("--recipe", action="append", metavar="NAME|FILE.toml",
                         help=f"can be repeated: {', '.join(RECIPES)}, or a file (all of these)")
    recipes.add_argument("--seeds", type=_count, default=1, help="seeds 0, 1 and so on to prune with (1)")

    conversions = commands.add_parser("conversions", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                                      formatter_class=argparse.RawDescriptionHelpFormatter,
                                      help="convert all kinds of networks in all formats, and compare with torch",
                                      description="Saves small networks of all kinds in each format, compiles the "
                                      "files, and compares with torch on fresh inputs; ends with status 2 if one is "
                                      "silently wrong; writes conversions.json.")
    conversions.add_argument("--network", action="append", metavar="TEXT",
                             help="only those with this in their name (can be repeated)")
    conversions.add_argument("--format", action="append", choices=FORMS, metavar="NAME",
                             help="only this one (can be repeated): " + "; ".join(FORMS))
    conversions.add_argument("--seed", type=int, default=1, help="of weights and inputs (1)")

    tiny = commands.add_parser("mlperf-tiny", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                               formatter_class=argparse.RawDescriptionHelpFormatter,
                               help="MLPerf Tiny's four networks beside their floats and the official int8 files",
                               description="Compiles MLPerf Tiny's networks from their published files, as they are "
                               "and trained further, for simulated engines that hold them; with ai-edge-litert "
                               "installed, runs the official int8 files as well; writes mlperf-tiny.json.")
    tiny.add_argument("folder", type=Path, help="directory of the networks and inputs (host/bench/mlperf_tiny.py)")
    tiny.add_argument("--cifar", metavar="SPEC", help="CIFAR-10, of which image classification and visual wake words "
                      f"take images: {SPECS}")
    tiny.add_argument("--network", action="append", metavar="TEXT",
                      help="only those with this in their name (can be repeated): " + "; ".join(
                          row.name for row in ROWS).replace("%", "%%"))
    tiny.add_argument("--rtl", type=int, default=2, metavar="N", help="inputs to run in RTL for each (2)")
    return parser


def _named(known: Sequence[Any], texts: Sequence[str] | None) -> list[Any]:
    """Those of ``known`` whose name has one of ``texts`` in it; all without texts. Raises `UserError` for none."""
    found = [one for one in known if texts is None or any(text in one.name for text in texts)]
    if not found:
        raise UserError(f"--network must be part of a network's name, such as {known[0].name}, not "
                        f"{' or '.join(map(repr, texts or ()))}")
    return found


def _mlperf_tiny(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = _named(ROWS, arguments.network)
    if not 0 <= arguments.rtl <= 1000:
        raise UserError(f"--rtl must be 0 to 1000, not {arguments.rtl}")
    return measure_mlperf_tiny(rows, arguments.folder, arguments.cifar, arguments.rtl)


def _conversions(arguments: argparse.Namespace) -> dict[str, Any]:
    check_seed(arguments.seed)
    subjects = _named(SUBJECTS, arguments.network)
    return figures(measure_conversions(subjects, arguments.format or FORMS, arguments.seed), arguments.seed)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    names = [f"{arguments.command}.json", *(["seconds.svg"] if arguments.command == "seconds" else [])]
    check_files(arguments.output, names)
    paths = [arguments.output / name for name in names]
    if arguments.command == "encode":
        found = measure_encode(arguments.scale)
        table = encode_table(found)
    elif arguments.command == "recipes":
        network, dataset = load_with_data(arguments.model, arguments.data, known=arguments.known)
        say_notes((*network.assumptions, *dataset.notes))
        found = compare_recipes(network, dataset, arguments.recipe or list(RECIPES), arguments.density, arguments.seeds)
        table = recipes_table(found)
    elif arguments.command == "conversions":
        found = _conversions(arguments)
        table = conversions_table(found)
    elif arguments.command == "mlperf-tiny":
        found = _mlperf_tiny(arguments)
        table = mlperf_tiny_table(found)
    else:
        networks = [name for name in NETWORKS if arguments.layer is None or name in arguments.layer]
        baseline = read_baseline(arguments.board)
        jobs = jobs_for(networks, baseline.config, arguments.density, arguments.model, arguments.data)
        found = run_seconds(jobs, len(networks), baseline, device=arguments.device, threads=arguments.threads,
                            repeats=arguments.repeats)
        table = seconds_table(found)
        write_figure(paths[1], seconds_figure(found))
    write_json(paths[0], found)
    written = "\n".join(map(str, paths))
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if arguments.json else f"{table}\n{written}\n")
    if arguments.command == "conversions":
        check_conversions(found)


if __name__ == "__main__":
    end_with(main)
