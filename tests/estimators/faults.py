"""Faults to plant in every registered estimator, and in the kinds of latent: each must fail its certificate.

A fault is an edit of the source: a text, and what a mistaken author would have written.
"""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

import estimators
from estimators import BitVector, Categorical, Categoricals
from estimators.baselines import InputDependent
from estimators.relaxations import GumbelScores, LogisticScores
from estimators.spaces import products


class Fault(NamedTuple):
    """A mistake in a function.

    Attributes:
        mistake: in words.
        function: where it is made.
        right: what stands there, once.
        wrong: what a mistaken author would have written.
        options: of the estimator that it is certified with.
        latent: what it is certified on.
    """

    mistake: str
    function: Callable[..., Any]
    right: str
    wrong: str
    options: Mapping[str, Any] = {}
    latent: str = "categorical"


def planted(monkeypatch, fault):
    """Put the mistake in the place of what is right, wherever the function is known."""
    function = fault.function
    source = textwrap.dedent(inspect.getsource(function)).removeprefix("@property\n")
    made = property if inspect.getsource(function).lstrip().startswith("@property") else lambda edited: edited
    assert source.count(fault.right) == 1, source
    scope: dict = {}
    exec("from __future__ import annotations\n" + source.replace(fault.right, fault.wrong), function.__globals__, scope)
    owner, _, name = function.__qualname__.rpartition(".")
    place = function.__globals__[owner] if owner else inspect.getmodule(function)
    monkeypatch.setattr(place, name, made(scope[name]))


MARGINAL = "Estimate.marginal(proposal, losses)"
MEAN = "Estimate.of(proposal, *[proposal.pairs.pad(proposal.weights * losses).mean(1)] * 2)"
CONSTANT = "Estimate.of(proposal, *[proposal.pairs.sum(proposal.weights.detach() * losses)] * 2)"

BITS, SEVERAL = {"latent": "bit_vector"}, {"latent": "categoricals"}
LEAVE_ONE_OUT = {"baseline": "leave_one_out", "samples": 2}

