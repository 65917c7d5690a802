"""Networks in rational arithmetic, which floating point is held against. Units are in the order of rows (refbound)."""

from fractions import Fraction

import numpy as np

from refbound.layers import Affine, ReLU, margin_matrix

exact = np.vectorize(Fraction, otypes=[object])  # floats to the rationals that they are


def matrix(net, i):
    """Layer i as a matrix (m, n) and a vector (m,) of rationals."""
    layer, W = net.layers[i], net.params[f"{i}.weight"]
    return (exact(layer.apply(W, layer.patches(np.eye(layer.units, dtype=W.dtype))).T),
            exact(layer.per_unit(net.params[f"{i}.bias"])))


def definition_1(net, y, lines, start, low, high):
    """The exact margin bounds (S, N) over a box at layer `start`, with these lines."""
    g, b, k = exact(margin_matrix(y, net.classes, np.float64)), Fraction(0), len(lines)
    for i in reversed(range(start, len(net.layers))):
        if isinstance(net.layers[i], Affine):
            W, bias = matrix(net, i)
            b, g = b + (g * bias).sum(-1), g @ W
        elif isinstance(net.layers[i], ReLU):
            k -= 1
            a_lo, a_up, b_up, _ = lines[k]
            positive = np.maximum(g, Fraction(0))
            b = b + (positive * exact(b_up)).sum(-1)
            g = exact(a_up) * positive + exact(a_lo) * (g - positive)
        else:
            g = net.layers[i].restore(g)
    return b + (np.where(g > 0, g * high, g * low)).sum(-1)


def exact_margins(net, x, y):
    """z_m − z_y (S, N) at rational points x (N, n)."""
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Affine):
            W, bias = matrix(net, i)
            x = x @ W.T + bias
        elif isinstance(layer, ReLU):
            x = np.maximum(x, Fraction(0))
        else:
            x = layer.reorder(x)
    return (exact(margin_matrix(y, net.classes, np.float64)) * x).sum(-1)
