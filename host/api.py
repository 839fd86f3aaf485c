# SPDX-License-Identifier: Apache-2.0
"""The toolchain in Python: compile a module in memory, and run it on its models, in simulation or on a board. ::

    from host.api import compile_module

    compiled = compile_module(model, torch.rand(1, 784), calibration=images, density=0.05)
    compiled.save("model.img")
    golden = compiled.golden(images[:100])                       # outputs as integers and as floats
    engine = compiled.run(images[:100], "sim:default")           # the same, by RTL
    assert (engine.integers == golden.integers).all()

The commands are made of the same parts: `host.compilation` is what ``host.compile`` runs.
"""

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from host.compilation.checking import loss_problem
from host.compilation.state import Compilation, Settings
from host.compilation.steps import compile_model
from host.compression.share_weights import ShareSettings
from host.datasets import Dataset
from host.decoding.decode import Decoded, decode
from host.device import Target, parse_target
from host.image.image import Image, parse_image, read_image
from host.quantization.integer_network import quantize_inputs
from host.verification.compare import Comparison
from host.verification.float_check import FloatCheck
from host.verification.measure import measure, models
from nonzero.errors import ResultError, UserError
from nonzero.files import write_whole
from rtl.config import PRESETS, EngineConfig, preset
from rtl.image_file import preset_of
from rtl.numbers import act_values

__all__ = ["EngineNetwork", "Outputs", "compile_module", "open_image"]


@dataclass(frozen=True)
class Outputs:
    """Results of a network for some inputs.

    Attributes
    ----------
    integers : int64 array, shape ``[n, outputs]``
        Output activations of the last layer, as the engine has them.
    scale : float or None
        A float output is its integer times this; None for an image from a file, which does not tell it.
    layers : list of int64 array, shape ``[n, rows]``
        Output activations of each layer that is known; the last layer's last. On an engine these are the layers that no
        later one overwrites (`host.image.image.Image.readable`).
    counters : dict of int64 array, shape ``[n]``
        `rtl.protocol.COUNTERS` by name: predicted by the golden model, counted by an engine.
    """

    integers: np.ndarray
    scale: float | None
    layers: list[np.ndarray]
    counters: dict[str, np.ndarray]

    @property
    def floats(self) -> np.ndarray:
        """float64 ``[n, outputs]``. Raises `UserError` for an image from a file."""
        if self.scale is None:
            raise UserError("an image file does not tell the scale of its outputs; take them from compile_module()")
        return self.integers * self.scale


