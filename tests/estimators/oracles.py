"""Distributions computed from their definitions, sharing nothing with the estimators."""

import itertools

import numpy as np
from scipy.optimize import brentq, minimize


def entmax(scores: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[K]`` and Jacobian ``[K, K]`` of alpha-entmax by root finding; softmax for alpha = 1."""
    if alpha == 1:
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        sensitivity = probabilities
    else:

        def masses(threshold):
            return np.maximum((alpha - 1) * scores - threshold, 0) ** (1 / (alpha - 1))

        top = (alpha - 1) * scores.max()
        threshold = brentq(lambda t: masses(t).sum() - 1, top - 1, top, xtol=1e-15, rtol=1e-15)
        probabilities = masses(threshold)
        sensitivity = np.where(probabilities > 0, np.maximum(probabilities, 1e-300) ** (2 - alpha), 0)
    jacobian = np.diag(sensitivity) - np.outer(sensitivity, sensitivity) / sensitivity.sum()
    return probabilities, jacobian


def bit_states(size: int) -> np.ndarray:
    """``[2^D, D]``: the bit vectors in the order of their numerals."""
    return np.array(list(itertools.product((0, 1), repeat=size)), dtype=float)


def vectors(latent: str, size: int, categories: int) -> np.ndarray:
    """``[M, V]``: every state of a kind of latent with V scores, as the vector whose product with them is its score."""
    if latent == "bit_vector":
        return bit_states(size)
    if latent == "categorical":
        return np.eye(size)
    places = itertools.product(range(categories), repeat=size // categories)
    return np.stack([np.eye(categories)[list(each)].ravel() for each in places])


def softmax(scores: np.ndarray) -> np.ndarray:
    """``[M]``: probabilities of states with these scores."""
    return entmax(scores, 1)[0]


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """``[K]``: the sparsemax of the k largest of ``scores``, zero elsewhere."""
    best = np.argsort(-scores, kind="stable")[:k]
    probabilities = np.zeros_like(scores)
    probabilities[best] = entmax(scores[best], 2)[0]
    return probabilities


def sparse_map_marginals(scores: np.ndarray, budget: int) -> np.ndarray:
    """``[D]``: the projection of ``(scores + 1) / 2`` onto bits of no more than ``budget`` in total, by a general solver."""
    target = (scores + 1) / 2
    constraint = {"type": "ineq", "fun": lambda m: budget - m.sum(), "jac": lambda m: -np.ones_like(m)}
    found = minimize(
        lambda m: ((m - target) ** 2).sum(),
        np.full(len(scores), 0.1),
        jac=lambda m: 2 * (m - target),
        bounds=[(0, 1)] * len(scores),
        constraints=[constraint],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return found.x
