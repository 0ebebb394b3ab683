"""What an estimate owes to the contract besides its gradient: shapes, counted calls, the entropy, separate examples."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from estimators.base import Estimator
from estimators.certificates.problems import Problem
from estimators.draws import RandomDraws
from estimators.pairs import Latents
from estimators.seeds import derived_seed
from estimators.spaces import Categorical


def contract_faults(estimator: Estimator, problem: Problem, coupling: bool) -> tuple[str, ...]:
    """What an estimate breaks of the contract, on a batch of three examples; ``coupling``: whether examples may not meet.

    Enumeration of a batch sees what one example does to another's gradient. Where each is certified alone, it must do nothing:
    neither its scores, nor its decoder, nor its losses.
    """
    rows = torch.tensor([0, 1, 0])
    default = torch.get_rng_state()
    run = Contract(estimator, problem, rows)
    checks = {
        "forward is overridden": type(estimator).forward is Estimator.forward,
        "it draws from torch's own generator": torch.equal(default, torch.get_rng_state()),
        "surrogate, value, entropy and decoder_calls must be [B]": run.shapes_are_right,
        "decoder_calls are not the pairs decoded": run.calls_are_counted,
        "the entropy, or its gradient, is not that of its probabilities, which must be differentiable": run.entropy_is_right,
        "the auxiliary loss reaches the encoder or the decoder": run.auxiliary_is_separate,
        "value, weights and metrics must be detached": run.reports_are_detached,
        "marginalizes, but its pairs are not the support of q, weighted by q": run.support_is_whole,
        "sparse and its probabilities disagree: unless declared so, q is the space's own": run.q_is_told,
        "relaxes and what the relaxation says of its latents disagree": run.relaxation_is_told,
        "q does not maximise p . s + H(p) for its regulariser H": run.regulariser_fits,
    }
    if coupling and run.shapes_are_right:
        others = [Contract(estimator, problem, rows, change) for change in ("losses", "scores")]
        checks["one example changes the gradient of another"] = all(map(run.is_uncoupled_from, others))
    return tuple(fault for fault, sound in checks.items() if not sound)


class Contract:
    """One estimate in training mode, with given draws; ``change``: with other ``losses`` or ``scores`` of the last example.

    As many random numbers are drawn for them, and those of earlier examples come first.
    """

    def __init__(self, estimator: Estimator, problem: Problem, rows: Tensor, change: str = "") -> None:
        self.estimator = copy.deepcopy(estimator)
        scores, parameters = problem.scores[rows], problem.parameters[rows]
        if change == "losses":
            parameters[2] += 1
        if change == "scores":
            scores[2] = scores[2].flip(0) / 2
        self.scores, self.parameters = scores.requires_grad_(), parameters.requires_grad_()
        self.space = problem.space(self.scores)
        self.q = copy.deepcopy(self.estimator).probabilities(self.space)  # before a schedule of q goes on
        draws = RandomDraws(torch.Generator().manual_seed(derived_seed("contract")))
        self.proposal = self.estimator.propose(self.space, draws, problem.context[rows])
        assert isinstance(self.proposal.pairs, Latents)
        self.pairs = self.proposal.pairs
        losses = problem.losses(self.pairs, self.parameters)
        self.estimate = self.estimator.combine(self.proposal, losses)

    @property
    def shapes_are_right(self) -> bool:
        """All four are ``[B]``."""
        fields = (self.estimate.surrogate, self.estimate.value, self.estimate.entropy, self.estimate.decoder_calls)
        return all(each.shape == (3,) for each in fields) and self.estimate.weights.shape == (len(self.proposal),)

    @property
    def calls_are_counted(self) -> bool:
        """By row of the pairs."""
        return torch.equal(self.estimate.decoder_calls, torch.bincount(self.pairs.row, minlength=3))

    @property
    def entropy_is_right(self) -> bool:
        """Against ``-sum q log q`` of the probabilities, with its gradient."""
        q = self.q
        expected = -torch.where(q > 0, q * torch.where(q > 0, q, 1).log(), 0).sum(1)
        found = self.estimate.entropy
        if not (q.requires_grad and found.requires_grad and torch.allclose(found, expected, rtol=1e-9, atol=1e-12)):
            return False
        (slope,) = torch.autograd.grad(found.sum(), self.scores, retain_graph=True)
        (exact,) = torch.autograd.grad(expected.sum(), self.scores, retain_graph=True)
        return torch.allclose(slope, exact, rtol=1e-8, atol=1e-10)

    @property
    def support_is_whole(self) -> bool:
        """Each state with any mass once, with its mass, where that is declared."""
        if not self.estimator.marginalizes:
            return True
        # Whether a pair's vector is that of a state, [N, M].
        every = self.space.vectors(self.space.all_states())
        found = (self.pairs.value.unsqueeze(1) == self.pairs.gather(every)).all(2).to(self.q.dtype)
        once = self.pairs.sum(found)
        weights = self.pairs.sum(found * self.estimate.weights.unsqueeze(1))
        return torch.equal(once, (self.q > 0).to(once.dtype)) and torch.allclose(weights, self.q, rtol=1e-9, atol=1e-12)

    @property
    def q_is_told(self) -> bool:
        """Sparse where that is declared, and the space's own elsewhere."""
        return self.estimator.sparse or torch.equal(self.q, self.space.probabilities)

    @property
    def relaxation_is_told(self) -> bool:
        """With every relaxed latent, and with no other, comes the relaxation that made it."""
        relaxation = self.pairs.relaxation
        if not self.estimator.relaxes or relaxation is None:
            return self.estimator.relaxes == (relaxation is not None)
        return torch.allclose(self.space.noisy_scores().squash(relaxation.logits), self.pairs.value)

    @property
    def regulariser_fits(self) -> bool:
        """Against other distributions with the support of q."""
        if not isinstance(self.space, Categorical):  # there are no labels of another latent
            return True
        q, regulariser = self.q.detach(), self.estimator.regulariser
        scores = torch.where(q > 0, self.scores.detach(), 0)
        uniform = (q > 0).to(q.dtype) / (q > 0).sum(1, keepdim=True)
        tempered = q**1.1 / (q**1.1).sum(1, keepdim=True)
        best = (q * scores).sum(1) + regulariser(q)
        others = [q + step * (other - q) for other in (uniform, tempered) for step in (0.1, 1.0)]
        return all(bool(((p * scores).sum(1) + regulariser(p) <= best + 1e-12).all()) for p in others)

    @property
    def reports_are_detached(self) -> bool:
        """What is logged must not hold the graph."""
        reports = (self.estimate.value, self.estimate.weights, *self.estimate.metrics.values())
        return not any(report.requires_grad for report in reports)

    @property
    def auxiliary_is_separate(self) -> bool:
        """It has no gradient in the scores, nor in the decoder."""
        if not self.estimate.auxiliary.requires_grad:
            return True
        inputs = [self.scores, self.parameters]
        slopes = torch.autograd.grad(self.estimate.auxiliary, inputs, retain_graph=True, materialize_grads=True)
        return all(float(slope.abs().max()) == 0 for slope in slopes)

    def gradients(self, example: int) -> Tensor:
        """``[3, V + P]``: of the surrogate of one example, in the scores and decoders of all."""
        inputs = [self.scores, self.parameters]
        surrogate = self.estimate.surrogate[example]
        return torch.cat(torch.autograd.grad(surrogate, inputs, retain_graph=True, materialize_grads=True), 1)

    def is_uncoupled_from(self, other: Contract) -> bool:
        """Whether gradients stay with their example, and do not know that the last one's losses are others."""
        for example in (0, 1):
            mine = self.gradients(example)
            strangers = [row for row in range(3) if row != example]
            if float(mine[strangers].abs().max()) > 0 or not torch.equal(mine, other.gradients(example)):
                return False
        return True
