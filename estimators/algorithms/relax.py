"""REBAR and RELAX: the score function with a learned control variate that is made of relaxed samples.

Where the paper's network reads perturbed scores z, this one reads log softmax(z): a constant added to all scores changes
nothing in q, and should not change the control variate. Of bits it reads z itself, the log-odds with their noise.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from estimators.base import DETACHED, Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.pairs import Latents
from estimators.relaxations import MASKED
from estimators.spaces import Space


@final
class Relax(Estimator):
    r"""REBAR and RELAX: the score function, less a control variate c of relaxed samples that knows the loss.

    .. math:: \hat g = \big(\ell(b) - c(\tilde z)\big) \nabla_s \log q(b) + \nabla_s c(z) - \nabla_s c(\tilde z)

    .. math:: c(z) = \eta\, \ell\big(\mathrm{softmax}(z / \tau)\big) + r_\phi(\log \mathrm{softmax}(z))

    with :math:`z = s + g` Gumbel noise, b its largest entry, and :math:`\tilde z` a second draw given b. REBAR has no
    network :math:`r_\phi`. :math:`\eta`, :math:`\tau` and :math:`\phi` minimise the estimator's variance, through
    ``auxiliary``; they are the estimator's own parameters, and no gradient of theirs reaches the encoder or the decoder.
    Decoder calls: 3; the decoder learns from b alone. Unbiased, whatever the control variate. Losses must be differentiable
    in z, and twice so where temperature or scale are learned.

    Choose it where losses are differentiable in z, three calls are affordable, and bias is not. It pays where relaxed latents
    predict the losses of one-hot ones; elsewhere leave-one-out with three samples has less variance.

    Args:
        temperature: initial temperature of the relaxation, above 0.
        scale: initial weight of the relaxed loss.
        hidden_size: hidden units of the network r; 0 is REBAR.
        learned: whether temperature and scale are learned.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), REBAR, https://arxiv.org/abs/1703.07370.
        - Grathwohl, Choi, Wu, Roeder and Duvenaud (2018), Backpropagation through the void,
          https://arxiv.org/abs/1711.00123.
    """

    unbiased = True
    uses = frozenset({"noisy_scores", "entropy"})

    def __init__(self, *, temperature: float = 0.5, scale: float = 1.0, hidden_size: int = 64, learned: bool = True) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise OptionError("temperature", f"must be above 0, got {temperature}")
        if not math.isfinite(scale):
            raise OptionError("scale", f"must be finite, got {scale}")
        if hidden_size < 0:
            raise OptionError("hidden_size", f"must not be negative, got {hidden_size}")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learned)
        self.scale = nn.Parameter(torch.tensor(float(scale)), requires_grad=learned)
        self.network = nn.Sequential(nn.LazyLinear(hidden_size), nn.Tanh(), nn.Linear(hidden_size, 1)) if hidden_size else None

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        scores = space.noisy_scores()
        finite = scores.normalised()
        z = finite.perturb(draws)
        sample = finite.round(z).detach()
        perturbed = torch.cat([z.unsqueeze(1), finite.perturb_given(draws, sample, 1)], 1)
        relaxed = scores.squash(scores.centred(perturbed) * torch.exp(-self.log_temperature).to(z.dtype))
        weights = z.new_tensor([1.0, 0.0, 0.0]).repeat(space.batch_size)
        memory = {
            "scores": scores.scores,
            "finite": scores.scores.clamp(min=MASKED),
            "residual": sample - scores.mean.detach(),
            "features": scores.features(perturbed),
        }
        values = torch.cat([sample.unsqueeze(1), relaxed], 1)
        return Proposal(Latents.regular_vectors(values), weights, space.entropy(), context=context, memory=memory)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        losses = losses.view(-1, 3)
        value, scores = losses[:, 0], proposal.memory["scores"]
        if not (scores.requires_grad and torch.is_grad_enabled()):
            return Estimate.of(proposal, surrogate=value, value=value)
        variates = self.scale.to(losses.dtype) * losses[:, 1:]
        if self.network is not None:
            features = proposal.memory["features"].to(self.scale.dtype)
            variates = variates + self.network(features)[..., 0].to(losses.dtype)
        own = [parameter for parameter in self.parameters() if parameter.requires_grad] if self.training else []
        first, second = variates.unbind(1)
        difference = (first - second).sum()
        (pathwise,) = torch.autograd.grad(difference, scores, create_graph=bool(own), retain_graph=True, allow_unused=True)
        if pathwise is None:
            raise ValueError(DETACHED)
        signal = value.detach() - second
        gradient = signal.unsqueeze(1) * proposal.memory["residual"] + pathwise
        surrogate = value + (gradient.detach() * proposal.memory["finite"]).sum(1)
        auxiliary = self._variance(gradient, own) if own else None
        return Estimate.of(proposal, surrogate=surrogate, value=value, auxiliary=auxiliary)

    def _variance(self, gradient: Tensor, own: list[nn.Parameter]) -> Tensor:
        """The mean square of the gradient, as a function of the estimator's own parameters and of nothing else."""
        square = gradient.square().sum(1).mean()
        slopes = torch.autograd.grad(square, own, retain_graph=True, allow_unused=True)
        pairs = [(slope, parameter) for slope, parameter in zip(slopes, own, strict=True) if slope is not None]
        linear = torch.stack([(slope.detach() * parameter).sum() for slope, parameter in pairs]).sum()
        return square.detach() + linear - linear.detach()


def rebar(*, temperature: float = 0.5, scale: float = 1.0, learned: bool = True) -> Relax:
    """REBAR: the score function, less the loss of relaxed samples as its control variate; RELAX without a network.

    Decoder calls: 3.

    Args:
        temperature: initial temperature of the relaxation, above 0.
        scale: initial weight of the relaxed loss.
        learned: whether temperature and scale are learned, to minimise the variance.
    """
    return Relax(temperature=temperature, scale=scale, hidden_size=0, learned=learned)
