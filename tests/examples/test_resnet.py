import numpy as np
import pytest
import torch

from examples.resnet import recipe
from optimize.export import predictor


@pytest.fixture(scope="module")
def network():
    torch.set_num_threads(1)
    return recipe.model()


def test_it_has_the_parameters_of_resnet18(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_689_512


def test_the_model_agrees_with_itself(network):
    assert recipe.evaluate(predictor(network, ["image"], recipe.outputs)) == 1


def test_another_class_is_no_agreement(network):
    wrong = np.zeros((1, 1000), np.float32)
    wrong[0, 999] = 1
    assert recipe.evaluate(lambda inputs: {"logits": wrong}) == 0


def test_the_same_seed_gives_the_same_weights(network):
    again = recipe.model()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert torch.equal(network.stem[1].running_mean, again.stem[1].running_mean)


def test_no_image_is_used_twice():
    examples, calibration = recipe.example_inputs(), recipe.calibration()
    images = [inputs["image"] for inputs in (*examples, *calibration)]
    assert {image.shape for image in images} == {(1, 3, 224, 224)}
    assert len({image.tobytes() for image in images}) == len(images)
