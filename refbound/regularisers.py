"""Two regularisers for the time in which ε rises: boxes that do not grow, and active units beside inactive ones.

After Shi, Wang, Zhang, Yi and Hsieh, "Fast certified robust training with short warmup", NeurIPS 2021. At each of m ReLUs let
c = (l + u) / 2 and r = (u − l) / 2; A are the units that are active on the whole box (l > 0), I those that are inactive (u < 0).
Let r̄ and c̄ be means over the units, r̄₀ that of the radii of the ball (of an l2 or l1 ball ε), and

    short(a, b) = (τ − a / b)⁺            for a, b ≥ 0, not both 0; else 0
    both(a, b) = short(a, b) + short(b, a)

of which at most one is not 0, so that both(a, b) = (τ − min(a / b, b / a))⁺. Of one example

    ℓ = Σ [short(r̄₀, r̄)                                               tightness
           + both(Σ_A c, −Σ_I c) + both(Σ_A (c − c̄)², Σ_I (c − c̄)²)] / (τ m)    balance            (ℓ)

Training adds λ (1 − ε_t / ε) times the mean of ℓ over the examples. In the authors' code means and sums are over the units of all
images of a minibatch, and then one ratio is taken; here each image has its own, so that shards of a minibatch add up.

A radius of 0, as at ε = 0, leaves the tightness out. Without active units, or without inactive ones, the balance is constant. (The
authors' code leaves the ReLU's balance out where no unit is inactive.)
"""

from typing import NamedTuple

from . import checks
from .interval import interval, interval_vjp


class Regularised(NamedTuple):
    """The mean of ℓ over the examples, and its gradient."""

    value: float
    grads: dict  # named and shaped as net.params


def regularise(net, ball, tau=0.5):
    """The mean of ℓ and its gradient in every parameter; 0 in those after the last ReLU. tau: τ in (0, 1].

    Raises ValueError for an argument that cannot be.
    """
    region, tau = checks.problem(net, ball), checks.number("tau", tau, 0, 1, open_below=True)
    found, r0 = interval(net, region), region.radius.mean(-1)
    value = penalty(found.pre, r0, tau)
    grads = interval_vjp(penalty_vjp(0 * value + 1 / len(value), found.pre, r0, tau), net, found)
    return Regularised(float(value.mean()), {name: grads.get(name, 0 * w) for name, w in net.params.items()})


def penalty(pre, r0, tau):
    """ℓ of each example, (N,), from the bounds (l, u) of each ReLU and r̄₀ (N,)."""
    total = 0 * r0
    for l, u in pre:
        r, c_on, c_off, v_on, v_off = measures(l, u)
        pairs = (r0, r), (c_on, c_off), (c_off, c_on), (v_on, v_off), (v_off, v_on)
        total = total + sum(short(a, b, tau) for a, b in pairs) / (tau * len(pre))  # (ℓ)
    return total


def penalty_vjp(d, pre, r0, tau):
    """(dl, du) of each ReLU for upstream d (N,): each pair backwards, and the measures that stand in them."""
    found = []
    for l, u in pre:
        r, c_on, c_off, v_on, v_off = measures(l, u)
        share = d / (tau * len(pre))
        dr = short_vjp(share, r0, r, tau)[1]
        dc, dv = both_vjp(share, c_on, c_off, tau), both_vjp(share, v_on, v_off, tau)
        found.append(measures_vjp((dr, *dc, *dv), l, u))
    return found


def measures(l, u):
    """r̄, Σ_A c, −Σ_I c, Σ_A (c − c̄)² and Σ_I (c − c̄)² of each example, (N,) each."""
    c, on, off = (l + u) / 2, l > 0, u < 0
    v = (c - c.mean(-1, keepdims=True)) ** 2
    return ((u - l) / 2).mean(-1), (on * c).sum(-1), -(off * c).sum(-1), (on * v).sum(-1), (off * v).sum(-1)


def measures_vjp(d, l, u):
    """(dl, du) for the upstream of the five; A and I are constant.

    With δ = c − c̄: dδ = 2 δ (A dΣ_A + I dΣ_I), dc = A dΣ_A − I dΣ_I of the first sums + dδ − mean dδ, dr = dr̄ / n. From c and r
    dl = (dc − dr) / 2, du = (dc + dr) / 2.
    """
    c, on, off = (l + u) / 2, l > 0, u < 0
    dr, dc_on, dc_off, dv_on, dv_off = (one[:, None] for one in d)
    ddelta = 2 * (c - c.mean(-1, keepdims=True)) * (on * dv_on + off * dv_off)
    dc, dr = on * dc_on - off * dc_off + ddelta - ddelta.mean(-1, keepdims=True), dr / l.shape[-1]
    return (dc - dr) / 2, (dc + dr) / 2


def short(a, b, tau):
    """(τ − a / b)⁺, and 0 where a = b = 0."""
    low = a < tau * b  # then b > 0
    return low * (tau - a / (b + ~low))


def short_vjp(d, a, b, tau):
    """da = −d / b, db = d a / b², where a / b < τ."""
    low = a < tau * b
    b = b + ~low
    return -d * low / b, d * low * a / b / b


def both_vjp(d, a, b, tau):
    """(da, db) of short(a, b) + short(b, a)."""
    (da, db), (more_b, more_a) = short_vjp(d, a, b, tau), short_vjp(d, b, a, tau)
    return da + more_a, db + more_b
