# SPDX-License-Identifier: Apache-2.0
"""Compiles a trained network into a memory image: ``python -m host.compile model.pt --data mnist``."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from host.compression.kmeans import INITIALISATIONS
from host.compression.prune import PruneResult, prune
from host.compression.recipe import RECIPES, read_recipe, with_amount
from host.compression.share_weights import SharedNetwork, ShareSettings, share_weights
from host.cycle_model.predict import Prediction, predict
from host.datasets import SPECS, Dataset, load_inputs
from host.datasets.axes import fit_axes, flattened_note
from host.decoding.decode import decode
from host.image.image import Image, image_file, parse_image
from host.importers.load_network import load_network, load_with_data
from host.importers.safetensors_file import safetensors_file
from host.network.layers import Network
from host.packing.engine_check import check_engine
from host.packing.pack import PackedNetwork, pack
from host.quantization.calibration import clipped_inputs, clipped_outputs, input_notes, layer_notes, output_notes
from host.quantization.golden_model import forward
from host.quantization.losses import float_values, integer_values, loss_notes
from host.quantization.quantize import QuantizedNetwork, quantize, quantize_inputs
from host.reporting.compile_report import summarize
from host.reporting.report import report_text, write_report
from host.training.forward import error_percent, logits, tensors
from nonzero.errors import UserError, check_all, end_with
from nonzero.files import check_file, check_files, write_whole
from nonzero.shipped import given_or_shipped
from rtl.config import EngineConfig
from rtl.engine_options import add_engine_options, add_known_option, check_range, read_engine

__all__ = ["STEPS", "Compilation", "Settings", "compile_model", "main", "write_outputs"]

CALIBRATION_IMAGES = 2000
CALIBRATION_MACS = 1 << 33
"""Most images on which activity and the verification are measured; fewer, but 2, if they took more multiplications."""

OUTPUTS = ("model.img", "report.json", "report.html")
CHECKPOINTS = ("pruning.checkpoint", "sharing.checkpoint")
"""Beside the outputs from the first epoch of each phase until the outputs are written."""

LARGEST_SEED = (1 << 63) - 1
LARGEST_IMAGE = 1 << 24

EXAMPLES = """examples:
  python -m host.compile model.pt --data mnist --density 0.05
  python -m host.compile model.safetensors --data idx:fashion/ --keep fc1=0.04,fc2=0.10,fc3=0.30 -o out
  python -m host.compile cnn.pt --data npz:digits.npz --input-shape 1,28,28 --preset conv
  python -m host.compile sparse.pt --no-prune --calib npy:examples.npy --preset tiny --json
  python -m host.compile model.pt --data mnist --density 0.017 --save small.safetensors
  python -m host.compile small.safetensors --data mnist --no-prune --share-epochs 0 --preset up5k

It writes model.img (the memory image), report.json and report.html into the output directory. The same command
goes on after an interruption from the checkpoints there, to the same result."""


@dataclass(frozen=True)
class Settings:
    """What to compile and how.

    Attributes
    ----------
    density, keep, quality
        How far to prune, `host.compression.recipe.with_amount`.
    recipe : str
        How to prune and retrain, `host.compression.recipe.read_recipe`.
    sharing : ShareSettings
        How to share weights.
    prune : bool
        Whether to prune at all; a model that is sparse already is packed as it is.
    data : str or None
        Dataset to retrain, calibrate and test with.
    calib : str or None
        Inputs to calibrate on, `host.datasets.load_inputs`; without them the dataset's training images.
    input_shape : (channels, height, width) or None
        Of an image; without it that of the dataset's images.
    normalize : (mean, std) or None
        How the training normalised its inputs; folded into the first layer.
    known : str or None
        The network of `host.network.zoo` that a file of tensors is of.
    """

    model: Path
    config: EngineConfig
    preset: str = "default"
    density: float | None = None
    keep: dict[str, float] | None = None
    quality: float | None = None
    prune: bool = True
    data: str | None = None
    calib: str | None = None
    input_shape: tuple[int, int, int] | None = None
    normalize: tuple[float, float] | None = None
    seed: int = 0
    recipe: str = "default"
    sharing: ShareSettings = field(default_factory=ShareSettings)
    known: str | None = None


@dataclass
class Compilation:
    """A compilation under way: each step reads what those before it left here."""

    settings: Settings
    checkpoints: Path | None = None
    dataset: Dataset | None = None
    calibration: np.ndarray | None = None
    dense: Network | None = None
    pruned: PruneResult | None = None
    shared: SharedNetwork | None = None
    quantized: QuantizedNetwork | None = None
    activity: list[np.ndarray] = field(default_factory=list)
    """How often each input of each layer is not zero."""
    clipped_outputs: dict[int, float] = field(default_factory=dict)
    """See `host.quantization.calibration.clipped_outputs`."""
    packed: PackedNetwork | None = None
    content: bytes = b""
    image: Image | None = None
    prediction: Prediction | None = None
    test_errors: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def checkpoint(self, phase: str) -> Path | None:
        """Where the state of a phase is kept while it is under way."""
        return self.checkpoints and self.checkpoints / f"{phase}.checkpoint"

    @property
    def network(self) -> Network:
        assert self.dense is not None
        return self.pruned.network if self.pruned else self.dense

    @property
    def has_examples(self) -> bool:
        """Whether calibration is on the user's inputs, not on noise."""
        return (self.settings.calib or self.settings.data) is not None

    @property
    def input_axes(self) -> tuple[int, ...] | None:
        """Axes of one input: what the model file tells, or the command line, or else the data."""
        assert self.dense is not None
        images = self.dataset.train_images if self.dataset else self.calibration
        return self.dense.input_axes or self.settings.input_shape or (None if images is None else images.shape[1:])

    def test_error(self, name: str, network: Network) -> None:
        """Measures the percentage of test images that a float network gets wrong, if there are test images."""
        if self.dataset is not None:
            layers = tensors(network)
            self.test_errors[name] = error_percent(lambda inputs: logits(layers, inputs), self.dataset.test_images,
                                                   self.dataset.test_labels)


