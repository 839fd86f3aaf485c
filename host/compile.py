# SPDX-License-Identifier: Apache-2.0
"""Compiles a trained network into a memory image: ``python -m host.compile model.pt --data mnist``."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from host.compilation.checking import loss_problem
from host.compilation.state import Compilation, Settings
from host.compilation.steps import compile_model
from host.compression.kmeans import INITIALISATIONS
from host.compression.recipe import RECIPES, read_recipe
from host.compression.share_weights import ShareSettings
from host.datasets import INPUT_SPECS, SPECS
from host.importers.known_networks import add_known_option
from host.importers.safetensors_file import safetensors_file
from host.quantization.even_outputs import with_outputs_as_read
from host.reporting.compile_report import summarize
from host.reporting.report import report_text, write_report
from host.training.augment import add_augmentation_option
from nonzero.command_line import CommandParser
from nonzero.errors import ResultError, UserError, check_all, check_range, check_seed, end_with, printable
from nonzero.files import check_file, check_files, write_whole
from nonzero.shipped import given_or_shipped
from rtl.config import PRESETS
from rtl.config_file import read_engine

__all__ = ["main", "write_outputs"]


OUTPUTS = ("model.img", "report.json", "report.html")
MAX_LOSS = 2.0
"""Percentage points that a compilation may lose, if --max-loss does not say so."""

CHECKPOINTS = ("pruning.checkpoint", "sharing.checkpoint")
"""Beside the outputs from the first epoch of each phase until the outputs are written."""

LARGEST_IMAGE = 1 << 24

EXAMPLES = """examples:
  python -m host.compile model.pt --data mnist --density 0.05
  python -m host.compile model.safetensors --data idx:fashion/ --keep fc1=0.04,fc2=0.10,fc3=0.30 -o out
  python -m host.compile cnn.pt --data npz:digits.npz --input-shape 1,28,28 --preset conv
  python -m host.compile sparse.pt --no-prune --calib npy:examples.npy --preset tiny --json
  python -m host.compile model.pt --data mnist --density 0.017 --save small.safetensors
  python -m host.compile small.safetensors --data mnist --no-prune --share-epochs 0 --preset up5k
  python -m host.compile model.pt --calib npy:examples.npy --density 0.3 --check model.pt2 --max-loss 5

It writes model.img (the memory image), report.json and report.html into the output directory. The same command
goes on after an interruption from the checkpoints there, to the same result.

The result is always compared with floats: those of --check, or else of the network as it was read. What is lost is
measured in percentage points: of test error if --data has classes, of R2 times 100 if it has targets. Without labels
they are of agreement, the inputs whose greatest output is the same; or of R2 of the outputs times 100, if there is one
output, if one is always the greatest, if they are as many as the inputs, or an image. With --check and labels, what
reading the model file lost is added: the points, without labels, of the network as it was read.

exit status: 0 done; 2 bad input, no image is written; 3 all files are written, but more than --max-loss is lost;
130 interrupted"""


def write_outputs(work: Compilation, directory: Path) -> dict[str, Any]:
    """Writes image and reports, each whole or not at all; removes the checkpoints; returns the report.

    Parameters
    ----------
    work : Compilation
        A compilation after its last step.
    directory : Path
        Directory of the outputs; it is made if it is missing.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    report = summarize(work)
    write_whole(directory / OUTPUTS[0], work.content)
    write_report(directory, report)
    for name in CHECKPOINTS:
        (directory / name).unlink(missing_ok=True)
    return report


def _keep(text: str) -> dict[str, float]:
    try:
        parts = [part.split("=") for part in text.split(",")]
        keep = {name: float(value) for name, value in parts}
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like fc1=0.08,fc2=0.1, not '{text}'") from None
    if len(keep) < len(parts):
        raise argparse.ArgumentTypeError(f"must name each layer once, not as in '{text}'")
    return keep


def _normalize(text: str) -> tuple[float, float]:
    try:
        mean, std = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 0.1307,0.3081, not '{text}'") from None
    return mean, std


def _input_shape(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(part) for part in text.split(","))
    except ValueError:
        channels = height = width = 0
    if not (min(channels, height, width) >= 1 and channels * height * width <= LARGEST_IMAGE):
        raise argparse.ArgumentTypeError(f"must be like 1,28,28, channels, height and width, of at most "
                                         f"{LARGEST_IMAGE} values, not '{text}'")
    return channels, height, width


