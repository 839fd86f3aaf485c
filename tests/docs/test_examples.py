# SPDX-License-Identifier: Apache-2.0
"""The Python examples of the documentation run. The one of docs/howto/own-network.md is in test_loaders.py."""

import numpy as np

from tests.support.paths import ROOT


def example(page):
    """The one Python example of a page."""
    _, text, *others = (ROOT / "docs" / page).read_text().split("```python\n")
    assert not others
    return text.split("```")[0]


def test_a_module_is_compiled_and_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example("reference/api.md"), names)
    assert np.array_equal(names["engine"].integers, names["golden"].integers)
    assert names["engine"].counters["cycles"].min() > 0
    with np.load("vectors.npz") as vectors:
        assert np.array_equal(vectors["layer1"], names["golden"].integers)
    assert (tmp_path / "model.img").read_bytes()[:4] == b"NZIM"


def test_an_engine_is_embedded():
    names = {}
    exec(example("howto/integrate-engine.md"), names)
    assert names["engine"].config.pes == 16 and names["m"].submodules is not None
