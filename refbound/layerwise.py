"""Intermediate bounds layer by layer: the linear bound of h^[k] with C = [I; −I], for each ReLU k in turn.

With parallel lines these are the bounds of CAP (Wong and Kolter 2018), and one backward pass gives both sides
(cap.py); with adaptive slopes those of CROWN (Zhang et al. 2018), I and −I apart. One affine layer alone is bounded by
intervals, which are exact. What a convolution feeds is bounded on its receptive field (field.py), all positions at once. The
identity is taken in blocks of rows, so that memory stays bounded; the gradient runs each block again, unless all of a ReLU's
were small enough to keep, and sweeps the layers once in reverse: the upstream of (l_k, u_k) adds to the parameters, and to
that of every (l_j, u_j), j < k, whose lines the bound used.
"""

from typing import NamedTuple

from .backend import namespace
from .cap import two_sided, two_sided_vjp
from .field import field
from .interval import interval, interval_vjp
from .layers import Affine
from .linear import linear_bound, linear_bound_vjp, maximise
from .relaxation import adaptive, chord, chord_vjp, enclose

BLOCK = 2**19  # entries of the largest (S, N, n) array of a block; a few of them live at once
KEPT = 5 * 2**20  # entries of all rows of a ReLU, up to which what their gradient needs is kept


class Block(NamedTuple):
    """How some rows of h^[k] are bounded from both sides."""

    lines: object  # (l, u) -> the lines of an earlier ReLU
    bound: object  # (net, stop, E, lines, region) -> (l, u), each (S, N), and what the gradient needs; E (S, 1, m)
    vjp: object    # (dl, du, net, stop, bound, lines, region) -> parameter gradients, [(dā, db̄)]


def layerwise(block, net, region):
    """[(l, u)], each (N, n), at the input of each ReLU, and what was kept of each: bounds of its blocks, or None."""
    pre, kept = [], []
    for stop in net.relus:
        if _alone(net, stop):
            pre, kept = pre + interval(net, region, stop + 1).pre, [None]
            continue
        seen = field(net, stop)
        cut, lines = seen.region(region), [block.lines(l, u) for l, u in seen.pre(pre)]
        keep = seen.net.units[stop] * _entries(seen.net, stop, cut) <= KEPT
        ends, bounds = [], []
        for _, E in _identity(seen.net, stop, cut):
            pair, bound = block.bound(seen.net, stop, E, lines, cut)
            ends.append(pair)
            bounds.append(bound if keep else None)
        pre.append(tuple(namespace(*z).concatenate(z).T.reshape(len(region.c), -1) for z in zip(*ends)))
        kept.append(bounds)
    return pre, kept


def layerwise_vjp(dpre, block, net, region, pre, kept):
    """Parameter gradients for the upstream (dl, du) of each ReLU."""
    grads, dpre = {}, list(dpre)
    for k in reversed(range(len(net.relus))):
        stop = net.relus[k]
        if _alone(net, stop):
            grads = add(grads, interval_vjp([dpre[k]], None, net, interval(net, region, stop + 1)))
            continue
        seen = field(net, stop)
        cut, earlier = seen.region(region), seen.pre(pre[:k])
        lines, dlines = [block.lines(l, u) for l, u in earlier], [(0, 0)] * k
        dl, du = (d.reshape(len(cut.c), -1).T for d in dpre[k])  # (S, N P)
        for (rows, E), bound in zip(_identity(seen.net, stop, cut), kept[k]):
            bound = bound or block.bound(seen.net, stop, E, lines, cut)[1]
            more, dmore = block.vjp(dl[rows], du[rows], seen.net, stop, bound, lines, cut)
            grads, dlines = add(grads, more), sums(dlines, dmore)
        moved = [chord_vjp(da, db, l, u, chord(l, u)[0]) for (da, db), (l, u) in zip(dlines, earlier)]
        dpre[:k] = sums(dpre, seen.pre_vjp(moved))
    return grads


def _alone(net, stop):
    """Whether at most one affine layer, and no ReLU, comes before `stop`: intervals are exact there."""
    return stop == net.relus[0] and sum(isinstance(layer, Affine) for layer in net.layers[:stop]) <= 1


def add(grads, more):
    """The sum of two dicts of gradients; a name that one lacks is 0 there."""
    return {name: grads[name] + more[name] if name in grads and name in more else grads.get(name, more.get(name))
            for name in {**grads, **more}}


def _entries(net, stop, region):
    """Of the largest array that one row makes."""
    return max(net.units[:stop + 1]) * len(region.c)


def _identity(net, stop, region):
    """(rows, E): blocks of rows of the identity on the output of layers[:stop], E (S, 1, m)."""
    xp, m = namespace(*net.params.values()), net.units[stop]
    size = max(1, BLOCK // _entries(net, stop, region))
    for i in range(0, m, size):
        rows = xp.arange(i, min(i + size, m))[:, None]
        yield slice(i, i + size), (rows == xp.arange(m)).astype(region.c.dtype)[:, None, :]


def sums(pairs, more):
    """The sums of two lists of pairs."""
    return [(a + c, b + d) for (a, b), (c, d) in zip(pairs, more)]


def _parallel(net, stop, E, chords, region):
    bound = two_sided(net, stop, E, chords, region)
    return (bound.m - bound.d, bound.m + bound.d), bound


def _parallel_vjp(dl, du, net, stop, bound, chords, region):
    """l = m − d, u = m + d."""
    return two_sided_vjp(dl + du, du - dl, net, stop, bound, chords, region)


def _adaptive(net, stop, E, lines, region):
    """u = s̄(I), l = −s̄(−I)."""
    bounds = [linear_bound(net, stop, C, lines) for C in (E, -E)]
    (upper, x), (minus_lower, x_lower) = (maximise(bound, region) for bound in bounds)
    return (-minus_lower, upper), (*bounds, x, x_lower)


def _adaptive_vjp(dl, du, net, stop, bounds, lines, region):
    """The lower slopes are constant."""
    upper, lower, x, x_lower = bounds
    grads, dlines = linear_bound_vjp(du, net, stop, upper, lines, x)
    more, dmore = linear_bound_vjp(-dl, net, stop, lower, lines, x_lower)
    return add(grads, more), sums(dlines, dmore)


CAP = Block(chord, _parallel, _parallel_vjp)
CROWN = Block(lambda l, u: enclose(l, u, adaptive(l, u)), _adaptive, _adaptive_vjp)
