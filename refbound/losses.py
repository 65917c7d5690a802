"""Cross entropy on margin bounds (1), the mixture of the loss (3), and their gradients.

    L(s) = log Σ_m exp(s_m) = log(1 + Σ_{m≠y} exp(s_m))                                     (1)

is the cross entropy of logits z, for s_m = z_m − z_y and s_y = 0; on upper bounds s̄ it is an upper bound of the
worst cross entropy over B. Certified training minimises the mean over the examples of

    ℓ = (1 − κ) L(s̄) + κ L(C(y) f(x)),        s̄ = β s̄_method + (1 − β) s̄_ibp               (3)

κ, the weight of the clean loss, is not the paper's but its predecessors' (Gowal et al. 2018, Zhang et al. 2020).
"""

from typing import NamedTuple

from .arrays.ops import namespace
from .layers import add, add_pairs, forward, forward_vjp, margin_matrix


class MixedLoss(NamedTuple):
    """The loss of each example, and what its gradient needs."""

    value: object   # ℓ (N,)
    clean: object   # κ L(C(y) f(x)), the part of it that needs no bound (N,); 0 if κ = 0
    s: object       # (S, N), mixed
    logits: object  # (N, c)
    C: object
    inputs: list    # of each layer, clean; None if κ = 0
    found: dict     # where bounds come from -> (a method, what it found), shared by the terms that take them from there
    terms: list     # (method, weight, Margins) of the mixture (3)


def cross_entropy(s):
    """(1) of each example, (N,), from the margins (S, N) of the classes m ≠ y; above 0 as long as exp(s) is."""
    xp = namespace(s)
    top = xp.maximum(xp.max(s, axis=0), 0)
    return top + xp.log1p(xp.exp(s - top).sum(0) + xp.expm1(-top))  # (1)


def cross_entropy_vjp(d, s):
    """d (N,) times the softmax of s beside s_y = 0: dL/ds_m = exp(s_m − L(s))."""
    return d * namespace(s).exp(s - cross_entropy(s))


def mixed_loss(net, region, x, y, mixture, options, kappa=0.0):
    """The MixedLoss for the region around the rows x (N, n). mixture: (method, weight) of each term of (3)."""
    logits, inputs = forward(net, x)
    inputs = inputs if kappa > 0 else None  # not held where no gradient needs them
    C, found, terms, s = margin_matrix(y, net.classes, region.centre.dtype), {}, [], 0
    for method, weight in mixture:
        if weight > 0:
            if method.bounds not in found:
                found[method.bounds] = method, method.preactivation(net, region, options)
            terms.append((method, weight, method.margins(net, region, C, found[method.bounds][1].pre, options)))
            s = s + weight * terms[-1][2].s  # (3)
    clean = kappa * cross_entropy((C * logits).sum(-1)) if kappa > 0 else 0
    return MixedLoss((1 - kappa) * cross_entropy(s) + clean, clean, s, logits, C, inputs, found, terms)


def mixed_loss_vjp(d, net, loss, kappa=0.0, ds=None):
    """Parameter gradients of Σ d ℓ, d (N,) (ds: in s̄, if given): each term back, then intermediate bounds, once."""
    ds, grads = (1 - kappa) * cross_entropy_vjp(d, loss.s) if ds is None else ds, {}
    dpre = {bounds: [(0, 0)] * len(net.relus) for bounds in loss.found}
    for method, weight, margins in loss.terms:
        more, dmore = method.margins_vjp(weight * ds, net, margins)
        grads, dpre[method.bounds] = add(grads, more), add_pairs(dpre[method.bounds], dmore)
    for method, found in loss.found.values() if net.relus else ():
        grads = add(grads, method.preactivation_vjp(dpre[method.bounds], net, found))
    if kappa > 0:
        ds = kappa * cross_entropy_vjp(d, (loss.C * loss.logits).sum(-1))
        grads = add(grads, forward_vjp((loss.C * ds[:, :, None]).sum(0), net, loss.inputs))
    return grads
