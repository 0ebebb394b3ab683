"""Gumbel noise given which state it makes the largest."""

from __future__ import annotations

from torch import Tensor, nn


def conditional_gumbel(scores: Tensor, state: Tensor, noise: Tensor) -> Tensor:
    r"""Perturbed scores :math:`z = s + g` given that ``state`` has the largest, differentiable in the scores.

    .. math:: z_k = g'_k + \log \textstyle\sum_j e^{s_j}, \qquad z_i = -\log\big(e^{-g'_i - s_i} + e^{-z_k}\big), \quad i \neq k

    Args:
        scores: ``[B, S, K]`` or ``[B, 1, K]``; ``-inf`` where a state is masked.
        state: ``[B, S]`` or ``[B, 1]`` int64, of finite score.
        noise: ``[B, S, K]``, independent standard Gumbel noise.

    Returns:
        ``[B, S, K]``; ``-inf`` where a state is masked.

    References:
        Maddison, Tarlow and Minka (2014), A* sampling, https://arxiv.org/abs/1411.0030.
        Paulus, Maddison and Krause (2021), https://arxiv.org/abs/2010.04838.
    """
    place = state.unsqueeze(-1).expand(*noise.shape[:2], 1)
    top = noise.gather(2, place) + scores.logsumexp(2, keepdim=True)
    below = top + nn.functional.logsigmoid(noise + scores - top)
    return below.scatter(2, place, top)
