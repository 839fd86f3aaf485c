# SPDX-License-Identifier: Apache-2.0
"""Writes the table of the slowest tests in docs/testing.md: ``python -m tests.support.slowest build/tests.xml``.

The file is what ``pytest --junit-xml=build/tests.xml`` leaves of a run of all tests. The cases of a test count
together, and the making of what several tests share counts for the first of them. Why a test takes long stands in
docs/slowest-tests.toml; a test without a reason there is refused.
"""

import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from nonzero.errors import UserError, end_with
from tests.support.paths import ROOT

PAGE, REASONS = ROOT / "docs" / "testing.md", ROOT / "docs" / "slowest-tests.toml"
COUNT = 20
HEADER = "| seconds | cases | test | why |\n|---|---|---|---|\n"


def read_reasons():
    """Why a test takes long, by ``file`` or ``file::function``."""
    return tomllib.loads(REASONS.read_text())


def slowest(report):
    """Seconds, cases and ``file::function`` of the slowest tests of a JUnit report, the slowest first."""
    found = defaultdict(list)
    for case in ElementTree.fromstring(report).iter("testcase"):
        file = case.get("classname").replace(".", "/") + ".py"
        found[f"{file}::{case.get('name').split('[')[0]}"].append(float(case.get("time")))
    sums = [(sum(seconds), len(seconds), name) for name, seconds in found.items()]
    return sorted(sums, reverse=True)[:COUNT]


def table(rows, reasons):
    """The rows of `slowest` as Markdown. Raises `UserError` for those without a reason."""
    why = {name: reasons.get(name, reasons.get(name.split("::")[0])) for _, _, name in rows}
    if missing := [name for name in why if why[name] is None]:
        raise UserError([f"{name} must have a reason in docs/slowest-tests.toml" for name in missing])
    return HEADER + "".join(f"| {seconds:.0f} | {cases} | `{name}` | {why[name]} |\n" for seconds, cases, name in rows)


def main(argv=None):
    (report,) = sys.argv[1:] if argv is None else argv
    page = PAGE.read_text()
    before, after = page.split(HEADER)
    rest = after[after.index("\n\n") + 1:] if "\n\n" in after else ""
    PAGE.write_text(before + table(slowest(Path(report).read_text()), read_reasons()) + rest)


if __name__ == "__main__":
    end_with(main)