def _check_save(path: Path | None, model: Path) -> None:
    if path is None:
        return
    if path.suffix != ".safetensors":
        raise UserError(f"--save must name a .safetensors file, not '{path}'")
    check_file(path)
    if path.exists() and model.exists() and path.samefile(model):
        raise UserError(f"--save must not name the model itself, '{path}'; name another file")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("python -m host.compile", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("model", type=given_or_shipped, help="state_dict, checkpoint, nn.Module of standard layers, "
                        ".safetensors, .pt2 of torch.export, .onnx, .tflite")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="output directory (build/MODEL)")
    parser.add_argument("--data", metavar="SPEC", help=f"{SPECS}; to retrain, calibrate and test")
    parser.add_argument("--calib", metavar="SPEC", help=f"inputs to calibrate on, without labels: {INPUT_SPECS}")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--density", type=float, help="share of all weights to keep (0.08)")
    amount.add_argument("--keep", type=_keep, metavar="LAYER=SHARE,...", help="share of each layer's weights to keep")
    amount.add_argument("--quality", type=float, help="prune below this number of standard deviations of a layer")
    amount.add_argument("--no-prune", action="store_true", help="pack the model as it is")
    parser.add_argument("--recipe", default="default", metavar="NAME|FILE.toml",
                        help=f"how to prune and retrain: {', '.join(RECIPES)}, or a file (default)")
    add_augmentation_option(parser)
    parser.add_argument("--share-bits", type=int, metavar="N",
                        help="bits of shared weights, 2 to the engine's code_bits (code_bits)")
    parser.add_argument("--share-init", default="linear", metavar="NAME",
                        help=f"first centres of the codebooks: {', '.join(INITIALISATIONS)} (linear)")
    parser.add_argument("--share-epochs", type=int, default=ShareSettings.epochs, metavar="N",
                        help="epochs of fine-tuning the codebooks; 0 leaves weights that are shared already as they "
                        "are (%(default)s)")
    parser.add_argument("--save", type=Path, metavar="FILE.safetensors", help="also write the network as it is after "
                        "pruning and weight sharing, without its dead neurons: a model file again")
    parser.add_argument("--input-shape", type=_input_shape, metavar="C,H,W",
                        help="channels, height and width of an image, if neither model nor --data tells them")
    parser.add_argument("--normalize", type=_normalize, metavar="MEAN,STD",
                        help="the training's normalisation of the inputs, to be folded into the first layer")
    add_known_option(parser)
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare the result with the float network in a "
                        ".pt2 of torch.export, or with the arrays inputs [n, ...] and outputs [n, outputs] of an .npz; "
                        "without it, with the network's own floats")
    parser.add_argument("--max-loss", type=float, default=MAX_LOSS, metavar="POINTS",
                        help="percentage points, 0 to 100, that the whole compilation may lose; if it loses more, the "
                        "files are written and the exit status is 3 (%(default)g)")
    parser.add_argument("--outputs", choices=("auto", "values"), default="auto", help="values: what each output is "
                        "matters, not which is the greatest, so that each gets a scale of its own; auto: so if --data "
                        "has targets (auto)")
    parser.add_argument("--preset", default="default", help=f"engine: {', '.join(PRESETS)} (default)")
    parser.add_argument("--config", type=given_or_shipped, metavar="FILE.toml",
                        help="engine configuration; fields it lacks come from the preset")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same input: same image (0)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    directory = arguments.output or Path("build") / arguments.model.stem
    *_, config = check_all(
        lambda: check_seed(arguments.seed),
        lambda: check_range("--max-loss", arguments.max_loss, 0, 100),
        lambda: check_files(directory, (*OUTPUTS, *CHECKPOINTS)),
        lambda: _check_save(arguments.save, arguments.model),
        lambda: read_recipe(arguments.recipe),
        lambda: read_engine(arguments.preset, arguments.config))
    sharing = ShareSettings(arguments.share_init, arguments.share_bits, arguments.share_epochs)
    sharing.check(config.code_bits)
    settings = Settings(
        model=arguments.model, config=config, preset=str(arguments.config or arguments.preset),
        density=arguments.density, keep=arguments.keep, quality=arguments.quality, prune=not arguments.no_prune,
        data=arguments.data, calib=arguments.calib, input_shape=arguments.input_shape, normalize=arguments.normalize,
        seed=arguments.seed, recipe=arguments.recipe, sharing=sharing, known=arguments.known,
        augmentation=arguments.augmentation, check=arguments.check, max_loss=arguments.max_loss,
        values=arguments.outputs == "values")
    work = compile_model(settings, lambda line: sys.stderr.write(f"{printable(line)}\n"), directory)
    if arguments.save is not None:
        assert work.shared is not None and work.dense is not None
        saved = with_outputs_as_read(replace(work.shared.as_network(), input_shape=work.dense.input_shape))
        write_whole(arguments.save, safetensors_file(saved))
    report = write_outputs(work, directory)
    if arguments.json:
        sys.stdout.write(json.dumps(report, indent=2, sort_keys=True) + "\n")
    else:
        sys.stdout.write(f"{report_text(report)}\n{directory / 'model.img'}\n{directory / 'report.html'}\n")
    if problem := loss_problem(work):
        raise ResultError(f"{problem}. All files are written nevertheless, to '{directory}'")


if __name__ == "__main__":
    end_with(main)
