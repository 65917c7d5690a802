"""What other implementations are known to do otherwise: a difference that one of these explains is named.

A convention says what it changes, in the arrays or in this code; nothing where it does not apply.
"""

import itertools
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import numpy as np

import refbound as rb
from refbound import layerwise, relaxation, slopes
from refbound.layers import add, add_pairs
from refbound.methods import Method

from .cases import VARIANTS, outputs


def _clipping(arrays, variant):
    x, clipped = arrays["x"], np.isfinite(arrays["domain"]).all()
    if arrays["norm"] == np.inf and (clipped or x.min() >= 0 and x.max() <= 1):
        yield patch.dict(arrays, domain=np.array([-np.inf, np.inf] if clipped else [0.0, 1.0]))


class Apart(Method):
    """A method that bounds z_m and z_y apart: s̄ = s̄(C⁺) + s̄(C⁻), where C = C⁺ + C⁻."""

    def margins(self, net, region, C, pre, options):
        up, lo = (Method.margins(self, net, region, part, pre, options)
                  for part in (np.maximum(C, 0), np.minimum(C, 0)))
        both = up.relaxation._replace(g=up.relaxation.g + lo.relaxation.g, b=up.relaxation.b + lo.relaxation.b)
        return up._replace(s=up.s + lo.s, relaxation=both, worst=(up, lo))

    def margins_vjp(self, ds, net, margins):
        (grads, dpre), (more, dmore) = (Method.margins_vjp(self, ds, net, part) for part in margins.worst)
        return add(grads, more), add_pairs(dpre, dmore)


def _unmerged(names, arrays, variant):
    """These methods, each margin's two logits apart."""
    yield patch.dict(rb.METHODS, {name: Apart(*rb.METHODS[name]) for name in names})


def _sharing(arrays, variant):
    """One set of slopes for all margins, or one for each."""
    if variant == "one-step":
        yield patch.object(slopes, "bound_and_gradient", partial(slopes.bound_and_gradient, shared=False))
    elif variant.startswith("alpha"):
        other = {"alpha": "alpha-per-margin", "alpha-per-margin": "alpha"}[variant]
        yield patch.dict(VARIANTS, {variant: VARIANTS[other]})


def _tie(arrays, variant):
    def adaptive(pre):
        return [(u + l >= 0).astype(l.dtype) for l, u in pre]

    def bernoulli(pre, a0, p, q):
        return [(draws < q + (p - q) * (-l >= u)).astype(l.dtype) for (l, u), draws in zip(pre, a0)]

    for rule in (adaptive, bernoulli):
        usual = getattr(relaxation, rule.__name__)
        yield patch.dict(rb.METHODS, {name: row._replace(slopes=rule) for name, row in rb.METHODS.items()
                                      if row.slopes is usual})
    yield patch.object(layerwise, "adaptive", adaptive)
    yield patch.object(slopes, "adaptive", adaptive)


CONVENTIONS = {
    "clipping: the ball is not clipped to the domain, or clipped to [0, 1] where the reference is not": _clipping,
    "ibp: last layer not merged with C(y)": partial(_unmerged, ["ibp"]),
    "last layer not merged with C(y)": partial(_unmerged, ["crown-ibp", "cap-ibp", "random", "sparse", "cap", "crown"]),
    "slopes shared between margins or not": _sharing,
    "tie at u = −l taken by >= instead of >": _tie,
}


def under(arrays, variant, names):
    """The outputs of a variant under some conventions; {} if one of them does not apply."""
    with ExitStack() as stack:
        for name in names:
            patches = list(CONVENTIONS[name](arrays, variant))
            if not patches:
                return {}
            for each in patches:
                stack.enter_context(each)
        return outputs(arrays, variant)


def presented(name, a, y):
    """(how, array): the ways in which an array may be handed over."""
    quantity, N = name.split("/")[1], len(y)
    yield "", a
    if quantity in ("margins", "g", "b"):
        rows = [np.delete(row, label, axis=0) for row, label in zip(a, y)]
        yield "sign: lower bounds of z_y − z_m", -a
        yield "column y left out", np.array(rows)
        yield "column y left out; sign: lower bounds of z_y − z_m", -np.array(rows)
    elif quantity in ("loss", "grad"):
        yield "summed over the examples, not their mean", N * a


def explain(name, theirs, arrays, tolerance, recompute):
    """The known convention, or two, under which an array agrees; or ""."""
    for number in (0, 1, 2):
        for names in itertools.combinations(CONVENTIONS, number):
            ours = recompute(name.split("/")[0], names) if number else arrays
            for how, a in presented(name, ours[name], arrays["y"]) if name in ours else ():
                if difference(theirs, a)[0] <= tolerance:
                    return "; ".join((*names, *[how] * bool(how)))
    return ""


def numbers(a):
    """An array as float64, or None: of truth values, integers or floats, or texts, as which a JSON file says "inf"."""
    if a.dtype.kind not in "fiubU":
        return None
    try:
        values = a.astype(np.float64)
    except ValueError:
        return None
    return None if a.dtype.kind == "U" and np.isfinite(values).all() else values


def difference(theirs, ours):
    """The worst entry's error as a share of the largest of ours, and where it is."""
    if ours.dtype.kind == "U":
        return 0.0 if str(theirs) == str(ours) else np.inf, "another text"
    given, theirs = theirs.dtype, numbers(theirs)
    if theirs is None:
        return np.inf, f"not numbers that float64 holds, but {given}"
    if ours.ndim == 0 and theirs.size == 1:  # some writers know no arrays without axes
        theirs = theirs.reshape(())
    if theirs.shape != ours.shape:
        return np.inf, f"shape {theirs.shape}, expected {ours.shape}"
    scale = max(np.abs(ours[np.isfinite(ours)]).max(initial=0), 1e-3)  # an array of zeros has no scale of its own
    with np.errstate(invalid="ignore"):
        error = np.where(theirs == ours, 0, np.abs(theirs - ours) / scale)
    error[np.isnan(error)] = np.inf
    at = np.unravel_index(error.argmax(), error.shape)
    return float(error[at]), f"at [{', '.join(map(str, at))}]: {float(theirs[at])!r}, expected {float(ours[at])!r}"
