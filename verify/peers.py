"""Other implementations of the same bounds held against refbound: what they compute, and how long they take.

    python -m verify.peers agreement [--models dense conv ...]
    python -m verify.peers speed [--models mlp small ...] [--methods ibp ...] [--sweep] [--out FILE] [--figure FILE]

The others are a rendering in PyTorch, written as one would write it there (rendering.py; pip install
'refbound[peers]'), and the published packages that are installed (published.py): bound-propagation,
convex_adversarial, auto_LiRPA.

`agreement` prints, for each method and quantity, the worst absolute difference in float64 over networks with random
parameters, random inputs, and balls of each norm; and where a published implementation differs, why. Its exit status is
1 if the rendering differs by more than 1e-9. `speed` is explained in speed.py.
"""

import importlib.metadata
import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import refbound as rb
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from . import speed
from .published import PEERS, Region
from .tables import table

TOLERANCE = 1e-9
QUANTITIES = ("l", "u", "g", "b", "margins", "loss", "gradient")
BALLS = [(np.inf, 0.1, (0.0, 1.0)), (np.inf, 0.1, None), (2, 0.4, None), (1, 0.8, None)]  # norm, ε, domain
BETA, KAPPA = 0.7, 0.3  # of the rendering's loss; published implementations have no mixture
NETWORKS = {
    "dense": lambda rng, dtype: rb.models.mlp(rng, (6, 8, 7, 4), dtype=dtype),
    "conv": lambda rng, dtype: rb.models.convnet(rng, [(3, 3, 1, 1), (4, 4, 2, 1)], [7], (1, 6, 6), 4, dtype),
    "mlp": lambda rng, dtype: rb.models.mlp(rng, input_shape=(1, 28, 28), dtype=dtype),
    **{name: lambda rng, dtype, make=make: make(rng, dtype=dtype)
       for name, make in rb.models.MODELS.items() if name != "mlp"},
}
VARIANTS = {**{name: (name, {}) for name in rb.METHODS},
            "crown-ibp, slopes given": ("crown-ibp", {"slopes": "drawn"}),
            "alpha": ("alpha", {"steps": 5}), "alpha, own slopes": ("alpha", {"steps": 5, "shared": False}),
            "cap, 10 projections": ("cap", {"projections": 10})}


@dataclass
class Agreement:
    """Hold the PyTorch rendering and the installed implementations against refbound, in float64."""

    models: tuple = argument(("dense", "conv", "mlp", "small"), "networks, random parameters", choices=tuple(NETWORKS))
    n: int = argument(2, "inputs of each network")
    seed: int = argument(0, "of parameters, inputs and draws")


class Problem(NamedTuple):
    """A network, inputs and a ball, as refbound and as PyTorch know them."""

    net: object
    model: object
    ball: rb.Ball
    y: np.ndarray
    region: Region


