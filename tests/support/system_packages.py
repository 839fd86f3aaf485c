# SPDX-License-Identifier: Apache-2.0
"""System packages that some tests need: ``python -m tests.support.system_packages`` names those that are missing.

The names are those of Debian's packages. `.ci/prepare` installs them; without them these tests are skipped.
"""

import shutil
import sys

import pytest

from sim.simulator.verilate import FST_HEADERS, missing_fst_packages

COMMANDS = {"chromium": "chromium", "chromium-driver": "chromedriver", "iverilog": "iverilog"}
"""Packages that are wanted for a command."""


def missing(*packages):
    """Those of the given packages, or of all, that are not installed."""
    if not packages:
        packages = (*COMMANDS, *FST_HEADERS.values())
    lacking = [package for package, command in COMMANDS.items() if shutil.which(command) is None]
    if set(packages) & set(FST_HEADERS.values()):
        lacking += missing_fst_packages()
    return [package for package in packages if package in lacking]


def skip_without(*packages):
    """Skips a test, or from a fixture all tests that use it, unless the packages are there."""
    if lacking := missing(*packages):
        pytest.skip(f"apt install {' '.join(lacking)}")


if __name__ == "__main__":
    sys.stdout.write(" ".join(missing()))
