"""How far the same bounds in PyTorch are from refbound's: the worst difference of each quantity, in float64."""

from functools import partial
from typing import NamedTuple

import numpy as np

import refbound as rb
from trainers.files.words import progress

from .published import Region

QUANTITIES = ("l", "u", "g", "b", "margins", "loss", "gradient")
BALLS = [(np.inf, 0.1, (0.0, 1.0)), (np.inf, 0.1, None), (2, 0.4, None), (1, 0.8, None)]  # norm, ε, domain
BETA, KAPPA = 0.7, 0.3  # of the rendering's loss; published implementations have no mixture
NETWORKS = {
    "dense": partial(rb.models.mlp, widths=(6, 8, 7, 4)),
    "conv": partial(rb.models.convnet, convolutions=[(3, 3, 1, 1), (4, 4, 2, 1)], dense=[7],
                    input_shape=(1, 6, 6), classes=4),
    **rb.models.MODELS, "mlp": partial(rb.models.mlp, input_shape=(1, 28, 28))}
VARIANTS = {**{name: (name, {}) for name in rb.METHODS},
            "crown-ibp, slopes given": ("crown-ibp", {"slopes": "drawn"}),
            "sparse, p = 1/4, q = 3/4": ("sparse", {"p": 0.25, "q": 0.75}),
            "one-step, η = 1/4": ("one-step", {"eta": 0.25}),
            "alpha": ("alpha", {"steps": 5}), "alpha, own slopes": ("alpha", {"steps": 5, "shared": False}),
            "cap, 10 projections": ("cap", {"projections": 10})}


class Problem(NamedTuple):
    """A network, inputs and a ball, as refbound and as PyTorch know them."""

    net: object
    model: object
    ball: rb.Ball
    y: np.ndarray
    region: Region


def problems(args):
    """The Problem of every network and ball."""
    import torch

    from .rendering import sequential
    for name in args.models:
        rng = np.random.default_rng(args.seed)
        net = NETWORKS[name](rng, dtype=np.float64)
        x, y = rng.random((args.n, *net.input_shape)), rng.integers(0, net.classes, args.n)
        for norm, eps, domain in BALLS:
            yield Problem(net, sequential(net), rb.Ball(x, eps, norm=norm, domain=domain), y,
                          Region(torch.from_numpy(x), eps, norm, domain))


def drawn(problem, method, options, seed):
    """The options of refbound and of the rendering, with the same draws: two dicts."""
    import torch
    net, N, ours, theirs = problem.net, len(problem.y), dict(options), dict(options)
    rng = np.random.default_rng(seed)
    name = "slopes" if "slopes" in options else "a0" if "a0" in rb.METHODS[method].options else None
    if name:
        lead = (N, net.classes - 1) if name == "slopes" else (N,)
        ours[name] = [rng.random((*lead, *net.shapes[i])) for i in net.relus]
        theirs[name] = [torch.from_numpy(a) for a in ours[name]]
    if "projections" in options:  # refbound draws them itself, for the input and each ReLU but the last
        k = theirs.pop("projections")
        theirs["cauchy"] = [torch.from_numpy(rng.standard_cauchy((k, net.units[i]))) for i in (0, *net.relus[:-1])]
    return ours, theirs


def reference(problem, method, options, seed=0, beta=1.0, kappa=0.0):
    """Every quantity by refbound, as lists of arrays; those of margins without the class y, whose margin is 0."""
    y, others = problem.y, np.arange(problem.net.classes) != problem.y[:, None]

    def by(function, *given):
        return function(problem.net, problem.ball, *given, rng=np.random.default_rng(seed), **options)

    pre, linear = by(rb.preactivation_bounds, method), by(rb.linear_bound, y, method)
    result = {"l": [l for l, _ in pre], "u": [u for _, u in pre], "g": [linear.g[others]], "b": [linear.b[others]],
              "margins": [by(rb.margin_bounds, y, method)[others]]}
    if rb.METHODS[method].trains:
        loss = by(rb.robust_loss, y, method, beta, kappa)
        result |= {"loss": [loss.value], "gradient": [*loss.grads.values()]}
    return result


