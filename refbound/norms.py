"""l2 and l1 balls: the dual norm of the rows of the first layers, with its gradient."""

from .arrays.blocks import identity_blocks
from .arrays.field import field
from .arrays.ops import namespace
from .ball import furthest, length
from .cap import two_sided, two_sided_vjp
from .layers import Flatten, Linear, add


def magnitudes(layer, W):
    """|W_i| of each row of the layer as a matrix, (P, out, K): a padded position has fewer entries."""
    xp = namespace(W)
    if isinstance(layer, Linear):
        return xp.abs(W)[None]
    seen = xp.ascontiguousarray(layer.patches(xp.ones((1, layer.units), W.dtype))).reshape(layer.positions, 1, -1)
    return xp.abs(W).transpose((0, 2, 3, 1)).reshape(len(W), -1) * seen


def layer_norms(layer, W, norm):
    """The dual norm of each row of the layer as a matrix, (m,)."""
    R = magnitudes(layer, W)
    return (length(R) if norm == 2 else namespace(R).max(R, axis=-1)).reshape(-1)


def layer_norms_vjp(d, layer, W, norm):
    """The gradient of Σ d q in W: the dual norm's gradient in a row is the furthest point of the ball."""
    way = furthest(magnitudes(layer, W), norm)
    way = (way * d.reshape(-1, len(W), 1)).sum(0)  # (out, K), 0 where padding is
    if not isinstance(layer, Linear):
        way = way.reshape(len(W), *W.shape[2:], W.shape[1]).transpose((0, 3, 1, 2))
    return namespace(W).sign(W) * way


def row_norms(net, stop, ball):
    """The dual norm of each row of layers[:stop], which have no ReLU, as one matrix, (m,), for an l2 or l1 Region.

    That of several affine layers is half the width of what they make of the unit ball around 0.
    """
    affine, after, xp = *split(net, stop), net.xp
    if not affine:
        norms = xp.ones(net.units[0], net.dtype)
    elif len(affine) == 1:
        (i, layer), = affine
        norms = layer_norms(layer, net.params[f"{i}.weight"], ball.norm)
    else:
        part, unit, end = unit_ball(net, affine, ball)
        norms = xp.concatenate([two_sided(part, end, E, (), unit).d
                                for _, E in identity_blocks(part, end, unit)]).T.reshape(-1)
    for layer in after:
        norms = layer.reorder(norms)
    return norms


def row_norms_vjp(d, net, stop, ball):
    """The gradients of Σ d q in the weights of all these layers."""
    affine, after = split(net, stop)
    for layer in reversed(after):
        d = layer.restore(d)
    if len(affine) == 1:
        (i, layer), = affine
        return {f"{i}.weight": layer_norms_vjp(d, layer, net.params[f"{i}.weight"], ball.norm)}
    (part, unit, end), grads = unit_ball(net, affine, ball), {}
    d = d.reshape(len(unit.centre), -1).T  # (S, P)
    for rows, E in identity_blocks(part, end, unit):
        bound = two_sided(part, end, E, (), unit)
        grads = add(grads, two_sided_vjp(0 * d[rows], d[rows], part, end, bound, (), unit)[0])
    return grads


def split(net, stop):
    """The (index, layer) of the affine layers before `stop`, and the Flatten layers after the last of them."""
    affine = [(i, layer) for i, layer in net.affine if i < stop]
    return affine, [layer for layer in net.layers[affine[-1][0] + 1 if affine else stop:stop]
                    if isinstance(layer, Flatten)]


def unit_ball(net, affine, ball):
    """The part of the network up to the last of these layers, the unit ball at its input, and where it ends."""
    xp, end = net.xp, affine[-1][0] + 1
    seen = field(net, end, 1)
    unit = ball._replace(centre=xp.zeros((1, net.units[0]), net.dtype), radius=xp.ones((1, 1), net.dtype))
    return seen.net, seen.region(unit), end
