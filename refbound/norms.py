"""l2 and l1 balls: the point of the unit ball furthest along g, and the dual norm of the rows of a layer, with its gradient."""

from dataclasses import replace

import numpy as np

from .arrays.ops import namespace
from .layers import Conv2d, Linear


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


def row_norms(radius, net, i, norm):
    """What an l2 or l1 ball is behind the first affine layer i, (radius, norm): a box of ε times the dual norm of each row."""
    if feeds(net, i):
        return radius, norm
    layer, W = behind(net, i)
    R, largest = unit_largest(magnitudes(layer, W))
    q = namespace(W).sqrt((R * R).sum(-1, keepdims=True)) * largest if norm == 2 else largest
    return radius * q.reshape(-1), np.inf


def row_norms_vjp(d, net, i, norm):
    """The gradients of Σ d q in the weights, a dict: the dual norm's gradient in a row is the furthest point of the ball."""
    if feeds(net, i):
        return {}
    layer, W = behind(net, i)
    way = furthest(magnitudes(layer, W), norm)
    way = (way * d.reshape(-1, len(W), 1)).sum(0)  # (out, K), 0 where padding is
    if not isinstance(layer, Linear):
        way = way.reshape(len(W), *W.shape[2:], W.shape[1]).transpose((0, 3, 1, 2))
    return behind_vjp(namespace(W).sign(W) * way, net, i)


# ---- a 1 × 1 convolution in front, as one that normalises the image ----

def feeds(net, i):
    """Whether layer i is a first 1 × 1 convolution that feeds another: what it does to the ball is left to that."""
    here, after = (*net.layers[i:i + 2], None)[:2]
    return (i == net.affine[0][0] and isinstance(here, Conv2d) and isinstance(after, Conv2d)
            and (here.kernel_size, here.stride, here.padding) == ((1, 1), (1, 1), (0, 0)))


def behind(net, i):
    """(layer, W) of the linear map that layer i makes with the one that feeds it, W[o, c] = Σ_d W_i[o, d] F[d, c]; else its own.

    Exact with padding too: what is beyond the border is 0 for both.
    """
    layer, W = net.layers[i], net.params[f"{i}.weight"]
    if i == 0 or not feeds(net, i - 1):
        return layer, W
    F = net.params[f"{i - 1}.weight"][:, :, 0, 0]
    layer, _ = replace(layer, in_channels=F.shape[1]).at((F.shape[1], *layer.window.shape[:2]))
    return layer, namespace(W).einsum("odhw,dc->ochw", W, F)


def behind_vjp(d, net, i):
    """The gradients of both from the d of that map's W: Σ_c d[o, c] F[d, c] and Σ_o W_i[o, d] d[o, c]."""
    if i == 0 or not feeds(net, i - 1):
        return {f"{i}.weight": d}
    W, F, xp = net.params[f"{i}.weight"], net.params[f"{i - 1}.weight"], namespace(d)
    return {f"{i}.weight": xp.einsum("ochw,dc->odhw", d, F[:, :, 0, 0]),
            f"{i - 1}.weight": xp.einsum("odhw,ochw->dc", W, d)[:, :, None, None]}