def load(work: Compilation) -> str:
    settings = work.settings
    if settings.data is None:
        network = load_network(settings.model, input_shape=settings.input_shape, normalize=settings.normalize,
                               known=settings.known)
    else:
        network, work.dataset = load_with_data(settings.model, settings.data, input_shape=settings.input_shape,
                                               normalize=settings.normalize, known=settings.known)
    work.dense = network
    work.notes += network.assumptions
    if settings.input_shape and math.prod(settings.input_shape) != network.inputs:
        raise UserError(f"--input-shape has {math.prod(settings.input_shape)} values, but the network has "
                        f"{network.inputs} inputs; leave it out, since only convolutions need it")
    if work.dataset is not None:
        work.notes += work.dataset.notes
    checks = [] if work.dataset is None else [partial(work.dataset.require, network.inputs, network.outputs)]
    *_, work.calibration, doubts = check_all(
        *checks, partial(_calibration, work),
        lambda: check_engine(network, settings.config, settings.preset, _kept(settings, network)))
    work.notes += doubts
    work.test_error("dense", work.dense)
    return f"{len(work.dense.layers)} layers, {work.dense.weights_total} weights"


def prune_and_retrain(work: Compilation) -> str:
    settings = work.settings
    assert work.dense is not None and work.calibration is not None
    if not settings.prune:
        tuned = work.dataset is not None and settings.sharing.epochs and not settings.config.direct_weights
        work.notes.append(f"not pruned, but its shared weights are fine-tuned for {settings.sharing.epochs} epochs; "
                          "--share-epochs 0 leaves them as shared" if tuned else
                          "not pruned: only its weights are shared and quantised")
        return f"as it is: {work.dense.weights_kept} weights"
    how = with_amount(read_recipe(settings.recipe), settings.density, settings.keep, settings.quality)
    work.pruned = prune(work.dense, work.dataset, how, settings.seed, work.checkpoint("pruning"))
    if work.dataset is None:
        work.notes.append("pruned in one shot and not retrained, since there is no --data: accuracy will suffer")
    if work.pruned.whole is not None:
        work.notes += loss_notes("pruning", work.dense, float_values(work.pruned.whole), work.calibration)
    work.test_error("pruned", work.network)
    return f"{work.network.weights_kept} of {work.dense.weights_total} weights kept"


def share(work: Compilation) -> str:
    settings = work.settings
    assert work.calibration is not None
    work.shared = share_weights(work.network, settings.config, work.dataset, settings.sharing, settings.seed,
                                work.checkpoint("sharing"))
    work.test_error("shared", work.shared.as_network())
    errors = work.test_errors.get("pruned", work.test_errors.get("dense")), work.test_errors.get("shared")
    work.notes += loss_notes("weight sharing", work.network, float_values(work.shared.as_network()), work.calibration,
                             errors)
    if settings.config.direct_weights:
        return f"weights of {settings.config.code_bits} bits, no codebook"
    return f"codebooks of {(1 << (settings.sharing.bits or settings.config.code_bits)) - 1} weights"