FAULTS: dict[str, list[Fault]] = {
    "dense": [
        Fault(
            "constant weights",
            estimators.Dense.propose,
            "space.probabilities.flatten()",
            "space.probabilities.flatten().detach() + 0 * space.leaf.sum()",
        ),
        Fault("the mean for the sum", estimators.Dense.combine, MARGINAL, MEAN, **BITS),
    ],
    "sparsemax": [
        Fault(
            "constant weights",
            estimators.SparseMarginalization.propose,
            "weights = q.flatten()",
            "weights = 0 * q.sum() + q.detach().flatten()",
        ),
        Fault(
            "the support of the whole batch",
            estimators.SparseMarginalization.propose,
            "keep = q.detach() > 0",
            "keep = (q.detach() > 0).any(0).expand_as(q)",
        ),
    ],
    "entmax": [
        Fault(
            "normalised again",
            estimators.SparseMarginalization.propose,
            "sparse_entmax(space.all_scores, alpha)",
            "(space.code(space.all_states()), alpha_entmax(space.all_scores, alpha).softmax(1))",
        ),
        Fault(
            "the exponent of another mapping",
            estimators.SparseMarginalization.propose,
            "sparse_entmax(space.all_scores, alpha)",
            "sparse_entmax(space.all_scores, 2.0)",
            **SEVERAL,
        ),
    ],
    "top_k_sparsemax": [
        Fault("constant weights", estimators.TopKSparsemax.combine, MARGINAL, CONSTANT, {"k": 2}),
        Fault(
            "states and weights in different orders",
            estimators.TopKSparsemax.propose,
            "space.select(states, keep)",
            "space.select(states.flip(1), keep.flip(1))",
            {"k": 3},
            **BITS,
        ),
    ],
    "bounded_sparse": [
        Fault(
            "the sample is not weighted",
            estimators.BoundedSparse.propose,
            "q * others / self.sampled",
            "q",
            {"budget": 2},
        ),
        Fault(
            "centred losses are not grown",
            estimators.BoundedSparse.combine,
            "* torch.where(tail, latents.gather(grown), 1.0)",
            "",
            {"budget": 2},
        ),
    ],
    "sparse_map": [
        Fault(
            "the ends of intervals do not move",
            estimators.SparseMAP._distribution,
            "arcs(start, marginals)",
            "arcs(start.detach(), marginals)",
            {"budget": 2},
            **BITS,
        ),
        Fault("constant weights", estimators.SparseMAP.combine, MARGINAL, CONSTANT, **BITS),
    ],
    "score_function": [
        Fault(
            "the critic is not detached",
            estimators.ScoreFunction.combine,
            "advantage = detached - baseline.detach()",
            "advantage = detached - extra",
            {"baseline": "self_critic"},
        ),
        Fault(
            "the average knows the present",
            estimators.ScoreFunction.combine,
            "detached = losses.detach()",
            "detached = losses.detach(); self.baseline.update(detached)",
            {"baseline": "moving_average"},
        ),
        Fault(
            "a sample's own loss in its baseline",
            estimators.ScoreFunction.combine,
            "self.baseline(detached, extra.detach(), proposal.context)",
            "detached.mean(1, keepdim=True)",
            LEAVE_ONE_OUT,
        ),
        Fault(
            "the baseline has seen the loss",
            InputDependent.forward,
            "predicted.to(losses.dtype)",
            "0.5 * losses",
            {"baseline": "nvil"},
        ),
        Fault(
            "the network's loss reaches the encoder",
            estimators.ScoreFunction.combine,
            "advantage = detached - baseline.detach()",
            "advantage = losses - baseline.detach()",
            {"baseline": "nvil"},
        ),
    ],
    "sum_and_sample": [
        Fault(
            "two baselines",
            estimators.SumAndSample.combine,
            "surrogate=value + pairs",
            "surrogate=value + pairs.sum(weights * 0.5 * weights.detach()) + pairs",
            {"baseline": "moving_average"},
        ),
        Fault("the sample has full weight", estimators.SumAndSample.propose, "mass * ratio", "ratio"),
        Fault(
            "the sample may be one of those summed",
            estimators.SumAndSample.propose,
            "space.sample_outside(draws, best)",
            "(space.sample(draws, 1), space.sample_outside(draws, best)[1])",
            **SEVERAL,
        ),
    ],
    "unordered_set": [
        Fault(
            "importance weights of a sample with replacement",
            estimators.UnorderedSet.propose,
            "(inside * ratios)[keep]",
            "(inside / inside.sum(1, keepdim=True))[keep]",
            {"samples": 2},
        ),
        Fault(
            "first-order ratios in the baseline",
            estimators.UnorderedSet.propose,
            "pairs / singles.unsqueeze(2)",
            "(singles / completion[:, :1]).unsqueeze(1).expand(-1, k, -1)",
            {"samples": 2},
        ),
    ],
    "disarm": [
        Fault(
            "correlation ignored",
            estimators.ARMS.combine,
            "torch.where(differ > 0, independent / differ, 0.0)",
            "torch.ones_like(p)",
            **BITS,
        ),
        Fault(
            "the samples are not centred",
            estimators.ARMS.combine,
            "(losses - losses.mean(1, keepdim=True))",
            "(losses - 0.9 * losses.mean(1, keepdim=True))",
            **BITS,
        ),
    ],
    "arms": [
        Fault(
            "the correlation of a pair, whatever the number of samples",
            estimators.ARMS.combine,
            "disagreement(scores, self.samples)",
            "disagreement(scores, 2)",
            {"samples": 3},
            **BITS,
        ),
        Fault(
            "a mean over all samples",
            estimators.ARMS.combine,
            "/ (self.samples - 1)\n",
            "/ self.samples\n",
            {"samples": 3},
            **BITS,
        ),
    ],
    "vimco": [
        Fault(
            "a sample's own weight in its baseline",
            estimators.VIMCO.combine,
            "torch.where(own, others, log_weights.unsqueeze(1))",
            "log_weights.unsqueeze(1).expand(-1, self.samples, -1)",
            {"samples": 2},
        ),
        Fault(
            "q is forgotten in the weights",
            estimators.VIMCO.combine,
            "log_weights = log_weights - log_q",
            "pass",
            {"samples": 2, "weights": "importance"},
        ),
    ],
    "rebar": [
        Fault(
            "the first draw for the second",
            estimators.Relax.propose,
            "torch.cat([z.unsqueeze(1), finite.perturb_given(draws, sample, 1)], 1)",
            "torch.stack([z, z], 1)",
        ),
        Fault("the second draw's slope is forgotten", estimators.Relax.combine, "(first - second).sum()", "first.sum()"),
    ],
    "relax": [
        Fault("the control variate's own gradient is forgotten", estimators.Relax.combine, "+ pathwise", ""),
        Fault(
            "half the control variate in the signal",
            estimators.Relax.combine,
            "signal = value.detach() - second",
            "signal = value.detach() - second / 2",
        ),
    ],
    "straight_through": [
        Fault("no gradient", estimators.StraightThrough.propose, "(mean - mean.detach())", "0 * mean"),
        Fault(
            "twice the gradient",
            estimators.StraightThrough.propose,
            "(mean - mean.detach())",
            "2 * (mean - mean.detach())",
            **BITS,
        ),
    ],
    "reinmax": [
        Fault(
            "half a correction",
            estimators.ReinMax.propose,
            "noisy.linearised(mean) / 2",
            "noisy.linearised(mean)",
        ),
        Fault("not the midpoint", estimators.ReinMax.propose, "(softened + sample) / 2", "softened", **SEVERAL),
    ],
    "gumbel_softmax": [
        Fault("half the noise", GumbelScores.perturb, "draws.gumbel(self.scores)", "draws.gumbel(self.scores) / 2"),
        Fault(
            "the temperature is forgotten",
            estimators.GumbelSoftmax.propose,
            "self.temperature().to(noisy.dtype)",
            "2",
            {"straight_through": True},
        ),
        Fault(
            "the scores are rounded, not the noisy ones",
            estimators.GumbelSoftmax.propose,
            "scores.round(noisy)",
            "scores.round(scores.scores)",
            {"straight_through": True},
            **BITS,
        ),
        Fault(
            "Gumbel noise for bits", LogisticScores.perturb, "draws.logistic(self.scores)", "draws.gumbel(self.scores)", **BITS
        ),
    ],
    "gumbel_rao": [
        Fault(
            "noise that does not know the sample",
            GumbelScores.perturb_given,
            "conditional_gumbel(self.split(log_probabilities), place, self.split(noise)).flatten(-2)",
            "log_probabilities + noise",
        ),
        Fault(
            "the noise is differentiated",
            estimators.GumbelRao.propose,
            "- finite.detach()",
            "- 2 * finite + finite.detach()",
        ),
    ],
}
"""By the name of the estimator in the registry."""

