"""Every method is two choices: where the intermediate bounds come from, and how the margins are bounded from them.

    network, B ──stage──▸ [(l, u)] at each ReLU ──rule──▸ lines ──Definition 1──▸ s̄ = max over B of g·x + b

`METHODS` is the table. A Stage finds the (l, u); a Final bounds C(y) f(x): by the linear bound with a rule's lower slopes, or,
for `ibp`, from the box of the last ReLU's output with the layers after it merged with C(y).

The gradient goes the same way back: upstream ds̄ to parameters and lines (linear.py), lines to (l, u) (relaxation.py),
(l, u) through the stage to the parameters.
"""

from typing import NamedTuple

from . import cap, layerwise
from .backend import namespace
from .interval import interval, interval_vjp
from .linear import linear_bound, linear_bound_vjp, maximise, slope_gradient
from .losses import cross_entropy, cross_entropy_vjp
from .relaxation import adaptive, bernoulli, chord_vjp, enclose


class Options(NamedTuple):
    """What a method may be given, in rows: lists hold an array for each ReLU."""

    slopes: list = None        # a̲, (N, n) or (S, N, n): taken instead of the rule
    a0: list = None            # draws of U[0, 1], (N, n): one-step's start, random's slopes, sparse's coins
    eta: float = 2.0           # η of (7)
    p: float = 0.5
    q: float = 0.5
    steps: int = 20            # alpha
    shared: bool = True        # alpha: one set of slopes for all margins, or one for each
    cauchy: list = None        # cap: (p, 1, n) draws for the input and each ReLU; estimates instead of bounds


class Stage(NamedTuple):
    """Where the bounds of the inner ReLUs come from."""

    find: object  # (net, region, options) -> Found
    vjp: object   # (dpre, dlast, net, region, found, options) -> parameter gradients


class Found(NamedTuple):
    """The intermediate bounds."""

    pre: list      # [(l, u)]
    trace: object  # what the stage's gradient needs


class Final(NamedTuple):
    """How margins are bounded from the intermediate bounds."""

    bound: object  # (net, region, C, found, options) -> Margins
    vjp: object    # (ds, net, margins, options) -> parameter gradients, dpre, dlast


class Margins(NamedTuple):
    """Bounds of the margins, and what their gradient needs."""

    s: object       # s̄ (S, N)
    bound: object   # LinearBound
    x: object       # (S, N, n), the worst case of each margin: an input, or for ibp a point of the last box
    pre: list       # [(l, u)]
    lines: list     # of each ReLU; none for ibp


class Method(NamedTuple):
    """A row of the table."""

    stage: Stage
    final: Final
    options: tuple      # the names of the options that it takes
    summary: str

    def __repr__(self):
        return f"<{self.summary}; options: {', '.join(self.options) or 'none'}>"


# ---- stages ----

def _interval(net, region, options):
    trace = interval(net, region)
    return Found(trace.pre, trace)


def _interval_vjp(dpre, dlast, net, region, found, options):
    return interval_vjp(dpre, dlast, net, found.trace)


def _cap(net, region, options):
    if options.cauchy is None:
        return Found(*layerwise.layerwise(layerwise.CAP, net, region))
    trace = cap.projected(net, region, options.cauchy)
    return Found(trace.pre, trace)


def _cap_vjp(dpre, dlast, net, region, found, options):
    if options.cauchy is None:
        return layerwise.layerwise_vjp(dpre, layerwise.CAP, net, region, *found)
    return cap.projected_vjp(dpre, net, found.trace, options.cauchy)


def _crown(net, region, options):
    return Found(*layerwise.layerwise(layerwise.CROWN, net, region))


def _crown_vjp(dpre, dlast, net, region, found, options):
    return layerwise.layerwise_vjp(dpre, layerwise.CROWN, net, region, *found)


# ---- lower slopes: (net, region, C, pre, options) -> a̲ of each ReLU, or None for parallel lines ----

def _adaptive(net, region, C, pre, options):
    return [adaptive(l, u) for l, u in pre]


def _parallel(net, region, C, pre, options):
    return [None] * len(pre)


def _uniform(net, region, C, pre, options):
    return options.a0


def _sparse(net, region, C, pre, options):
    return [bernoulli(l, u, draws, options.p, options.q) for (l, u), draws in zip(pre, options.a0)]


def _one_step(net, region, C, pre, options):
    """a = Π[0,1](a₀ − η sign ∇_a L(s̄(a₀)))                                                (7)"""
    _, da = _loss_slopes(net, region, C, pre, options.a0)
    return [_project(a - options.eta * namespace(d).sign(d)) for a, d in zip(options.a0, da)]  # (7)


