# SPDX-License-Identifier: Apache-2.0
"""Networks of the zoo for small devices: those of MLPerf Tiny (C. Banbury et al., NeurIPS 2021), and their kin.

They have batch normalisations, branches or depthwise convolutions, so a trained one is saved as a ``.pt2`` file.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TINY"]


def _normed(*modules: nn.Module, channels: int, relu: bool = True) -> nn.Sequential:
    """``modules``, the last with ``channels`` outputs, a batch normalisation and, if ``relu``, a ReLU."""
    one_axis = any(isinstance(module, nn.Conv1d) for module in modules)
    vector = any(isinstance(module, nn.Linear) for module in modules)
    norm = nn.BatchNorm1d(channels) if one_axis or vector else nn.BatchNorm2d(channels)
    return nn.Sequential(*modules, norm, *([nn.ReLU()] if relu else []))


class _Block(nn.Module):
    """Two convolutions 3 x 3 beside a shortcut (K. He et al., CVPR 2016, figure 2), projected where sizes change."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _normed(nn.Conv2d(before, channels, 3, stride, 1, bias=False), channels=channels)
        self.second = _normed(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), channels=channels, relu=False)
        self.shortcut = nn.Identity() if before == channels and stride == 1 else \
            _normed(nn.Conv2d(before, channels, 1, stride, bias=False), channels=channels, relu=False)

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(images)) + self.shortcut(images))


class _Modules(nn.Module):
    """Applies ``body`` to inputs in any shape ``[n, ...]``, seen as ``[n, *input_shape]``."""

    title = ""
    input_shape: tuple[int, ...] = ()

    def __init__(self, **body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(OrderedDict(body))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs.reshape(-1, *self.input_shape))
        return outputs


class _ResNet(_Modules):
    """A residual network for images ``[n, 3, 32, 32]`` with stages of 16, 32 and 64 channels; returns logits
    ``[n, 10]``.
    """

    input_shape = (3, 32, 32)
    blocks = 1
    """Blocks of each stage."""

    def __init__(self) -> None:
        stages, before = [], 16
        for number, channels in enumerate((16, 32, 64)):
            for place in range(self.blocks):
                stages.append(_Block(before, channels, 2 if number and not place else 1))
                before = channels
        super().__init__(first=_normed(nn.Conv2d(3, 16, 3, 1, 1, bias=False), channels=16),
                         stages=nn.Sequential(*stages), pool=nn.AvgPool2d(8), flatten=nn.Flatten(),
                         last=nn.Linear(64, 10))


class ResNet8(_ResNet):
    """Image classification of MLPerf Tiny."""

    title = "ResNet-8"


class ResNet20(_ResNet):
    """K. He et al., CVPR 2016, section 4.2, with projected shortcuts where sizes change."""

    title = "ResNet-20"
    blocks = 3


def _separable(before: int, channels: int, stride: int = 1) -> nn.Sequential:
    """A depthwise convolution 3 x 3 and one of 1 x 1."""
    return nn.Sequential(
        _normed(nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False), channels=before),
        _normed(nn.Conv2d(before, channels, 1, bias=False), channels=channels))


class MobileNetV1Quarter(_Modules):
    """Visual wake words of MLPerf Tiny: A. Howard et al., arXiv 1704.04861, table 1, with a quarter of the channels.

    Takes images ``[n, 3, 96, 96]``; returns logits ``[n, 2]``.
    """

    title = "MobileNetV1 0.25"
    input_shape = (3, 96, 96)

    def __init__(self) -> None:
        stages, before = [], 8
        for channels, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2),
                                 (256, 1)):
            stages.append(_separable(before, channels, stride))
            before = channels
        super().__init__(first=_normed(nn.Conv2d(3, 8, 3, 2, 1, bias=False), channels=8),
                         stages=nn.Sequential(*stages), pool=nn.AvgPool2d(3), flatten=nn.Flatten(),
                         last=nn.Linear(256, 2))


class DSCNN(_Modules):
    """Keyword spotting of MLPerf Tiny: Y. Zhang et al., "Hello Edge", arXiv 1711.07128, DS-CNN.

    Takes 49 x 10 cepstral coefficients ``[n, 1, 49, 10]``; returns logits ``[n, 12]``.
    """

    title = "DS-CNN"
    input_shape = (1, 49, 10)

    def __init__(self) -> None:
        super().__init__(pad=nn.ZeroPad2d((1, 1, 4, 5)),
                         first=_normed(nn.Conv2d(1, 64, (10, 4), 2, bias=False), channels=64),
                         stages=nn.Sequential(*[_separable(64, 64) for _ in range(4)]), pool=nn.AvgPool2d((25, 5)),
                         flatten=nn.Flatten(), last=nn.Linear(64, 12))


class DSCNN1d(_Modules):
    """The same in time alone, the coefficients being channels: takes ``[n, 10, 49]``; returns logits ``[n, 12]``."""

    title = "DS-CNN in one dimension"
    input_shape = (10, 49)

    def __init__(self) -> None:
        stages = [nn.Sequential(
            _normed(nn.Conv1d(64, 64, 3, 1, 1, groups=64, bias=False), channels=64),
            _normed(nn.Conv1d(64, 64, 1, bias=False), channels=64)) for _ in range(4)]
        super().__init__(first=_normed(nn.Conv1d(10, 64, 9, 2, 4, bias=False), channels=64),
                         stages=nn.Sequential(*stages), pool=nn.AvgPool1d(25), flatten=nn.Flatten(),
                         last=nn.Linear(64, 12))


class Autoencoder(_Modules):
    """Anomaly detection of MLPerf Tiny: takes 640 values and learns to return them, through 8."""

    title = "autoencoder"
    input_shape = (640,)
    learns_targets = True

    def __init__(self) -> None:
        body: OrderedDict[str, nn.Module] = OrderedDict()
        before = 640
        for number, size in enumerate((128, 128, 128, 128, 8, 128, 128, 128, 128), 1):
            body[f"fc{number}"] = _normed(nn.Linear(before, size), channels=size)
            before = size
        super().__init__(**body, last=nn.Linear(before, 640))


TINY: dict[str, type[nn.Module]] = {"resnet-8": ResNet8, "resnet-20": ResNet20,
                                    "mobilenet-v1-0.25": MobileNetV1Quarter, "ds-cnn": DSCNN, "ds-cnn-1d": DSCNN1d,
                                    "autoencoder": Autoencoder}
"""These networks by name."""
