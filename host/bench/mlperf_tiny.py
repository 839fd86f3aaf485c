# SPDX-License-Identifier: Apache-2.0
"""The four networks of MLPerf Tiny on engines that hold them, beside their floats and the official int8 files.

C. Banbury et al., "MLPerf Tiny Benchmark", NeurIPS 2021 (datasets and benchmarks). A directory has what that benchmark
publishes, by these names: ``kws.pt2`` and ``kws_int8.tflite`` (keyword spotting), ``ic_float.tflite`` and
``ic_int8.tflite`` (image classification), ``vww_float.tflite`` and ``vww_int8.tflite`` (visual wake words),
``ad_float.tflite`` and ``ad_int8.tflite`` (anomaly detection), ``kws-data.npz`` and ``ad-data.npz`` (inputs). Images
are those of CIFAR-10.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from host.bench.litert import has_interpreter, run_int8
from host.compilation.state import Compilation, Settings
from host.compilation.steps import compile_model
from host.compression.share_weights import ShareSettings
from host.datasets import Dataset, load_dataset
from host.device.target import Target
from host.engine_network import EngineNetwork
from host.network.layers import Network
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.quantization.losses import float_values, last_values
from host.reporting.tables import shown, text_table
from nonzero.errors import UserError
from rtl.config import PRESETS, EngineConfig

__all__ = ["ROWS", "Row", "measure_mlperf_tiny", "mlperf_tiny_table"]

EIGHT = replace(PRESETS["conv"], code_bits=8, direct_weights=True, entry_depth=65536, slice_depth=32768,
                act_depth=16384, acc_depth=8192, program_depth=8192)
"""16 PEs with weights of 8 bits, and memories that hold any of the networks with convolutions."""

FOUR = replace(EIGHT, code_bits=4, direct_weights=False)
"""The same with codes of 4 bits."""

AUTOENCODER = replace(PRESETS["default"], code_bits=8, direct_weights=True, entry_depth=32768, slice_depth=8192,
                      act_depth=1024, acc_depth=64)
"""16 PEs without convolutions."""

CALIBRATION = 512
VWW_IMAGES = 1000
"""Images of CIFAR-10 that are enlarged."""

NEAREST = 200
"""Inputs nearest to a decision between two outputs."""

BYTES = (0.0, 1 / 255)
"""Mean and deviation by which inputs of 0 to 1 become the bytes that image classification takes."""


@dataclass(frozen=True)
class Row:
    """A network, and how it is compiled.

    Attributes
    ----------
    name : str
    task : str
        "kws", "ic", "vww" or "ad".
    model : str
        The model file in the directory.
    config : EngineConfig
    density : float, optional
        Share of the weights to keep; 1 to train them further without pruning; None to compile the network as it is.
    recipe : str
        Of training.
    share_epochs : int
        Epochs of fine-tuning of codebooks.
    official : str
        The int8 file that is run beside it; empty for none.
    """

    name: str
    task: str
    model: str
    config: EngineConfig
    density: float | None = None
    recipe: str = "default"
    share_epochs: int = 0
    official: str = ""


ROWS = (
    Row("keyword spotting", "kws", "kws.pt2", EIGHT, official="kws_int8.tflite"),
    Row("keyword spotting, int8 file", "kws", "kws_int8.tflite", EIGHT, official="kws_int8.tflite"),
    Row("keyword spotting, 40 %, 4 bits", "kws", "kws.pt2", FOUR, 0.4, "docs/recipes/ds-cnn.toml", 60),
    Row("image classification", "ic", "ic_float.tflite", EIGHT, official="ic_int8.tflite"),
    Row("image classification, int8 file", "ic", "ic_int8.tflite", EIGHT, official="ic_int8.tflite"),
    Row("image classification, trained further", "ic", "ic_float.tflite", EIGHT, 1.0, "docs/recipes/tune.toml"),
    Row("image classification, 30 %, 4 bits", "ic", "ic_float.tflite", FOUR, 0.3, "docs/recipes/resnet-8.toml", 2),
    Row("visual wake words", "vww", "vww_float.tflite", EIGHT, official="vww_int8.tflite"),
    Row("visual wake words, int8 file", "vww", "vww_int8.tflite", EIGHT, official="vww_int8.tflite"),
    Row("anomaly detection", "ad", "ad_float.tflite", AUTOENCODER, official="ad_int8.tflite"),
    Row("anomaly detection, int8 file", "ad", "ad_int8.tflite", AUTOENCODER, official="ad_int8.tflite"),
)


@dataclass(frozen=True)
class _Inputs:
    """Inputs of a task: floats ``[n, ...]`` or bytes, channels first; of classes with labels.

    ``scale`` is what the official files take, over these: they want bytes of images as 0 to 255.
    """

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    scale: float = 1.0
    augmentation: str = "deform"
    normalize: tuple[float, float] | None = None

    def dataset(self, task: str) -> Dataset | None:
        if self.train_labels is None or self.test_labels is None:
            return None
        return Dataset(task, self.train, self.train_labels.astype(np.int64), self.test,
                       self.test_labels.astype(np.int64), augmentation=self.augmentation)


def _inputs(task: str, folder: Path, cifar: str | None) -> _Inputs:
    if task in ("kws", "ad"):
        path = folder / f"{task}-data.npz"
        if not path.is_file():
            raise UserError(f"'{path}' is missing; the benchmark's directory has the inputs of '{task}' by this name")
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        return _Inputs(arrays["train_images"], arrays["test_images"], arrays.get("train_labels"),
                       arrays.get("test_labels"), augmentation="shift")
    if cifar is None:
        raise UserError(f"'{task}' needs images of CIFAR-10; give --cifar npz:FILE or cifar10:PATH, or other networks "
                        "with --network")
    data = load_dataset(cifar)
    if task == "ic":
        return _Inputs(data.train_images, data.test_images, data.train_labels, data.test_labels, 255.0, "shift-flip",
                       BYTES)
    return _Inputs(_enlarged(data.train_images[:CALIBRATION]), _enlarged(data.test_images[:VWW_IMAGES]))


def _enlarged(images: np.ndarray) -> np.ndarray:
    """Bytes ``[n, 3, 32, 32]`` as floats of 0 to 1, ``[n, 3, 96, 96]``."""
    floats = torch.from_numpy(images.astype(np.float32) / 255)
    return functional.interpolate(floats, size=(96, 96), mode="bilinear", align_corners=False).numpy()


@dataclass(frozen=True)
class _Figures:
    """What a network's outputs are worth against labels or float outputs."""

    task: str
    exact: np.ndarray
    labels: np.ndarray | None

    def of(self, outputs: np.ndarray) -> dict[str, float]:
        """By name: ``accuracy``, ``agreement`` and ``agreement_near`` as shares, ``relative_error``."""
        exact = self.exact
        if self.task == "ad":
            return {"relative_error": float(np.linalg.norm(outputs - exact) / np.linalg.norm(exact))}
        agree = outputs.argmax(1) == exact.argmax(1)
        if self.labels is not None:
            return {"accuracy": float((outputs.argmax(1) == self.labels).mean()), "agreement": float(agree.mean())}
        lead, wanted = outputs[:, 1] - outputs[:, 0], exact[:, 1] - exact[:, 0]
        near = np.argsort(np.abs(wanted), kind="stable")[:NEAREST]
        return {"relative_error": float(np.sqrt(np.square(lead - wanted).mean()) / wanted.std()),
                "agreement": float(agree.mean()), "agreement_near": float(agree[near].mean())}


