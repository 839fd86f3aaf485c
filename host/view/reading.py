# SPDX-License-Identifier: Apache-2.0
"""Reads a recording (schema: `host.view.recording`), which may hold anything until it is checked."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from host.device.pe_trace import SERIES, STATES
from host.view.recording import FORMAT, LARGEST_BYTES, MOST_IMAGES, VERSION
from nonzero.errors import UserError
from nonzero.files import check_input
from rtl.protocol import COUNTERS

__all__ = ["read_recording"]

LARGEST = (1 << 53) - 1
"""A browser's numbers are exact up to this integer."""

MOST_LAYERS, MOST_PASSES, MOST_BINS, MOST_PES = 1000, 1 << 16, 1 << 17, 256
LONGEST_TEXT = 1000
MOST_PROBLEMS = 20

SUMS = {"cycles": "cycles", "beats": "beats", "broadcasts": "broadcasts", "stalls": "stall_cycles",
        "drains": "drain_cycles"}
"""The counter that each of a recording's series sums up to."""


def read_recording(path: Path) -> dict[str, Any]:
    """The recording in the file ``path``, with no more than its schema names, all of it checked.

    Raises
    ------
    UserError
        With all problems, or the first of very many.
    """
    check_input("recording", path, LARGEST_BYTES)
    try:
        values = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"recording '{path}' is none; record one with python -m host.run ... --trace FILE.json")
    if values.get("version") != VERSION:
        raise UserError(f"recording '{path}' must be of version {VERSION}, not {_shown(values.get('version'))}; record "
                        "the run again")
    check = _Check()
    found = _recording(check, values)
    if check.problems:
        more = len(check.problems) - MOST_PROBLEMS
        raise UserError([f"recording '{path}': {problem}" for problem in check.problems[:MOST_PROBLEMS]]
                        + ([f"recording '{path}' has {more} more problems"] if more > 0 else []))
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."


