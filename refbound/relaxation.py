"""The two lines that enclose a ReLU over [l, u], rules for the lower slope, and gradients (Section 3.2, Appendix C).

    a̲ z + b̲ ≤ max(z, 0) ≤ ā z + b̄    for l ≤ z ≤ u,        ā = u⁺ / (u⁺ − l⁻),  b̄ = −l⁻ ā

The upper line is the chord, the best there is (Appendix C.2); u⁺ = max(u, 0), l⁻ = min(l, 0). It is the identity on an
active unit (l ≥ 0) and zero on an inactive one (u ≤ 0), and so is the lower line; on an unstable unit (l < 0 < u) it
passes through 0 (b̲ = 0) with any slope a̲ in [0, 1]. A rule below chooses it, or, for one-step (7), the rule in
slopes.py, which looks at the loss.
"""

from typing import NamedTuple

from .arrays.ops import namespace, positive


class Lines(NamedTuple):
    """Two lines for each unit, b̲ = 0: (N, n), or (S, N, n) where each specification has its own lower slope."""

    a_lo: object    # a̲
    a_up: object    # ā
    b_up: object    # b̄
    parallel: bool  # a̲ is ā, and moves with it; else a̲ is a constant


def chord(l, u):
    """ā and b̄ of the upper line."""
    up, lm = positive(u), -positive(-l)
    half = up / 2 - lm / 2  # of the width, which may overflow where u and l do not
    a = up / 2 / (half + (half == 0))  # a unit that is always 0 (l = u = 0) is inactive
    return a, -lm * a


def chord_vjp(da, db, l, u, a):
    """(dl, du) from the upstream of ā and b̄, where l < 0 < u; ā and b̄ are constant elsewhere.

    ā = u / (u − l):      ∂ā/∂u = −l / (u − l)² = (1 − ā) / (u − l),    ∂ā/∂l = u / (u − l)² = ā / (u − l).
    b̄ = −l ā:             ∂b̄/∂u = −l ∂ā/∂u,                             ∂b̄/∂l = −ā − l ∂ā/∂l.
    """
    m = ((l < 0) & (u > 0)).astype(l.dtype)
    da = (da - l * db) * m / (m * (u - l) + (1 - m))
    return a * (da - m * db), (1 - a) * da


def enclose(l, u, slope=None):
    """The lines over [l, u] with this lower slope on the unstable units, (N, n) or (S, N, n); None: parallel."""
    (a, b), unstable = chord(l, u), (l < 0) & (u > 0)
    return Lines(a if slope is None else a + unstable * (slope - a), a, b, slope is None)


# ---- rules: [(l, u)] -> the lower slopes of each ReLU, or None for parallel lines ----

def adaptive(pre):
    """1[u⁺ + l⁻ > 0], CROWN's (Zhang et al. 2018): the smaller area between the lines; 0 on the tie u = −l."""
    return [(u + l > 0).astype(l.dtype) for l, u in pre]


def parallel(pre):
    """ā, CAP's (Wong and Kolter 2018): a slope that moves with l and u."""
    return [None for _ in pre]


def uniform(a0):
    """a0 itself. The caller draws it from U[0, 1]."""
    return a0


def bernoulli(pre, a0, p=0.5, q=0.5):
    """1 with probability p where −l > u, q elsewhere, by draws of U[0, 1]: the (p, q) variants (Section 5)."""
    return [(draws < namespace(l).where(-l > u, p, q)).astype(l.dtype) for (l, u), draws in zip(pre, a0)]