def quantize_integers(work: Compilation) -> str:
    assert work.shared is not None and work.calibration is not None
    quantized = quantize(work.shared, work.settings.config, work.calibration, classes=work.dataset is not None)
    work.quantized = replace(quantized, input_shape=work.input_axes)
    if work.dataset is not None:
        work.notes += clipped_inputs(work.quantized, work.dataset.test_images)
        outputs = forward(work.quantized, quantize_inputs(work.quantized, work.dataset.test_images))[-1]
        work.test_errors["engine"] = 100 * float((outputs.argmax(axis=1) != work.dataset.test_labels).mean())
    errors = work.test_errors.get("shared"), work.test_errors.get("engine")
    work.notes += loss_notes("quantisation", work.shared.as_network(), integer_values(work.quantized), work.calibration,
                             errors)
    return f"{work.settings.config.act_bits}-bit activations"


def encode_and_pack(work: Compilation) -> str:
    assert work.quantized is not None and work.calibration is not None
    examples = _examples(work, work.calibration)
    acts = quantize_inputs(work.quantized, examples)
    outputs = forward(work.quantized, acts)
    work.clipped_outputs = clipped_outputs(work.quantized, acts, outputs)
    if work.has_examples:
        work.notes += [*input_notes(work.quantized, work.calibration, examples), *layer_notes(work.quantized, outputs),
                       *output_notes(work.quantized, outputs, work.clipped_outputs, classes=work.dataset is not None)]
    work.activity = [(values != 0).mean(axis=0) for values in (acts, *outputs[:-1])]
    work.packed = pack(work.quantized, work.settings.config, activity=work.activity, preset=work.settings.preset)
    work.content = image_file(work.packed)
    return f"{len(work.content)} bytes"


def verify(work: Compilation) -> str:
    """Reads the image back as the engine would, and compares every weight and every output."""
    assert work.quantized is not None and work.packed is not None and work.calibration is not None
    config = work.settings.config
    work.image = parse_image(work.content, config)
    decoded = decode(work.image, config)
    examples = work.dataset.test_images if work.dataset else work.calibration
    acts = quantize_inputs(work.quantized, _examples(work, examples))
    outputs = forward(work.quantized, acts)
    outputs_back = forward(decoded.network, acts[:, :decoded.network.inputs])
    for layer, back, values, values_back in zip(work.quantized.layers, decoded.network.layers, outputs,
                                                outputs_back, strict=True):
        weights = np.zeros_like(layer.weights)
        weights[:, :back.cols] = back.weights
        if not (np.array_equal(weights, layer.weights) and np.array_equal(back.bias, layer.bias)
                and np.array_equal(values, values_back)):
            raise RuntimeError(f"layer '{layer.name}' of the image differs from what was encoded")
    work.prediction = predict(decoded, acts, outputs)
    cycles = work.prediction.counters["cycles"]
    return f"every weight read back; {cycles.mean():.0f} cycles an inference ({len(acts)} inputs)"


STEPS: list[tuple[str, Callable[[Compilation], str]]] = [
    ("load", load),
    ("prune and retrain", prune_and_retrain),
    ("share", share),
    ("quantize", quantize_integers),
    ("encode and pack", encode_and_pack),
    ("verify", verify),
]
"""The way of a model; the report follows."""

MEASURED_AFTER = {"load": "dense", "prune and retrain": "pruned", "share": "shared", "quantize": "engine"}


def compile_model(settings: Settings, progress: Callable[[str], object] = lambda line: None,
                  checkpoints: Path | None = None) -> Compilation:
    """Takes a model through all `STEPS`; raises `UserError` for what the user must mend. ``progress`` is told of each
    step when it is done, and then its notes.

    ``checkpoints`` is a directory from whose `CHECKPOINTS` pruning and weight sharing go on if they were interrupted.
    """
    work = Compilation(settings, checkpoints)
    for name, step in STEPS:
        begin, known = time.perf_counter(), len(work.notes)
        note = step(work)
        error = work.test_errors.get(MEASURED_AFTER.get(name, ""))
        shown = "" if error is None else f", test error {error:.2f}%"
        progress(f"{name}: {note}{shown}")
        for told in work.notes[known:]:
            progress(f"note: {told}")
        work.steps.append({"name": name, "seconds": round(time.perf_counter() - begin, 3), "note": note,
                           "test_error": error})
    return work


def write_outputs(work: Compilation, directory: Path) -> dict[str, Any]:
    """Writes image and reports, each whole or not at all; removes the checkpoints; returns the report."""
    report = summarize(work)
    write_whole(directory / OUTPUTS[0], work.content)
    write_report(directory, report)
    for name in CHECKPOINTS:
        (directory / name).unlink(missing_ok=True)
    return report