class _Check:
    """Takes values out of the recording; notes what is wrong, and gives something harmless in its place."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def item(self, values: Any, key: str, where: str) -> Any:
        if isinstance(values, dict) and key in values:
            return values[key]
        self.problems.append(f"{where}{key} is missing")
        return None

    def number(self, values: Any, key: str, where: str = "", least: int = 0, most: int = LARGEST) -> int:
        before = len(self.problems)
        value = self.item(values, key, where)
        if type(value) is int and least <= value <= most:
            return value
        if len(self.problems) == before:
            self.problems.append(f"{where}{key} must be an integer from {least} to {most}, not {_shown(value)}")
        return least

    def text(self, values: Any, key: str, where: str = "") -> str:
        before = len(self.problems)
        value = self.item(values, key, where)
        if isinstance(value, str) and len(value) <= LONGEST_TEXT:
            return value
        if len(self.problems) == before:
            self.problems.append(f"{where}{key} must be a text of at most {LONGEST_TEXT} characters, not "
                                 f"{_shown(value)}")
        return ""

    def items(self, values: Any, key: str, least: int, most: int) -> list[Any]:
        before = len(self.problems)
        value = self.item(values, key, "")
        if isinstance(value, list) and least <= len(value) <= most:
            return value
        if len(self.problems) == before:
            count = f"{len(value)} entries" if isinstance(value, list) else _shown(value)
            self.problems.append(f"{key} must be a list of {least} to {most}, not {count}")
        return []

    def numbers(self, values: Any, key: str, where: str, count: int | None, most: int = LARGEST) -> np.ndarray | None:
        """int64 array ``[count]``; None if it is wrong. Without ``count`` it may have 1 to `MOST_BINS`."""
        before = len(self.problems)
        value = self.item(values, key, where)
        if isinstance(value, list) and (1 <= len(value) <= MOST_BINS if count is None else len(value) == count) \
                and set(map(type, value)) <= {int} and min(value, default=0) >= 0 and max(value, default=0) <= most:
            return np.array(value, np.int64)
        if len(self.problems) == before:
            wanted = f"1 to {MOST_BINS}" if count is None else count
            self.problems.append(f"{where}{key} must be a list of {wanted} integers from 0 to {most}")
        return None


def _recording(check: _Check, values: dict[str, Any]) -> dict[str, Any]:
    texts = {key: check.text(values, key) for key in ("tool", "device", "image", "data", "config_hash")}
    pes = check.number(values, "pes", least=2, most=MOST_PES)
    depth = check.number(values, "queue_depth", least=1, most=1 << 16)
    limit = check.number(values, "queue_limit", least=1, most=depth)
    width = check.number(values, "bin_cycles", least=1)
    layers = [_layer(check, layer, f"layers[{number}].")
              for number, layer in enumerate(check.items(values, "layers", 1, MOST_LAYERS))]
    passes = check.numbers(values, "passes", "", len(check.items(values, "passes", 1, MOST_PASSES)),
                           max(0, len(layers) - 1))
    if passes is not None and (np.diff(passes) < 0).any():
        check.problems.append("passes must name the layers in their order")
    images = [_image(check, image, f"images[{number}].", pes, depth, len(layers), passes)
              for number, image in enumerate(check.items(values, "images", 1, MOST_IMAGES))]
    return {**texts, "pes": pes, "queue_depth": depth, "queue_limit": limit, "bin_cycles": width, "layers": layers,
            "passes": [] if passes is None else passes.tolist(), "images": images}


def _layer(check: _Check, values: Any, where: str) -> dict[str, Any]:
    counts = {key: check.number(values, key, where, least=int(key in ("inputs", "outputs", "weights_total")))
              for key in ("inputs", "outputs", "weights_total", "weights_kept", "entries", "index_bits", "bits")}
    if counts["weights_kept"] > counts["weights_total"]:
        check.problems.append(f"{where}weights_kept must be at most weights_total, {counts['weights_total']}")
    return {"name": check.text(values, "name", where), **counts}


def _image(check: _Check, values: Any, where: str, pes: int, depth: int, layers: int,
           passes: np.ndarray | None) -> dict[str, Any]:
    counters = check.item(values, "counters", where)
    label = check.item(values, "label", where)
    found: dict[str, Any] = {
        "label": None if label is None else check.number(values, "label", where),
        **{key: check.number(values, key, where) for key in ("number", "answer", "predicted_cycles")},
        "counters": {name: check.number(counters, name, f"{where}counters.") for name in COUNTERS},
    }
    active = check.numbers(values, "active", where, layers)
    found["active"] = [] if active is None else active.tolist()
    series_values, spent_values = check.item(values, "series", where), check.item(values, "spent", where)
    cycles = check.numbers(series_values, "cycles", f"{where}series.", None)
    if cycles is None:
        return found
    bins, most = len(cycles), int(cycles.max())
    series = {name: check.numbers(series_values, name, f"{where}series.", bins,
                                  max(0, len(passes) - 1) if name == "passes" and passes is not None else LARGEST)
              for name in SERIES}
    spent = {name: check.numbers(spent_values, name, f"{where}spent.", bins * pes, most) for name in STATES}
    levels = {name: check.numbers(values, name, where, bins * pes, bound)
              for name, bound in (("level_sum", min(LARGEST, most * depth)), ("level_max", depth))}
    arrays = [*series.values(), *spent.values(), *levels.values()]
    if all(array is not None for array in arrays):
        _check_sums(check, where, pes, found["counters"], series, spent, levels)
    as_lists = [{name: [] if array is None else array.tolist() for name, array in part.items()}
                for part in (series, spent, levels)]
    return {**found, "series": as_lists[0], "spent": as_lists[1], **as_lists[2]}


def _check_sums(check: _Check, where: str, pes: int, counters: dict[str, int], series: dict[str, Any],
                spent: dict[str, Any], levels: dict[str, Any]) -> None:
    """Checks that the arrays agree with each other and with the counters."""
    cycles = series["cycles"]
    if (cycles == 0).any():
        check.problems.append(f"{where}series.cycles must have no bin of 0 cycles")
    if (np.diff(series["passes"]) < 0).any():
        check.problems.append(f"{where}series.passes must not go back")
    # Sums far above 2**53 are not exact as floats, but then they equal no counter either.
    totals = {**{f"series.{name}": (series[name].sum(dtype=float), counters[counter])
                 for name, counter in SUMS.items()},
              "spent.busy": (spent["busy"].sum(dtype=float), counters["useful_macs"])}
    check.problems += [f"{where}{name} must sum up to its counter, {expected}, not {total:.0f}"
                       for name, (total, expected) in totals.items() if total != expected]
    in_states = sum(array.astype(float) for array in spent.values()).reshape(-1, pes)
    if (in_states != cycles[:, None]).any():
        check.problems.append(f"{where}spent must sum up to the cycles of each bin, for each PE")
    most = levels["level_max"].reshape(-1, pes) * cycles[:, None].astype(float)
    if (levels["level_sum"].reshape(-1, pes) > most).any():
        check.problems.append(f"{where}level_sum must be at most level_max times the cycles of a bin")
