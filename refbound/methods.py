"""Every method is two choices: where the bounds of the ReLUs' inputs come from, and the rule of the lower slopes.

    network, B ──bounds──▸ [(l, u)] at each ReLU ──slopes──▸ lines ──Definition 1──▸ s̄ = max over B of g·x + b

Both are functions, which receive what their signatures name of net, region, C, pre and the options; the table ends the
file. `ibp` has no slopes: its lines are constant, u⁺ and l⁺ around the last ReLU. The gradient goes the same way back:
ds̄ to parameters and lines (linear.py), lines to (l, u) (relaxation.py), (l, u) to parameters (interval, cap, crown).
"""

from inspect import signature
from typing import NamedTuple

from .arrays.ops import contract, namespace
from .ball import Region
from .interval import interval, interval_vjp, rectified, rectified_vjp
from .layerwise import cap, cap_vjp, crown, crown_vjp
from .layers import margin_matrix
from .linear import maximise, relax, relax_vjp
from .relaxation import adaptive, bernoulli, chord_vjp, enclose, parallel, uniform
from .slopes import alpha, one_step


class Margins(NamedTuple):
    """Bounds of the margins, and what their gradient needs."""

    s: object           # s̄ (S, N)
    relaxation: object  # of all layers; for ibp of those after the last ReLU
    worst: object       # (S, N, n), the worst case of each margin: an input, or for ibp a point of the last box
    pre: list           # [(l, u)]
    lines: list         # of each ReLU; none for ibp

    def linear_function(self, net):
        """g (S, N, n) and b (S, N) of Definition 1, for all layers: constant lines leave g = 0, b = s̄."""
        constant = len(self.lines) < len(net.relus)
        return ((namespace(self.s).zeros((*self.s.shape, net.units[0]), self.s.dtype), self.s) if constant
                else self.relaxation[:2])


class Method(NamedTuple):
    """A row of the table."""

    bounds: object       # where [(l, u)] come from: net, region, ... -> what has them as .pre
    slopes: object       # the rule: pre, ... -> a̲ of each ReLU, (N, n) or (S, N, n), None if parallel; ibp has no rule
    options: tuple       # the names of the options that it takes; `slopes` stands in the rule's place
    summary: str
    trains: bool = True  # or is for evaluation, and has no gradient

    def __repr__(self):
        return f"<{self.summary}; options: {', '.join(self.options) or 'none'}>"

    def bound(self, net, region, y, options):
        """The Margins for labels y (N,)."""
        C = margin_matrix(y, net.classes, region.centre.dtype)
        return self.margins(net, region, C, self.preactivation(net, region, options).pre, options)

    def preactivation(self, net, region, options):
        """The bounds of the ReLUs' inputs, as `pre`, and what their gradient needs."""
        given = {"net": net, "region": region, **options}
        return self.bounds(**{name: given[name] for name in signature(self.bounds).parameters if name in given})

    def preactivation_vjp(self, dpre, net, found):
        """Parameter gradients for the upstream (dl, du) of each ReLU."""
        return {interval: interval_vjp, cap: cap_vjp, crown: crown_vjp}[self.bounds](dpre, net, found)

    def margins(self, net, region, C, pre, options):
        """The Margins of C(y) f(x): Definition 1 with the rule's lower slopes."""
        if self.slopes is None:
            return constant_margins(net, region, C, pre)
        slopes = options.get("slopes")
        if slopes is None:
            given = {"net": net, "region": region, "C": C, "pre": pre, **options}
            slopes = self.slopes(**{name: given[name] for name in signature(self.slopes).parameters if name in given})
        lines = [enclose(l, u, a) for (l, u), a in zip(pre, slopes)]
        relaxation = relax(net, len(net.layers), C, lines)
        s, worst = maximise(relaxation, region)
        return Margins(s, relaxation, worst, pre, lines)

    def margins_vjp(self, ds, net, margins):
        """Parameter gradients, and those of (l, u) at each ReLU: through the lines, by chord_vjp."""
        if self.slopes is None:
            return constant_margins_vjp(ds, net, margins)
        _, relaxation, worst, pre, lines = margins
        grads, dlines = relax_vjp(ds, net, len(net.layers), relaxation, lines, worst)
        return grads, [chord_vjp(da, db, l, u, line.a_up) for (da, db), (l, u), line in zip(dlines, pre, lines)]


def constant_margins(net, region, C, pre):
    """The layers after the last ReLU merged with C(y), over the box of its output: s̄ = g·centre + |g|·radius + b."""
    box = Region(*rectified(*pre[-1]), float("inf")) if pre else region
    relaxation = relax(net, len(net.layers), C, (), start=net.head)
    s, worst = maximise(relaxation, box)
    return Margins(s, relaxation, worst, pre, ())


def constant_margins_vjp(ds, net, margins):
    """dcentre = Σ_S ds g, dradius = Σ_S ds |g|."""
    _, relaxation, worst, pre, _ = margins
    grads, _ = relax_vjp(ds, net, len(net.layers), relaxation, (), worst, net.head)
    box = (contract("sN,sNn->Nn", ds, g) for g in (relaxation.g, abs(relaxation.g)))
    return grads, [*[(0, 0)] * (len(pre) - 1), rectified_vjp(*box, *pre[-1])] if pre else []


METHODS = {
    "ibp": Method(interval, None, (), "interval bound propagation"),
    "crown-ibp": Method(interval, adaptive, ("slopes",), "adaptive slopes on interval bounds"),
    "cap-ibp": Method(interval, parallel, ("slopes",), "parallel lines on interval bounds"),
    "random": Method(interval, uniform, ("slopes", "a0"), "slopes from U[0, 1]"),
    "sparse": Method(interval, bernoulli, ("slopes", "a0", "p", "q"), "slopes 0 or 1 at the rates (p, q)"),
    "one-step": Method(interval, one_step, ("slopes", "a0", "eta"), "one projected gradient step (7)"),
    "alpha": Method(interval, alpha, ("slopes", "steps", "shared"), "many such steps, to evaluate", trains=False),
    "cap": Method(cap, parallel, ("slopes", "projections"), "convex outer polytope"),
    "crown": Method(crown, adaptive, ("slopes",), "adaptive slopes, layer by layer"),
}
