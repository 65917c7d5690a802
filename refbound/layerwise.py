"""CAP and CROWN: intermediate bounds layer by layer, the linear bound of each ReLU's input in turn, with C = [I; −I].

With parallel lines these are the bounds of CAP (Wong and Kolter 2018; Appendix C), and one backward pass gives both
sides (cap.py); with adaptive slopes those of CROWN (Zhang et al. 2018), I and −I apart. Where intervals are exact, they
are taken: for one affine layer alone, and over an l2 or l1 ball for all before the first ReLU.

The gradient is one sweep over the ReLUs in reverse: the gradient in (l_k, u_k) adds to that in the parameters, and
in every (l_j, u_j), j < k, whose lines the bound used.

Units are bounded in blocks of rows of the identity (arrays/blocks.py); those that a convolution feeds on its receptive
field, all positions at once (arrays/field.py). On a first reading take seen.net = net, cut = region, one block E = I.
"""

from typing import NamedTuple

import numpy as np

from .arrays.blocks import identity_blocks, keeps_all
from .arrays.field import field
from .arrays.ops import namespace
from .cap import projected, projected_vjp, two_sided, two_sided_vjp
from .interval import interval, interval_vjp
from .layers import Affine, add, add_pairs
from .linear import maximise, relax, relax_vjp
from .relaxation import adaptive, chord, chord_vjp, enclose


class Layerwise(NamedTuple):
    """The bounds found layer by layer, and what their gradient needs."""

    pre: list       # (l, u), each (N, n), at the input of each ReLU
    region: object
    kept: list      # of each ReLU: what the passes of its blocks gave, where it is kept


class Sides(NamedTuple):
    """How some units are bounded from both sides."""

    lines: object  # (l, u) -> the lines of an earlier ReLU
    bound: object  # (net, stop, E, lines, region) -> (l, u), each (S, N), and what the gradient needs; E (S, 1, m)
    vjp: object    # (dl, du, net, stop, bound, lines, region) -> parameter gradients, [(dā, db̄)]


def cap(net, region, projections=None):
    """CAP's bounds, layer by layer; with draws for `projections` an estimate of them (cap.projected)."""
    return layerwise(PARALLEL, net, region) if projections is None else projected(net, region, projections)


def cap_vjp(dpre, net, found):
    """Parameter gradients for the upstream (dl, du) of each ReLU, of the bounds or of their estimate."""
    return (layerwise_vjp(dpre, PARALLEL, net, found) if isinstance(found, Layerwise)
            else projected_vjp(dpre, net, found))


def crown(net, region):
    """CROWN's bounds, layer by layer."""
    return layerwise(ADAPTIVE, net, region)


def crown_vjp(dpre, net, found):
    """Parameter gradients for the upstream (dl, du) of each ReLU."""
    return layerwise_vjp(dpre, ADAPTIVE, net, found)


def layerwise(sides, net, region):
    """The Layerwise bounds at the input of each ReLU."""
    pre, passes = [], []
    for stop in net.relus:
        if interval_is_exact(net, stop, region.norm):
            pre, passes = interval(net, region, stop + 1).pre, [None]
            continue
        seen = field(net, stop, len(region.centre))
        cut, lines = seen.region(region), [sides.lines(l, u) for l, u in seen.pre(pre)]
        keep, ends, bounds = keeps_all(seen.net, stop, cut), [], []
        for _, E in identity_blocks(seen.net, stop, cut):
            pair, bound = sides.bound(seen.net, stop, E, lines, cut)
            ends.append(pair)
            bounds.append(bound if keep else None)
        pre.append(tuple(namespace(*z).concatenate(z).T.reshape(len(region.centre), -1) for z in zip(*ends)))
        passes.append(bounds)
    return Layerwise(pre, region, passes)


def layerwise_vjp(dpre, sides, net, found):
    """Parameter gradients for the upstream (dl, du) of each ReLU."""
    grads, dpre, (pre, region, passes) = {}, list(dpre), found
    for k in reversed(range(len(net.relus))):
        stop = net.relus[k]
        if interval_is_exact(net, stop, region.norm):
            grads = add(grads, interval_vjp([dpre[k]], net, interval(net, region, stop + 1)))
            continue
        seen = field(net, stop, len(region.centre))
        cut, earlier = seen.region(region), seen.pre(pre[:k])
        lines, dlines = [sides.lines(l, u) for l, u in earlier], [(0, 0)] * k
        dl, du = (d.reshape(len(cut.centre), -1).T for d in dpre[k])  # (S, N P)
        for (rows, E), bound in zip(identity_blocks(seen.net, stop, cut), passes[k]):
            bound = bound or sides.bound(seen.net, stop, E, lines, cut)[1]
            more, dmore = sides.vjp(dl[rows], du[rows], seen.net, stop, bound, lines, cut)
            grads, dlines = add(grads, more), add_pairs(dlines, dmore)
        moved = [chord_vjp(da, db, l, u, chord(l, u)[0]) for (da, db), (l, u) in zip(dlines, earlier)]
        dpre[:k] = add_pairs(dpre, seen.pre_vjp(moved))
    return grads


def interval_is_exact(net, stop, norm):
    """Whether no ReLU comes before `stop`, and at most one affine layer or an l2 or l1 ball."""
    return stop == net.relus[0] and (
        norm != np.inf or sum(isinstance(layer, Affine) for layer in net.layers[:stop]) <= 1)


def parallel_sides(net, stop, E, chords, region):
    """CAP: both sides at once, l = m − d, u = m + d."""
    bound = two_sided(net, stop, E, chords, region)
    return (bound.m - bound.d, bound.m + bound.d), bound


def parallel_sides_vjp(dl, du, net, stop, bound, chords, region):
    """dm = dl + du, dd = du − dl."""
    return two_sided_vjp(dl + du, du - dl, net, stop, bound, chords, region)


def adaptive_lines(l, u):
    """CROWN's lines around an earlier ReLU."""
    return enclose(l, u, adaptive([(l, u)])[0])


def adaptive_sides(net, stop, E, lines, region):
    """CROWN: u = s̄(I), l = −s̄(−I)."""
    bounds = [relax(net, stop, C, lines) for C in (E, -E)]
    (upper, worst), (minus_lower, worst_lower) = (maximise(bound, region) for bound in bounds)
    return (-minus_lower, upper), (*bounds, worst, worst_lower)


def adaptive_sides_vjp(dl, du, net, stop, bounds, lines, region):
    """Each side by itself; the lower slopes are constant."""
    upper, lower, worst, worst_lower = bounds
    grads, dlines = relax_vjp(du, net, stop, upper, lines, worst)
    more, dmore = relax_vjp(-dl, net, stop, lower, lines, worst_lower)
    return add(grads, more), add_pairs(dlines, dmore)


PARALLEL = Sides(chord, parallel_sides, parallel_sides_vjp)
ADAPTIVE = Sides(adaptive_lines, adaptive_sides, adaptive_sides_vjp)
