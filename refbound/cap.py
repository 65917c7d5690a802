"""Two-sided bounds by parallel lines: CAP, Wong and Kolter's convex outer polytope (Appendix C), exact or projected.

With a̲ = ā every ReLU is  a z + b̄/2 ± b̄/2, so one backward pass bounds C f(x), f = layers[:stop], from both sides:

    C f(x) ∈ m ± d,    m = g·centre + Σ g_i·bias_i + Σ ν_j·b̄_j/2,    d = |g|·radius + Σ |ν_j|·b̄_j/2

where ν_j is the coefficient of the output of ReLU j, and g that of the input; both are linear in C. That is the linear
bound of C and of −C at once, at the price of one. For an l2 or l1 ball, |g|·radius is ε times the dual norm of g.
"""

from typing import NamedTuple

from .arrays.ops import contract, namespace, upper_median
from .layers import Affine, Flatten, ReLU
from .relaxation import chord, chord_vjp


class TwoSided(NamedTuple):
    """Linear functions between m − d and m + d over the region, and what their gradient needs."""

    m: object     # (S, N) the middle
    d: object     # (S, N) half the width
    g: object     # (S, N, n); (S, 1, n) where it does not depend on the example
    trace: list   # g at the output of each layer


def two_sided(net, stop, C, chords, region):
    """m and d for layers[:stop], C (S, N, m) or (S, 1, m), chords the (a, b̄) of its ReLUs."""
    g, m, d, trace, k = C, 0, 0, [None] * stop, sum(i < stop for i in net.relus)
    for i in reversed(range(stop)):
        layer, trace[i] = net.layers[i], g
        if isinstance(layer, Affine):
            m = m + g @ layer.per_unit(net.params[f"{i}.bias"])
            g = layer.adjoint(net.params[f"{i}.weight"], g)
        elif isinstance(layer, ReLU):
            k -= 1
            a, b = chords[k]
            xp = namespace(g, a)
            trace[i] = g = xp.broadcast_to(g, (*g.shape[:-2], *a.shape))
            m = m + contract("sNn,Nn->sN", g, b / 2)
            d = d + contract("sNn,Nn->sN", xp.abs(g), b / 2)
            g = a * g
        elif isinstance(layer, Flatten):
            g = layer.restore(g)
    xp = namespace(g, region.centre)
    centre = contract("sNn,Nn->sN", xp.broadcast_to(g, (*g.shape[:-2], *region.centre.shape)), region.centre)
    return TwoSided(m + centre, d + region.width(g), g, trace)


def two_sided_vjp(dm, dd, net, stop, bound, chords, region):
    """Gradients of Σ dm m + dd d: of the parameters (a dict), and (da, db̄) for each ReLU.

    As in linear.upstream, the adjoint of the way back goes forward. At the input dg = dm centre + dd reach(g); then
        affine   m ← m + g·bias, g ← Aᵀ(W, g)                dg = A(W, v) + dm bias
        ReLU     m ← m + ν·b̄/2, d ← d + |ν|·b̄/2, g ← a ν     dν = a v + (dm + dd sign(ν)) b̄/2
    """
    xp, grads, dchords, k = namespace(bound.g), {}, [], -1
    dm, dd = dm[:, :, None], dd[:, :, None]
    v = dm * region.centre + dd * region.reach(bound.g)
    for i in range(stop):
        layer, g = net.layers[i], bound.trace[i]
        if isinstance(layer, Affine):
            v = layer.patches(v)
            weight = dm if g.shape[-2] == dm.shape[-2] else dm.sum(-2, keepdims=True)
            grads[f"{i}.weight"] = layer.outer(g, v)
            grads[f"{i}.bias"] = layer.bias_gradient(weight * g)
            if i < stop - 1:
                v = layer.apply(net.params[f"{i}.weight"], v) + dm * layer.per_unit(net.params[f"{i}.bias"])
        elif isinstance(layer, ReLU):
            k += 1
            a, b = chords[k]
            chosen = dm + dd * xp.sign(g)
            dchords.append((contract("sNn,sNn->Nn", g, v), contract("sNn,sNn->Nn", g, chosen) / 2))
            v = a * v + chosen * (b / 2)
        elif isinstance(layer, Flatten):
            v = layer.reorder(v)
    return grads, dchords