def _alpha(net, region, C, pre, options):
    """(7) repeated from the adaptive slopes with step sizes 1/2 falling to 1/512; the best slopes met are kept.

    Shared slopes descend the loss of each example. Otherwise each margin has its own slopes, (S, N, n), and descends
    itself: it ends no higher than where it started, at crown-ibp.
    """
    a, best, least = _adaptive(net, region, C, pre, options), None, None
    for t in range(options.steps + 1):
        s, da = _loss_slopes(net, region, C, pre, a, options.shared)
        xp = namespace(s)
        value = (cross_entropy(s) if options.shared else s)[..., None]  # (N, 1) or (S, N, 1)
        if best is None:
            best, least = a, value
        best = [xp.where(value < least, new, old) for new, old in zip(a, best)]
        least = xp.minimum(value, least)
        step = 2.0 ** (-1 - 8 * t / max(options.steps, 1))
        a = [_project(slopes - step * xp.sign(d)) for slopes, d in zip(a, da)]
    return best


def _loss_slopes(net, region, C, pre, slopes, shared=True):
    """s̄ with these lower slopes, and the gradient in them of the loss (1), or of each margin by itself."""
    lines = [enclose(l, u, a) for (l, u), a in zip(pre, slopes)]
    bound = linear_bound(net, len(net.layers), C, lines)
    s, x = maximise(bound, region)
    ds = cross_entropy_vjp(1, s) if shared else 0 * s + 1
    return s, slope_gradient(ds, net, len(net.layers), bound, x, shared)


def _project(a):
    """Π[0,1]."""
    return namespace(a).clip(a, 0, 1)


# ---- finals ----

def _tail(net, region, C, found, options):
    """The layers after the last ReLU merged with C(y), over the box of its output: constant lines in Definition 1."""
    last, stop = found.trace.last, len(net.layers)
    bound = linear_bound(net, stop, C, (), start=net.tail)
    s, x = maximise(bound, last)
    return Margins(s, bound, x, found.pre, ())


def _tail_vjp(ds, net, margins, options):
    """s̄ = g·c + |g|·r + b over the last box: dc = Σ_S ds g, dr = Σ_S ds |g|."""
    xp, g = namespace(ds), margins.bound.g
    grads, _ = linear_bound_vjp(ds, net, len(net.layers), margins.bound, (), margins.x, net.tail)
    dlast = xp.einsum("sN,sNn->Nn", ds, g), xp.einsum("sN,sNn->Nn", ds, xp.abs(g))
    return grads, [(0, 0)] * len(net.relus), dlast


def relaxed(rule):
    """The linear bound with the lower slopes of a rule."""

    def bound(net, region, C, found, options):
        slopes = options.slopes if options.slopes is not None else rule(net, region, C, found.pre, options)
        lines = [enclose(l, u, a) for (l, u), a in zip(found.pre, slopes)]
        linear = linear_bound(net, len(net.layers), C, lines)
        s, x = maximise(linear, region)
        return Margins(s, linear, x, found.pre, lines)

    def vjp(ds, net, margins, options):
        grads, dlines = linear_bound_vjp(ds, net, len(net.layers), margins.bound, margins.lines, margins.x)
        dpre = [chord_vjp(da, db, l, u, line.a_up)
                for (da, db), (l, u), line in zip(dlines, margins.pre, margins.lines)]
        return grads, dpre, None

    return Final(bound, vjp)


BY_INTERVAL = Stage(_interval, _interval_vjp)
BY_CAP = Stage(_cap, _cap_vjp)
BY_CROWN = Stage(_crown, _crown_vjp)

METHODS = {
    "ibp": Method(BY_INTERVAL, Final(_tail, _tail_vjp), (), "interval bound propagation"),
    "crown-ibp": Method(BY_INTERVAL, relaxed(_adaptive), ("slopes",), "adaptive slopes on interval bounds"),
    "cap-ibp": Method(BY_INTERVAL, relaxed(_parallel), ("slopes",), "parallel lines on interval bounds"),
    "random": Method(BY_INTERVAL, relaxed(_uniform), ("slopes", "a0"), "slopes from U[0, 1]"),
    "sparse": Method(BY_INTERVAL, relaxed(_sparse), ("slopes", "a0", "p", "q"), "slopes 0 or 1 at the rates (p, q)"),
    "one-step": Method(BY_INTERVAL, relaxed(_one_step), ("slopes", "a0", "eta"), "one projected gradient step (7)"),
    "alpha": Method(BY_INTERVAL, relaxed(_alpha), ("slopes", "steps", "shared"), "many such steps, to evaluate"),
    "cap": Method(BY_CAP, relaxed(_parallel), ("slopes", "projections"), "convex outer polytope"),
    "crown": Method(BY_CROWN, relaxed(_adaptive), ("slopes",), "adaptive slopes, layer by layer"),
}
