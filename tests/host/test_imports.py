# SPDX-License-Identifier: Apache-2.0
"""A board at a serial port needs a small part of the toolchain, and no large library."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

MODELS = ("torch", "numba", "scipy", "matplotlib", "tqdm", "safetensors", "sim", "host.packing", "host.decoding",
          "host.cycle_model", "host.quantization.golden_model", "host.datasets")


@pytest.mark.parametrize("statement", [
    "import host.device",
    "from host.device import Device; assert Device.open; from host.device import list_devices; list_devices()",
])
def test_the_driver_imports_no_model(statement):
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert {"host.device.device", "rtl.protocol"} <= loaded
    assert not loaded & set(MODELS)
