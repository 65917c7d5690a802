"""Theorem 1, (4) and (5): what a step of gradient descent in a smaller ball takes off the loss in the target ball.

Δ = θ_{t+1} − θ_t = −τ u, with u the unit vector along ∇L^{ε_t}(θ_t), so that τ = η_t ‖∇L^{ε_t}‖. For any H with

    L^ε(θ_{t+1}) = L^ε(θ_t) − τ ‖∇L^ε‖ cos φ + τ²/2 uᵀH u,     uᵀH u > 0                               (identity)

the loss falls by τ ‖∇L^ε‖ cos φ (1 − ω/2), where ω = τ uᵀH u / (‖∇L^ε‖ cos φ). If cos φ > 0 and ω lies in 1 ± 1/√2,
that is at least ‖∇L^ε‖² cos² φ / (4 uᵀH u). With 2 μ L^ε ≤ ‖∇L^ε‖² and uᵀH u ≤ ‖H u‖:

    L^ε(θ_{t+1}) ≤ L^ε(θ_t) (1 − μ/2 cos² φ ‖H u‖⁻¹)                                                   (4)

with φ the angle between ∇L^ε and ∇L^{ε_t} at θ_t (the paper prints ε_t twice).

What the paper leaves open, and what is taken. I_t: the steps with ω in 1 ± 1/√2, for which the loss falls by 15 to 85 %
of what its gradient promises. They need cos φ > 0, which the paper does not say. μ: the greatest. H: the mean Hessian
along the step, weighted by 2 (1 − s), with which (identity) is Taylor's formula. Integrated by parts, it takes
gradients alone, kinks or not:

    H Δ = 2 (mean over s in [0, 1] of ∇L^ε(θ_t + s Δ) − ∇L^ε(θ_t))  ≈  ∇L^ε(θ_{t+1}) − ∇L^ε(θ_t)       (5)

It is that of the paper's θ̃ wherever the loss is quadratic. It needs a loss that does not jump on the way.
"""

from typing import NamedTuple

import numpy as np

from refbound.landscape import loss_value

from .derivatives import loss, moved, norm

LENGTHS = 2.0 ** np.arange(-10, 5)  # τ, until one is in I_t


class Descent(NamedTuple):
    """The quantities of Theorem 1 at one step."""

    before: float     # L^ε(θ_t)
    after: float      # L^ε(θ_{t+1})
    cos: float        # cos φ_t
    mu: float         # μ
    length: float     # τ
    curvature: float  # uᵀH u, by (identity)
    u: object         # (P,)
    Hu: object        # (P,), by (5)

    @property
    def promised(self):
        """What the loss falls by at least, by (4)."""
        return self.before * self.mu / 2 * self.cos ** 2 / norm(self.Hu)  # (4)

    @property
    def counts(self):
        """Whether H is what (identity) asks for."""
        return abs(self.u @ self.Hu - self.curvature) <= 1e-3 * self.curvature


def direction(net, near, case):
    """u (P,)."""
    gradient = loss(net, near, case)[1]
    return gradient / norm(gradient)


def descent(net, near, ball, case):
    """The Descent of the shortest of LENGTHS in I_t down the gradient in `near`; None if cos φ ≤ 0, or if none is."""
    (before, gradient), u = loss(net, ball, case), direction(net, near, case)
    slope = gradient @ u  # ‖∇L^ε‖ cos φ
    for length in LENGTHS if slope > 0 else ():
        after = loss_value(moved(net, -length * u), ball, case.y, case.method, **case.options)
        curvature = 2 * (after - before + length * slope) / length ** 2  # (identity)
        if abs(length * curvature / slope - 1) <= np.sqrt(0.5):
            return Descent(before, after, slope / norm(gradient), gradient @ gradient / (2 * before), length, curvature,
                           u, -product(net, -length * u, ball, case) / length)


def product(net, step, ball, case):
    """H Δ (P,) by (5): Simpson's rule, halving intervals as long as that changes anything, for gradients jump."""
    def at(s):
        return loss(moved(net, s * step), ball, case)[1]

    def integral(a, b, fa, fm, fb):
        m, fl, fr = (a + b) / 2, at((3 * a + b) / 4), at((a + 3 * b) / 4)
        halves = (b - a) / 12 * (fa + 4 * fl + 2 * fm + 4 * fr + fb)
        if norm(halves - (b - a) / 6 * (fa + 4 * fm + fb)) < 1e-4 * norm(first) or b - a < 1e-4:
            return halves
        return integral(a, m, fa, fl, fm) + integral(m, b, fm, fr, fb)

    first = at(0)
    return 2 * (integral(0, 1, first, at(0.5), at(1)) - first)  # (5)
