# SPDX-License-Identifier: Apache-2.0
"""Checks before any training whether an engine can run a network with any weights, and names one that can."""

from dataclasses import replace

import numpy as np

from host.network.activations import engine_activation, needs_table
from host.network.dead_neurons import drop_dead_neurons
from host.network.layers import Linear, Network
from host.packing.pack import arrange
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from nonzero.errors import UserError
from rtl.config import PRESETS, RANGES, EngineConfig

__all__ = ["check_engine"]

DEPTHS = {name: RANGES[name][1] for name in ("acc_depth", "act_depth", "slice_depth", "entry_depth", "program_depth")}
"""Depths that may be greater in another engine, with their maxima."""


def check_engine(network: Network, config: EngineConfig, preset: str, kept: float | None) -> list[str]:
    """Refuses a network that the engine cannot run whatever its weights, and returns doubts about others.

    Parameters
    ----------
    network : Network
        Before pruning.
    config : EngineConfig
    preset : str
        Name of the configuration in errors and notes.
    kept : float, optional
        Share of the weights that pruning will keep; it may keep a single one of the hidden neurons of a layer. None if
        nothing is pruned.

    Returns
    -------
    list of str
        Doubts, for the user: layers that fit only if pruning removes more than is asked for.

    Raises
    ------
    UserError
        With all that forbids the engine to run the network.
    """
    bare = _zeroed(network)
    least = _in_integers(bare if kept is None else drop_dead_neurons(bare))
    if problems := _problems(least, config, preset):
        if kept is None:
            least = _in_integers(network)
            problems = _problems(least, config, preset)
        raise UserError([*problems, _way_out(least, config)])
    doubts = [] if kept is None else [f"unless pruning takes out neurons, {problem}"
                                      for problem in _problems(_in_integers(bare), config, preset)]
    weights = network.weights_kept if kept is None else round(kept * network.weights_total)
    most = config.pes * config.entries_per_word * config.entry_depth
    if weights > most:
        doubts.append(f"{weights} weights will not fit: the weight memory of preset '{preset}' holds {most} at most, "
                      f"biases not counted; use a --density below {most / network.weights_total:.3f} or a preset with "
                      "more")
    return doubts


def _problems(network: QuantizedNetwork, config: EngineConfig, preset: str) -> list[str]:
    try:
        arrange(network, config, preset=preset, order=False)
    except UserError as error:
        return error.problems
    return []


def _way_out(network: QuantizedNetwork, config: EngineConfig) -> str:
    """The presets that hold a network or, if there are none, what a configuration needs."""
    fitting = [name for name, one in PRESETS.items() if not _problems(network, one, name)]
    if fitting:
        return f"this network can run on preset {' or '.join(fitting)}; use --preset"
    convolutions = any(layer.geometry for layer in network.layers)
    base = PRESETS["conv"] if convolutions and not config.tap_bits else config
    tables = any(layer.table is not None for layer in network.layers) and not base.act_table
    wanted = ["act_table = true"] if tables else []
    if tables and base.act_bits != 8:
        wanted, base = ["act_bits = 8", *wanted], replace(base, act_bits=8)
    start = ['preset = "conv"'] if convolutions and not config.tap_bits else []
    base = replace(base, act_table=base.act_table or tables)
    enough = replace(base, **DEPTHS)
    if _problems(network, enough, ""):
        return "no engine can run this network; make its layers or its inputs smaller"
    for name in DEPTHS:
        depth = getattr(base, name)
        while _problems(network, replace(enough, **{name: depth}), ""):
            depth = min(2 * depth, DEPTHS[name])
        enough = replace(enough, **{name: depth})
    wanted += [f"{name} = {getattr(enough, name)}" for name in DEPTHS if getattr(enough, name) != getattr(base, name)]
    return f"this network can run on an engine with {', '.join([*start, *wanted])}; write that into a file for --config"


def _zeroed(network: Network) -> Network:
    return replace(network, layers=tuple(
        replace(layer, weight=np.zeros_like(layer.weight), bias=np.zeros_like(layer.bias)) for layer in network.layers))


def _in_integers(network: Network) -> QuantizedNetwork:
    """A stand-in with the shapes and the zero pattern of ``network``; the values of its weights are irrelevant."""
    return QuantizedNetwork(network.name, tuple(map(_layer, network.layers)), 1.0, False, 8)


def _layer(layer: Linear) -> QuantizedLayer:
    codes, bias = (layer.weight != 0).astype(np.uint8), np.zeros(layer.rows, np.int64)
    return QuantizedLayer(layer.name, codes, np.arange(2), bias, 1, 0, engine_activation(layer.activation), False, 1.0,
                          1.0, 1.0, layer.geometry, layer.source, layer.added, 0 if layer.added is None else 1,
                          table=np.zeros(256, np.int64) if needs_table(layer.activation) else None,
                          out_map=layer.out_map)
