"""l2 and l1 balls: the point of the unit ball furthest along g, and the dual norm of the rows of a layer, with its gradient."""

import numpy as np

from .arrays.ops import namespace
from .layers import Linear


def furthest(g, norm):
    """The point of the unit ball furthest along g, on the last axis; 0 where g is 0."""
    xp = namespace(g)
    if norm == np.inf:
        return xp.sign(g)
    if norm == 2:
        h, _ = unit_largest(g)
        length = xp.sqrt((h * h).sum(-1, keepdims=True))
        return h / xp.where(length > 0, length, 1)
    largest = xp.abs(g) == xp.max(xp.abs(g), axis=-1, keepdims=True)
    return xp.sign(g) * largest / largest.sum(-1, keepdims=True).astype(g.dtype)  # ties share the ball


def unit_largest(g):
    """h and the largest |g_i| of the last axis, g = h largest: no square of h overflows, and the largest does not vanish."""
    xp = namespace(g)
    largest = xp.max(xp.abs(g), axis=-1, keepdims=True)
    return g / xp.where(largest > 0, largest, 1), largest


def magnitudes(layer, W):
    """|W_i| of each row of the layer as a matrix, (P, out, K): a padded position has fewer entries."""
    xp = namespace(W)
    if isinstance(layer, Linear):
        return xp.abs(W)[None]
    seen = layer.patches(xp.ones((1, layer.units), W.dtype)).reshape(layer.positions, 1, -1)
    return xp.abs(W).transpose((0, 2, 3, 1)).reshape(len(W), -1) * seen


def row_norms(layer, W, norm):
    """The dual norm of each row of the layer as a matrix, (m,), for an l2 or l1 ball."""
    xp = namespace(W)
    R, largest = unit_largest(magnitudes(layer, W))
    return (xp.sqrt((R * R).sum(-1, keepdims=True)) * largest if norm == 2 else largest).reshape(-1)


def row_norms_vjp(d, layer, W, norm):
    """The gradient of Σ d q in W: the dual norm's gradient in a row is the furthest point of the ball."""
    way = furthest(magnitudes(layer, W), norm)
    way = (way * d.reshape(-1, len(W), 1)).sum(0)  # (out, K), 0 where padding is
    if not isinstance(layer, Linear):
        way = way.reshape(len(W), *W.shape[2:], W.shape[1]).transpose((0, 3, 1, 2))
    return namespace(W).sign(W) * way
