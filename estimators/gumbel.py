"""Gumbel noise given which state it makes the largest."""

from __future__ import annotations

from torch import Tensor, nn


def conditional_gumbel(log_probabilities: Tensor, state: Tensor, noise: Tensor) -> Tensor:
    r"""Perturbed log-probabilities :math:`z = \log q + g` given that ``state`` k has the largest, differentiable in them.

    .. math:: z_k = g'_k, \qquad
        z_i = -\log\Big(\frac{e^{-g'_i}}{q_i} + e^{-z_k}\Big) = z_k + \log \sigma(g'_i + \log q_i - z_k), \quad i \neq k

    Args:
        log_probabilities: ``[B, S, K]`` or ``[B, 1, K]``, normalised; ``-inf`` where a state is masked.
        state: ``[B, S]`` or ``[B, 1]`` int64, of some probability.
        noise: ``[B, S, K]``, independent standard Gumbel noise.

    Returns:
        ``[B, S, K]``; ``-inf`` where a state is masked.

    References:
        Maddison, Tarlow and Minka (2014), A* sampling, https://arxiv.org/abs/1411.0030.
        Paulus, Maddison and Krause (2021), https://arxiv.org/abs/2010.04838.
    """
    place = state.unsqueeze(-1).expand(*noise.shape[:2], 1)
    top = noise.gather(2, place)
    below = top + nn.functional.logsigmoid(noise + log_probabilities - top)
    return below.scatter(2, place, top)
