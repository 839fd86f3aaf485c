# SPDX-License-Identifier: Apache-2.0
"""The step of a compilation that compares its result with floats, and the limit of what it may lose."""

import math
from pathlib import Path
from typing import TypeGuard

import numpy as np

from host.compilation.state import Compilation
from host.importers.torch_archive import EXPORT
from host.quantization.calibration import clipped_inputs
from host.quantization.losses import float_values, integer_values, way_out
from host.verification.float_check import READING, FloatCheck, Labelled, Step, float_check
from host.verification.reference import exported_reference, own_reference, read_check_arrays
from nonzero.errors import UserError

__all__ = ["check", "examples", "loss_problem", "read_reference"]

MOST_IMAGES = 2000
MOST_MACS = 1 << 33
"""Most images for activity, verification and comparison, and most multiplications on them; at least 2 are taken."""

MISREAD = 1e-3
"""Relative error of the float network, as it was read, from which on a note says that it is another one."""


def examples(work: Compilation, images: np.ndarray) -> np.ndarray:
    """As many of ``images`` ``[n, ...]`` as the compilation ``work`` has time for, evenly spread over the set."""
    return images[_numbers(work, len(images))]


def _numbers(work: Compilation, count: int) -> np.ndarray:
    taken = min(count, MOST_IMAGES, max(2, MOST_MACS // work.network.multiplications))
    return np.linspace(0, count - 1, taken).astype(np.int64)


def read_reference(work: Compilation) -> None:
    """Reads what the result of ``work`` is to be compared with, or computes it with the network as it was read.

    Raises
    ------
    UserError
        If the file cannot be read, or is of another network; for float outputs that are not finite.
    """
    given, settings = work.settings.check, work.settings
    assert work.dense is not None and work.calibration is not None
    if given is None:
        work.reference = own_reference(work.dense, examples(work, work.calibration))
        return
    if isinstance(given, Path) and given.suffix not in (".pt2", ".npz"):
        raise UserError(f"--check must name a .pt2 or an .npz file, not '{given}'")
    if _is_exported(given):
        work.reference, notes = exported_reference(given, work.dense, examples(work, work.calibration),
                                                   input_shape=settings.input_shape, normalize=settings.normalize)
    else:
        arrays = read_check_arrays(given, work.dense, work.input_axes)
        work.reference, notes = arrays.reference(_numbers(work, len(arrays.inputs))), arrays.notes
    work.notes += notes


def _is_exported(given: Path | tuple[np.ndarray, np.ndarray] | None) -> TypeGuard[Path]:
    return isinstance(given, Path) and given.suffix == ".pt2"


def check(work: Compilation) -> str:
    """Compares the image of ``work`` with floats, and returns the result as a note for the user."""
    assert work.dense is not None and work.quantized is not None and work.calibration is not None
    assert work.decoded is not None and work.shared is not None
    # A compilation of a network from memory did not begin with `read_reference`.
    reference = work.reference or own_reference(work.dense, examples(work, work.calibration))
    shared = work.shared.as_network()
    steps = [Step("weight sharing", work.network, float_values(shared)),
             Step("quantisation", shared, integer_values(work.quantized, work.decoded.network))]
    if work.pruned is not None:
        steps.insert(0, Step("pruning", work.dense, float_values(work.pruned.whole)))
    work.check = found = float_check(reference, work.dense, steps, work.quantized, _labelled(work))
    if not reference.own:
        work.notes += clipped_inputs(work.quantized, reference.inputs)
    if found.steps[0].name == READING and found.steps[0].change > MISREAD:
        work.notes.append(f"the network, as it was read, does not compute {found.reference}: a relative error of "
                          f"{100 * found.steps[0].change:.2f} % before any step; {_way_out(work, READING)}")
    return found.text()


def _labelled(work: Compilation) -> Labelled | None:
    """The test figures after each step, as points: the error of classes, or what R2 of targets lacks to 100 %."""
    key, unit = ("error", "test error") if work.has_classes else ("r2", "R2 on the test data")
    forms = ["dense", *(["pruned"] if work.pruned else []), "shared", "engine"]
    values = [work.test_metrics.get(form, {}).get(key) for form in forms]
    found = [value if work.has_classes else 100 * (1 - value) for value in values if value is not None]
    return Labelled(unit, found) if len(found) == len(forms) else None


def loss_problem(work: Compilation) -> str | None:
    """A sentence for the user if the finished compilation ``work`` lost more than its settings allow; else None.

    The loss is that of the test data: points of error for classes, 100 times R2 for targets. Without labels it is that
    of the float outputs: points of agreement, or 100 times R2 if they are values (`FloatCheck`). With a file to check
    against, what reading the model file lost counts too.
    """
    found, most = work.check, work.settings.max_loss
    assert found is not None
    if most is None or found.points <= most:
        return None
    several = len({step.unit for step in found.steps}) > 1
    # Adding 0 makes 0 of -0.
    costs = ", ".join(f"{step.name} {round(step.points, 2) + 0:.2f}" + (f" of {step.unit}" if several else "")
                      for step in found.steps)
    return (f"{found.points:.2f} points of {found.unit} are lost, but --max-loss is {most:g}: {costs}; the worst step "
            f"is {found.where}{_layer_figures(found)}; {_way_out(work, found.worst.name)}, or accept it with "
            f"--max-loss {math.ceil(found.points)}{_measured_on_noise(work)}")


def _layer_figures(found: FloatCheck) -> str:
    if found.worst_layer is None:
        return ""
    number = found.layers.index(found.worst_layer)
    return (f" (signal-to-noise ratio {found.worst.snr_db[number]:.1f} dB, {100 * found.clipped[number]:.2f} % of its "
            "values clipped)")


def _way_out(work: Compilation, step: str) -> str:
    given = work.settings.check
    if step == READING:
        return f"compile '{given}' itself, which tells what forward() does" if _is_exported(given) else \
            f"save the model as .pt2, which tells what forward() does: {EXPORT}"
    return way_out(step, has_data=work.dataset is not None)


def _measured_on_noise(work: Compilation) -> str:
    given = work.settings.check
    own_inputs = given is not None and not _is_exported(given)
    return "" if work.has_examples or own_inputs else \
        "; it was measured on uniform noise, which says little: give inputs with --calib or --data"