SPACE_FAULTS: dict[str, tuple[str, Fault]] = {
    "outside a set: its mass is not taken away": (
        "sum_and_sample",
        Fault(
            "", products.sample_outside, "left = torch.where(q - taken > NEGLIGIBLE * q, q - taken, 0)", "left = q", **SEVERAL
        ),
    ),
    "outside a set: a state that has been left behind counts on": (
        "unordered_set",
        Fault(
            "",
            products.sample_outside,
            "alive = alive * (listed[..., variable] == value)",
            "alive = alive * 1",
            {"samples": 2},
            **BITS,
        ),
    ),
    "outside a set: the mass is that of what is listed": (
        "sum_and_sample",
        Fault("", products.sample_outside, "outside = 1 - ends[..., 0].sum(1)", "outside = ends[..., 0].sum(1)", **BITS),
    ),
    "without replacement: what was drawn is forgotten": (
        "unordered_set",
        Fault(
            "",
            products.without_replacement,
            "sample_outside(log_probabilities, states, draws)",
            "sample_outside(log_probabilities, states[:, :0], draws)",
            {"samples": 2},
            **SEVERAL,
        ),
    ),
    "without replacement: the mass left is that of all": (
        "unordered_set",
        Fault(
            "",
            products.without_replacement,
            "outside = 1 - torch.where",
            "outside = 1 - 0 * torch.where",
            {"samples": 2},
            **SEVERAL,
        ),
    ),
    "bits outside a set: of an older mass": (
        "sum_and_sample",
        Fault("", BitVector.sample_outside, "mass.to(self.dtype)", "mass.to(self.dtype).square()", **BITS),
    ),
    "a state outside a set: nothing is masked": (
        "sum_and_sample",
        Fault("", Categorical.sample_outside, "rest = q.scatter(1, states, 0)", "rest = q"),
    ),
    "several categoricals: the log-probability of the wrong variable": (
        "score_function",
        Fault(
            "",
            Categoricals.log_probability,
            "self._sum(self.log_probabilities, states)",
            "self._sum(self.log_probabilities, states.flip(2))",
            **SEVERAL,
        ),
    ),
    "several categoricals: the variables in one softmax": (
        "straight_through",
        Fault(
            "",
            Categoricals.mean.fget,
            "self.log_probabilities.exp().flatten(1)",
            "self.scores.softmax(-1)",
            **SEVERAL,
        ),
    ),
    "several categoricals: the number of another state": (
        "top_k_sparsemax",
        Fault("", Categoricals.code, "self._places", "self._places.flip(0)", {"k": 2}, **SEVERAL),
    ),
    "logistic noise given a bit: the wrong sign": (
        "rebar",
        Fault("", LogisticScores.perturb_given, "logsigmoid(-sign * scores)", "logsigmoid(sign * scores)", **BITS),
    ),
    "Gumbel noise given a state: scores that are not normalised": (
        "gumbel_rao",
        Fault("", GumbelScores.perturb_given, "self.normalised().scores.unsqueeze(1)", "self.finite.unsqueeze(1) + 2", {}),
    ),
}
"""Mistakes in what spaces and relaxations can do, with an estimator that asks for it; its options and latent in the fault."""