def quantities(problem, bound, loss=None):
    """The same of a rendering.Bound and a loss, as far as they are there."""
    import torch
    result = {"margins": [bound.s]}
    if bound.g is not None:
        result |= {"g": [bound.g], "b": [bound.b]}
    if bound.pre is not None:
        result |= {"l": [l for l, _ in bound.pre], "u": [u for _, u in bound.pre]}
    if loss is not None:
        result |= {"loss": [loss], "gradient": torch.autograd.grad(loss, [*problem.model.parameters()])}
    return {name: [a.detach().numpy() for a in arrays] for name, arrays in result.items()}


def worst(ours, theirs):
    """{quantity: the largest absolute difference, infinite if a number is NaN or missing}, for those of both."""
    def apart(a, b):
        if np.size(a) != np.size(b):
            return np.inf
        return float(np.nan_to_num(np.abs(a - b.reshape(np.shape(a))), nan=np.inf).max())

    both = [(name, ours[name], theirs[name]) for name in QUANTITIES if name in ours and name in theirs]
    return {name: max(map(apart, a, b), default=0.0) if len(a) == len(b) else np.inf for name, a, b in both}


def by_rendering(problem, variant, seed, beta=BETA, kappa=KAPPA):
    """{quantity: worst} of the PyTorch rendering."""
    import torch

    from . import rendering
    method, options = VARIANTS[variant]
    ours, theirs = drawn(problem, method, options, seed)
    ball, y, loss = rendering.ball_around(*problem.region), torch.from_numpy(problem.y), None
    bound = rendering.bound(problem.model, ball, y, method, **theirs)
    if rb.METHODS[method].trains:
        loss = rendering.robust_loss(problem.model, ball, problem.region.x, y, method, beta, kappa, **theirs)
    return worst(reference(problem, method, ours, seed, beta, kappa), quantities(problem, bound, loss))


def of_rendering(args):
    """{variant: {quantity: worst}} of the PyTorch rendering over all problems."""
    found = {}
    for problem in progress(list(problems(args)), "problems, rendering"):
        for variant, (_, options) in VARIANTS.items():
            if "projections" not in options or problem.region.norm == np.inf:  # they estimate the l1 norm alone
                merge(found.setdefault(variant, {}), by_rendering(problem, variant, args.seed))
    return found


class Unusable(Exception):
    """An implementation cannot be used here."""


def of_published(peer, args):
    """{method and norm: {quantity: worst}} of a published implementation over the problems that it takes.

    Among the quantities: how far its margins lie "above" and "below" refbound's. Unusable if it fails.
    """
    import torch

    from .rendering import cross_entropy
    found = {}
    for problem in progress(list(problems(args)), f"problems, {peer.package}"):
        x, y, norm = problem.region.x, torch.from_numpy(problem.y), problem.region.norm
        for method in (m for m in peer.differs if norm in peer.norms and peer.takes(problem.net, m)):
            try:
                bound = peer.prepare(problem.model, x, method)(problem.region, y)
                theirs = quantities(problem, bound, cross_entropy(bound.s).mean())
            except Exception as error:  # a release that does not run beside this Python, NumPy or PyTorch fails so
                reason = (str(error).splitlines() or ["no message"])[0]
                raise Unusable(f"{type(error).__name__}: {reason}") from error
            ours = reference(problem, method, {})
            row, over = worst(ours, theirs), np.array([-np.inf, np.inf])  # of margins that cannot be compared
            if row["margins"] < np.inf:
                over = theirs["margins"][0].ravel() - ours["margins"][0]
            merge(found.setdefault((method, norm), {}),
                  {**row, "above": float(over.max()), "below": float(-over.min())})
    return found


def merge(into, more):
    """Keeps the larger of each."""
    for name, value in more.items():
        into[name] = max(value, into.get(name, 0.0))
