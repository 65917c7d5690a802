"""Theorem 2, (6): how far the gradient of the loss moves from θ₁ to θ₂, by what g, b and the softmax p move.

∇s̄ = (∇g)ᵀ x* + ∇b (derivatives.py), ∇L = E Σ_m p_m ∇s̄_m. By ‖x₂* − x₁*‖ ≤ 2ε, ‖x₂*‖ ≤ M, Σ p_m ≤ 1 and Assumption 1,

    ‖∇b₂ − ∇b₁‖ ≤ L^b ‖θ₂ − θ₁‖  (i),      ‖p₂ − p₁‖ ≤ L^p ‖θ₂ − θ₁‖  (ii),

    ‖∇L(θ₂) − ∇L(θ₁)‖ ≤ E max_m (2ε ‖∇g₁‖ + M ‖∇g₂ − ∇g₁‖ + L^(m) ‖θ₂ − θ₁‖),  L^(m) = L^{b(m)} + L^p ‖∇s̄₁‖   (6)

What the paper leaves open, and what is taken. On inputs, so for ε and M: the norm of the ball. For ∇g: the norm of
(∇g)ᵀ from there to ‖·‖₂; with the spectral or the Frobenius norm (6) is false for l∞. For θ and p: ‖·‖₂; for ∇s̄: the
spectral norm. M is the least on the balls of the batch. L^b and L^p are the least for these θ₁, θ₂ and all x of the
batch: there are none for all θ₁, θ₂, as ∇b jumps where a ReLU or a |W| has its kink.
"""

import itertools
from typing import NamedTuple

import numpy as np

from .derivatives import derivatives, flat, loss, norm


class Change(NamedTuple):
    """The two sides of (6), the right one as three terms for each margin, (N, c)."""

    left: float
    zeroth: object
    first: object
    last: object

    @property
    def right(self):
        return (self.zeroth + self.first + self.last).max(1).mean()  # (6)

    def terms(self):
        """The three terms at the m of the maximum, their means over the examples."""
        m = (self.zeroth + self.first + self.last).argmax(1)[:, None]
        return [float(np.take_along_axis(term, m, 1).mean()) for term in self[1:]]


def change(net, there, ball, case):
    """The Change from the θ₁ of net to the θ₂ of there."""
    one, two = derivatives(net, ball, case), derivatives(there, ball, case)
    step = norm(flat(there, there.params) - flat(net, net.params))
    Lb = np.linalg.norm(two.b - one.b, axis=2).max(0) / step  # (c,), (i)
    Lp = np.linalg.norm(two.p - one.p, axis=1).max() / step   # (ii)
    L = Lb + Lp * np.linalg.norm(one.s, 2, axis=(1, 2))[:, None]
    left = loss(there, ball, case)[1] - loss(net, ball, case)[1]
    return Change(norm(left), 2 * ball.eps[:, None] * operator_norm(one.g, ball.norm),
                  furthest(ball) * operator_norm(two.g - one.g, ball.norm), L * step)


def furthest(ball):
    """M: the greatest ‖x′‖ in the balls, in their own norm."""
    centre, radius, kind = ball.region(np.float64)
    return float((abs(centre) + radius).max() if kind == np.inf else
                 (np.linalg.norm(centre, kind, axis=1) + radius[:, 0]).max())


def operator_norm(J, kind):
    """The greatest ‖Jᵀ v‖₂ with ‖v‖ ≤ 1 in a ball's norm, J (..., n, P): by signs for l∞, by unit vectors for l1."""
    gram = J @ J.swapaxes(-1, -2)
    if kind == 2:
        return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., -1], 0))
    v = np.array(list(itertools.product((1, -1), repeat=J.shape[-2]))) if kind == np.inf else np.eye(J.shape[-2])
    return np.sqrt(np.einsum("vn,...nk,vk->...v", v, gram, v).max(-1))
