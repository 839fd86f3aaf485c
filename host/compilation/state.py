# SPDX-License-Identifier: Apache-2.0
"""The settings of a compilation, and the state that its steps share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from host.compression.prune import PruneResult
from host.compression.share_weights import ShareSettings
from host.compression.shared_network import SharedNetwork
from host.cycle_model.predict import Prediction
from host.datasets import Dataset
from host.decoding.decode import Decoded
from host.image.image import Image
from host.network.layers import Network
from host.packing.pack import PackedNetwork
from host.quantization.integer_network import QuantizedNetwork
from host.training.forward import logits, outputs_of, tensors
from host.training.metrics import metrics
from host.verification.float_check import FloatCheck
from host.verification.reference import Reference
from rtl.config import EngineConfig

__all__ = ["Compilation", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings of a compilation.

    Attributes
    ----------
    model : Path
        The model file.
    config : EngineConfig
        The engine to compile for.
    preset : str
        Name of the engine in errors.
    density, keep, quality
        Amount of pruning, see `host.compression.recipe.with_amount`.
    prune : bool
        Whether to prune at all; a model that is sparse already is packed as it is.
    data : Dataset, str or None
        Dataset to retrain, calibrate and test with, or its name.
    calib : uint8 or float array ``[n, ...]``, str or None
        Inputs to calibrate on, or their name (`host.datasets.load_inputs`); without them the dataset's training images.
    input_shape : (channels, height, width) or None
        Shape of an image; without it that of the dataset's images.
    normalize : (mean, std) or None
        The training's normalisation of its inputs; folded into the first layer.
    seed : int
        Decides all that is random.
    recipe : str
        Recipe of pruning and retraining, see `host.compression.recipe.read_recipe`.
    sharing : ShareSettings
        Options of weight sharing.
    known : str or None
        The network of `host.network.zoo` that a file of tensors is of.
    augmentation : str or None
        How training images are changed, one of `host.training.augment.AUGMENTATIONS`; without it as the dataset says.
    check : Path, (array, array) or None
        What the result is compared with: a ``.pt2`` file, an npz file of ``inputs`` and float ``outputs``, or these two
        arrays. Without it that is the float network itself, as it was read.
    values : bool
        What the outputs are matters, not which of them is the greatest, whatever the labels are: each gets a scale of
        its own. Targets always matter so.
    max_loss : float or None
        Percentage points, 0 to 100, that the whole compilation may lose (`host.compilation.checking.loss_problem`);
        None for any.
    """

    model: Path
    config: EngineConfig
    preset: str = "default"
    density: float | None = None
    keep: dict[str, float] | None = None
    quality: float | None = None
    prune: bool = True
    data: Dataset | str | None = None
    calib: np.ndarray | str | None = None
    input_shape: tuple[int, int, int] | None = None
    normalize: tuple[float, float] | None = None
    seed: int = 0
    recipe: str = "default"
    sharing: ShareSettings = field(default_factory=ShareSettings)
    known: str | None = None
    augmentation: str | None = None
    check: Path | tuple[np.ndarray, np.ndarray] | None = None
    values: bool = False
    max_loss: float | None = None


@dataclass
class Compilation:
    """A compilation under way: each step reads what those before it left here. A value is None or empty before its
    step.

    Attributes
    ----------
    settings : Settings
    checkpoints : Path or None
        Directory for the state of interrupted training; None keeps nothing.
    dataset : Dataset or None
        The data to retrain and test with; None if the settings name none.
    calibration : uint8 or float array, shape ``[n, ...]``
        The inputs that scales are chosen on.
    dense : Network
        The network as the model file has it.
    pruned : PruneResult
        None as well if the network is not pruned.
    shared : SharedNetwork
    quantized : QuantizedNetwork
    packed : PackedNetwork
    content : bytes
        The image file.
    image : Image
        The image file, read back.
    decoded : Decoded
        The network that the image file holds.
    prediction : Prediction
        Counters of the inferences that verify the image.
    reference : Reference
        What the result is to be compared with.
    check : FloatCheck
        The result of that.
    test_metrics : dict
        Figures of the test images (`host.training.metrics.metrics`), by the name of the form of the network: "dense",
        "pruned", "shared", "engine".
    notes : list of str
        Sentences for the user.
    steps : list of dict
        ``name``, ``seconds``, ``note`` and ``test_error`` of each step.
    """

    settings: Settings
    checkpoints: Path | None = None
    dataset: Dataset | None = None
    calibration: np.ndarray | None = None
    dense: Network | None = None
    pruned: PruneResult | None = None
    shared: SharedNetwork | None = None
    quantized: QuantizedNetwork | None = None
    activity: list[np.ndarray] = field(default_factory=list)
    """Share of the images in which each input of each layer is not zero."""
    clipped_outputs: dict[int, float] = field(default_factory=dict)
    """See `host.quantization.calibration.clipped_outputs`."""
    packed: PackedNetwork | None = None
    content: bytes = b""
    image: Image | None = None
    decoded: Decoded | None = None
    prediction: Prediction | None = None
    reference: Reference | None = None
    check: FloatCheck | None = None
    test_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def checkpoint(self, phase: str) -> Path | None:
        """The file that keeps the state of ``phase``, such as "pruning", while it runs."""
        return self.checkpoints and self.checkpoints / f"{phase}.checkpoint"

    @property
    def network(self) -> Network:
        """The network in floats as it now is: pruned, or dense if it was not pruned."""
        assert self.dense is not None
        return self.pruned.network if self.pruned else self.dense

    @property
    def has_examples(self) -> bool:
        """Whether calibration is on the user's inputs, not on noise."""
        return self.settings.calib is not None or self.settings.data is not None

    @property
    def input_axes(self) -> tuple[int, ...] | None:
        """Axes of one input: what the model file tells, or the command line, or else the data."""
        assert self.dense is not None
        images = self.dataset.train_images if self.dataset else self.calibration
        return self.dense.input_axes or self.settings.input_shape or (None if images is None else images.shape[1:])

    @property
    def has_classes(self) -> bool:
        """Whether the labels are classes, so that only which output is the greatest matters."""
        return self.dataset is not None and not self.dataset.has_targets and not self.settings.values

    @property
    def wants_values(self) -> bool:
        """Whether it is known that the outputs' values matter."""
        return self.settings.values or (self.dataset is not None and self.dataset.has_targets)

    @property
    def metric(self) -> str:
        """Name of the figure by which training judges, and that `test_errors` are: "mse" of targets, else "error"."""
        return "mse" if self.dataset is not None and self.dataset.has_targets else "error"

    @property
    def test_errors(self) -> dict[str, float]:
        """The `metric` of each form of the network."""
        return {name: found[self.metric] for name, found in self.test_metrics.items()}

    def class_errors(self, before: str, after: str) -> tuple[float | None, float | None]:
        """Percent of the test images ``before`` and ``after`` a step, both names of forms; None without classes."""
        errors = self.test_errors if self.has_classes else {}
        return errors.get(before), errors.get(after)

    def test(self, name: str, network: Network) -> None:
        """Measures the figures of the float ``network`` on the test images, if there are any; ``name`` is its form's.
        """
        if self.dataset is not None:
            layers = tensors(network)
            outputs = outputs_of(lambda inputs: logits(layers, inputs), self.dataset.test_images)
            self.test_metrics[name] = metrics(outputs, self.dataset.test_labels)