def _examples(work: Compilation, images: np.ndarray) -> np.ndarray:
    """As many images from all over the set as there is time for."""
    macs = sum(layer.weight.size * (math.prod(layer.geometry.conv_shape) if layer.geometry else 1)
               for layer in work.network.layers)
    count = min(len(images), CALIBRATION_IMAGES, max(2, CALIBRATION_MACS // macs))
    return images[np.linspace(0, len(images) - 1, count).astype(np.int64)]


def _calibration(work: Compilation) -> np.ndarray:
    settings, network = work.settings, work.dense
    assert network is not None
    if settings.calib is not None:
        images = load_inputs(settings.calib)
        if images[0].size != network.inputs:
            raise UserError(f"calibration inputs must have {network.inputs} values each, as layer "
                            f"'{network.layers[0].name}', not {images[0].size}")
        what = f"calibration '{settings.calib}'"
        if (axes := work.input_axes) is not None:
            images, note = fit_axes(what, images, axes, way_out="give inputs of these axes, channels first")
        else:
            note = flattened_note(what, images)
        work.notes += [note] if note else []
        return images
    if work.dataset is not None:
        return work.dataset.train_images
    work.notes.append("calibrated on uniform noise, since there is neither --data nor --calib: activation scales are "
                      "guesses, inputs are taken to be 0 to 1, and what is negative becomes 0")
    return np.random.default_rng(settings.seed).integers(0, 256, (256, network.inputs)).astype(np.uint8)


def _kept(settings: Settings, network: Network) -> float | None:
    """The share of weights that pruning is to keep, 0 if its settings do not tell; None without pruning.

    Raises `UserError` for settings out of range.
    """
    if not settings.prune:
        return None
    how = with_amount(read_recipe(settings.recipe), settings.density, settings.keep, settings.quality)
    how.check(network)
    if how.keep is not None:
        return sum(how.keep.get(layer.name, 1) * layer.weight.size for layer in network.layers) / network.weights_total
    return how.density or 0.0


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
    parser = argparse.ArgumentParser(prog="python -m host.compile", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("model", type=given_or_shipped, help="state_dict, checkpoint, nn.Module of standard layers, "
                        ".safetensors, .pt2 of torch.export, .onnx")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="output directory (build/MODEL)")
    parser.add_argument("--data", metavar="SPEC", help=f"{SPECS}; to retrain, calibrate and test")
    parser.add_argument("--calib", metavar="SPEC", help="inputs to calibrate on, without labels: npy:FILE, npz:FILE, "
                        "idx:FILE, idx:DIR or mnist")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--density", type=float, help="share of all weights to keep (0.08)")
    amount.add_argument("--keep", type=_keep, metavar="LAYER=SHARE,...", help="share of each layer's weights to keep")
    amount.add_argument("--quality", type=float, help="prune below so many standard deviations of a layer's weights")
    amount.add_argument("--no-prune", action="store_true", help="pack the model as it is")
    parser.add_argument("--recipe", default="default", metavar="NAME|FILE.toml",
                        help=f"how to prune and retrain: {', '.join(RECIPES)}, or a file (default)")
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
    add_engine_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="same seed, same input: same image (0)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    directory = arguments.output or Path("build") / arguments.model.stem
    *_, config = check_all(
        lambda: check_range("--seed", arguments.seed, 0, LARGEST_SEED),
        lambda: check_files(directory, (*OUTPUTS, *CHECKPOINTS)),
        lambda: _check_save(arguments.save, arguments.model),
        lambda: read_recipe(arguments.recipe),
        lambda: read_engine(arguments.preset, arguments.config))
    sharing = ShareSettings(arguments.share_init, arguments.share_bits, arguments.share_epochs)
    sharing.check(config.code_bits)
    settings = Settings(arguments.model, config, str(arguments.config or arguments.preset), arguments.density,
                        arguments.keep, arguments.quality, not arguments.no_prune, arguments.data, arguments.calib,
                        arguments.input_shape, arguments.normalize, arguments.seed, arguments.recipe,
                        sharing, arguments.known)
    work = compile_model(settings, lambda line: sys.stderr.write(f"{line}\n"), directory)
    if arguments.save is not None:
        assert work.shared is not None and work.dense is not None
        saved = replace(work.shared.as_network(), input_shape=work.dense.input_shape)
        write_whole(arguments.save, safetensors_file(saved))
    report = write_outputs(work, directory)
    if arguments.json:
        sys.stdout.write(json.dumps(report, indent=2, sort_keys=True) + "\n")
    else:
        sys.stdout.write(f"{report_text(report)}\n{directory / 'model.img'}\n{directory / 'report.html'}\n")


if __name__ == "__main__":
    end_with(main)
