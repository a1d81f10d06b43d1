"""Steps of the weights: Muon against its definition by singular values, whatever the memory."""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.train

from torch import nn  # noqa: E402

from simscope.learn.optimiser import Optimiser  # noqa: E402
from simscope.learn.plan import Plan  # noqa: E402

RATE = 1e-3


def network():
    """A wide convolution, one of a single pixel, and biases; gradients that never change."""
    generator = torch.Generator().manual_seed(3)
    layers = nn.Sequential(nn.Conv2d(5, 8, 3), nn.Conv2d(8, 4, 1))
    for values in layers.parameters():
        with torch.no_grad():
            values.copy_(torch.randn(values.shape, generator=generator))
        values.grad = torch.randn(values.shape, generator=generator)
    return layers


def in_layout(layers, layout):
    """The network in a memory format, gradients left in whatever order they come."""
    gradients = [values.grad for values in layers.parameters()]
    layers.to(memory_format=layout)
    for values, gradient in zip(layers.parameters(), gradients, strict=True):
        values.grad = gradient.contiguous()
    return layers


def moved(layers, name, steps=1, weight_decay=0.0):
    before = [values.detach().clone() for values in layers.parameters()]
    optimiser = Optimiser(layers, name, RATE, weight_decay)
    for _ in range(steps):
        optimiser.step(RATE)
    return [after.detach() - b for after, b in zip(layers.parameters(), before, strict=True)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_kernels_along_all_singular_directions_of_the_gradient_alike(layout):
    layers = in_layout(network(), layout)
    step = -moved(layers, "muon")[0].flatten(1).double() / (RATE * 0.2 * math.sqrt(45))
    left, _, right = torch.linalg.svd(layers[0].weight.grad.flatten(1).double(), False)
    along = left.T @ step @ right.T
    assert (along - torch.diag(along.diagonal())).abs().max() < 0.05
    assert along.diagonal().min() > 0.6  # 0.7 to 1.2, as its authors state
    assert along.diagonal().max() < 1.3


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch below 2.9 has no Muon")
@pytest.mark.parametrize("shape", [(8, 5, 3, 3), (64, 2, 3, 3), (6, 1, 5, 5)])
def test_muon_takes_the_steps_of_pytorchs_own(shape):
    generator = torch.Generator().manual_seed(4)
    layers = nn.Sequential(nn.Conv2d(shape[1], shape[0], shape[2], bias=False))
    layers.to(memory_format=torch.channels_last)
    kernel = layers[0].weight
    matrix = nn.Parameter(kernel.detach().movedim(1, 3).flatten(1).clone())
    other = torch.optim.Muon([matrix], RATE, 0.1, adjust_lr_fn="match_rms_adamw")
    ours = Optimiser(layers, "muon", RATE, 0.1, torch.bfloat16)
    for _ in range(3):
        kernel.grad = torch.randn(shape, generator=generator)
        matrix.grad = kernel.grad.movedim(1, 3).flatten(1)
        ours.step(RATE)
        other.step()
        assert torch.equal(kernel.detach().movedim(1, 3).flatten(1), matrix.detach())


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_everything_but_wide_kernels_takes_steps_of_adamw(name):
    layers = network()
    steps = moved(layers, name)
    for number, (step, values) in enumerate(zip(steps, layers.parameters(), strict=True)):
        if name == "adamw" or number > 0:
            torch.testing.assert_close(step, -RATE * values.grad.sign(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_rate_of_each_step_and_the_decay_count(name):
    layers, idle = network(), network()
    for values in idle.parameters():
        values.grad = torch.zeros_like(values)
    before = [values.detach().clone() for values in idle.parameters()]
    for values, was, now in zip(idle.parameters(), before, moved(idle, name, 1, 10.0), strict=True):
        torch.testing.assert_close(now, -RATE * 10.0 * was, msg=str(values.shape))
    optimiser = Optimiser(layers, name, RATE, 0.0)
    before = layers[0].weight.detach().clone()
    optimiser.step(0.0)
    assert torch.equal(layers[0].weight, before)
    optimiser.step(2 * RATE)
    assert optimiser.learning_rate == 2 * RATE
    assert not torch.equal(layers[0].weight, before)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_moments_put_back_give_the_same_steps(name):
    whole, again = network(), network()
    optimiser = Optimiser(whole, name, RATE, 1e-4)
    for _ in range(3):
        optimiser.step(RATE)
    other = Optimiser(again, name, RATE, 1e-4)
    for _ in range(2):
        other.step(RATE)
    third = Optimiser(again, name, RATE, 1e-4)
    third.restore({path: value.clone() for path, value in other.state().items()})
    third.step(RATE)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="optimiser"):
        Plan(steps=1, optimiser="sgd")
