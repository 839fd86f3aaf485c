# SPDX-License-Identifier: Apache-2.0
"""Converts many kinds of networks in many formats: the result is right, announced, refused, or silently wrong."""

import re
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from host.bench.conversion_data import DATA, ROUTES, DataSubject, read_through
from host.bench.conversion_formats import FORMATS, save
from host.bench.conversion_graphs import BRANCHED
from host.bench.conversion_images import IMAGES
from host.bench.conversion_networks import FULLY_CONNECTED
from host.bench.conversion_refusals import is_expected
from host.bench.conversion_subjects import Subject, draw
from host.compilation.state import Compilation, Settings
from host.compilation.steps import compile_model
from host.compression.share_weights import ShareSettings
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.reporting.tables import text_table
from host.training.forward import logits, tensors
from nonzero.errors import UserError
from rtl.config import PRESETS

__all__ = ["BAD", "FORMS", "OUTCOMES", "SUBJECTS", "Conversion", "check_conversions", "conversions_table", "figures",
           "measure_conversions"]

SUBJECTS: list[Subject | DataSubject] = [*FULLY_CONNECTED, *IMAGES, *BRANCHED, *DATA]

FORMS = (*FORMATS, *ROUTES)
"""Formats of networks, and ways of data."""

PRESET = "conv"
CONFIG = replace(PRESETS[PRESET], act_table=True, program_depth=8192)
"""With tables, so that every activation function runs, and room for the programs of average poolings."""

EXAMPLES = 512
"""Inputs to calibrate on."""

FRESH = 64
"""Inputs to compare on; the network has not seen them."""

FLOAT_TOLERANCE = 1e-4
"""Share of the greatest output that the order of float32 sums can change."""

ENGINE_TOLERANCE = 0.1
"""Standard deviation of the engine's error over that of the outputs. Weights here are of 15 values for each layer, so
that 8-bit activations account for 1 to 3 %; folded batch normalisations for more."""

LOSS = r"^(weight sharing|quantisation) costs |are clipped"
"""Matches a note that warns of such an error."""

OUTCOMES = {
    "right": "as torch computes it, and the engine within its 8 bits",
    "lossy": "read as it is, and a note warns of what 8 bits or the codebooks lose",
    "announced": "read otherwise, and a note names what was assumed",
    "refused": "an error, and nothing is written",
    "UNEXPECTED": "refused although the engine runs it, or for another reason than the true one",
    "SILENT": "wrong without a word",
    "TRACEBACK": "a traceback",
}
BAD = ("UNEXPECTED", "SILENT", "TRACEBACK")


@dataclass(frozen=True)
class Conversion:
    """The outcome of one converted file.

    Attributes
    ----------
    network : str
        The subject's name.
    form : str
        One of `FORMS`.
    outcome : str
        One of `OUTCOMES`.
    said : str
        The error, the note that announces or warns, or what is wrong.
    float_error : float, optional
        The greatest error of the network as it was read, over the greatest output.
    engine_error : float, optional
        The standard deviation of the engine's error over that of the outputs.
    """

    network: str
    form: str
    outcome: str
    said: str = ""
    float_error: float | None = None
    engine_error: float | None = None


def measure_conversions(subjects: Sequence[Subject | DataSubject] = SUBJECTS, forms: Sequence[str] = FORMS,
                        seed: int = 1) -> list[Conversion]:
    """Saves every subject in every format that it has, compiles the file, and compares with torch on fresh inputs.

    Parameters
    ----------
    subjects : sequence of Subject or DataSubject
    forms : sequence of str
        Names of `FORMS`; all others are left out.
    seed : int
        Decides weights and inputs.
    """
    found = []
    with tempfile.TemporaryDirectory() as place:
        for subject in tqdm(subjects, desc="networks", unit="network", disable=None):
            if isinstance(subject, DataSubject):
                found += [_with_data(subject, route, Path(place), seed) for route in ROUTES if route in forms]
                continue
            module = draw(subject, seed)
            inputs = _inputs(subject, seed)
            for form in forms:
                with tempfile.TemporaryDirectory(dir=place) as directory:
                    path = save(subject, module, form, inputs[:2], Path(directory)) if form in FORMATS else None
                    if path is not None:
                        found.append(convert(subject, module, form, path, inputs))
    return found


def _with_data(subject: DataSubject, route: str, place: Path, seed: int) -> Conversion:
    with tempfile.TemporaryDirectory(dir=place) as directory:
        outcome, said = _caught(lambda: read_through(subject, route, Path(directory), seed))
    return Conversion(subject.name, route, outcome, said.replace(directory, ""))


