"""The published sender's scalar function, against its formula in torch's own operations."""

import pytest
import torch

from games.agents import ScalarFunctionSender
from games.agents import scalar_function as module
from games.agents.scalar_function import scalar_function

F64 = torch.float64


def formula(embedded, expand_weight, contract_weight):
    hidden = torch.sigmoid(torch.nn.functional.linear(embedded.unsqueeze(-1), expand_weight))
    return torch.sigmoid(torch.nn.functional.linear(hidden, contract_weight)).squeeze(-1)


def arguments(shape=(3, 5), units=7, dtype=F64):
    torch.manual_seed(0)
    values = torch.randn(shape, dtype=F64), torch.randn(units, 1, dtype=F64), torch.randn(1, units, dtype=F64) / units**0.5
    return [value.to(dtype).requires_grad_() for value in values]


def gradients(function, given, direction):
    return torch.autograd.grad((function(*given) * direction).sum(), given)


@pytest.fixture(params=[1, 200, 1 << 19])
def chunk(request, monkeypatch):
    """One coordinate at a time; three, which leaves a rest; and all at once."""
    monkeypatch.setattr(module, "CPU_CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("chunk")
def test_values_and_gradients_are_those_of_the_formula():
    for shape in ((3, 5), (16,), (2, 3, 4), ()):
        given = arguments(shape)
        torch.testing.assert_close(scalar_function(*given), formula(*given), rtol=1e-13, atol=0)
        direction = torch.randn(shape, dtype=F64)
        expected = gradients(formula, given, direction)
        for found, wanted in zip(gradients(scalar_function, given, direction), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("chunk")
def test_gradcheck_to_the_second_order():
    given = arguments()
    assert torch.autograd.gradcheck(scalar_function, given)
    assert torch.autograd.gradgradcheck(scalar_function, given)
    given[0] = given[0].detach()
    assert torch.autograd.gradcheck(scalar_function, given)
    assert torch.autograd.gradgradcheck(scalar_function, given)


def test_single_precision_is_as_precise_as_the_formula_at_the_published_size():
    single = arguments((64, 256), 512, torch.float32)
    double = [value.detach().double().requires_grad_() for value in single]
    direction = torch.randn(64, 256)
    precise = gradients(formula, double, direction.double())
    plain = gradients(formula, single, direction)
    for found, other, wanted in zip(gradients(scalar_function, single, direction), plain, precise, strict=True):
        size = wanted.norm()
        assert (found - wanted).norm() / size < 1.5 * (other - wanted).norm() / size + 3e-7
    torch.testing.assert_close(scalar_function(*single), formula(*single), rtol=0, atol=5e-7)


def test_no_hidden_unit_is_kept_for_the_backward_pass():
    given = arguments((64, 256), 512, torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        scalar_function(*given)
    assert max(kept) == 64 * 256


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_mixed_precision_computes_in_the_precision_of_the_weights(kind):
    given = arguments(dtype=torch.float32)
    half = given[0].detach().to(kind).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = scalar_function(half, *given[1:])
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, formula(half.float(), *given[1:]))
    slope = torch.autograd.grad(value.sum(), half)[0]
    assert slope.dtype == kind


def test_the_published_sender_is_its_formula():
    torch.manual_seed(0)
    sender = ScalarFunctionSender(6, 5, hidden_size=8)
    target = torch.randn(4, 6)
    expected = sender.score(formula(sender.embed(target), sender.expand.weight, sender.contract.weight)) / 10
    torch.testing.assert_close(sender(target), expected)