def _logits(outputs: np.ndarray, task: str) -> np.ndarray:
    """The logarithms of an official file's outputs, which are probabilities but of anomaly detection."""
    return outputs if task == "ad" else np.log(np.maximum(outputs, 1 / 512))


def measure_mlperf_tiny(rows: Sequence[Row], folder: Path, cifar: str | None, rtl: int,
                        say: Callable[[str], object] = lambda line: None) -> dict[str, Any]:
    """The figures of ``rows``, as in ``mlperf-tiny.json``.

    Parameters
    ----------
    rows : sequence of Row
    folder : Path
        Directory of networks and inputs.
    cifar : str or None
        Name of a dataset (`host.datasets.load_dataset`) with CIFAR-10's images, for the tasks that take images.
    rtl : int
        Inputs to run in RTL for each row; 0 for none.
    say : callable
        Is told of each row before it begins.

    Raises
    ------
    UserError
        For a file that is missing or cannot be read.
    """
    found, known = [], {}
    for row in tqdm(rows, "MLPerf Tiny", unit="network", disable=None):
        say(row.name)
        if row.task not in known:
            known[row.task] = _inputs(row.task, folder, cifar)
        found.append(_measure(row, folder, known[row.task], rtl))
    return {"rows": found}


def _measure(row: Row, folder: Path, inputs: _Inputs, rtl: int) -> dict[str, Any]:
    settings = Settings(folder / row.model, row.config, "conv", row.density, prune=row.density is not None,
                        data=inputs.dataset(row.task), calib=inputs.train[:CALIBRATION], normalize=inputs.normalize,
                        recipe=row.recipe, sharing=ShareSettings(epochs=row.share_epochs),
                        values=row.task in ("vww", "ad"))
    work = compile_model(settings)
    assert work.quantized is not None and work.dense is not None
    network = EngineNetwork.of(work)
    # Networks that are trained further are compared with what they were trained to.
    base = work.network if row.density == 1 else work.dense
    figures = _Figures(row.task, _floats(base, inputs.test), inputs.test_labels)
    outputs = _engine_floats(work, inputs.test)
    assert work.prediction is not None
    official = None
    if row.official and has_interpreter():
        official = run_int8(folder / row.official, inputs.test, inputs.scale)
    return {
        "name": row.name, "model": row.model, "inputs": len(inputs.test), "weights": base.weights_total,
        "weights_kept": work.quantized.weights_kept, "code_bits": row.config.code_bits,
        "float": figures.of(figures.exact), "engine": figures.of(outputs),
        "official_int8": None if official is None else figures.of(_logits(official, row.task)),
        "pes": row.config.pes, "cycles": float(work.prediction.counters["cycles"].mean()),
        "rtl": _rtl(network, inputs.test[:rtl]) if rtl else None, "notes": work.notes,
    }


