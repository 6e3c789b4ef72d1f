"""ResNet18 (He et al. 2015): 11.69 million parameters, 224x224 images, 1,000 classes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

WIDTHS = (64, 64, 128, 256, 512)


class ResNet18(nn.Module):
    """Four stages of two blocks; every stage after the first halves height and width."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        for number, (before, width) in enumerate(pairwise(WIDTHS)):
            blocks += [_Block(before, width, stride=2 if number else 1), _Block(width, width, stride=1)]
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = self.stages(self.stem(image)).mean((2, 3))
        logits: torch.Tensor = self.head(hidden)
        return logits


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution itself where the shape changes."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(before, width, 3, stride), nn.ReLU(), *_convolution(width, width, 3, 1)
        )
        changes = before != width or stride != 1
        self.shortcut = nn.Sequential(*(_convolution(before, width, 1, stride) if changes else ()))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(hidden) + self.shortcut(hidden))


def _convolution(before: int, width: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(width)
