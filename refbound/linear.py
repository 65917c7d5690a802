"""The linear relaxation (Definition 1), backwards from the output to the input, and its gradient.

For a linear function C of the output of f = layers[:stop], and two lines around every ReLU, it finds g and b with

    C f(x) ≤ g·x + b   for every x in B,      max over B: s̄ = g·x* + b                     (2)

going backwards from g = C, b = 0. Through z = W x + bias:

    b ← b + g·bias,       g ← Aᵀ(W, g)

and through z = max(x, 0), where a positive coefficient takes the upper line and a negative one the lower (b̲ = 0):

    b ← b + g·b̂,         g ← â g,    (â, b̂) = (ā, b̄) where g > 0, (a̲, 0) elsewhere.

Bounds are upper bounds; a lower bound of C is minus the upper bound of −C.
"""

from typing import NamedTuple

from .arrays.ops import contract, namespace, positive
from .layers import Affine, Flatten, ReLU


class Relaxation(NamedTuple):
    """C f(x) ≤ g·x + b, and the coefficients met on the way back."""

    g: object     # (S, N, n), the relaxed gradient; (S, 1, n) where it does not depend on the example
    b: object     # (S, N)
    trace: list   # g at the output of each affine layer; at a ReLU (g, â, b̂), the line that g took


def relax(net, stop, C, lines, start=0):
    """The Relaxation of layers[start:stop], C (S, N, m) or (S, 1, m); `lines` of the ReLUs before `stop`, in order."""
    g, b, trace, k = C, 0, [None] * stop, sum(i < stop for i in net.relus)
    for i in reversed(range(start, stop)):
        layer = net.layers[i]
        if isinstance(layer, Affine):
            trace[i] = g
            b = b + g @ layer.per_unit(net.params[f"{i}.bias"])
            g = layer.adjoint(net.params[f"{i}.weight"], g)
        elif isinstance(layer, ReLU):
            k -= 1
            (a_lo, a_up, b_up, parallel), xp = lines[k], namespace(g, lines[k].a_up)
            g = xp.broadcast_to(g, (*g.shape[:-2], *a_up.shape[-2:]))  # from here on it depends on the example
            above = (g > 0).astype(g.dtype)  # NumPy multiplies by numbers faster than by truths
            slope = a_up if parallel else a_lo + (a_up - a_lo) * above
            trace[i] = g, slope, b_up * above
            b = b + contract("sNn,sNn->sN", g, trace[i][2])
            g = slope * g
        elif isinstance(layer, Flatten):
            g = layer.restore(g)
    return Relaxation(g, b, trace)


def maximise(relaxation, region):
    """s̄ (S, N), the maximum (2) of g·x + b over the region, and the x* (S, N, n) that attains it."""
    g, b, _ = relaxation
    worst = region.centre + region.reach(g)
    return (g * worst).sum(-1) + b, worst  # (2)


def upstream(ds, net, stop, relaxation, worst, start=0):
    """Yields (i, layer, v), v the gradient of Σ ds s̄ in g at the input of layer i; for an affine layer v's patches.

    While no g changes sign, a step back is linear in (g, b); its adjoint goes forward from v = dg = ds x*, db = ds:

        b ← b + g·bias, g ← Aᵀ(W, g)            v ← A(W, v) + ds bias
        b ← b + g·b̂, g ← â g                    v ← â v + ds b̂

    which is the network itself run on the worst case x*, its ReLUs replaced by the lines that g took, weighted by ds.
    """
    ds = ds[:, :, None]
    v = ds * worst
    for i, layer in enumerate(net.layers[start:stop], start):
        if isinstance(layer, Affine):
            v = layer.patches(v)
            yield i, layer, v
            if i < stop - 1:
                v = layer.apply(net.params[f"{i}.weight"], v)
                v += ds * layer.per_unit(net.params[f"{i}.bias"])
        elif isinstance(layer, ReLU):
            yield i, layer, v
            if i < stop - 1:
                _, slope, intercept = relaxation.trace[i]
                v = slope * v
                v += ds * intercept
        elif isinstance(layer, Flatten):
            v = layer.reorder(v)


def relax_vjp(ds, net, stop, relaxation, lines, worst, start=0):
    """Gradients of Σ ds s̄: of the parameters (a dict), and of the chord, (dā, db̄) for each ReLU.

    With v from `upstream`: dW = outer(g, v) and dbias = Σ ds g for an affine layer, g at its output; and for a ReLU
    dā = Σ_S g⁺ v and db̄ = Σ_S ds g⁺. The lower slopes are constants, but for parallel lines, a̲ = ā: dā = Σ_S g v.
    """
    grads, dlines = {}, []
    for i, layer, v in upstream(ds, net, stop, relaxation, worst, start):
        if isinstance(layer, Affine):
            g = relaxation.trace[i]
            weight = ds if g.shape[-2] == ds.shape[-1] else ds.sum(-1, keepdims=True)  # one g for all examples
            grads[f"{i}.weight"] = layer.outer(g, v)
            grads[f"{i}.bias"] = layer.bias_gradient(weight.reshape(-1) @ g.reshape(-1, g.shape[-1]))
        elif isinstance(layer, ReLU):
            g, upper = relaxation.trace[i][0], positive(relaxation.trace[i][0])
            da = contract("sNn,sNn->Nn", g if lines[len(dlines)].parallel else upper, v)
            dlines.append((da, contract("sNn,sN->Nn", upper, ds)))
    return grads, dlines


def slope_gradient(ds, net, stop, relaxation, worst, shared=True):
    """da̲ of Σ ds s̄ for each ReLU: Σ_S g⁻ v, (N, n); or g⁻ v, (S, N, n), where slopes are not shared."""
    xp, sums = namespace(worst), "sNn,sNn->Nn" if shared else "sNn,sNn->sNn"
    return [contract(sums, xp.minimum(relaxation.trace[i][0], 0), v)
            for i, layer, v in upstream(ds, net, stop, relaxation, worst) if isinstance(layer, ReLU)]
