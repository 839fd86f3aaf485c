# SPDX-License-Identifier: Apache-2.0
"""Answers of an engine: those that are none, and what each status means."""

import pytest

from host.device.answers import unpack
from host.device.device import DeviceError
from rtl.protocol import STATUS_HELP, Opcode, Status
from rtl.protocol import pack as packet
from tests.support.paths import ROOT


def test_answers_that_are_none():
    for answer, status in ((b"", Status.NO_ANSWER), (b"N\x01\x01", Status.DAMAGED),
                           (packet(Opcode.RUN.value, b"\0"), Status.DAMAGED),
                           (packet(Opcode.WAIT.value, b"\x63"), Status.WRONG_ENGINE)):
        with pytest.raises(DeviceError) as caught:
            unpack(Opcode.WAIT, answer)
        assert caught.value.status == status


def test_every_status_is_explained_the_same_way_in_the_documents():
    lines = (ROOT / "docs" / "formats.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert list(STATUS_HELP) == list(Status)
    for status in Status:
        assert [f"{status.value} {status.name}", *STATUS_HELP[status]] in rows
