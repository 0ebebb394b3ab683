"""The categorical likelihood of an image's pixels, one linear layer from a few features to many levels, fused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CPU_CHUNK_BYTES = 1 << 22
"""Most bytes of logits made at a time on a CPU: more leave the cache between two uses, less are many small products."""

ACCELERATOR_CHUNK_BYTES = 1 << 28
"""Most bytes of logits made at a time on any other device, where many large kernels matter more than the cache."""


def pixel_log_likelihood(features: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""Log-likelihood of each of N images whose P pixels are independent categoricals of L levels, in nats.

    .. math:: \ell_n = \sum_p \Big( v_{n p x_{n p}} - \log \sum_l \exp v_{n p l} \Big), \qquad
              v_{n p l} = w_l \cdot h_{n p} + b_l

    It is what ``cross_entropy`` of the logits v gives, without ever holding all ``N P L`` of them. Whatever is made of the
    result, the gradient that comes back for an image is one number. So with :math:`r_{n p l} = [l = x_{n p}] -
    q_{n p l}` for the probabilities q, the forward pass keeps only

    .. math:: \nabla_{h_{n p}} \ell_n = \sum_l r_{n p l} \, w_l, \qquad
              \nabla_{(w_l, b_l)} \ell_n = \sum_p r_{n p l} \, (h_{n p}, 1),

    each where its gradient is needed, and the backward pass is one product with either.

    Args:
        features: h, ``[N, P, F]``.
        target: x, the level of each pixel, ``[N, P]``, of any integer type.
        weight: w, ``[L, F]``.
        bias: b, ``[L]``.

    Returns:
        ``[N]``, in the widest type of ``features``, ``weight`` and ``bias``, and in single precision where that is a half one.
        Differentiable in these three, once.

    Raises:
        ValueError: shapes that do not fit each other, or a target that is not of an integer type.
        IndexError: a target that is not one of the levels.
    """
    _check(features, target, weight, bias)
    if torch.is_grad_enabled():
        result: Tensor = _PixelLogLikelihood.apply(features, target, weight, bias)  # type: ignore[no-untyped-call]
        return result
    return _evaluate(features, target, weight, bias, False, False)[0]


