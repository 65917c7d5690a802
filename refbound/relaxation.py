"""The two lines that enclose a ReLU over [l, u], the rules for the lower slope, and their gradient.

    a̲ z + b̲ ≤ max(z, 0) ≤ ā z + b̄    for l ≤ z ≤ u

The upper line is the chord:  ā = u⁺ / (u⁺ − l⁻),  b̄ = −l⁻ ā,  with u⁺ = max(u, 0), l⁻ = min(l, 0).
It is the identity on an active unit (l ≥ 0) and zero on an inactive one (u ≤ 0), and so is the lower line; on an
unstable unit (l < 0 < u) the lower line passes through 0 (b̲ = 0) with any slope a̲ in [0, 1]. A rule chooses it:

    adaptive    1[u⁺ + l⁻ > 0]                  the smaller area between the lines; on the tie u = −l, 0
    parallel    ā                               both lines alike: one slope, CAP's (Wong and Kolter 2018)
    uniform     U[0, 1]                         drawn by the caller: rules draw nothing
    bernoulli   1 with probability p where −l > u, with probability q elsewhere
"""

from typing import NamedTuple

from .backend import positive


class Lines(NamedTuple):
    """Two lines for each unit, b̲ = 0: (N, n), or (S, N, n) where each specification has its own lower slope."""

    a_lo: object  # a̲; for parallel lines a_up itself
    a_up: object  # ā
    b_up: object  # b̄


def unstable(l, u):
    """1 where l < 0 < u, else 0."""
    return ((l < 0) & (u > 0)).astype(l.dtype)


def chord(l, u):
    """ā and b̄ of the upper line."""
    up, lm = positive(u), -positive(-l)
    half = up / 2 - lm / 2  # of the width, which may overflow where u and l do not
    a = up / 2 / (half + (half == 0))  # a unit that is always 0 (l = u = 0) is inactive
    return a, -lm * a


def chord_vjp(da, db, l, u, a):
    """(dl, du) from the upstream of ā and b̄, where l < 0 < u; ā and b̄ are constant elsewhere.

    ā = u / (u − l):      dā/du = −l / (u − l)² = (1 − ā) / (u − l),    dā/dl = u / (u − l)² = ā / (u − l).
    b̄ = −l ā:             db̄/du = −l dā/du,                             db̄/dl = −ā − l dā/dl.
    """
    m = unstable(l, u)
    da = (da - l * db) * m / (m * (u - l) + (1 - m))
    return a * (da - m * db), (1 - a) * da


def adaptive(l, u):
    """CROWN's slope (Zhang et al. 2018)."""
    return (u + l > 0).astype(l.dtype)


def bernoulli(l, u, draws, p, q):
    """The slopes of the (p, q) variants, from draws of U[0, 1]."""
    return (draws < q + (p - q) * (-l > u).astype(l.dtype)).astype(l.dtype)


def enclose(l, u, slope=None):
    """The lines over [l, u] with this lower slope on the unstable units, (N, n) or (S, N, n); None: parallel."""
    a, b = chord(l, u)
    return Lines(a if slope is None else a + unstable(l, u) * (slope - a), a, b)
