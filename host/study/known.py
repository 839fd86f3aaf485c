# SPDX-License-Identifier: Apache-2.0
"""Reads the outcomes of an earlier study from its ``study.json``."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from host.study.measuring import Outcome
from host.study.queue import Job
from nonzero.errors import UserError
from nonzero.files import check_input

__all__ = ["measured_list", "read_known"]

LARGEST_BYTES = 1 << 26

_NUMBERS = {"parameters": int, "total": int, "bits": int, "test_error": float, "seconds": float}


def measured_list(measured: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """Every outcome in ``measured``, a mapping by the keys of the jobs, as `read_known` takes it.

    Each has ``method``, ``setting``, ``seed`` and the fields of `Outcome` without the histograms.
    """
    return [asdict(Job.of(key)) | {name: value for name, value in asdict(measured[key]).items() if name != "weights"}
            for key in sorted(measured)]


def read_known(path: Path, identity: str) -> dict[str, Outcome]:
    """Outcomes by the key of the job.

    Parameters
    ----------
    path : Path
        The ``study.json`` of the earlier study.
    identity : str
        Identity of the study that wants them: network, data and epochs.

    Raises
    ------
    UserError
        If the file is no ``study.json``, or one of another network, other data or other epochs.
    """
    check_input("earlier study", path, LARGEST_BYTES)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        theirs, rows = found["identity"], [_outcome(row) for row in found["measured"]]
    except OSError as error:
        raise UserError(f"earlier study '{path}' cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"earlier study '{path}' must be a study.json of python -m host.study; name another or leave "
                        "out --known") from None
    if theirs != identity:
        raise UserError(f"earlier study '{path}' is of another network, other data or other epochs; leave out --known, "
                        "or give --network, --data and --epochs as it was made with")
    return dict(rows)


def _outcome(row: dict[str, Any]) -> tuple[str, Outcome]:
    """The job and outcome in a row; raises one of the errors that `read_known` catches for a row of another form."""
    job = Job(row["method"], row["setting"], row["seed"])
    values = {field.name: row[field.name] for field in fields(Outcome) if field.name != "weights"}
    for name, kind in _NUMBERS.items():
        if type(values[name]) not in (int, kind) or not 0 <= values[name] < math.inf:
            raise ValueError(name)
    if type(job.method) is not str or type(job.setting) is not dict or type(job.seed) is not int \
            or values["place"] not in ("chip", "disk") or not values["total"]:
        raise ValueError("job")
    return job.key, Outcome(**values)
