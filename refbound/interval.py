"""Interval bound propagation (Gowal et al. 2018): l ≤ z ≤ u at the input of every ReLU, and its gradient.

In centre c and radius r an affine layer is two products, and a ReLU acts on the ends:

    c = A(W, c) + bias     r = A(|W|, r)        l = c − r,  u = c + r
    c = (u⁺ + l⁺) / 2      r = (u⁺ − l⁺) / 2

If the region is an l2 or l1 ball, the first affine layer takes r = ε ‖W_i‖_q instead, row by row, with the dual
norm q: exact, as the box is for l∞.
"""

from typing import NamedTuple

import numpy as np

from .backend import namespace, positive
from .ball import Region, furthest, unit_largest
from .convolution import pixels
from .layers import Affine, Flatten, Linear, ReLU


class Intervals(NamedTuple):
    """What `interval` found, and what its gradient needs."""

    pre: list       # (l, u), each (N, n), at the input of each ReLU
    last: Region    # the box of the last ReLU's output, or the region itself if there is no ReLU
    inputs: list    # of each layer up to the last ReLU: the Region at the input of an affine one, else None


def interval(net, region, stop=None):
    """Interval bounds of layers[:stop] over a region; by default up to the last ReLU."""
    xp = namespace(region.c, *net.params.values())
    pre, inputs, (c, r, norm) = [], [], region
    if stop is None:
        stop = net.tail
    for i in range(stop):
        layer = net.layers[i]
        if isinstance(layer, ReLU) and norm != np.inf:
            c, r, norm = c, r + 0 * c, np.inf  # a ReLU on the input itself: the box around the ball
        inputs.append(Region(c, r, norm) if isinstance(layer, Affine) else None)
        if isinstance(layer, ReLU):
            l, u = c - r, c + r
            pre.append((l, u))
            lp, up = positive(l), positive(u)
            c, r = (up + lp) / 2, (up - lp) / 2
        elif isinstance(layer, Affine):
            W = net.weight(i)
            r = layer.apply(xp.abs(W), layer.patches(r)) if norm == np.inf else r * row_norms(layer, W, norm)
            c, norm = layer.apply(W, layer.patches(c)) + layer.spread(net.bias(i)), np.inf
        elif isinstance(layer, Flatten):
            c, r = layer.reorder(c), layer.reorder(r) if norm == np.inf else r
    return Intervals(pre, Region(c, r, norm), inputs)


def interval_vjp(dpre, dlast, net, trace):
    """Parameter gradients for upstream (dl, du) at each ReLU and (dc, dr) of the last box, or None.

    Backwards through the lines of `interval`. An affine layer:
        dW = dW(dc, c) + sign(W) dW(dr, r),  dbias = dc,  dc = Aᵀ(W, dc),  dr = Aᵀ(|W|, dr).
    """
    xp, grads, k = namespace(trace.last.c), {}, len(trace.pre)
    first = net.affine()[0][0]
    dc, dr = dlast or (None, None)
    for i in reversed(range(first, len(trace.inputs))):
        layer = net.layers[i]
        if isinstance(layer, ReLU):
            k -= 1
            dc, dr = _relu_vjp(*trace.pre[k], *dpre[k], dc, dr)
        elif isinstance(layer, Affine):
            W, (c, r, norm) = net.weight(i), trace.inputs[i]
            if norm == np.inf:
                dR = xp.sign(W) * layer.outer(dr, layer.patches(r))
            else:
                dR = row_norms_vjp((dr * r).sum(0), layer, W, norm)
            grads[f"{i}.weight"] = layer.outer(dc, layer.patches(c)) + dR
            grads[f"{i}.bias"] = layer.bias_sum(dc)
            if i > first:
                dc = layer.adjoint(W, dc)  # and then dr, when the dc before is freed
                dr = layer.adjoint(xp.abs(W), dr)
        elif isinstance(layer, Flatten) and dc is not None:
            dc, dr = layer.restore(dc), layer.restore(dr)
    return grads


def _relu_vjp(l, u, dl, du, dc, dr):
    """dc, dr at a ReLU's input, from those at its output, if there are any, and dl, du.

    l⁺ and u⁺ pass where they are positive: dl = [l > 0] (dc − dr) / 2, du = [u > 0] (dc + dr) / 2. Then l = c − r, u = c + r.
    """
    if dc is not None:
        dl = dl + (l > 0) * ((dc - dr) / 2)
        du = du + (u > 0) * ((dc + dr) / 2)
    return dl + du, du - dl


def _rows(layer, W):
    """The magnitude of each row of the layer as a matrix, (P, out, K): a padded position has fewer entries."""
    xp = namespace(W)
    if isinstance(layer, Linear):
        return xp.abs(W)[None]
    seen = layer.patches(xp.ones((1, layer.units), W.dtype)).reshape(layer.positions, 1, -1)
    return pixels(xp.abs(W)) * seen


def row_norms(layer, W, norm):
    """The dual norm of each row of the layer as a matrix, (m,), for an l2 or l1 ball."""
    xp, R = namespace(W), _rows(layer, W)
    R, largest = unit_largest(R)
    return (xp.sqrt((R * R).sum(-1, keepdims=True)) * largest if norm == 2 else largest).reshape(-1)


def row_norms_vjp(d, layer, W, norm):
    """The gradient of Σ d q in W: the dual norm's gradient in a row is the furthest point v of the ball."""
    R = _rows(layer, W)
    v = (furthest(R, norm) * d.reshape(-1, len(W), 1)).sum(0)  # (out, K), 0 where padding is
    if not isinstance(layer, Linear):
        v = v.reshape(len(W), *W.shape[2:], W.shape[1]).transpose((0, 3, 1, 2))
    return namespace(W).sign(W) * v