@dataclass(frozen=True)
class EngineNetwork:
    """A network as an engine runs it: an image, and the models of what it computes.

    Attributes
    ----------
    image : Image
    config : EngineConfig
        Configuration of the engine that it was made for.
    content : bytes
        The image file.
    output_scale : float or None
        See `Outputs.scale`.
    notes : tuple of str
        Assumptions and losses of the compilation, a sentence each.
    compilation : Compilation or None
        Everything that compiling it has measured; None for an image from a file.
    """

    image: Image
    config: EngineConfig
    content: bytes
    output_scale: float | None = None
    notes: tuple[str, ...] = ()
    compilation: Compilation | None = None

    @property
    def check(self) -> FloatCheck | None:
        """Its comparison with floats: agreement, relative error, and the step and layer that lost most; None for an
        image from a file.
        """
        return None if self.compilation is None else self.compilation.check

    @cached_property
    def decoded(self) -> Decoded:
        """The integer network that the image holds, read back from its bytes."""
        return decode(self.image, self.config)

    def quantize(self, inputs: np.ndarray) -> np.ndarray:
        """Input activations, int64 ``[n, inputs]``.

        Parameters
        ----------
        inputs : uint8 or float array, shape ``[n, ...]``
            Bytes mean 0 to 1. Values in the order of the network's input, channels first.

        Raises
        ------
        UserError
            For inputs of another size, or not finite.
        """
        inputs = np.asarray(inputs)
        network = self.decoded.network
        if inputs.ndim < 2 or int(np.prod(inputs.shape[1:])) != self.image.inputs:
            raise UserError(f"inputs must be [n, {self.image.inputs}], as the network takes them, not "
                            f"{list(inputs.shape)}")
        if inputs.dtype != np.uint8 and not np.isfinite(inputs).all():
            raise UserError("inputs must be finite; remove infinities and NaN")
        return quantize_inputs(network, inputs)

    def golden(self, inputs: np.ndarray) -> Outputs:
        """Results of the golden model, and the counters that the cycle model predicts; for ``inputs`` see `quantize`.
        """
        expected = models(self.decoded, self.quantize(inputs))
        return Outputs(expected.layers[-1], self.output_scale, expected.layers, expected.prediction.counters)

    def run(self, inputs: np.ndarray, device: str | Target | None = None, *, verify: bool = True, seed: int = 1,
            baked: bool = False) -> Outputs:
        """Runs inferences on a device.

        Parameters
        ----------
        inputs
            See `quantize`.
        device : str or Target, optional
            `host.device.FORMS`; without it the simulation of the engine that the image was made for.
        verify : bool
            Compare each layer that can be read with the golden model, and all counters with the cycle model.
        seed : int
            Decides what the memories of a simulation hold at the start.
        baked : bool
            The board has loaded the image by itself, see `host.verification.adopt`.

        Raises
        ------
        UserError
            If the device fails, or differs from its models.
        """
        target = Target("simulation", self.config) if device is None else parse_target(device) \
            if isinstance(device, str) else device
        acts = self.quantize(inputs)
        measured = measure(self.decoded, target, acts, models(self.decoded, acts) if verify else None, seed=seed,
                           baked=baked)
        if measured.comparison is not None:
            _check(measured.comparison)
        layers = [self._signed(number, values) for number, values in
                  zip(self.image.readable if verify else [-1], measured.batch.outputs, strict=True)]
        return Outputs(layers[-1], self.output_scale, layers, measured.batch.counters)

    def _signed(self, layer: int, bits: np.ndarray) -> np.ndarray:
        return act_values(bits, self.config.act_bits, signed=self.decoded.network.layers[layer].activation.signed)

    def save(self, path: Path | str) -> None:
        """Writes the image to the file ``path``, whole or not at all. Raises `UserError` if it cannot be written."""
        write_whole(Path(path), self.content)

    def save_vectors(self, path: Path | str, inputs: np.ndarray) -> None:
        """Writes golden vectors for a test bench of one's own into the file ``path``. For ``inputs`` see `quantize`.

        It has ``inputs`` (int64 ``[n, inputs]``), the outputs of each layer by the layer's number (``layer0`` ...,
        int64 ``[n, rows]``), each counter by its name (int64 ``[n]``), and as bytes the engine's ``image`` and, as
        JSON, the layers' ``names``.

        Raises
        ------
        UserError
            If the file cannot be written; see also `quantize`.
        """
        acts = self.quantize(inputs)
        expected = models(self.decoded, acts)
        names = json.dumps([layer.name for layer in self.decoded.network.layers]).encode()
        arrays = {"inputs": acts, **{f"layer{number}": values for number, values in enumerate(expected.layers)},
                  **expected.prediction.counters, "image": np.frombuffer(self.image.engine, np.uint8),
                  "names": np.frombuffer(names, np.uint8)}
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        write_whole(Path(path), file.getvalue())


def _check(comparison: Comparison) -> None:
    if comparison.differs:
        counters = ", ".join(f"{name} of {count}" for name, count in comparison.counter_mismatches.items() if count)
        raise UserError(f"the engine differs from its models: outputs of {comparison.mismatches} of "
                        f"{comparison.images} inputs, counters: {counters or 'none'}; read the device's status, and "
                        "load the image again")


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
    return EngineNetwork(image, config or PRESETS[str(name)], Path(path).read_bytes())


def compile_module(module: torch.nn.Module, example: torch.Tensor, *, config: EngineConfig | None = None,
                   calibration: np.ndarray | None = None, data: Dataset | str | None = None,
                   density: float | None = None, keep: dict[str, float] | None = None, recipe: str = "default",
                   sharing: ShareSettings | None = None, seed: int = 0, name: str = "model",
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
        _export(module, example, path)
        settings = Settings(
            path, chosen, next((known for known, one in PRESETS.items() if one == chosen), "default"), density, keep,
            prune=density is not None or keep is not None, data=data, calib=calibration, seed=seed, recipe=recipe,
            sharing=sharing or ShareSettings(), max_loss=max_loss,
            check=Path(check) if isinstance(check, str) else check)
        work = compile_model(settings, progress)
    if problem := loss_problem(work):
        raise ResultError(problem)
    assert work.quantized is not None
    return EngineNetwork(parse_image(work.content, chosen), chosen, work.content,
                         work.quantized.layers[-1].output_scale, tuple(work.notes), work)


def _export(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    training = module.training
    try:
        torch.export.save(torch.export.export(module.eval(), (example,)), path)
    except Exception as error:  # torch raises many kinds
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"the module cannot be exported by torch.export ({type(error).__name__}: {first}); its "
                        "forward() must take one tensor and have no branches that depend on values") from None
    finally:
        module.train(training)
