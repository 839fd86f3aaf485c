# SPDX-License-Identifier: Apache-2.0
"""The table of the slowest tests: how it is made of a run, and that what it names is there."""

import re

import pytest

from nonzero.errors import UserError
from tests.support import slowest
from tests.support.paths import ROOT

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a.test_one" name="test_x[1]" time="1.5"/>
<testcase classname="tests.a.test_one" name="test_x[2-y]" time="2.0"/>
<testcase classname="tests.a.test_one" name="test_z" time="0.25"/>
<testcase classname="tests.test_two" name="test_x" time="9.6"><skipped/></testcase>
</testsuite></testsuites>"""

ROWS = [(9.6, 1, "tests/test_two.py::test_x"), (3.5, 2, "tests/a/test_one.py::test_x"),
        (0.25, 1, "tests/a/test_one.py::test_z")]


def there(name):
    """Whether a test file, or a function in it, is there."""
    file, _, function = name.partition("::")
    return (ROOT / file).exists() and (not function or re.search(
        rf"^def {function}\(", (ROOT / file).read_text(), re.MULTILINE) is not None)


def test_cases_of_a_test_count_together():
    assert slowest.slowest(REPORT) == ROWS


def test_a_reason_is_of_the_test_or_of_its_file():
    reasons = {"tests/test_two.py": "two", "tests/a/test_one.py": "one", "tests/a/test_one.py::test_z": "z"}
    assert slowest.table(ROWS, reasons) == slowest.HEADER + (
        "| 10 | 1 | `tests/test_two.py::test_x` | two |\n"
        "| 4 | 2 | `tests/a/test_one.py::test_x` | one |\n"
        "| 0 | 1 | `tests/a/test_one.py::test_z` | z |\n")


def test_a_test_without_a_reason_is_refused():
    with pytest.raises(UserError) as caught:
        slowest.table(ROWS, {"tests/test_two.py": "two", "tests/a/test_one.py::test_z": "z"})
    assert caught.value.problems == ["tests/a/test_one.py::test_x must have a reason in docs/slowest-tests.toml"]


def test_the_table_is_written_where_it_stands(tmp_path, monkeypatch):
    page, reasons = tmp_path / "testing.md", tmp_path / "reasons.toml"
    page.write_text(f"before\n\n{slowest.HEADER}| 7 | 1 | `tests/old.py::test_x` | old |\n\nafter\n")
    reasons.write_text('"tests/test_two.py" = "two"\n"tests/a/test_one.py" = "one"\n')
    monkeypatch.setattr(slowest, "PAGE", page)
    monkeypatch.setattr(slowest, "REASONS", reasons)
    (tmp_path / "tests.xml").write_text(REPORT)
    slowest.main([str(tmp_path / "tests.xml")])
    assert page.read_text() == f"before\n\n{slowest.table(ROWS, slowest.read_reasons())}\nafter\n"


def test_what_has_a_reason_is_there():
    reasons = slowest.read_reasons()
    assert len(reasons) >= slowest.COUNT
    assert [name for name in reasons if not there(name)] == []


def test_the_tests_of_the_page_are_there_with_their_reasons():
    reasons = slowest.read_reasons()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| `(.*)` \| (.*) \|$", slowest.PAGE.read_text(), re.MULTILINE)
    assert len(rows) == slowest.COUNT
    for _, _, name, why in rows:
        assert there(name) and why == reasons.get(name, reasons.get(name.split("::")[0]))
