"""Expectations under a trained q: exact where that is affordable, else estimated with a standard error that is right."""

import pytest
import torch

import estimators
from estimators import BitVector, Categorical, Categoricals, RandomDraws, expectations
from estimators.expectations import SAMPLES, Evaluation, Measurement, expectation

F64 = torch.float64
NAMES = ["dense", "sparsemax", "entmax", "bounded_sparse", "score_function", "gumbel_softmax", "unordered_set"]
LATENTS = {
    "categorical": Categorical,
    "bits": BitVector,
    "several": lambda scores: Categoricals(scores, 3),
}


def draws(seed=0):
    return RandomDraws(torch.Generator().manual_seed(seed))


def scores(size=6, batch=4, scale=1.5):
    return scale * torch.randn(batch, size, dtype=F64, generator=torch.Generator().manual_seed(1))


def losses(pairs):
    """Of any latent whose states are vectors."""
    weights = torch.linspace(-1, 2, pairs.size, dtype=F64)
    return (pairs.value * weights).sum(1).square() + pairs.gather(torch.arange(pairs.batch_size, dtype=F64))


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_few_states_are_summed_over(name, latent):
    estimator = estimators.build(name, **({"budget": 2} if name == "bounded_sparse" else {})).eval()
    space = LATENTS[latent](scores())
    found = expectation(estimator, space, draws())
    q = estimator.probabilities(space)
    every = losses(space.enumerate()).view(4, -1)
    torch.testing.assert_close(found.of(losses(found.pairs)), (q * every).sum(1))
    assert not found.sampled
    assert found.variances(loss=losses(found.pairs)) == {}
    assert torch.equal(found.pairs.counts, (q > 0).sum(1))  # no state without mass is decoded
    torch.testing.assert_close(found.entropy, -torch.where(q > 0, q * q.clamp(min=1e-300).log(), 0).sum(1))
    best = space.vectors(space.at(q.argmax(1, keepdim=True)))[:, 0]
    torch.testing.assert_close(found.most_likely.value.to(F64), best.to(F64))
    assert torch.equal(found.decoder_calls, estimator.propose(space, draws()).pairs.counts)


def test_of_many_states_only_samples_are_decoded_and_their_error_is_told(monkeypatch):
    monkeypatch.setattr(expectations, "MOST_DECODED", 10)
    space = Categorical(scores(40))
    estimator = estimators.build("score_function")
    exact = (space.probabilities * losses(space.enumerate()).view(4, -1)).sum(1)
    values, variances = [], []
    for seed in range(400):
        found = expectation(estimator, space, draws(seed))
        assert found.sampled
        assert len(found.pairs) == 4 * SAMPLES
        values.append(found.of(losses(found.pairs)))
        variances.append(found.variances(loss=losses(found.pairs))["loss"])
    values, variances = torch.stack(values), torch.stack(variances)
    error = (values.var(0) / len(values)).sqrt()
    assert ((values.mean(0) - exact).abs() / error).max() < 4.5
    torch.testing.assert_close(variances.mean(0), values.var(0), rtol=0.25, atol=0)


@pytest.mark.parametrize("name", ["sparsemax", "bounded_sparse"])
def test_a_small_support_of_many_states_is_summed_over(name):
    space = Categorical(scores(20_000, scale=3))
    found = expectation(estimators.build(name), space, draws())
    assert not found.sampled
    assert len(found.pairs) < 100
    q = estimators.build("sparsemax").probabilities(space)
    torch.testing.assert_close(found.of(found.pairs.index.double()), q @ torch.arange(20_000, dtype=F64))


def test_samples_of_a_sparse_q_are_its_own(monkeypatch):
    """Those of bounded sparse marginalization, whose support exceeds what is decoded, are not softmax's."""
    monkeypatch.setattr(expectations, "MOST_DECODED", 1)
    space = Categorical(scores(8, scale=0.6))
    estimator = estimators.build("bounded_sparse", budget=2)
    q = estimator.probabilities(space)
    assert (q == 0).any()
    for seed in range(50):
        pairs = expectation(estimator, space, draws(seed)).pairs
        assert (q[pairs.row, pairs.index] > 0).all()


def test_bits_too_many_to_list_are_sampled():
    found = expectation(estimators.build("score_function"), BitVector(scores(40)), draws())
    assert found.sampled
    assert len(found.pairs) == 4 * SAMPLES
    assert torch.equal(found.most_likely.value, (scores(40) > 0).to(F64))


def test_an_evaluation_joins_batches_some_of_which_were_sampled():
    exact = Measurement({"loss": torch.tensor([1.0, 3.0])}, {}, {"state": torch.tensor([4, 5])})
    sampled = Measurement({"loss": torch.tensor([5.0])}, {"loss": torch.tensor([9.0])}, {"state": torch.tensor([6])})
    for parts in ([exact, sampled], [sampled, exact]):
        found = Evaluation.of(parts)
        assert found.metrics == {"loss": 3.0, "loss_standard_error": 1.0}
        assert sorted(found.examples["state"].tolist()) == [4, 5, 6]
    assert Evaluation.of([exact]).metrics == {"loss": 2.0}
