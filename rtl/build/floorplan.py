# SPDX-License-Identifier: Apache-2.0
"""Places the block RAMs of an ECP5, those of each cluster close together, before nextpnr places the logic.

nextpnr's static placer does not know the clusters, and puts some block RAM 10 ns from its logic in about every second
run; on an LFE5U-85F with 64 PEs the wires are about a tenth shorter with this plan.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

__all__ = ["place_memories"]


@dataclass(frozen=True)
class Fabric:
    """Block RAM sites of an FPGA, as nextpnr names them: rows of groups of four, nine columns from group to group.

    Attributes
    ----------
    columns, rows : int
        Columns and rows of tiles.
    memory_rows : tuple of int
    groups, gap_after : int
        Groups in a row; the number of groups after which two columns are left out.
    """

    columns: int
    rows: int
    memory_rows: tuple[int, ...]
    groups: int
    gap_after: int

    def sites(self):
        """Names of the sites, and where they are: float ``[sites, 2]``, row after row."""
        names, places = [], []
        for y in self.memory_rows:
            for group in range(self.groups):
                for number in range(4):
                    x = 4 + 9 * group + 2 * number + (2 if group >= self.gap_after else 0)
                    names.append(f"X{x}/Y{y}/EBR{number}")
                    places.append((x, y))
        return names, np.array(places, float)


FABRICS = {"25F": Fabric(72, 50, (25, 37), 7, 3), "85F": Fabric(126, 95, (22, 46, 70, 82), 13, 7)}
"""Grids of block RAMs, by the second part of an FPGA's name."""


def place_memories(netlist, part):
    """Fixes the sites of block RAMs: each cluster's around its tile of the fabric, the activation memory in the middle.

    Parameters
    ----------
    netlist : dict
        Yosys's JSON after ``synth_ecp5``, with an engine in module ``top``; block RAMs get the attribute ``BEL``.
    part : str
        The FPGA, as its vendor orders it. Of one that is not known or too small, and with a single cluster, nothing is
        fixed.

    Returns
    -------
    dict
        Site by name of the block RAM.
    """
    fabric = FABRICS.get([*part.split("-"), ""][1])
    cells = netlist["modules"]["top"]["cells"]
    acts, clusters = _memories(cells)
    if fabric is None or len(clusters) < 2:
        return {}
    names, places = fabric.sites()
    if len(acts) + sum(map(len, clusters)) > len(names):
        # nextpnr reports that error.
        return {}
    middle = np.array([fabric.columns / 2, fabric.rows / 2])
    inner = np.argsort(np.sum((places - middle) ** 2, axis=1), kind="stable")
    sites = dict(zip(acts, inner, strict=False))
    left = np.sort(inner[len(acts):])
    patches = _patches(places[left], [len(mine) for mine in clusters], fabric)
    for mine, patch in zip(clusters, patches, strict=True):
        # From left to right, PE by PE.
        spots = sorted(left[patch], key=lambda site: tuple(places[site]))
        sites |= dict(zip(mine, spots, strict=True))
    fixed = {name: names[site] for name, site in sites.items()}
    for name, site in fixed.items():
        cells[name]["attributes"]["BEL"] = site
    return fixed


def _memories(cells):
    """Names of the activation memory's block RAMs, and of each cluster's, PE by PE."""
    acts, clusters = [], defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "DP16KD":
            cluster = re.search(r"\bcluster_(\d+)\.", name)
            if cluster:
                clusters[int(cluster[1])].append(name)
            elif re.search(r"\bacts\.", name):
                acts.append(name)

    def by_pe(name):
        pe = re.search(r"\bpe_(\d+)\.", name)
        return (int(pe[1]) if pe else 1.5, name)
    return sorted(acts), [sorted(clusters[number], key=by_pe) for number in sorted(clusters)]


def _patches(places, counts, fabric):
    """Shares sites out: each of ``counts`` gets that number of indices of ``places``, nearest to its tile's middle.

    The tiles are those of a grid over the whole fabric, a power of two of them in a row. Each four of them in turn form
    a square, as a `Broadcast` wants it.
    """
    # Only builds for boards have scipy.
    from scipy.optimize import linear_sum_assignment

    across = 1 << len(counts).bit_length() // 2
    down = -(-len(counts) // across)
    in_turn = sorted(((x, y) for y in range(down) for x in range(across)), key=lambda at: (at[1] // 2, at[0] // 2))
    tiles = np.array([((x + 0.5) * fabric.columns / across, (y + 0.5) * fabric.rows / down) for x, y in in_turn])
    owner = np.repeat(np.arange(len(counts)), counts)
    distances = np.sum((places[None] - tiles[owner][:, None]) ** 2, axis=2)
    chosen = linear_sum_assignment(distances)[1]
    return [chosen[owner == number] for number in range(len(counts))]