def _floats(network: Network, inputs: np.ndarray) -> np.ndarray:
    return last_values(float_values(network), inputs)


def _engine_floats(work: Compilation, inputs: np.ndarray) -> np.ndarray:
    assert work.quantized is not None
    parts = [forward(work.quantized, quantize_inputs(work.quantized, inputs[first:first + CALIBRATION]))[-1]
             for first in range(0, len(inputs), CALIBRATION)]
    floats: np.ndarray = work.quantized.layers[-1].floats(np.concatenate(parts))
    return floats


def _rtl(network: EngineNetwork, inputs: np.ndarray) -> dict[str, int]:
    measured = network.measure(network.quantize(inputs), Target("simulation", network.config))
    assert measured.comparison is not None
    return {"inputs": len(inputs), "outputs_differ": measured.comparison.mismatches,
            "counters_differ": sum(measured.comparison.counter_mismatches.values())}


def mlperf_tiny_table(found: dict[str, Any]) -> str:
    """The figures ``found``, from `measure_mlperf_tiny`, for a terminal."""
    def percent(figures: dict[str, float] | None, name: str) -> str:
        value = None if figures is None else figures.get(name)
        return shown(None if value is None else 100 * value, ".2f")
    rows = []
    for row in found["rows"]:
        engine = row["engine"]
        rtl = row["rtl"]
        rows.append([row["name"], f"{row['weights_kept']:,}", percent(row["float"], "accuracy"),
                     percent(engine, "accuracy"), percent(row["official_int8"], "accuracy"),
                     percent(engine, "agreement"), percent(engine, "agreement_near"),
                     percent(engine, "relative_error"), percent(row["official_int8"], "relative_error"),
                     f"{row['cycles']:,.1f}",
                     "-" if rtl is None else f"{rtl['inputs']}: {rtl['outputs_differ']}, {rtl['counters_differ']}"])
    return text_table(["network", "weights", "float %", "engine %", "int8 file %", "agree %", "near %", "error %",
                       "int8 file error %", "cycles", "RTL: outputs, counters differ"], rows)
