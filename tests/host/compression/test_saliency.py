# SPDX-License-Identifier: Apache-2.0
"""Saliencies against derivatives that torch takes by itself; the choice of the greatest."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from host.compression.saliency import choose, saliencies
from host.training.forward import logits, tensors
from tests.support.stripes import dataset, network, with_weights


def parts(net):
    return [layer._replace(weight=layer.weight.double().requires_grad_(), bias=layer.bias.double())
            for layer in tensors(net)]


def test_magnitude_is_the_absolute_weight():
    net = network()
    found = saliencies("magnitude", net, np.zeros(0), np.zeros(0))
    assert all(np.array_equal(one, np.abs(layer.weight)) for one, layer in zip(found, net.layers, strict=True))


def test_fisher_is_the_mean_square_of_the_gradient():
    net, data = network(sizes=(49, 6, 5, 3)), dataset(120)
    layers = parts(net)
    sums = [torch.zeros_like(weight) for weight, *_ in layers]
    for image, label in zip(data.train_images, data.train_labels, strict=True):
        outputs = logits(layers, torch.from_numpy(image.reshape(1, -1) / 255))
        loss = functional.cross_entropy(outputs, torch.tensor([label]))
        for total, gradient in zip(sums, torch.autograd.grad(loss, [weight for weight, *_ in layers]), strict=True):
            total += gradient ** 2
    found = saliencies("fisher", net, data.train_images, data.train_labels)
    for one, total, (weight, *_) in zip(found, sums, layers, strict=True):
        assert np.allclose(one, (total / 20 * weight ** 2 / 2).detach().numpy(), rtol=1e-4, atol=1e-9)


def test_obd_is_exact_in_the_last_layer():
    """In earlier layers LeCun's recursion leaves out the second derivatives across outputs."""
    net, data = network(sizes=(49, 6, 3)), dataset(120)
    (first, last) = parts(net)
    inputs = torch.from_numpy(data.train_images.reshape(20, -1) / 255)

    def loss(weight):
        outputs = logits([first, last._replace(weight=weight.reshape(last.weight.shape))], inputs)
        return functional.cross_entropy(outputs, torch.from_numpy(data.train_labels))
    flat = last[0].detach().flatten()
    diagonal = torch.autograd.functional.hessian(loss, flat).diagonal()
    found = saliencies("obd", net, data.train_images, data.train_labels)
    assert np.allclose(found[1].ravel(), (diagonal * flat ** 2 / 2).numpy(), rtol=1e-4, atol=1e-9)
    # With one hidden neuron for each output, none is left out but a factor.
    single = with_weights(net, {"fc2": np.abs(np.eye(3, 6, dtype=np.float32))})
    (first, last) = parts(single)

    def loss_of_first(weight):
        outputs = logits([first._replace(weight=weight.reshape(first.weight.shape)), last], inputs)
        return functional.cross_entropy(outputs, torch.from_numpy(data.train_labels))
    flat = first[0].detach().flatten()
    diagonal = torch.autograd.functional.hessian(loss_of_first, flat).diagonal()
    found = saliencies("obd", single, data.train_images, data.train_labels)
    assert np.allclose(found[0].ravel(), (diagonal * flat ** 2 / 2).numpy(), rtol=1e-4, atol=1e-9)


def test_of_targets_the_loss_is_the_mean_squared_error():
    """In a single layer both criteria are exact: with x into and y out of it, 2/3 x^2 and (2/3 (y - t) x)^2."""
    net, data = network(sizes=(49, 3)), dataset(120)
    targets = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    inputs = data.train_images.reshape(20, -1) / 255
    (layer,) = net.layers
    misses = inputs @ layer.weight.T + layer.bias - targets
    for criterion, seconds in (("obd", np.tile(2 / 3 * np.square(inputs).mean(axis=0), (3, 1))),
                               ("fisher", np.square(2 / 3 * misses[:, :, None] * inputs[:, None]).mean(axis=0))):
        (found,) = saliencies(criterion, net, data.train_images, targets)
        assert np.allclose(found, seconds * layer.weight.astype(float) ** 2 / 2, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("criterion", ["obd", "fisher"])
def test_inputs_that_are_always_dark_do_not_matter(criterion):
    data = dataset()
    images = data.train_images.copy()
    images[:, 0, 0] = 0
    first, *_ = saliencies(criterion, network(), images, data.train_labels)
    assert not first[:, 0].any() and first[:, 1:].any(axis=0).all()


def test_the_greatest_saliencies_are_chosen():
    saliency = [np.array([[3.0, 1.0], [2.0, 0.5]]), np.array([[5.0, 0.1]])]
    one, two = choose(saliency, [2, 1])
    assert one.tolist() == [[True, False], [True, False]] and two.tolist() == [[True, False]]
    one, two = choose(saliency, 2)
    assert one.tolist() == [[True, False], [False, False]] and two.tolist() == [[True, False]]
    assert choose([np.ones((2, 2))], [1])[0].tolist() == [[False, False], [False, True]]
    assert not choose(saliency, 0)[0].any() and choose(saliency, 6)[1].all()
