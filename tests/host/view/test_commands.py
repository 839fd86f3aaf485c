# SPDX-License-Identifier: Apache-2.0
"""The command that opens the page, and the options of a run that it shows."""

from pathlib import Path

import pytest

from host import run as host_run
from host.view import __main__ as host_view
from nonzero.errors import run_command


def test_the_command_opens_the_browser(place, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert run_command(host_view.main, [str(place / "run.json")]) == 0
    assert opened == [Path(capsys.readouterr().out.strip()).as_uri()] and opened[0].endswith("/run.html")
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert run_command(host_view.main, [str(place / "run.json")]) == 2
    assert "name a file with --output" in capsys.readouterr().err


@pytest.mark.parametrize("options, answer", [
    (["--trace", "run.json", "--limit", "21"], "--limit with --trace must be 1 to 20, not 21"),
    (["--trace", "."], "output '.' must be a file"),
    (["--trace", "run.json", "--device", "sim:icebreaker"], "--trace needs the simulation of an engine alone"),
    (["--waves", "run.txt"], "--waves must name a file that ends in .fst or .vcd, not 'run.txt'"),
    (["--waves", "run.vcd", "--device", "serial:nosuch"], "--waves needs a simulation"),
])
def test_options_of_a_run_that_make_no_recording_are_refused(arguments, capsys, options, answer):
    assert run_command(host_run.main, [*arguments, *options]) == 2
    assert answer in capsys.readouterr().err
