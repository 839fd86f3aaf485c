# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the simulated engine."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from host.reporting.tables import write_figure, write_json
from host.workloads.compile_layer import Options
from host.workloads.eie_layers import CONFIG, EIE_LAYERS
from host.workloads.whole_networks import DRAWN
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, end_with
from nonzero.files import check_files
from rtl.config import PRESETS, ConfigError

from .ablation import ablation_figure, ablation_table, run_ablation
from .density import density_figure, density_table, run_density
from .eie import eie_table, run_eie
from .images import images_table, run_images
from .link import axi_table, faults_table, run_axi, run_faults
from .networks import networks_table, run_networks

EXAMPLES = """examples:
  python -m sim.bench eie                          # nine layers, three seeds: half an hour
  python -m sim.bench eie --no-rtl                 # the cycle model alone: a minute
  python -m sim.bench eie --layer NT-We --seeds 1 --queue 32
  python -m sim.bench eie --uneven
  python -m sim.bench eie --ablate                 # what each mechanism is worth
  python -m sim.bench density                      # against a dense engine
  python -m sim.bench networks                     # LeNets, AlexNet and VGG-16 whole: an hour
  python -m sim.bench networks --network LeNet-5 --images 10
  python -m sim.bench networks --no-rtl            # the cycle model alone: five minutes
  python -m sim.bench axi --packets 10000          # random packets over AXI, with pauses
  python -m sim.bench faults                       # damaged images, mutated packets, noise, resets: five minutes
  python -m sim.bench images                       # images of right CRC with wrong contents, on every preset
  python -m sim.bench images --preset tiny --preset conv --count 200 --jobs 2"""


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 3,5,6, not '{text}'") from None


def _whole_number(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}, not '{text}'")
        return int(text)

    return count


_count = _whole_number(10_000)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = CommandParser("python -m sim.bench", description=__doc__, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-o", "--output", type=Path, default=Path("build/bench"), metavar="DIR",
                        help="where JSON and plots go (build/bench)")
    common.add_argument("--no-rtl", "--cycles-only", action="store_true", help="cycle model alone, no simulation")
    common.add_argument("--json", action="store_true", help="print the figures as JSON")

    eie = commands.add_parser("eie", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                              formatter_class=argparse.RawDescriptionHelpFormatter,
                              help="EIE's nine layers: cycles over the ideal, bits over the bound",
                              description="EIE's nine layers at 64 PEs: random matrices and activations of the "
                              "published densities, in RTL, compared with golden model and cycle model.")
    eie.add_argument("--layer", action="append", choices=[layer.name for layer in EIE_LAYERS], metavar="NAME",
                     help="only this layer (can be repeated): " + ", ".join(layer.name for layer in EIE_LAYERS))
    eie.add_argument("--seeds", type=_count, help="matrices drawn for each layer (3; 1 with --ablate)")
    eie.add_argument("--vectors", type=_count, default=4, help="activation vectors drawn for each matrix (4)")
    eie.add_argument("--pes", type=_count, default=CONFIG.pes, help=f"processing elements ({CONFIG.pes})")
    eie.add_argument("--queue", type=_count, default=CONFIG.queue_depth, help=f"queue depth ({CONFIG.queue_depth})")
    eie.add_argument("--beat-queue", type=int, default=CONFIG.beat_queue_depth, metavar="DEPTH",
                     help=f"beats waiting before the lookup of four PEs ({CONFIG.beat_queue_depth})")
    eie.add_argument("--index-bits", type=_widths, default=CONFIG.index_bits, metavar="WIDTHS",
                     help="index widths that the compiler can choose from "
                     f"({','.join(map(str, CONFIG.index_bits))})")
    eie.add_argument("--entries-per-word", type=_count, default=CONFIG.entries_per_word, metavar="N",
                     help=f"entries in a word of entry memory ({CONFIG.entries_per_word})")
    eie.add_argument("--pes-per-requantizer", type=_count, default=CONFIG.pes_per_requantizer, metavar="N",
                     help=f"PEs that share a requantiser ({CONFIG.pes_per_requantizer})")
    eie.add_argument("--uneven", action="store_true",
                     help="densities of rows and of columns vary by a factor of 4; writes eie-uneven.json")
    eie.add_argument("--ablate", action="store_true",
                     help="leave out one mechanism at a time; writes eie-ablation.json and .svg")

    commands.add_parser("density", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                        formatter_class=argparse.RawDescriptionHelpFormatter,
                        help="one layer at all densities, against a dense engine",
                        description="A layer of 4096 x 1000 with 1 to 100 % of its weights and 10 to 100 % of its "
                        "activations, against a dense engine of 64 PEs; writes density.json and .svg")

    networks = commands.add_parser("networks", parents=[common], allow_abbrev=False, epilog=EXAMPLES,
                                   formatter_class=argparse.RawDescriptionHelpFormatter,
                                   help="whole networks, layer by layer",
                                   description="LeNet-300-100, LeNet-5, AlexNet and VGG-16 with random weights of the "
                                   "densities that Han et al. published, on images drawn to look natural; in RTL, "
                                   "every layer compared with golden model and cycle model; writes networks.json")
    networks.add_argument("--network", action="append", choices=list(DRAWN), metavar="NAME",
                          help="only this network (can be repeated): " + ", ".join(DRAWN))
    networks.add_argument("--images", type=_count, default=1, help="images for each network (1)")
    networks.add_argument("--seed", type=_count, default=1, help="of weights and images (1)")

    axi = commands.add_parser("axi", allow_abbrev=False, help="random packets over AXI, with random pauses",
                              description="Random packets each way over AXI4-Stream and random accesses over "
                              "AXI4-Lite, with random pauses; writes axi.json")
    axi.add_argument("--packets", type=_count, default=10_000, help="each way (10000)")
    faults = commands.add_parser("faults", allow_abbrev=False, help="damaged images, mutated packets and resets",
                                 description="Every single bit of a small image flipped, mutated packets, random "
                                 "bytes; resets in the middle of load, run and read-out of LeNet-300-100; writes "
                                 "faults.json")
    faults.add_argument("--packets", type=_count, default=10_000, help="that are mutated (10000)")
    faults.add_argument("--bytes", type=_whole_number(1 << 30), default=1_000_000, help="of noise (1000000)")
    faults.add_argument("--resets", type=_count, default=1000, help="(1000)")
    images = commands.add_parser("images", allow_abbrev=False, epilog=EXAMPLES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter,
                                 help="images of right CRC with wrong contents",
                                 description="Mutated images of a right CRC: each is refused, ends with a status or "
                                 "computes what golden computes of it, and the good image that is loaded next is "
                                 "right at once, by golden and cycle model; writes images.json")
    images.add_argument("--preset", action="append", choices=list(PRESETS), metavar="NAME",
                        help="only this engine (can be repeated): " + ", ".join(PRESETS))
    images.add_argument("--count", type=_whole_number(1_000_000), default=2000, help="mutants for each preset (2000)")
    images.add_argument("--jobs", type=_count, default=1, help="simulations at the same time (1)")
    for command in (axi, faults, images):
        command.add_argument("--seed", type=_count, default=1, help="of what is random (1)")
        command.add_argument("-o", "--output", type=Path, default=Path("build/bench"), metavar="DIR",
                             help="where JSON goes (build/bench)")
        command.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def _name(arguments: argparse.Namespace) -> str:
    """The outputs' name without its ending."""
    if arguments.command != "eie":
        return str(arguments.command)
    return "eie" + "-uneven" * arguments.uneven + "-ablation" * arguments.ablate


