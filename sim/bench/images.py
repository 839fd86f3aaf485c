# SPDX-License-Identifier: Apache-2.0
"""Mutated images with a right CRC: the engine must not silently compute wrong outputs, neither for them nor for the
image that is loaded next.

A mutant is refused, or its inference ends with an error status, or its outputs equal those of the golden model for the
network that `host.decoding.decode` reads from the image. If `decode` refuses a mutant, there is no right output to
compare with. After every mutant the good image is loaded, and its first inference must give the golden outputs of every
layer and the predicted counters.
"""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from host.image.image import Image
from host.reporting.tables import text_table
from rtl.config import PRESETS
from sim.simulator.link import SimulationLink
from sim.simulator.verilate import Build

from .fuzzer import AFTERWARDS, OUTCOMES, WRONG, Fuzzer, Tried, build_engine
from .good_images import good_image

__all__ = ["images_table", "run_images"]

LOT = 100
"""Mutants that one simulation takes in turn."""

KEPT_FAULTS = 10


def run_images(presets: Sequence[str], count: int, seed: int, jobs: int) -> dict[str, Any]:
    """Tries ``count`` mutants of each preset's good image.

    Parameters
    ----------
    presets : sequence of str
        Names in `rtl.config.PRESETS`.
    count : int
    seed : int
        Decides the good images and their mutants.
    jobs : int
        Simulations at the same time.
    """
    rows = []
    for name in presets:
        config = PRESETS[name]
        image = good_image(name, config, seed)
        with tqdm(total=1, desc=f"building {name} (minutes, once)", bar_format="{desc} {elapsed}", leave=False,
                  disable=None):
            build = build_engine(config)
        begin = time.perf_counter()
        with tqdm(total=count, desc=f"mutants on {name}", unit="image", leave=False, disable=None) as progress, \
                ThreadPoolExecutor(jobs) as pool:
            def lot(first: int, name: str = name, build: Build = build, image: Image = image,
                    progress: tqdm = progress) -> list[Tried]:
                with SimulationLink(build, seed=seed + first) as link:
                    found = []
                    for one in Fuzzer(link, PRESETS[name], image, f"{name} {seed}").run(
                            range(first, min(first + LOT, count))):
                        found.append(one)
                        progress.update()
                    return found
            tried = [one for found in pool.map(lot, range(0, count, LOT)) for one in found]
        rows.append(_row(name, image, tried) | {"seconds": round(time.perf_counter() - begin, 1)})
    faults = sum(row[WRONG] + row[AFTERWARDS] for row in rows)
    return {"seed": seed, "mutants": count * len(rows), "rows": rows, "mismatches": faults}


def _row(name: str, image: Image, tried: list[Tried]) -> dict[str, Any]:
    outcomes = Counter(one.outcome for one in tried)
    harmful = [one for one in tried if one.fault_afterwards]
    faults = [{"number": one.mutant.number, "changes": one.mutant.changes, "fault": one.fault,
               "fault_afterwards": one.fault_afterwards} for one in tried if one.fault or one.fault_afterwards]
    return {"preset": name, "image_bytes": len(image.engine), "mutants": len(tried),
            **{outcome: outcomes[outcome] for outcome in OUTCOMES[:-1]}, AFTERWARDS: len(harmful),
            "faults": faults[:KEPT_FAULTS]}


def images_table(found: dict[str, Any]) -> str:
    """The outcomes of each preset as text, then each fault in a line; ``found`` is from `run_images`."""
    columns = ("preset", "image_bytes", "mutants", *OUTCOMES, "seconds")
    table = text_table([column.replace("_", " ") for column in columns],
                       [[str(row[column]) for column in columns] for row in found["rows"]])
    faults = [f"{row['preset']}: mutant {fault['number']} ({', '.join(fault['changes'])}): "
              + "; ".join(filter(None, (fault["fault"], fault["fault_afterwards"] and
                                        f"the good image afterwards: {fault['fault_afterwards']}")))
              for row in found["rows"] for fault in row["faults"]]
    return "\n".join([table, *faults])