def problems(args):
    """(name, Problem) of every network and ball."""
    import torch

    from .rendering import sequential
    for name in args.models:
        rng = np.random.default_rng(args.seed)
        net = NETWORKS[name](rng, np.float64)
        x, y = rng.random((args.n, *net.input_shape)), rng.integers(0, net.classes, args.n)
        model = sequential(net)
        for norm, eps, domain in BALLS:
            yield name, Problem(net, model, rb.Ball(x, eps, norm=norm, domain=domain), y,
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
    if "projections" in options:  # refbound draws them from rng, for the input and each ReLU but the last
        ours["rng"], k = np.random.default_rng(seed), theirs.pop("projections")
        theirs["cauchy"] = [torch.from_numpy(rng.standard_cauchy((k, n, 1))[:, :, 0])
                            for n in (net.units[0], *(net.units[i] for i in net.relus[:-1]))]
    return ours, theirs


def reference(problem, method, options, beta=1.0, kappa=0.0):
    """Every quantity by refbound, as lists of arrays. `options` is called anew each time: draws need a new rng."""
    net, ball, y = problem.net, problem.ball, problem.y
    pre = rb.preactivation_bounds(net, ball, method, **options())
    linear = rb.linear_bound(net, ball, y, method, **options())
    result = {"l": [l for l, _ in pre], "u": [u for _, u in pre], "g": [linear.g], "b": [linear.b],
              "margins": [rb.margin_bounds(net, ball, y, method, **options())]}
    if method != "alpha":  # it is not trained with
        loss = rb.robust_loss(net, ball, y, method, beta, kappa, **options())
        result |= {"loss": [loss.value], "gradient": list(loss.grads.values())}
    return result


def quantities(problem, bound, loss=None):
    """The same of a rendering.Bound and a loss, as far as they are there."""
    import torch
    N, others = len(problem.y), np.arange(problem.net.classes) != problem.y[:, None]

    def with_true_class(z):  # (N, S, ...) -> (N, c, ...)
        full = np.zeros((N, problem.net.classes, *z.shape[2:]))
        full[others] = z.detach().numpy().reshape(-1, *z.shape[2:])
        return full

    result = {"margins": [with_true_class(bound.s)]}
    if bound.g is not None:
        g = bound.g.reshape(*bound.s.shape, *problem.net.input_shape)
        result |= {"g": [with_true_class(g)], "b": [with_true_class(bound.b)]}
    if bound.pre is not None:
        result |= {"l": [l.detach().numpy() for l, _ in bound.pre], "u": [u.detach().numpy() for _, u in bound.pre]}
    if loss is not None:
        params = dict(problem.model.named_parameters())
        grads = torch.autograd.grad(loss, list(params.values()))
        result |= {"loss": [loss.item()], "gradient": [g.numpy() for g in grads]}
    return result


def worst(ours, theirs):
    """{quantity: the largest absolute difference, infinite if one is NaN}, for the quantities of both."""
    def apart(a, b):
        return float(np.nan_to_num(np.abs(a - b.reshape(np.shape(a))), nan=np.inf).max())

    return {name: max((apart(a, b) for a, b in zip(ours[name], map(np.asarray, theirs[name]), strict=True)), default=0.0)
            for name in QUANTITIES if name in ours and name in theirs}


def of_rendering(args):
    """{variant: {quantity: worst}} of the PyTorch rendering over all problems."""
    import torch

    from . import rendering
    found = {variant: {} for variant in VARIANTS}
    for name, problem in tqdm(list(problems(args)), "rendering", leave=False, disable=None):
        ball = rendering.ball_around(*problem.region)
        y = torch.from_numpy(problem.y)
        for variant, (method, options) in VARIANTS.items():
            if "projections" in options and problem.region.norm != np.inf:
                continue  # they estimate the l1 norm alone
            given = drawn(problem, method, options, args.seed)[1]
            ours = reference(problem, method, lambda: drawn(problem, method, options, args.seed)[0], BETA, KAPPA)
            bound = rendering.bound(problem.model, ball, y, method, **given)
            loss = None
            if method != "alpha":
                x = problem.region.x
                loss, _, _ = rendering.robust_loss(problem.model, ball, x, y, method, BETA, KAPPA, **given)
            merge(found[variant], worst(ours, quantities(problem, bound, loss)))
    return found


def of_published(peer, args):
    """{method and norm: {quantity: worst}} of a published implementation over the problems that it takes."""
    import torch

    from .rendering import cross_entropy
    found = {}
    for name, problem in tqdm(list(problems(args)), peer.package, leave=False, disable=None):
        norm = problem.region.norm
        for method in (m for m in peer.differs if norm in peer.norms and peer.takes(problem.net, m)):
            bound = peer.prepare(problem.model, problem.region.x, method)(problem.region, torch.from_numpy(problem.y))
            theirs = quantities(problem, bound, cross_entropy(bound.s).mean())
            merge(found.setdefault((method, norm), {}), worst(reference(problem, method, dict), theirs))
    return found


def merge(into, more):
    """Keeps the larger of each."""
    for name, value in more.items():
        into[name] = max(value, into.get(name, 0.0))


def agreement(args):
    """Prints a table for each implementation; 1 if the rendering disagrees."""
    if not PEERS["rendering"].installed():
        raise ValueError("agreement: needs PyTorch, which is not installed (pip install 'refbound[peers]')")
    arguments.at_least(args, n=1, seed=0)
    found = of_rendering(args)
    largest = max(value for row in found.values() for value in row.values())
    print(f"worst difference from refbound in float64, on {', '.join(args.models)}, {args.n} inputs each, "
          f"seed {args.seed}: l∞ clipped and not, l2 and l1\n")
    print(f"rendering, torch {version('torch')}, β = {BETA:g}, κ = {KAPPA:g}\n")
    print(table(("method", *QUANTITIES), [(variant, *cells(row)) for variant, row in found.items()]))
    for name, peer in PEERS.items():
        if name != "rendering":
            print("\n" + published_table(name, peer, args))
    if largest > TOLERANCE:
        print(f"\nthe rendering differs by {largest:.1e}, expected at most {TOLERANCE:g}", file=sys.stderr)
        return 1
    return 0


def published_table(name, peer, args):
    """The table of one published implementation, or why there is none."""
    wanted = f"with it would be compared: {', '.join(peer.differs)}"
    if not peer.installed():
        return f"{name}: not installed; {wanted}"
    try:
        found = of_published(peer, args)
    except Exception as error:  # a release that does not run beside this Python, NumPy or PyTorch fails in its own way
        reason = f"{type(error).__name__}: {first_line(error)}"
        return f"{name} {version(peer.package)}: cannot be used here ({reason}); {wanted}"
    rows = []
    for (method, norm), row in found.items():
        why = (peer.differs[method] or peer.differs_off_box) if max(row.values()) > TOLERANCE else "agrees"
        rows.append((f"{method}, l{'∞' if norm == np.inf else norm}", *cells(row), why or "UNEXPLAINED"))
    skipped = "" if peer.convolutions else ", without the networks that have convolutions"
    return f"{name} {version(peer.package)}{skipped}\n\n" + table(("method", *QUANTITIES, "why"), rows)


def cells(row):
    """The differences as text, – where there is none."""
    return [f"{row[name]:.0e}" if name in row else "–" for name in QUANTITIES]


def version(package):
    """Of an installed package."""
    return importlib.metadata.version(package)


def first_line(error):
    """What an exception says first."""
    return (str(error).splitlines() or ["no message"])[0]


COMMANDS = {"agreement": (Agreement, agreement), "speed": (speed.Args, speed.speed)}


def main(argv=None):
    """One of the commands; the exit status, 1 if the rendering disagrees."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if argv[:1] == [] or argv[0] not in COMMANDS:
        raise ValueError(f"verify.peers: expected {' or '.join(COMMANDS)}, got {' '.join(argv[:1]) or 'nothing'}")
    cls, command = COMMANDS[argv[0]]
    return command(arguments.parse(cls, f"verify.peers {argv[0]}", argv[1:]))


if __name__ == "__main__":
    arguments.run(main)