def _eie(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, Figure | None]:
    layers = [layer for layer in EIE_LAYERS if arguments.layer is None or layer.name in arguments.layer]
    try:
        config = replace(CONFIG, pes=arguments.pes, queue_depth=arguments.queue, index_bits=arguments.index_bits,
                         entries_per_word=arguments.entries_per_word,
                         pes_per_requantizer=arguments.pes_per_requantizer, beat_queue_depth=arguments.beat_queue)
    except ConfigError as error:
        raise UserError(error.problems) from None
    options = Options(config, uneven=arguments.uneven)
    seeds = range(1, (arguments.seeds or (1 if arguments.ablate else 3)) + 1)
    if arguments.ablate:
        found = run_ablation(layers, options, seeds, arguments.vectors, rtl=not arguments.no_rtl)
        return found, ablation_table(found), ablation_figure(found)
    found = run_eie(layers, options, seeds, arguments.vectors, rtl=not arguments.no_rtl)
    return found, eie_table(found), None


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    name = _name(arguments)
    check_files(arguments.output, (f"{name}.json", f"{name}.svg"))
    figure: Figure | None
    if arguments.command == "eie":
        found, table, figure = _eie(arguments)
    elif arguments.command == "networks":
        found = run_networks(arguments.network or list(DRAWN), images=arguments.images, seed=arguments.seed,
                             rtl=not arguments.no_rtl)
        table, figure = networks_table(found), None
    elif arguments.command == "axi":
        found = run_axi(arguments.packets, arguments.seed)
        table, figure = axi_table(found), None
    elif arguments.command == "faults":
        found = run_faults(arguments.packets, arguments.bytes, arguments.resets, arguments.seed)
        table, figure = faults_table(found), None
    elif arguments.command == "images":
        found = run_images(arguments.preset or list(PRESETS), arguments.count, arguments.seed, arguments.jobs)
        table, figure = images_table(found), None
    else:
        found = run_density(Options(), rtl=not arguments.no_rtl)
        table, figure = density_table(found), density_figure(found)
    paths = [arguments.output / f"{name}.json"]
    write_json(paths[0], found)
    if figure is not None:
        paths.append(arguments.output / f"{name}.svg")
        write_figure(paths[1], figure)
    written = "\n".join(map(str, paths))
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if arguments.json else f"{table}\n{written}\n")
    if found["mismatches"] or found.get("counter_mismatches"):
        raise UserError("the engine differs from its models: see the figures above")


if __name__ == "__main__":
    end_with(main)