def _caught(call: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Result of the call; or its error, as an outcome and its message."""
    try:
        return call()
    except UserError as error:
        return "refused", str(error)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "TRACEBACK", f"{error!r} ({Path(frame.filename).name}:{frame.lineno})"


def _inputs(subject: Subject, seed: int) -> Tensor:
    """Examples and fresh inputs, float32 ``[EXAMPLES + FRESH, ...]``."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.rand if subject.positive else torch.randn
    return sample(EXAMPLES + FRESH, *subject.shape, generator=generator)


def convert(subject: Subject, module: nn.Module, form: str, path: Path, inputs: Tensor) -> Conversion:
    """Compiles one file and compares what was read, and the engine, with torch.

    Parameters
    ----------
    subject : Subject
    module : nn.Module
        The network that was saved.
    form : str
        The format of the file, a name of `FORMATS`.
    path : Path
        The file; its directory also takes the inputs to calibrate on.
    inputs : float32 tensor, shape ``[EXAMPLES + FRESH, ...]``
        The first `EXAMPLES` calibrate, the others compare.
    """
    np.save(path.parent / "examples.npy", inputs[:EXAMPLES].numpy())
    before = sorted(path.parent.iterdir())
    shape = subject.shape if len(subject.shape) == 3 and form in ("module", "state_dict", "safetensors") else None
    settings = Settings(path, CONFIG, PRESET, prune=False, calib=f"npy:{path.parent / 'examples.npy'}",
                        input_shape=shape, sharing=ShareSettings(epochs=0),
                        known=subject.known if form in ("state_dict", "safetensors") else None)
    works: list[Compilation] = []

    def compiled() -> tuple[str, str]:
        works.append(compile_model(settings))
        return "", ""
    outcome, said = _caught(compiled)
    if outcome:
        said = said.replace(f"{path}: ", "")
        if sorted(path.parent.iterdir()) != before:
            return Conversion(subject.name, form, "SILENT", f"files were written: {said}")
        if outcome == "refused" and not is_expected(subject.name, form, said):
            outcome = "UNEXPECTED"
        return Conversion(subject.name, form, outcome, said)
    work, = works
    fresh = inputs[EXAMPLES:]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel")
        wanted = _joined(module(fresh)).double()
        read = logits(tensors(_dense(work)), fresh.flatten(1)).double()
        engine = _engine(work, fresh.numpy()).double()
    return _judged(subject, form, work.notes, wanted, read, engine)


def _dense(work: Compilation) -> Any:
    assert work.dense is not None
    return work.dense


def _joined(outputs: Any) -> Tensor:
    """The outputs; those of several heads one behind the other."""
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.cat([head.flatten(1) for head in heads], 1)


def _engine(work: Compilation, inputs: np.ndarray) -> Tensor:
    """Results of the engine, as floats ``[n, outputs]``."""
    assert work.quantized is not None
    outputs = forward(work.quantized, quantize_inputs(work.quantized, inputs))[-1]
    return torch.from_numpy(work.quantized.layers[-1].floats(outputs))


def _judged(subject: Subject, form: str, notes: Sequence[str], wanted: Tensor, read: Tensor,
            engine: Tensor) -> Conversion:
    """Compares outputs ``[n, outputs]``: those of the float network that was read with torch's, and the engine's with
    those of the float network, before `Subject.finish`."""
    if read.shape == wanted.shape:
        finished = subject.finish(read) if subject.finish else read
        float_error = float((finished - wanted).abs().max() / wanted.abs().max())
        spread = read - read.mean(0)
        engine_error = float((engine - read).square().sum().sqrt() / spread.square().sum().sqrt())
    else:
        float_error = engine_error = float("inf")
    if not float_error <= FLOAT_TOLERANCE:
        outcome, pattern = "announced", subject.wrong
        said = f"an error of {float_error:.2g} of the greatest output"
    elif not engine_error <= ENGINE_TOLERANCE:
        outcome, pattern, said = "lossy", LOSS, f"the engine's error is {engine_error:.2g} of the outputs' spread"
    else:
        return Conversion(subject.name, form, "right", "", float_error, engine_error)
    named = next((note for note in notes if re.search(pattern, note)), None)
    if named is None:
        return Conversion(subject.name, form, "SILENT", f"{said}; said: {'; '.join(notes)}", float_error, engine_error)
    return Conversion(subject.name, form, outcome, named, float_error, engine_error)


def figures(found: Sequence[Conversion], seed: int) -> dict[str, Any]:
    """The content of ``conversions.json``: the conversions ``found``, and the ``seed`` with which they were measured.
    """
    counts = Counter(one.outcome for one in found)
    return {"seed": seed, "conversions": len(found), "networks": len({one.network for one in found}),
            "counts": {outcome: counts[outcome] for outcome in OUTCOMES}, "rows": [asdict(one) for one in found]}


def conversions_table(found: dict[str, Any]) -> str:
    """The figures ``found`` for a terminal.

    A table of networks by formats; then what each outcome means and how often it came; then every bad conversion in
    full.
    """
    cells: dict[str, dict[str, str]] = {}
    for row in found["rows"]:
        cells.setdefault(row["network"], {})[row["form"]] = row["outcome"]
    tables = []
    for kind in (FORMATS, ROUTES):
        rows = {name: row for name, row in cells.items() if row.keys() & {*kind}}
        forms = [form for form in kind if any(form in row for row in rows.values())]
        if rows:
            tables.append(text_table(["network", *forms], [[name, *(row.get(form, "-") for form in forms)]
                                                           for name, row in rows.items()]))
    counts = "\n".join(f"{outcome:<9}  {found['counts'][outcome]:>4}  {meaning}"
                       for outcome, meaning in OUTCOMES.items())
    bad = [f"{row['outcome']}: {row['network']}, {row['form']}: {row['said']}" for row in found["rows"]
           if row["outcome"] in BAD]
    return "\n\n".join([*tables, counts, *(["\n".join(bad)] if bad else [])])


def check_conversions(found: dict[str, Any]) -> None:
    """Raises `UserError` if ``found`` has a file that is silently converted wrong, refused against expectation, or ends
    in a traceback."""
    refused, silent, crashed = (found["counts"][outcome] for outcome in BAD)
    if refused or silent or crashed:
        raise UserError(f"{silent} of {found['conversions']} files are silently converted wrong, {refused} are refused "
                        f"although they run or for a wrong reason, and {crashed} end in a traceback: see above")
