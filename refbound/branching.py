"""Branch and bound: balls cut in two at an unstable ReLU, again and again, until every part is bounded below 0 (Wang et al. 2021, β-CROWN).

A part of the ball is given by signs σ: it holds the x at which σ_j z_j(x) ≥ 0 for the input z_j of every ReLU, σ_j ∈ {1, −1}, or 0 where z_j
is not cut. There a cut unit is stable, l ← max(l, 0) or u ← min(u, 0). And for every β_j ≥ 0

    C f(x) ≤ C f(x) + Σ_j β_j σ_j z_j(x) ≤ g·x + b          for every x of the part,

where g, b are those of Definition 1 with one term more: through h = max(z, 0), as the sum has z_j itself,

    b ← b + g·b̂,       g ← â g + σ β.

The way back is still linear in (g, b), so `linear.upstream` pushes x* forward as before, and with v the value that it gives z_j

    ∂s̄/∂β_j = σ_j v_j,      ∂s̄/∂a̲_j = g_j⁻ v_j:

β grows where x* violates σ_j z_j ≥ 0. The bound is the maximum over the whole ball, so that β is all that tells of the part.
"""

import time
from typing import NamedTuple

from . import checks
from .arrays.ops import as_rows, images, namespace, positive, to_host
from .attack import ascend
from .ball import Region
from .interval import interval
from .layers import ReLU, margin_matrix
from .linear import Relaxation, maximise, relax, upstream
from .relaxation import adaptive, enclose


class Decision(NamedTuple):
    """What is known of one image."""

    answer: str      # "robust", "not robust" or "unknown"
    bound: float     # the greatest bound of a margin over the parts that its ball was cut into; of no use where not robust
    witness: object  # (*input_shape), a point of the ball with a margin of at least 0, or None
    parts: int       # how many parts were bounded


class Parts(NamedTuple):
    """N parts of balls, each with the one margin that is bounded there."""

    image: object  # (N,) which ball
    C: object      # (N, c) the margin
    s: object      # (N,) s̄
    sigma: list    # of each ReLU (N, n): 1, −1 or 0
    beta: list     # of each ReLU (N, n)
    a: list        # of each ReLU (N, n), a̲

    def map(self, f, *others):
        """f of each array and those of the others that stand in its place."""
        return Parts(*(f(*z) if not isinstance(z[0], list) else [f(*k) for k in zip(*z)] for z in zip(self, *others)))


def branch_and_bound(net, ball, y, pre=None, *, steps=20, width=32, limit=1000, seconds=float("inf")):
    """A Decision for each image of the ball.

    pre: [(l, u)] of each ReLU's input, (N, *shape), any that hold (default: ibp's); steps: of (7) for each part; width: parts that are cut at a
    time; limit: parts for an image; seconds: for all, checked before each cut. Whatever ends early is unknown, and so is what is NaN.
    ValueError for an argument that cannot be.

    A bound is below 0 in the dtype of the network, its own rounding not counted: use float64 for a verdict.
    """
    raise NotImplementedError
