"""Convolutional networks written in torch, as their authors publish them: oracles of ours."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """A basic block as torchvision writes it; `padding` is option A of He et al."""

    def __init__(self, inputs: int, out: int, stride: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride, self.added = stride, out - inputs
        if (inputs, stride) != (out, 1) and shortcut == "projection":
            convolution = nn.Conv2d(inputs, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs for images or features x."""
        z = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "downsample"):
            return F.relu(z + self.downsample(x))
        half = self.added // 2
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.relu(z + F.pad(kept, (0, 0, 0, 0, half, self.added - half)))


class Resnet(nn.Module):
    """A residual network under torchvision's names."""

    def __init__(self, config: dict):
        super().__init__()
        widths, self.large = config["widths"], config.get("stem") == "large"
        side, stride, pad = (7, 2, 3) if self.large else (3, 1, 1)
        self.conv1 = nn.Conv2d(3, widths[0], side, stride, pad, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for stage, (count, width) in enumerate(zip(config["blocks"], widths, strict=True)):
            blocks = []
            for i in range(count):
                stride = 2 if stage and not i else 1
                shortcut = config.get("shortcut", "projection")
                blocks.append(Block(inputs, width, stride, shortcut))
                inputs = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, config["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs for images or features x."""
        x = F.relu(self.bn1(self.conv1(x)))
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        stage = 1
        while hasattr(self, f"layer{stage}"):
            x, stage = getattr(self, f"layer{stage}")(x), stage + 1
        return self.fc(x.mean((2, 3)))


class Mbconv(nn.Module):
    """An inverted residual block with TensorFlow's "SAME" padding."""

    def __init__(self, kernel: int, stride: int, inputs: int, inner: int, out: int, config: dict):
        super().__init__()
        if inner != inputs:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, 1e-3)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, 1e-3)
        if config.get("squeeze"):
            few = max(1, int(inputs * config["squeeze"]))
            self._se_reduce, self._se_expand = nn.Conv2d(inner, few, 1), nn.Conv2d(few, inner, 1)
        self._project_conv = nn.Conv2d(inner, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, 1e-3)
        self.skip = stride == 1 and inputs == out
        self.f = F.silu if config.get("activation") == "silu" else F.relu6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs for images or features x."""
        z = self.f(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        z = self.f(self._bn1(same(self._depthwise_conv, z)))
        if hasattr(self, "_se_reduce"):
            gate = self._se_expand(F.silu(self._se_reduce(z.mean((2, 3), keepdim=True))))
            z = z * torch.sigmoid(gate)
        z = self._bn2(self._project_conv(z))
        return z + x if self.skip else z


def same(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """TensorFlow's padding, from its definition: the odd zero at the bottom and right."""
    totals = []
    for size in reversed(x.shape[2:]):
        out = int(np.ceil(size / layer.stride[0]))
        total = max(0, (out - 1) * layer.stride[0] + layer.kernel_size[0] - size)
        totals += [total // 2, total - total // 2]
    return layer(F.pad(x, totals))


class Efficientnet(nn.Module):
    """An EfficientNet under the names of the efficientnet-pytorch packages."""

    def __init__(self, config: dict):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, config["stem"], 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(config["stem"], 1e-3)
        blocks = []
        for repeats, kernel, stride, expansion, inputs, out in config["stages"]:
            for i in range(repeats):
                entering = out if i else inputs
                inner = entering * expansion
                blocks.append(Mbconv(kernel, 1 if i else stride, entering, inner, out, config))
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(config["stages"][-1][-1], config["head"], 1, bias=False)
        self._bn1 = nn.BatchNorm2d(config["head"], 1e-3)
        self._fc = nn.Linear(config["head"], config["classes"])
        self.f = F.silu if config.get("activation") == "silu" else F.relu6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs for images or features x."""
        x = self.f(self._bn0(same(self._conv_stem, x)))
        for block in self._blocks:
            x = block(x)
        x = self.f(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))


def vgg(config: dict) -> nn.Module:
    """As torchvision's vgg and vgg_bn, or with the normalisation after the activation."""
    norm, channels, features = config.get("batch_norm", "none"), 3, []
    padding, eps = config.get("padding", 1), config.get("batch_norm_eps", 1e-5)
    for width in config["features"]:
        if width == "M":
            features.append(nn.MaxPool2d(2, 2))
            continue
        features.append(nn.Conv2d(channels, width, 3, padding=padding))
        both = [nn.BatchNorm2d(width, eps), nn.ReLU()]
        kept = {"none": both[1:], "before": both, "after": both[::-1]}[norm]
        features, channels = features + kept, width
    module = nn.Module()
    module.features = nn.Sequential(*features)
    side = config.get("pooled", 0)
    pool = nn.AdaptiveAvgPool2d(side) if side else nn.Identity()
    *hidden, last = config["classifier"]
    with torch.no_grad():
        inputs = pool(module.features(torch.zeros(1, *config["image"]))).numel()
    classifier = []
    for width in hidden:
        classifier += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout()]
        inputs = width
    module.classifier = nn.Sequential(*classifier, nn.Linear(inputs, last))
    module.forward = lambda x: module.classifier(pool(module.features(x)).flatten(1))
    return module
