"""The fused likelihood of pixels is cross-entropy of their logits, in value and in every gradient, in far less memory."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from latent.models import pixel_categorical
from latent.models.pixel_categorical import PixelCategorical, pixel_log_likelihood
from tests.conftest import ROOT

IMAGES, PIXELS, FEATURES, LEVELS = 7, 6, 3, 11
NAMES = ("features", "weight", "bias")


def naive(features, target, weight, bias):
    logits = features @ weight.t() + bias
    return logits.log_softmax(2).gather(2, target.long().unsqueeze(2)).sum((1, 2))


def problem(images=IMAGES, dtype=torch.float64, scale=1.0, seed=0):
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return (torch.randn(shape, generator=draws, dtype=torch.float64) * scale).to(dtype).requires_grad_()

    target = torch.randint(LEVELS, (images, PIXELS), generator=draws)
    return normal(images, PIXELS, FEATURES), target, normal(LEVELS, FEATURES), normal(LEVELS)


def gradients(function, features, target, weight, bias):
    value = function(features, target, weight, bias)
    coefficients = torch.linspace(-1, 2, len(value), dtype=value.dtype)
    return value, torch.autograd.grad((coefficients * value).sum(), (features, weight, bias))


def of_images(monkeypatch, images, dtype=torch.float64):
    """Make chunks hold so many images."""
    monkeypatch.setattr(pixel_categorical, "CPU_CHUNK_BYTES", images * PIXELS * LEVELS * dtype.itemsize)


@pytest.mark.parametrize("images", [0, 1, 3, 4, 6, 7])
@pytest.mark.parametrize("chunk", [0, 1, 3, 100])
def test_value_and_gradients_are_those_of_the_logits(monkeypatch, images, chunk):
    of_images(monkeypatch, chunk)
    value, found = gradients(pixel_log_likelihood, *problem(images))
    expected, wanted = gradients(naive, *problem(images))
    assert value.shape == (images,)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences(monkeypatch):
    of_images(monkeypatch, 2)
    features, target, weight, bias = problem(3)
    assert torch.autograd.gradcheck(lambda *given: pixel_log_likelihood(given[0], target, *given[1:]), (features, weight, bias))


@pytest.mark.parametrize("graph", [False, True])
def test_a_second_derivative_is_refused_whether_the_gradient_has_a_graph_or_not(graph):
    features, target, weight, bias = problem()
    value = pixel_log_likelihood(features, target, weight, bias)
    value = (value**2 if graph else value).sum()
    (slope,) = torch.autograd.grad(value, features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_graph_that_is_kept_gives_the_same_gradients_again():
    features, target, weight, bias = problem()
    value = pixel_log_likelihood(features, target, weight, bias).sum()
    first = torch.autograd.grad(value, (features, weight, bias), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(value, (features, weight, bias)), first, rtol=0, atol=0)


@pytest.mark.parametrize("of", [{"features"}, {"weight", "bias"}, {"weight"}, {"bias"}, {"features", "bias"}])
def test_only_what_needs_a_gradient_is_kept_and_gets_one(of):
    features, target, weight, bias = problem()
    for name, tensor in zip(NAMES, (features, weight, bias), strict=True):
        tensor.requires_grad_(name in of)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor):
        value = pixel_log_likelihood(features, target, weight, bias)
    slopes, moments = (IMAGES, FEATURES, PIXELS), (IMAGES, FEATURES + 1, LEVELS)
    assert kept == [slopes] * ("features" in of) + [moments] * bool(of & {"weight", "bias"})
    value.sum().backward()
    wanted = torch.autograd.grad(naive(*(everything := problem())).sum(), (everything[0], *everything[2:]))
    for name, tensor, gradient in zip(NAMES, (features, weight, bias), wanted, strict=True):
        if name in of:
            torch.testing.assert_close(tensor.grad, gradient)
        else:
            assert tensor.grad is None


def test_without_gradients_the_value_is_the_same_and_has_no_graph(monkeypatch):
    of_images(monkeypatch, 3)
    features, target, weight, bias = problem()
    expected = naive(features, target, weight, bias)
    with torch.no_grad():
        value = pixel_log_likelihood(features, target, weight, bias)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected)
    value = pixel_log_likelihood(features.detach(), target, weight.detach(), bias.detach())
    assert not value.requires_grad
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [5, 12, 100])
def test_large_logits_lose_nothing(dtype, scale):
    features, target, weight, bias = given = problem(dtype=dtype, scale=scale)
    logits = features @ weight.t() + bias
    assert scale < 100 or logits.abs().max() > 1e4
    likelihood = logits.softmax(2).gather(2, target.unsqueeze(2))
    assert scale < 100 or (likelihood == 0).any()
    precise = [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in (features, weight, bias)]
    expected, wanted = gradients(naive, precise[0], target, *precise[1:])
    value, found = gradients(pixel_log_likelihood, *given)
    with torch.no_grad():
        alone = pixel_log_likelihood(*given)
    # What rounding the logits costs, whoever sums them.
    rounding = 20 * torch.finfo(dtype).eps * float(logits.detach().abs().max())
    for result in (value, alone):
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=rounding)
    for gradient, exact in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=rounding * scale)


def test_a_likelihood_of_almost_none_is_precise():
    below = torch.linspace(-110, -60, 51)
    bias = torch.cat((below, torch.zeros(1))).requires_grad_()
    target = torch.arange(51).unsqueeze(1)
    value = pixel_log_likelihood(torch.zeros(51, 1, 2), target, torch.zeros(52, 2), bias)
    torch.testing.assert_close(value.detach(), below, rtol=1e-6, atol=0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("grad", [False, True])
def test_features_that_are_not_finite_show(broken, grad):
    features, target, weight, bias = (tensor.detach() for tensor in problem())
    features[2, 3, 1] = broken
    value = pixel_log_likelihood(features.requires_grad_(grad), target, weight, bias)
    assert value.isfinite().tolist() == [image != 2 for image in range(IMAGES)]


def test_a_level_that_is_masked_has_no_likelihood():
    features, target, weight, bias = (tensor.detach() for tensor in problem())
    bias[4] = -float("inf")
    for grad in (False, True):
        value = pixel_log_likelihood(features.requires_grad_(grad), target, weight, bias)
        torch.testing.assert_close(value, naive(features, target, weight, bias))
    assert value.isneginf().tolist() == (target == 4).any(1).tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    features, target, weight, bias = given = problem(dtype=dtype)
    value, found = gradients(pixel_log_likelihood, *given)
    single = [tensor.detach().float().requires_grad_() for tensor in (features, weight, bias)]
    expected, wanted = gradients(naive, single[0], target, *single[1:])
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    assert [gradient.dtype for gradient in found] == [dtype] * 3
    torch.testing.assert_close(found, tuple(gradient.to(dtype) for gradient in wanted))


def test_types_may_be_mixed_and_autocast_changes_nothing():
    features, target, weight, bias = (tensor.detach() for tensor in problem(dtype=torch.float32))
    given = features.bfloat16().requires_grad_(), target.to(torch.uint16), weight.requires_grad_(), bias.requires_grad_()
    value, found = gradients(pixel_log_likelihood, *given)
    assert value.dtype == torch.float32
    assert [gradient.dtype for gradient in found] == [torch.bfloat16, torch.float32, torch.float32]
    with torch.autocast("cpu", torch.bfloat16):
        again, same = gradients(pixel_log_likelihood, *given)
    torch.testing.assert_close((again, *same), (value, *found), rtol=0, atol=0)


def test_features_may_lie_in_memory_in_any_order():
    features, target, weight, bias = problem()
    planes = features.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    expected, wanted = gradients(pixel_log_likelihood, features, target, weight, bias)
    value, found = gradients(pixel_log_likelihood, planes, target, weight, bias)
    torch.testing.assert_close((value, *found), (expected, *wanted), rtol=1e-12, atol=1e-12)


def test_what_does_not_fit_is_refused():
    features, target, weight, bias = problem()
    with pytest.raises(ValueError, match=r"features must be \[N, P, 3\]"):
        pixel_log_likelihood(features[..., :2], target, weight, bias)
    with pytest.raises(ValueError, match=r"features must be \[N, P, 3\]"):
        pixel_log_likelihood(features[0], target, weight, bias)
    with pytest.raises(ValueError, match=r"target must be \[7, 6\], as features are \[7, 6, 3\], not \[7, 5\]"):
        pixel_log_likelihood(features, target[:, :5], weight, bias)
    with pytest.raises(ValueError, match=r"weight must be \[L, F\] and bias \[L\], not \[11, 3\] and \[10\]"):
        pixel_log_likelihood(features, target, weight, bias[:10])
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(ValueError, match="target must be of an integer type"):
            pixel_log_likelihood(features, target.to(dtype), weight, bias)
    for level in (-1, LEVELS):
        target[3, 4] = level
        with pytest.raises(IndexError, match="below 11, the number of levels"):
            pixel_log_likelihood(features, target, weight, bias)


def test_the_layer_is_initialised_as_a_linear_one_and_agrees_with_it():
    torch.manual_seed(0)
    layer = PixelCategorical()
    torch.manual_seed(0)
    linear = nn.Linear(5, 256)
    torch.testing.assert_close(dict(layer.state_dict()), dict(linear.state_dict()))
    assert repr(layer) == "PixelCategorical(levels=256, features=5)"
    features, target = torch.randn(3, 20, 5), torch.randint(256, (3, 20))
    cross_entropy = nn.functional.cross_entropy(linear(features).flatten(0, 1), target.flatten(), reduction="none")
    expected = -cross_entropy.view(3, 20).sum(1)
    value = layer(features, target)
    torch.testing.assert_close(value, expected)
    value.mean().backward()
    expected.mean().backward()
    torch.testing.assert_close(layer.weight.grad, linear.weight.grad)
    torch.testing.assert_close(layer.bias.grad, linear.bias.grad)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
def test_the_logits_of_all_images_are_never_in_memory():
    code = """
        from pathlib import Path

        import torch

        from latent.models.pixel_categorical import PixelCategorical

        torch.set_num_threads(1)

        def peak():
            return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

        def step(images):
            features = torch.randn(images, 784, 5, requires_grad=True)
            layer(features, torch.randint(256, (images, 784))).mean().backward()

        layer = PixelCategorical()
        step(1)
        before = peak()
        step(640)
        print(peak() - before)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True)
    logits = 640 * 784 * 256 * 4 / 2**20
    assert float(run.stdout) < logits / 5
