"""The robust loss of a batch in rows, and its gradient: the mixtures of losses.py over the table of methods.py.

    ℓ_n = (1 − κ) L(β s̄_method + (1 − β) s̄_ibp) + κ L(C(y) f(x))        for example n

Methods that take their intermediate bounds from the same stage share it, forwards and backwards.
"""

from typing import NamedTuple

from .layerwise import add, sums
from .losses import cross_entropy, cross_entropy_vjp
from .methods import METHODS
from .network import forward, forward_vjp, margin_matrix


class Loss(NamedTuple):
    """ℓ (N,), the mixed margins (S, N), the logits (N, c), and what the gradient needs."""

    value: object
    s: object
    logits: object
    C: object
    inputs: list   # of each layer, clean; None for κ = 0
    found: dict    # stage -> Found
    terms: list    # (method, weight, Margins) of the mixture (3)


def margins(net, region, y, method, options):
    """The Margins of one method, for labels y (N,)."""
    C = margin_matrix(y, net.classes, region.c.dtype)
    return method.final.bound(net, region, C, method.stage.find(net, region, options), options)


def robust_loss(net, region, x, y, method, options, beta=1.0, kappa=0.0):
    """ℓ for the region around the rows x (N, n)."""
    logits, inputs = forward(net, x)
    inputs = inputs if kappa > 0 else None  # not held where no gradient needs them
    C = margin_matrix(y, net.classes, region.c.dtype)
    found, terms, s = {}, [], 0
    for row, weight in ((method, beta), (METHODS["ibp"], 1 - beta)):
        if weight > 0:
            if row.stage not in found:
                found[row.stage] = row.stage.find(net, region, options)
            terms.append((row, weight, row.final.bound(net, region, C, found[row.stage], options)))
            s = s + weight * terms[-1][2].s  # (3)
    value = (1 - kappa) * cross_entropy(s)
    if kappa > 0:
        value = value + kappa * cross_entropy(_margins_of(C, logits))
    return Loss(value, s, logits, C, inputs, found, terms)


def robust_loss_vjp(d, net, region, loss, options, kappa=0.0):
    """Parameter gradients of Σ d ℓ, d (N,): each term of ℓ backwards, then each stage once."""
    ds, grads = (1 - kappa) * cross_entropy_vjp(d, loss.s), {}
    upstream = {stage: ([(0, 0)] * len(net.relus), None) for stage in loss.found}
    for method, weight, bound in loss.terms:
        more, dpre, dlast = method.final.vjp(weight * ds, net, bound, options)
        grads = add(grads, more)
        before, last = upstream[method.stage]
        upstream[method.stage] = sums(before, dpre), _both(last, dlast)
    if net.relus:
        for stage, (dpre, dlast) in upstream.items():
            grads = add(grads, stage.vjp(dpre, dlast, net, region, loss.found[stage], options))
    if kappa > 0:
        ds = kappa * cross_entropy_vjp(d, _margins_of(loss.C, loss.logits))
        dz = (loss.C * ds[:, :, None]).sum(0)
        grads = add(grads, forward_vjp(dz, net, loss.inputs))
    return grads


def _both(last, dlast):
    """The upstream of the last box: only ibp has one."""
    if last is None or dlast is None:
        return dlast if last is None else last
    return sums([last], [dlast])[0]


def _margins_of(C, logits):
    """C(y) z: (S, N, c), (N, c) -> (S, N)."""
    return (C * logits).sum(-1)
