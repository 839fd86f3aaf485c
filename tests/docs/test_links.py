# SPDX-License-Identifier: Apache-2.0
"""Links, files, modules and commands that the Markdown files name are there; so are those that comments name."""

import re
import subprocess
import sys
import tokenize

import pytest

from nonzero.__main__ import COMMANDS
from tests.support.paths import ROOT

OUTLINE = ROOT / "docs" / "figures" / "outline.md"
"""Its links are those of docs/results.md."""

PAGES = sorted(path for folder in ("", "docs/**/", "constraints/", "models/", "host/datasets/")
               for path in ROOT.glob(f"{folder}*.md") if path != OUTLINE)
PACKAGES = ("host", "nonzero", "rtl", "sim", "tests")
ENDINGS = (".py", ".sv", ".cpp", ".js")
TOPS = "|".join(("constraints", "docs", "host", "models", "nonzero", "rtl", "sim", "tests"))


def prose(path):
    """Without blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """Anchors of the headings, as mkdocs and GitHub make them."""
    titles = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", title.lower())) for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), f"{target} does not exist"
        if anchor.startswith("rtl."):  # of mkdocstrings
            continue
        assert not anchor or anchor in anchors(found), f"{target} is no heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path):
    for name in re.findall(rf"`((?:{TOPS})/[\w./*-]*)`", path.read_text()):
        assert "*" in name or "NAME" in name or (ROOT / name).exists(), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_that_are_named_exist(path):
    assert unresolved(path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_named_exist(path):
    named = re.findall(r"(?:^ *|`)nonzero ([a-z][\w-]*)", path.read_text(), re.MULTILINE)
    assert {*named} <= {*COMMANDS}


def test_the_table_of_commands_has_them_all():
    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    assert re.findall(r"^\| `nonzero ([\w-]+)` \| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE) == [
        (name, module, subject) for name, (module, subject) in COMMANDS.items()]


@pytest.mark.parametrize("package", PACKAGES)
def test_comments_and_docstrings_name_what_exists(package):
    sources = [path for ending in ENDINGS for path in sorted((ROOT / package).rglob(f"*{ending}"))]
    assert len(sources) >= 5
    found = {str(path.relative_to(ROOT)): unresolved(text) + missing(text)
             for path in sources for text in ["\n".join(remarks(path))]}
    assert {path: names for path, names in found.items() if names} == {}


def test_what_is_a_remark(tmp_path):
    python, verilog = tmp_path / "a.py", tmp_path / "a.sv"
    python.write_text('"""See `rtl.gone` and tests/test_gone_*.py."""\nNAME = "host.gone"  # host.gone.too, rtl\n')
    verilog.write_text("module a;  // see sim/gone.sv\nendmodule\n")
    text = "\n".join(remarks(python))
    assert (unresolved(text), missing(text)) == (["rtl.gone", "host.gone.too"], ["tests/test_gone_*.py"])
    assert missing("\n".join(remarks(verilog))) == ["sim/gone.sv"]


def remarks(path):
    """The comments of a source file, and of Python the docstrings."""
    if path.suffix != ".py":
        return re.findall(r"//.*", path.read_text())
    with path.open("rb") as file:
        return [token.string for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string[:3] == '"""')]


def unresolved(text):
    """Modules, and names in them, that a text names and that do not exist."""
    return [name for name in re.findall(r"(?<![\w/.])(?:host|rtl|sim|nonzero)(?:\.[A-Za-z]\w*)+", text)
            if not resolves(name)]


def missing(text):
    """Files and directories of this project that a text names and that do not exist."""
    named = (name.rstrip(".") for name in re.findall(rf"(?<![\w/.])(?:{TOPS})/[\w./*-]+", text))
    return [name for name in named if not any(ROOT.glob(name))]


def resolves(name):
    """Whether it is a module or package of this project, or a name that stands in one."""
    place, parts = ROOT, name.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    module = place / f"{parts[0]}.py" if parts else place
    if module.exists():
        return len(parts) < 2 or re.search(rf"\b{parts[1]}\b", module.read_text()) is not None
    return re.search(rf"\b{parts[0]}\b", (place / "__init__.py").read_text()) is not None


def test_the_site_is_built_without_a_warning(tmp_path):
    """Links between its pages, headings that they name, and the docstrings of the reference."""
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page, text in (("results.html", "266,200"), ("reference/config.html", "entries_per_word"),
                       ("reference/device.html", "Runs an inference for each row"),
                       ("reference/settings.html", "centres of k-means"), ("contributing.html", "One file in")):
        content = (tmp_path / page).read_text()
        assert text in content and "::</p>" not in content
