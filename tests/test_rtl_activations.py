# SPDX-License-Identifier: Apache-2.0
"""The activation memory under reads and writes at random."""

from dataclasses import asdict

from rtl.activations import ActivationMemory
from sim.running import run
from sim.verilate import build
from tests.units import UNIT


def test_words_come_out_as_they_were_written():
    built = build(ActivationMemory(UNIT))
    assert run(built, "sim.benches.activations", parameters={"config": asdict(UNIT)}) \
        == ["words_come_out_as_they_were_written"]