class PixelCategorical(nn.Module):
    """Last layer of a decoder of images: the log-likelihood of an image, given the features of its pixels.

    Args:
        levels: number of values of a pixel, L.
        features: number of features of a pixel, F.

    All pixels share the weight ``[L, F]`` and the bias ``[L]``, initialised as ``torch.nn.Linear`` does with F inputs.
    """

    def __init__(self, levels: int = 256, features: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(levels, features))
        self.bias = nn.Parameter(torch.empty(levels))
        bound = features**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """``[N]`` of features ``[N, P, F]`` and the levels of the pixels ``[N, P]``: see :func:`pixel_log_likelihood`."""
        return pixel_log_likelihood(features, target, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes, for ``repr``."""
        return f"levels={self.weight.shape[0]}, features={self.weight.shape[1]}"


class _PixelLogLikelihood(torch.autograd.Function):
    """:func:`pixel_log_likelihood` where gradients are enabled."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        of_features, _, of_weight, of_bias = ctx.needs_input_grad
        value, slopes, moments = _evaluate(features, target, weight, bias, of_features, of_weight or of_bias)
        ctx.save_for_backward(slopes, moments)
        ctx.dtypes = features.dtype, weight.dtype, bias.dtype
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
        if torch.is_grad_enabled() and not gradient.requires_grad:
            # The slopes depend on the inputs too, which the decorator below cannot know: of a gradient without a graph it would
            # let a second derivative pass as zero.
            gradient = gradient.detach().requires_grad_()
        return _differentiate(ctx, gradient)


@once_differentiable
def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
    """The backward pass."""
    slopes, moments = ctx.saved_tensors
    dtypes = ctx.dtypes
    of_features = of_weight = of_bias = None
    if slopes is not None:
        of_features = (slopes * -gradient[:, None, None]).transpose(1, 2).to(dtypes[0])
    if moments is not None:
        with torch.autocast(gradient.device.type, enabled=False):
            total = (-gradient @ moments.flatten(1)).view(moments.shape[1:])
        of_weight, of_bias = total[:-1].t().to(dtypes[1]), total[-1].to(dtypes[2])
    needed = ctx.needs_input_grad
    return of_features, None, of_weight if needed[2] else None, of_bias if needed[3] else None


def _evaluate(
    features: Tensor, target: Tensor, weight: Tensor, bias: Tensor, of_features: bool, of_parameters: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Log-likelihoods ``[N]``; negated, their gradients in the features, ``[N, F, P]``, and the parameters, ``[N, F + 1, L]``.

    The bias is the last feature's weight, that feature being one. All products have their short side, F, first: those with F
    last are the same numbers at a quarter of the speed.
    """
    count, pixels, width = features.shape
    levels = weight.shape[0]
    dtype = torch.promote_types(torch.promote_types(features.dtype, weight.dtype), bias.dtype)
    if dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32
    limit = CPU_CHUNK_BYTES if features.device.type == "cpu" else ACCELERATOR_CHUNK_BYTES
    size = min(max(limit // max(pixels * levels * dtype.itemsize, 1), 1), count)
    # Below this a probability may have lost digits, or be zero.
    smallest = torch.finfo(dtype).tiny / torch.finfo(dtype).eps

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=features.device)

    value = empty(count)
    slopes = empty(count, width, pixels) if of_features else None
    moments = empty(count, width + 1, levels) if of_parameters else None
    table = torch.cat((weight.t().to(dtype), bias.to(dtype)[None]))
    # Memory that is used again stays in the cache: every chunk is made in the same.
    inputs_memory = torch.ones(size, width + 1, pixels, dtype=dtype, device=features.device)
    logits_memory = empty(size, pixels, levels)
    q_memory = empty(size, pixels, levels)
    with torch.autocast(features.device.type, enabled=False):
        for start in range(0, count, max(size, 1)):
            chunk = slice(start, min(start + size, count))
            n = chunk.stop - start
            inputs, logits, q = inputs_memory[:n], logits_memory[:n], q_memory[:n]
            level = target[chunk].long().unsqueeze(2)
            inputs[:, :-1] = features[chunk].transpose(1, 2)
            torch.bmm(inputs.transpose(1, 2), table.expand(n, -1, -1), out=logits)
            if slopes is None and moments is None:
                torch.log_softmax(logits, 2, out=q)
                value[chunk] = q.gather(2, level).sum((1, 2))
                continue
            torch.softmax(logits, 2, out=q)
            likelihood = q.gather(2, level)
            logarithm = likelihood.log()
            lost = likelihood < smallest
            if lost.any():
                # The best level's probability is at least 1 / L, so from there the normaliser is precise.
                margin = logits.gather(2, level) - logits.amax(2, keepdim=True)
                logarithm = torch.where(lost, margin + q.amax(2, keepdim=True).log(), logarithm)
            value[chunk] = logarithm.sum((1, 2))
            q.scatter_(2, level, likelihood - 1)
            if slopes is not None:
                torch.bmm(table[:-1].expand(n, -1, -1), q.transpose(1, 2), out=slopes[chunk])
            if moments is not None:
                torch.bmm(inputs, q, out=moments[chunk])
    return value, slopes, moments


def _check(features: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Raise what :func:`pixel_log_likelihood` says it raises."""
    if weight.dim() != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(f"weight must be [L, F] and bias [L], not {list(weight.shape)} and {list(bias.shape)}")
    levels, width = weight.shape
    if features.dim() != 3 or features.shape[2] != width:
        raise ValueError(f"features must be [N, P, {width}], as the weight is {list(weight.shape)}, not {list(features.shape)}")
    if target.shape != features.shape[:2]:
        raise ValueError(
            f"target must be {list(features.shape[:2])}, as features are {list(features.shape)}, not {list(target.shape)}"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target must be of an integer type, not {target.dtype}")
    if target.numel() and torch.iinfo(target.dtype).max >= levels:
        lowest, highest = (int(level) for level in target.long().aminmax())
        if lowest < 0 or highest >= levels:
            raise IndexError(f"target must be at least 0 and below {levels}, the number of levels; it is {lowest} to {highest}")
