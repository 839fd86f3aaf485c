# SPDX-License-Identifier: Apache-2.0
"""Where block RAMs are fixed: together by cluster, the activation memory in the middle, no site twice."""

import re

import numpy as np
import pytest

from rtl.build.floorplan import FABRICS, place_memories

PARTS = {"LFE5U-85F-6BG381C": 208, "LFE5UM5G-85F-8BG554": 208, "LFE5U-25F-6BG256C": 56}


def netlist(clusters, each, acts):
    """An engine's block RAMs, among other cells, in no order."""
    names = [f"engine.cluster_{cluster}.pe_{number % 4}.entries.plane_0.0.{number}"
             for cluster in range(clusters) for number in range(each)]
    names += [f"engine.acts.acts.0.{number}" for number in range(acts)] + ["engine.program.words.0.0", "boot.bytes.0.0"]
    np.random.default_rng(1).shuffle(names)
    cells = {name: {"type": "DP16KD", "attributes": {}} for name in names}
    cells["engine.cluster_0.pe_0.sum"] = {"type": "TRELLIS_FF", "attributes": {}}
    return {"modules": {"top": {"cells": cells}}}


def place(site):
    x, y, number = map(int, re.fullmatch(r"X(\d+)/Y(\d+)/EBR(\d)", site).groups())
    return x, y, number


@pytest.mark.parametrize("part, sites", PARTS.items())
def test_sites(part, sites):
    """As nextpnr lists them: four in nine columns, the second group of four nine columns from the first."""
    names, places = FABRICS[part.split("-")[1]].sites()
    assert len(set(names)) == len(names) == sites
    assert [place(name)[:2] for name in names] == [tuple(one) for one in places]
    assert {place(name)[2] for name in names} == {0, 1, 2, 3}
    assert [place(name)[::2] for name in names[:5]] == [(4, 0), (6, 1), (8, 2), (10, 3), (13, 0)]


@pytest.mark.parametrize("part, clusters, each, acts", [
    ("LFE5U-85F-6BG381C", 16, 10, 16), ("LFE5UM5G-85F-8BG554", 4, 28, 4), ("LFE5U-25F-6BG256C", 2, 14, 2),
    ("LFE5U-25F-6BG256C", 4, 14, 0),
], ids=["64 PEs", "16 PEs", "8 PEs", "all sites"])
def test_clusters_lie_together(part, clusters, each, acts):
    design = netlist(clusters, each, acts)
    fixed = place_memories(design, part)
    cells = design["modules"]["top"]["cells"]
    assert {name: cell["attributes"]["BEL"] for name, cell in cells.items() if cell["attributes"]} == fixed
    assert len(set(fixed.values())) == len(fixed) == clusters * each + acts
    assert set(fixed.values()) <= set(FABRICS[part.split("-")[1]].sites()[0])

    patches = [np.array([place(site)[:2] for name, site in fixed.items() if f"cluster_{cluster}." in name], float)
               for cluster in range(clusters)]
    assert all(len(patch) == each for patch in patches)
    inside = np.mean([patch.var(axis=0).sum() for patch in patches])
    every = np.concatenate(patches).var(axis=0).sum()
    assert inside < 1.2 * every / clusters ** 0.5
    fabric = FABRICS[part.split("-")[1]]
    middle = np.array([fabric.columns, fabric.rows]) / 2
    for name, site in fixed.items():
        if ".acts." in name:
            assert np.linalg.norm(np.array(place(site)[:2]) - middle) < 30
    # A PE's memories are neighbours: from left to right the PEs come in order.
    left_to_right = sorted((place(site)[:2], name) for name, site in fixed.items() if "cluster_0." in name)
    pes = [int(re.search(r"pe_(\d)", name)[1]) for _, name in left_to_right]
    assert pes == sorted(pes)


@pytest.mark.parametrize("part, clusters", [
    ("LFE5U-85F-6BG381C", 1), ("LFE5U-45F-6BG381C", 4), ("LFE5U-25F-6BG256C", 14), ("GW2A", 4),
], ids=["one cluster", "unknown FPGA", "too many", "no parts"])
def test_nothing_is_fixed(part, clusters):
    design = netlist(clusters, 4, 2)
    assert place_memories(design, part) == {}
    assert not any(cell["attributes"] for cell in design["modules"]["top"]["cells"].values())
