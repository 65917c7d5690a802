"""Interval bound propagation (Gowal et al. 2018; Section 3.2, Appendix B): l ≤ z ≤ u at every ReLU, and its gradient.

In centre and radius an affine layer is two products, and a ReLU acts on the ends:

    centre = A(W, centre) + bias     radius = A(|W|, radius)       l = centre − radius,  u = centre + radius
    centre = (u⁺ + l⁺) / 2           radius = (u⁺ − l⁺) / 2

If the region is an l2 or l1 ball, all affine layers before the first ReLU are one W, and radius = ε ‖W_i‖_q, row by
row, with the dual norm q: exact, as the box is for l∞ if that is one layer (norms.py).
"""

from typing import NamedTuple

import numpy as np

from .arrays.ops import namespace, positive
from .ball import Region
from .layers import Affine, Flatten, ReLU
from .norms import row_norms, row_norms_vjp


class Intervals(NamedTuple):
    """What `interval` found, and what its gradient needs."""

    pre: list     # (l, u), each (N, n), at the input of each ReLU
    inputs: list  # the Region at the input of each layer up to the last ReLU; None where no gradient needs it


def interval(net, region, stop=None):
    """Interval bounds of layers[:stop] over a region; by default up to the last ReLU."""
    xp = namespace(region.centre, *net.params.values())
    pre, inputs, (centre, radius, norm) = [], [], region
    for i, layer in enumerate(net.layers[:net.head if stop is None else stop]):
        inputs.append(Region(centre, radius, norm) if isinstance(layer, Affine) or norm != np.inf else None)
        if isinstance(layer, ReLU) and norm != np.inf:
            radius, norm = radius * row_norms(net, i, inputs[i]), np.inf
        if isinstance(layer, ReLU):
            pre.append((centre - radius, centre + radius))
            centre, radius = rectified(*pre[-1])
        elif isinstance(layer, Affine):
            W, bias = net.params[f"{i}.weight"], layer.per_unit(net.params[f"{i}.bias"])
            radius = layer.apply(xp.abs(W), layer.patches(radius)) if norm == np.inf else radius
            centre = layer.apply(W, layer.patches(centre)) + bias
        elif isinstance(layer, Flatten):
            centre, radius = layer.reorder(centre), layer.reorder(radius) if norm == np.inf else radius
    return Intervals(pre, inputs)


def interval_vjp(dpre, net, found):
    """Parameter gradients for upstream (dl, du) at each ReLU: backwards through the lines of `interval`.

    From l = centre − radius, u = centre + radius: dcentre = dl + du, dradius = du − dl. An affine layer:
        dW = outer(dcentre, centre) + sign(W) outer(dradius, radius),   dbias = dcentre,
        dcentre = Aᵀ(W, dcentre),   dradius = Aᵀ(|W|, dradius).
    """
    grads, k, dcentre, dradius, first = {}, len(found.pre), None, None, net.affine[0][0]
    for i in reversed(range(first, len(found.inputs))):
        layer = net.layers[i]
        if isinstance(layer, ReLU):
            k -= 1
            dl, du = dpre[k]
            if dcentre is not None:  # not the last ReLU
                dl, du = (a + b for a, b in zip((dl, du), rectified_vjp(dcentre, dradius, *found.pre[k])))
            dcentre, dradius = dl + du, du - dl
            if found.inputs[i] is not None:  # the ball ends here
                grads.update(row_norms_vjp((dradius * found.inputs[i].radius).sum(0), net, i, found.inputs[i]))
        elif isinstance(layer, Affine):
            W, (centre, radius, norm), xp = net.params[f"{i}.weight"], found.inputs[i], namespace(dcentre)
            by_radius = (xp.sign(W) * layer.outer(dradius, layer.patches(radius)) if norm == np.inf
                         else grads[f"{i}.weight"])
            grads[f"{i}.weight"] = layer.outer(dcentre, layer.patches(centre)) + by_radius
            grads[f"{i}.bias"] = layer.bias_gradient(dcentre)
            if i > first:
                dcentre = layer.adjoint(W, dcentre)  # and then dradius, when the dcentre before is freed
                dradius = layer.adjoint(xp.abs(W), dradius)
        elif isinstance(layer, Flatten) and dcentre is not None:
            dcentre, dradius = layer.restore(dcentre), layer.restore(dradius)
    return grads


def rectified(l, u):
    """Centre and radius of the box [l⁺, u⁺] that a ReLU makes of [l, u]."""
    lp, up = positive(l), positive(u)
    return (up + lp) / 2, (up - lp) / 2


def rectified_vjp(dcentre, dradius, l, u):
    """(dl, du): l⁺ and u⁺ pass where they are positive."""
    return (l > 0) * ((dcentre - dradius) / 2), (u > 0) * ((dcentre + dradius) / 2)