class Scaled(torch.autograd.Function):
    """The identity, with a gradient that is multiplied."""

    @staticmethod
    def forward(context, x, factor):
        context.factor = factor
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.factor, None


def with_estimate(change):
    """A combine whose estimate is changed; ``change`` gets the estimator, the proposal, the losses and the estimate."""

    def changed(owner):
        combine = owner.combine
        return lambda self, proposal, losses: change(self, proposal, losses, combine(self, proposal, losses))

    return changed


def own_batch_mean(self, proposal, losses, estimate):
    """A baseline of all losses of the batch, an example's own among them."""
    residual = proposal.memory["residual"] * proposal.memory["scores"]
    return estimate._replace(surrogate=estimate.surrogate - losses.detach().mean() * residual.sum(1))


def reaching_auxiliary(self, proposal, losses, estimate):
    return estimate._replace(auxiliary=losses.mean())


def other_examples_scores(self, proposal, losses, estimate):
    """A factor that is one where an example is alone, and hides from autograd."""
    entropy = estimate.entropy.detach()
    return estimate._replace(surrogate=estimate.surrogate * entropy / entropy.mean())


BREACHES = {
    "the others' scores in a factor": ("arms", other_examples_scores),
    "a value that holds the graph": ("score_function", lambda own, proposal, losses, e: e._replace(value=losses)),
    "a value that is not a number": ("score_function", lambda own, proposal, losses, e: e._replace(value=e.value * torch.nan)),
    "a decoder gradient that is not one": (
        "score_function",
        lambda own, proposal, losses, e: e._replace(surrogate=e.surrogate + 0 * Scaled.apply(losses, torch.nan)),
    ),
    "a sampled gradient that is not one": (
        "rebar",
        lambda own, proposal, losses, e: e._replace(
            surrogate=e.surrogate + 0 * Scaled.apply(losses.view(-1, 3)[:, 0], torch.nan)
        ),
    ),
    "wrong in training only": (
        "rebar",
        lambda own, proposal, losses, e: e._replace(surrogate=3 * e.surrogate) if own.training else e,
    ),
    "a wrong sampled value": ("rebar", lambda own, proposal, losses, e: e._replace(value=1.5 * e.value)),
    "its own loss in a batch mean": ("rebar", own_batch_mean),
    "twice the entropy": ("score_function", lambda own, proposal, losses, e: e._replace(entropy=2 * e.entropy)),
    "a constant entropy": ("score_function", lambda own, proposal, losses, e: e._replace(entropy=e.entropy.detach())),
    "free calls": ("score_function", lambda own, proposal, losses, e: e._replace(decoder_calls=0 * e.decoder_calls)),
    "no weights": ("score_function", lambda own, proposal, losses, e: e._replace(weights=0 * e.weights)),
    "one surrogate for all": ("score_function", lambda own, proposal, losses, e: e._replace(surrogate=e.surrogate.sum())),
    "an auxiliary loss of the decoder": ("score_function", reaching_auxiliary),
}
"""What breaks the contract besides: an estimator's name, and how its estimate is changed."""
