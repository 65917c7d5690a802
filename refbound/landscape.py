"""How smooth a loss is where training passes (Section 4.1, Figures 1 and 2), and how sparse the lower slopes are.

With ∇L_t the gradient of the loss of a minibatch at the parameters θ_t, and ρ the learning rate:

    variation          max − min over τ of L(θ_t − τ ρ ∇L_t),    τ log-spaced in [0.5, 5]
    l2 distance        ‖∇L_{t+1} − ∇L_t‖₂
    cosine distance    1 − ∇L_{t+1}·∇L_t / (‖∇L_{t+1}‖ ‖∇L_t‖)

for the same minibatch and the same draws at every point: what is measured is the loss, not the draw.
`as_released` gives what the published code logs instead. Two measures of later work, of a network at its θ:

    tightness    |C W_K D … D W₁| r / |C W_K| D … D |W₁| r            Mao et al. 2024, "Understanding certified training
                 D: active at x; r: half-widths of B, cut             with interval bound propagation"
    jump         how far s̄ moves as the l of one unit passes −u       Jovanović et al. 2022, "On the paradox of
                                                                      certified training": a relaxation is discontinuous
"""

import math

import numpy as np

from . import checks
from .api import checked_loss
from .arrays.ops import as_rows, namespace
from .layers import forward, margin_matrix
from .linear import relax
from .relaxation import enclose

LENGTHS = np.geomspace(0.5, 5, 10)  # τ


def along(loss, params, direction, rate, lengths=LENGTHS):
    """[L(θ − τ ρ direction) for τ in lengths]; loss is a function of a dict of parameters."""
    return [loss({name: w - float(length * rate) * direction[name] for name, w in params.items()})
            for length in lengths]


def loss_value(net, ball, y, method, beta=1.0, kappa=0.0, **options):
    """The value of robust_loss without its gradient."""
    return float(checked_loss(net, ball, y, method, beta, kappa, options).value.mean())


def variation(losses):
    """The range of losses met along a direction; NaN if one is."""
    return float(np.ptp(losses))


def distances(before, after):
    """The l2 and the cosine distance of two gradients (dicts of arrays), the latter 0 where one of them vanishes."""
    difference = math.sqrt(sum(float(((after[name] - before[name]) ** 2).sum()) for name in before))
    lengths = math.sqrt(_dot(before, before) * _dot(after, after))
    return difference, 1 - _dot(before, after) / lengths if lengths > 0 else 0.0


def as_released(before, after):
    """What the published code logs of two gradients: the root *mean* square of the change, the cosine *similarity*.

        √(mean (after − before)²)        before·after / max(‖before‖ ‖after‖, 1e-8)
    """
    rms = distances(before, after)[0] / math.sqrt(sum(w.size for w in before.values()))
    return rms, _dot(before, after) / max(math.sqrt(_dot(before, before) * _dot(after, after)), 1e-8)


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
    region, given = checks.problem(net, ball, y), checks.method_options(net, ball, method, options)
    margins = checks.method(method).bound(net, region, y, given)
    shares = slope_shares(margins.pre, margins.lines)
    return shares if sum(shares) > 0 else None


def tightness(net, ball, y):
    """The propagation tightness in [0, 1], a mean over examples and margins; None where r is 0 throughout.

    The ReLUs stand still at x, the last layer is merged with C(y). A margin that does not depend on the input counts 1.
    For l∞ 1 says: intervals lose nothing. For l2, l1 both widths are dual norms; intervals lose more, from layer 1 on.
    """
    region = checks.problem(net, ball, y)
    if not float(ball.eps.max()) > 0:
        return None
    x, C = as_rows(ball.x, net.dtype), margin_matrix(y, net.classes, net.dtype)
    inputs = forward(net, x)[1]
    lines = [enclose(inputs[i], inputs[i]) for i in net.relus]  # over a point the chord is D
    last = relax(net, len(net.layers), C, (), start=net.head).g
    magnitudes = net.with_params({name: abs(value) for name, value in net.params.items()})
    signed, widest = (region.width(relax(of, net.head, g, lines).g) for of, g in ((net, last), (magnitudes, abs(last))))
    return float(((signed + (widest == 0)) / (widest + (widest == 0))).mean())


def jump(net, ball, y, method, h=1e-3, **options):
    """The largest move of a margin as a unit's l passes −u, a mean over examples; None without unstable units.

    The unit of each example is the one, in any ReLU, whose l is nearest to −u for its width; all, if several tie. Its l
    and u become r (∓1 − h), then r (∓1 + h), r = (u − l) / 2; all else stays. What is continuous moves about h widths.
    """
    region, h = checks.problem(net, ball, y), checks.number("h", h, 0, open_below=True)
    row, given = checks.method(method), checks.method_options(net, ball, method, options)
    pre, C = row.preactivation(net, region, given).pre, margin_matrix(y, net.classes, net.dtype)
    if not pre:
        return None
    xp, ties, sides = namespace(C), [_from_tie(l, u) for l, u in pre], []
    least = xp.min(xp.stack([tie.min(axis=1) for tie in ties]), axis=0)
    there = least < 1  # an unstable unit
    if not bool(there.any()):
        return None
    hits = [(tie == least[:, None]) & there[:, None] for tie in ties]
    for way in (-h, h):
        moved = [(xp.where(hit, (u - l) / 2 * (way - 1), l), xp.where(hit, (u - l) / 2 * (way + 1), u))
                 for hit, (l, u) in zip(hits, pre)]
        sides.append(row.margins(net, region, C, moved, given).s)
    return float(xp.max(abs(sides[1] - sides[0]), axis=0).sum() / there.sum())


def _from_tie(l, u):
    """|u + l| / (u − l) of unstable units, below 1, and 1 of the others."""
    unstable = (l < 0) & (u > 0)
    return namespace(l).where(unstable, abs(u + l) / (u - l + ~unstable), namespace(l).ones(l.shape[1:], l.dtype))


def _dot(g, h):
    return sum(float((g[name] * h[name]).sum()) for name in g)