class Projections(NamedTuple):
    """What `projected` found: the estimated (l, u), and what its gradient needs."""

    pre: list      # (l, u) of each ReLU
    inputs: list   # (m, V) at the input of each layer up to the last ReLU, V (J, p, N, n)
    picks: list    # per ReLU (J, p, N, n): 1 at the draw that is the median, 0 elsewhere
    draws: list


def projected(net, region, draws):
    """CAP's intermediate bounds, each ‖·‖₁ in d *estimated* by Cauchy projections (Wong et al. 2018, Section 3.3).

    Row i of a linear map F has ‖F_i‖₁ ≈ median_p |F_i·t_p| for draws t_p of independent Cauchy variables. The J maps in
    d go from the input (times the radius) and from each earlier ReLU (times b̄/2) to the unit at hand; the products V
    with t are forward passes through the slopes a, and m is the network on the centre with the middle lines. `draws`:
    for the input and each ReLU but the last an array (p, 1, n). An estimate may be too small: it certifies nothing.
    """
    xp, pre, inputs, picks = namespace(region.centre, *net.params.values()), [], [], []
    m, V = region.centre, (region.radius * draws[0])[None]
    for i in range(net.head):
        layer = net.layers[i]
        inputs.append((m, V))
        if isinstance(layer, Affine):
            W = net.params[f"{i}.weight"]
            m = layer.apply(W, layer.patches(m)) + layer.per_unit(net.params[f"{i}.bias"])
            V = layer.apply(W, layer.patches(V))
        elif isinstance(layer, ReLU):
            size = xp.abs(V)
            picks.append(upper_median(size))
            d = (picks[-1] * size).sum((0, 1))
            pre.append((m - d, m + d))
            if i < net.relus[-1]:
                a, b = chord(*pre[-1])
                m, V = a * m + b / 2, xp.concatenate((a * V, (b / 2 * draws[len(pre)])[None]))
        elif isinstance(layer, Flatten):
            m, V = layer.reorder(m), layer.reorder(V)
    return Projections(pre, inputs, picks, draws)


def projected_vjp(dpre, net, found):
    """Parameter gradients for upstream (dl, du) at each ReLU: backwards through the lines of `projected`."""
    grads, dm, dV, first = {}, 0, None, net.affine[0][0]
    for i in reversed(range(first, len(found.inputs))):
        layer, (m, V) = net.layers[i], found.inputs[i]
        if isinstance(layer, ReLU):
            xp, k = namespace(m), sum(j < i for j in net.relus)
            (l, u), (dl, du) = found.pre[k], dpre[k]
            if dV is not None:  # the last of dV is of the term that this ReLU added
                a, _ = chord(l, u)
                da = dm * m + (dV[:-1] * V).sum((0, 1))
                db = (dm + (dV[-1] * found.draws[k + 1]).sum(0)) / 2
                dl2, du2 = chord_vjp(da, db, l, u, a)
                dl, du, dm, dV = dl + dl2, du + du2, a * dm, a * dV[:-1]
            dm = dm + dl + du
            dd = found.picks[k] * xp.sign(V) * (du - dl)
            dV = dd if dV is None else dV + dd
        elif isinstance(layer, Affine):
            W, X = net.params[f"{i}.weight"], layer.patches
            grads[f"{i}.weight"] = layer.outer(dm, X(m)) + layer.outer(dV, X(V))
            grads[f"{i}.bias"] = layer.bias_gradient(dm)
            if i > first:
                dm, dV = layer.adjoint(W, dm), layer.adjoint(W, dV)
        elif isinstance(layer, Flatten) and dV is not None:
            dm, dV = layer.restore(dm), layer.restore(dV)
    return grads
