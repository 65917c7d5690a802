"""Intermediate bounds layer by layer: the linear bound of h^[k] with C = [I; −I], for each ReLU k in turn.

With parallel lines these are the bounds of CAP (Wong and Kolter 2018), and one backward pass gives both sides
(cap.py); with adaptive slopes those of CROWN (Zhang et al. 2018), I and −I apart. One affine layer alone is bounded by
intervals, which are exact. What a convolution feeds is bounded on its receptive field (field.py), all positions at once. The
identity is taken in blocks of rows, so that memory stays bounded; the gradient runs each block again, and sweeps the layers
once in reverse: the upstream of (l_k, u_k) adds to the parameters, and to that of every (l_j, u_j), j < k, whose lines the
bound used.
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


class Block(NamedTuple):
    """How some rows of h^[k] are bounded, from the (l, u) of the earlier ReLUs."""

    bound: object  # (net, stop, E, pre, region) -> l, u, each (S, N); E (S, 1, m) rows of the identity
    vjp: object    # (dl, du, net, stop, E, pre, region) -> parameter gradients, [(dl_j, du_j)]


def layerwise(block, net, region):
    """[(l, u)], each (N, n), at the input of each ReLU."""
    pre = []
    for stop in net.relus:
        if _alone(net, stop):
            pre += interval(net, region, stop + 1).pre
            continue
        seen = field(net, stop)
        cut, earlier = seen.region(region), seen.pre(pre)
        parts = [block.bound(seen.net, stop, E, earlier, cut) for _, E in _identity(seen.net, stop, cut)]
        pre.append(tuple(namespace(*ends).concatenate(ends).T.reshape(len(region.c), -1) for ends in zip(*parts)))
    return pre


def layerwise_vjp(dpre, block, net, region, pre):
    """Parameter gradients for the upstream (dl, du) of each ReLU."""
    grads, dpre = {}, list(dpre)
    for k in reversed(range(len(net.relus))):
        stop = net.relus[k]
        if _alone(net, stop):
            grads = add(grads, interval_vjp(net, interval(net, region, stop + 1), [dpre[k]]))
            continue
        seen = field(net, stop)
        cut, earlier = seen.region(region), seen.pre(pre[:k])
        dl, du = (d.reshape(len(cut.c), -1).T for d in dpre[k])  # (S, N P)
        for rows, E in _identity(seen.net, stop, cut):
            more, dearlier = block.vjp(dl[rows], du[rows], seen.net, stop, E, earlier, cut)
            grads = add(grads, more)
            dpre[:k] = [(dl_j + a, du_j + b) for (dl_j, du_j), (a, b) in zip(dpre, seen.pre_vjp(dearlier))]
    return grads


def _alone(net, stop):
    """Whether at most one affine layer, and no ReLU, comes before `stop`: intervals are exact there."""
    return stop == net.relus[0] and sum(isinstance(layer, Affine) for layer in net.layers[:stop]) <= 1


def add(grads, more):
    """The sum of two dicts of gradients; a name that one lacks is 0 there."""
    return {name: grads[name] + more[name] if name in grads and name in more else grads.get(name, more.get(name))
            for name in {**grads, **more}}


def _identity(net, stop, region):
    """(rows, E): blocks of rows of the identity on the output of layers[:stop], E (S, 1, m)."""
    xp, m = namespace(*net.params.values()), net.units[stop]
    size = max(1, BLOCK // (max(net.units[:stop + 1]) * len(region.c)))
    for i in range(0, m, size):
        rows = xp.arange(i, min(i + size, m))[:, None]
        yield slice(i, i + size), (rows == xp.arange(m)).astype(region.c.dtype)[:, None, :]


def _parallel(net, stop, E, pre, region):
    bound = two_sided(net, stop, E, [chord(l, u) for l, u in pre], region)
    return bound.m - bound.d, bound.m + bound.d


def _parallel_vjp(dl, du, net, stop, E, pre, region):
    """l = m − d, u = m + d."""
    chords = [chord(l, u) for l, u in pre]
    bound = two_sided(net, stop, E, chords, region)
    grads, dchords = two_sided_vjp(dl + du, du - dl, net, stop, bound, chords, region)
    return grads, [chord_vjp(da, db, l, u, a) for (da, db), (l, u), (a, _) in zip(dchords, pre, chords)]


def _adaptive(net, stop, E, pre, region):
    lines = [enclose(l, u, adaptive(l, u)) for l, u in pre]
    upper, _ = maximise(linear_bound(net, stop, E, lines), region)
    minus_lower, _ = maximise(linear_bound(net, stop, -E, lines), region)
    return -minus_lower, upper


def _adaptive_vjp(dl, du, net, stop, E, pre, region):
    """u = s̄(I), l = −s̄(−I); the lower slopes are constant."""
    lines, grads = [enclose(l, u, adaptive(l, u)) for l, u in pre], {}
    earlier = [(0, 0)] * len(pre)
    for ds, C in ((du, E), (-dl, -E)):
        bound = linear_bound(net, stop, C, lines)
        more, dlines = linear_bound_vjp(ds, net, stop, bound, lines, maximise(bound, region)[1])
        moved = [chord_vjp(da, db, l, u, line.a_up) for (da, db), (l, u), line in zip(dlines, pre, lines)]
        grads, earlier = add(grads, more), [(a + c, b + d) for (a, b), (c, d) in zip(earlier, moved)]
    return grads, earlier


CAP = Block(_parallel, _parallel_vjp)
CROWN = Block(_adaptive, _adaptive_vjp)
