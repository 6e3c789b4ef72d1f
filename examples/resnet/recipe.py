"""The recipe for `headrace optimize`: what INT8 gains in size and speed on a network of ResNet18's size.

The weights are random, from a fixed seed: this example is about size and speed only. What evaluate()
gives is no accuracy on labelled data. It is the share of 16 made-up images for which a version's first
class is the FP32 torch model's; and as 1,000 random classes lie close together, INT8 swaps some of the
first two where its answers as a whole hardly change (the report's "agreement").
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from examples.resnet.network import ResNet18
from headrace.tensors import Array, TensorMap
from optimize.checkpoint import seed

SIZE = 224  # pixels
EXAMPLES, CALIBRATION, JUDGED = 4, 8, 16  # images

outputs = ["logits"]


def model() -> torch.nn.Module:
    """Random weights; batch norms hold the averages of the calibration images, so that those differ."""
    seed(0)
    network = ResNet18()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one batch is the whole average
    with torch.inference_mode():
        network(torch.from_numpy(np.concatenate([inputs["image"] for inputs in calibration()])))
    return network.eval()


def example_inputs() -> list[TensorMap]:
    return [{"image": image(number)} for number in range(EXAMPLES)]


def dynamic_shapes() -> dict[str, dict[int, str]]:
    return {"image": {0: "batch"}}


def calibration() -> list[TensorMap]:
    return [{"image": image(1000 + number)} for number in range(CALIBRATION)]


def evaluate(predict: Callable[[TensorMap], TensorMap]) -> float:
    same = [
        predict({"image": image(2000 + number)})["logits"].argmax() == wanted
        for number, wanted in enumerate(_wanted())
    ]
    return float(np.mean(same))


def image(number: int) -> Array:
    """(1, 3, SIZE, SIZE) FP32: waves of unlike lengths and directions, and a little noise."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    waves = np.zeros((3, SIZE, SIZE))
    for _ in range(6):
        across, down = random.normal(0, 8, 2)
        height, phase = random.normal(0, 0.7, 3), random.uniform(0, 2 * np.pi)
        waves += height[:, None, None] * np.sin(2 * np.pi * (across * x + down * y) + phase)
    noisy: Array = (waves + random.normal(0, 0.1, waves.shape)).astype(np.float32)[None]
    return noisy


@cache
def _wanted() -> tuple[int, ...]:
    """The FP32 torch model's first classes of the judged images."""
    network = model()
    with torch.inference_mode():
        return tuple(int(network(torch.from_numpy(image(2000 + n))).argmax()) for n in range(JUDGED))
