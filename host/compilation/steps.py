# SPDX-License-Identifier: Apache-2.0
"""Steps of a compilation, from a model file to the memory image."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from host.compilation.checking import check, examples, read_reference
from host.compilation.state import Compilation, Settings
from host.compression.prune import prune
from host.compression.recipe import read_recipe, with_amount
from host.compression.share_weights import share_weights
from host.cycle_model.predict import predict
from host.datasets import load_inputs
from host.datasets.axes import fit_axes, flattened_note
from host.decoding.decode import decode
from host.image.image import parse_image
from host.importers.load_network import load_network, load_with_data
from host.network.layers import Network
from host.packing.engine_check import check_engine
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.calibration import (
    clipped_inputs,
    clipped_outputs,
    dense_notes,
    input_notes,
    layer_notes,
    output_notes,
)
from host.quantization.even_channels import even_channels
from host.quantization.even_outputs import even_outputs
from host.quantization.even_products import even_products
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.quantization.losses import float_values, integer_values, loss_notes
from host.quantization.quantize import quantize
from host.training.augment import augmentation_problem
from host.training.metrics import METRICS, metrics
from nonzero.errors import UserError, check_all

__all__ = ["STEPS", "compile_model", "kept_share"]


def load(work: Compilation) -> str:
    """Reads model and data of ``work``, checks that they fit each other and the engine; returns a note for the user.

    Raises
    ------
    UserError
        With the problems of model, data, calibration inputs and engine, all at once where they can be found at once.
    """
    settings = work.settings
    if settings.data is None:
        network = load_network(settings.model, input_shape=settings.input_shape, normalize=settings.normalize,
                               known=settings.known)
    else:
        network, work.dataset = load_with_data(settings.model, settings.data, input_shape=settings.input_shape,
                                               normalize=settings.normalize, known=settings.known)
    if work.dataset is not None and settings.augmentation is not None:
        work.dataset = replace(work.dataset, augmentation=settings.augmentation)
        if problem := augmentation_problem(work.dataset):
            raise UserError(f"{problem}; leave out --augmentation")
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
        lambda: check_engine(network, settings.config, settings.preset, kept_share(settings, network)))
    work.notes += doubts
    work.dense = even_products(network, work.calibration)
    if work.wants_values and work.has_examples:
        before, work.dense = work.dense, even_outputs(work.dense, work.calibration)
        if work.dense is not before:
            work.notes.append("each output has a scale and an offset of its own: multiply each integer by its number "
                              "in output_scale and add that in output_offset, which report.json (the last layer) and "
                              "the image have")
    if settings.config.direct_weights and work.has_examples:
        work.dense = even_channels(work.dense, work.calibration, weight_bits=settings.config.code_bits,
                                   act_bits=settings.config.act_bits)
    read_reference(work)
    work.test("dense", work.dense)
    return f"{len(work.dense.layers)} layers, {work.dense.weights_total} weights"


def prune_and_retrain(work: Compilation) -> str:
    """Prunes the network of ``work`` and retrains it, if the settings want that; returns a note for the user.

    Raises
    ------
    UserError
        For an unknown recipe, and as `host.compression.prune.prune`.
    """
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
        work.notes += loss_notes("pruning", work.dense, float_values(work.pruned.whole), work.calibration)
    work.test("pruned", work.network)
    return f"{work.network.weights_kept} of {work.dense.weights_total} weights kept"


def share(work: Compilation) -> str:
    """Shares the weights of each layer of ``work`` through a codebook, or rounds them to weights of few bits.

    Returns a note for the user.

    Raises
    ------
    UserError
        See `host.compression.share_weights.share_weights`.
    """
    settings = work.settings
    assert work.calibration is not None
    work.shared = share_weights(work.network, settings.config, work.dataset, settings.sharing, settings.seed,
                                work.checkpoint("sharing"), work.calibration if work.has_examples else None)
    work.test("shared", work.shared.as_network())
    errors = work.class_errors("pruned" if work.pruned else "dense", "shared")
    work.notes += loss_notes("weight sharing", work.network, float_values(work.shared.as_network()), work.calibration,
                             errors)
    if settings.config.direct_weights:
        return f"weights of {settings.config.code_bits} bits, no codebook"
    return f"codebooks of {(1 << (settings.sharing.bits or settings.config.code_bits)) - 1} weights"


def quantize_integers(work: Compilation) -> str:
    """Turns weights, biases and activations of ``work`` into integers; returns a note for the user.

    Raises
    ------
    UserError
        See `host.quantization.quantize.quantize`.
    """
    assert work.shared is not None and work.calibration is not None
    quantized = quantize(work.shared, work.settings.config, work.calibration, classes=work.has_classes)
    work.quantized = replace(quantized, input_shape=work.input_axes)
    if work.dataset is not None:
        work.notes += clipped_inputs(work.quantized, work.dataset.test_images)
        outputs = forward(work.quantized, quantize_inputs(work.quantized, work.dataset.test_images))[-1]
        work.test_metrics["engine"] = metrics(work.quantized.layers[-1].floats(outputs), work.dataset.test_labels)
    errors = work.class_errors("shared", "engine")
    work.notes += loss_notes("quantisation", work.shared.as_network(), integer_values(work.quantized), work.calibration,
                             errors)
    return f"{work.settings.config.act_bits}-bit activations"


def encode_and_pack(work: Compilation) -> str:
    """Encodes the weights and writes the image (``work.content``, bytes); returns a note for the user.

    Raises
    ------
    UserError
        If the network does not fit the engine (`host.packing.pack.pack`).
    """
    assert work.quantized is not None and work.calibration is not None
    images = examples(work, work.calibration)
    acts = quantize_inputs(work.quantized, images)
    outputs = forward(work.quantized, acts)
    work.clipped_outputs = clipped_outputs(work.quantized, acts, outputs)
    work.notes += dense_notes(work.shared.layers) if work.shared is not None else []
    if work.has_examples:
        work.notes += [*input_notes(work.quantized, work.calibration, images), *layer_notes(work.quantized, outputs),
                       *output_notes(work.quantized, outputs, work.clipped_outputs, classes=work.has_classes)]
    work.activity = [(values != 0).mean(axis=0) for values in (acts, *outputs[:-1])]
    work.packed = pack(work.quantized, work.settings.config, activity=work.activity, preset=work.settings.preset)
    work.content = image_file(work.packed)
    return f"{len(work.content)} bytes"


def verify(work: Compilation) -> str:
    """Reads the image of ``work`` back as the engine would, and compares every weight and every output.

    Returns a note for the user.

    Raises
    ------
    RuntimeError
        If a weight, a bias or an output differs. This is an error of the compiler, not of the user.
    """
    assert work.quantized is not None and work.packed is not None and work.calibration is not None
    config = work.settings.config
    work.image = parse_image(work.content, config)
    work.decoded = decoded = decode(work.image, config)
    acts = quantize_inputs(work.quantized,
                           examples(work, work.dataset.test_images if work.dataset else work.calibration))
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
    ("check", check),
]
"""The steps of a compilation, in order; the report follows."""


MEASURED_AFTER = {"load": "dense", "prune and retrain": "pruned", "share": "shared", "quantize": "engine"}


def compile_model(settings: Settings, progress: Callable[[str], object] = lambda line: None,
                  checkpoints: Path | None = None) -> Compilation:
    """Takes a model through all `STEPS`.

    Parameters
    ----------
    settings : Settings
    progress : callable
        Receives a line after each step, and then one for each of the step's notes.
    checkpoints : Path, optional
        Directory that keeps the state of pruning and of weight sharing (`host.compile.CHECKPOINTS`); an interrupted
        compilation goes on from there.

    Raises
    ------
    UserError
        For what the user must mend.
    """
    work = Compilation(settings, checkpoints)
    for name, step in STEPS:
        begin, known = time.perf_counter(), len(work.notes)
        note = step(work)
        error = work.test_errors.get(MEASURED_AFTER.get(name, ""))
        metric = METRICS[work.metric]
        shown = "" if error is None else f", test {metric.title} {metric.text(error)}"
        progress(f"{name}: {note}{shown}")
        for told in work.notes[known:]:
            progress(f"note: {told}")
        work.steps.append({"name": name, "seconds": round(time.perf_counter() - begin, 3), "note": note,
                           "test_error": error})
    return work


def _calibration(work: Compilation) -> np.ndarray:
    settings, network = work.settings, work.dense
    assert network is not None
    if settings.calib is not None:
        images = load_inputs(settings.calib) if isinstance(settings.calib, str) else settings.calib
        if images[0].size != network.inputs:
            raise UserError(f"calibration inputs must have {network.inputs} values each, as layer "
                            f"'{network.layers[0].name}', not {images[0].size}")
        what = f"calibration '{settings.calib}'" if isinstance(settings.calib, str) else "calibration"
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


def kept_share(settings: Settings, network: Network) -> float | None:
    """The share of the weights of ``network`` that pruning is to keep, 0 to 1, by ``settings``; None without pruning.

    It is 0 if the settings do not tell it. Raises `UserError` for settings out of range.
    """
    if not settings.prune:
        return None
    how = with_amount(read_recipe(settings.recipe), settings.density, settings.keep, settings.quality)
    how.check(network)
    if how.keep is not None:
        return sum(how.keep.get(layer.name, 1) * layer.weight.size for layer in network.layers) / network.weights_total
    return how.density or 0.0
