"""How smooth a loss is where training passes (Section 4.1, Figures 1 and 2), and how sparse the lower slopes are.

With g_t the gradient of the loss of a minibatch at the parameters θ_t, and ρ the learning rate:

    variation          max − min over τ of L(θ_t − τ ρ g_t),    τ log-spaced in [0.5, 5]
    l2 distance        ‖g_{t+1} − g_t‖₂
    cosine distance    1 − g_{t+1}·g_t / (‖g_{t+1}‖ ‖g_t‖)

for the same minibatch and the same random slopes at every point: what is measured is the loss, not the draw.
`as_released` gives what the code published with the paper logs instead.
"""

import math

import numpy as np

from . import checks
from .api import checked_loss

LENGTHS = np.geomspace(0.5, 5, 10)  # τ


def along(loss, params, direction, rate, lengths=LENGTHS):
    """[L(θ − τ ρ direction) for τ in lengths]; loss is a function of a dict of parameters."""
    return [loss({name: w - float(length * rate) * direction[name] for name, w in params.items()})
            for length in lengths]


def loss_value(net, ball, y, method, beta=1.0, kappa=0.0, **options):
    """The value of robust_loss without its gradient."""
    return float(checked_loss(net, ball, y, method, beta, kappa, options).value.mean())


def variation(losses):
    """The range of losses met along a direction."""
    return max(losses) - min(losses)


def distances(g, h):
    """The l2 and the cosine distance of two gradients (dicts of arrays), the latter 0 where one of them vanishes."""
    difference = math.sqrt(sum(float(((h[name] - g[name]) ** 2).sum()) for name in g))
    lengths = math.sqrt(_dot(g, g) * _dot(h, h))
    return difference, 1 - _dot(g, h) / lengths if lengths > 0 else 0.0


def as_released(g, h):
    """What the published code logs for two gradients: the root *mean* square of h − g, and the cosine *similarity*.

        √(mean (h − g)²)        g·h / max(‖g‖ ‖h‖, 1e-8)
    """
    rms = distances(g, h)[0] / math.sqrt(sum(w.size for w in g.values()))
    return rms, _dot(g, h) / max(math.sqrt(_dot(g, g) * _dot(h, h)), 1e-8)


def slope_shares(pre, lines):
    """The shares of the unstable units, over all ReLUs and examples, with lower slope 0, between, and 1."""
    counts = np.zeros(3)
    for (l, u), line in zip(pre, lines):
        unstable = (l < 0) & (u > 0)
        zero, one = unstable & (line.a_lo <= 0), unstable & (line.a_lo >= 1)
        counts += float(zero.sum()), float((unstable & ~zero & ~one).sum()), float(one.sum())
    return tuple((counts / max(counts.sum(), 1)).tolist())


def lower_slopes(net, ball, y, method, **options):
    """slope_shares of the lines by which margin_bounds(net, ball, y, method, **options) bounds the margins.

    None where there is none to count: no unit is unstable, or the method takes constant lines (ibp).
    """
    given = checks.method_options(net, ball, method, options)
    margins = checks.method(method).bound(net, checks.problem(net, ball, y), y, given)
    shares = slope_shares(margins.pre, margins.lines)
    return shares if sum(shares) > 0 else None


def _dot(g, h):
    return sum(float((g[name] * h[name]).sum()) for name in g)
