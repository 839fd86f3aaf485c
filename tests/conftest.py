# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests, and bounds for tests of hostile files."""

import resource
from pathlib import Path

import pytest

from rtl.amaranth_private import let_unused_be

# A component that refuses its parameters, or whose Verilog lies in the cache, is never elaborated. Amaranth warns of it
# when it is collected: perhaps in another test of the process, under the warning filters of whatever runs there.
let_unused_be()


@pytest.fixture
def little_memory():
    """No test with this fixture may need more than 1 GiB above what is in use already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
