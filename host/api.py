# SPDX-License-Identifier: Apache-2.0
"""The toolchain in Python: compile a module in memory, and run it on its models, in simulation or on a board. ::

    from host.api import compile_module

    compiled = compile_module(model, torch.rand(1, 784), calibration=images, density=0.05)
    compiled.save("model.img")
    golden = compiled.golden(images[:100])                       # outputs as integers and as floats
    engine = compiled.run(images[:100], "sim:default")           # the same, by RTL
    assert (engine.integers == golden.integers).all()

``host.run`` and ``host.demo`` stand on `EngineNetwork.measure`, ``host.compile`` on `host.compilation`, which
`compile_module` calls as well.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from host.compilation.checking import loss_problem
from host.compilation.state import Settings
from host.compilation.steps import compile_model
from host.compression.share_weights import ShareSettings
from host.datasets import Dataset
from host.engine_network import EngineNetwork, Outputs
from host.image.image import read_image
from host.training.exported import exported
from nonzero.errors import ResultError, UserError
from rtl.config import PRESETS, EngineConfig, preset
from rtl.image_file import preset_of

__all__ = ["EngineNetwork", "Outputs", "compile_module", "open_image"]


def open_image(path: Path | str, config: EngineConfig | None = None) -> EngineNetwork:
    """A network from an image file.

    Parameters
    ----------
    path : Path or str
    config : EngineConfig, optional
        The engine that it was made for; not needed if that is a preset.

    Raises
    ------
    UserError
        If the file is damaged, or was made for another engine, or for none that is known.
    """
    image = read_image(Path(path), config)
    name = preset_of(image.config_hash)
    if config is None and name is None:
        raise UserError(f"image '{path}' was made for configuration {image.config_hash.hex()}, no preset's; give the "
                        "EngineConfig of its compilation")
    offset = 0.0 if image.output_offset is None else image.output_offset
    return EngineNetwork(image, config or PRESETS[str(name)], Path(path).read_bytes(), image.output_scale, offset)


def compile_module(module: torch.nn.Module, example: torch.Tensor, *, config: EngineConfig | None = None,
                   calibration: np.ndarray | None = None, data: Dataset | str | None = None,
                   density: float | None = None, keep: dict[str, float] | None = None, recipe: str = "default",
                   sharing: ShareSettings | None = None, seed: int = 0, name: str = "model", values: bool = False,
                   check: Path | str | tuple[np.ndarray, np.ndarray] | None = None, max_loss: float | None = None,
                   progress: Callable[[str], object] = lambda line: None) -> EngineNetwork:
    """Compiles a module: prunes and retrains it, shares and quantises its weights, packs and verifies the image.

    Parameters
    ----------
    module : torch.nn.Module
        Is exported with `torch.export`, not changed.
    example : tensor, shape ``[1, ...]``
        An input.
    config : EngineConfig, optional
        The engine; preset ``default`` without it.
    calibration : uint8 or float array, shape ``[n, ...]``, optional
        Inputs to choose activation scales by; by default the training images of ``data``.
    data : Dataset or str, optional
        Labelled images to retrain and test with, or their name (`host.datasets.SPECS`).
    density, keep : optional
        The share of weights to keep, of all layers or by layer (`host.compression.recipe.with_amount`). Without either
        the module is packed as it is.
    recipe : str
        Recipe of pruning and retraining (`host.compression.recipe.read_recipe`).
    sharing : ShareSettings, optional
    seed : int
        Decides all that is random in pruning, retraining and weight sharing.
    name : str
        Name of the network.
    values : bool
        What the outputs are matters, not which of them is the greatest: each gets a scale of its own. Targets in
        ``data`` always matter so.
    check : Path, str or (array, array), optional
        What the result is compared with: a ``.pt2`` file, an npz file of ``inputs`` ``[n, ...]`` and float ``outputs``
        ``[n, outputs]``, or these two arrays. Without it that is the module as it was exported.
    max_loss : float, optional
        Percentage points that may be lost (`host.compilation.checking.loss_problem`); any number without it.
    progress : callable
        Is told of each step when it is done, and then its notes.

    Raises
    ------
    UserError
        For a module that the engine cannot run, with all its problems, and for what `Settings` refuse.
    ResultError
        If more than ``max_loss`` is lost; it says by which step and layer.
    """
    chosen = config or preset("default")
    with tempfile.TemporaryDirectory(prefix="nonzero-") as directory:
        path = Path(directory, f"{name}.pt2")
        path.write_bytes(exported(module, example))
        settings = Settings(
            path, chosen, next((known for known, one in PRESETS.items() if one == chosen), "default"), density, keep,
            prune=density is not None or keep is not None, data=data, calib=calibration, seed=seed, recipe=recipe,
            sharing=sharing or ShareSettings(), max_loss=max_loss, values=values,
            check=Path(check) if isinstance(check, str) else check)
        work = compile_model(settings, progress)
    if problem := loss_problem(work):
        raise ResultError(problem)
    return EngineNetwork.of(work)
