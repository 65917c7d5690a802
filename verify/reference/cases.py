"""The cases of the reference outputs: what is drawn and given, and what this code makes of them."""

import functools
import json
import re
from importlib.metadata import distributions
from typing import NamedTuple

import numpy as np

import refbound as rb
from refbound.arrays.ops import as_rows, images, with_true_class
from refbound.layers import Conv2d, Flatten, Linear, ReLU
from refbound.losses import mixed_loss, mixed_loss_vjp
from refbound.network import from_spec

VARIANTS = {**{name: (name, {}) for name in rb.METHODS},  # name in the files -> (method, what its options are)
            "alpha-per-margin": ("alpha", {"shared": False}),
            "cap-projected": ("cap", {"projections": "drawn"})}
TRAINED = {f"{objective}.{method}": (objective, method)  # name in the files -> (objective, the method of its bound)
           for objective in rb.OBJECTIVES for method in ("ibp", "one-step")}


class Case(NamedTuple):
    """What is not drawn from the seed; `given` takes the place of what is."""

    seed: int
    layers: list
    shape: tuple        # of one input
    eps: object         # ε of each example, or of each of their pixels
    norm: float = np.inf
    clipped: bool = True
    beta: float = 1.0
    kappa: float = 0.0
    given: dict = {}
    attacked: bool = False  # has x_adv, α and λ, and what every objective makes of them


DENSE = [Linear(6, 8), ReLU(), Linear(8, 7), ReLU(), Linear(7, 4)]
CONV = [Conv2d(1, 2, 3, 1, 1), ReLU(), Conv2d(2, 3, 4, 2, 1), ReLU(), Flatten(), Linear(12, 6), ReLU(), Linear(6, 4)]
STRIDED = [Conv2d(2, 3, 3, 2, 0), ReLU(), Conv2d(3, 3, 2, 1, 0), ReLU(), Flatten(), Linear(12, 3)]
RECTANGULAR = [Conv2d(1, 3, (2, 3), (1, 2), (0, 1)), ReLU(), Conv2d(3, 2, (3, 1), (2, 1), (1, 0)), ReLU(), Flatten(),
               Linear(12, 3)]
PADDED = [Conv2d(1, 2, 3, 2, 1), ReLU(), Flatten(), Linear(12, 5), ReLU(), Linear(5, 3)]
CHANNELS = [Conv2d(2, 3, 3, 2, 1), ReLU(), Flatten(), Linear(18, 5), ReLU(), Linear(5, 3)]
CASES = {
    # The network worked by hand in the README: every number is exact, and the second unit of the first ReLU is a tie.
    "hand": Case(0, [Linear(2, 2), ReLU(), Linear(2, 2), ReLU(), Linear(2, 2)], (2,), [1.0, 1.0], clipped=False, given={
        "0.weight": [[1.0, 1], [1, -1]], "0.bias": [1.0, 0], "2.weight": [[1.0, 1], [1, -1]], "2.bias": [-1.0, 0],
        "4.weight": [[1.0, 1], [0, 2]], "4.bias": [0.0, 1], "x": np.zeros((2, 2)), "y": [0, 1],
        "a0/0": np.full((2, 2), 0.5), "a0/1": np.full((2, 2), 0.5)}),
    "dense": Case(11, DENSE, (6,), [0.15] * 3),
    "dense-mixed": Case(12, DENSE, (6,), [0.0, 0.1, 0.3], beta=0.6, kappa=0.3, given={"eta": 0.25}),
    "dense-l2": Case(33, DENSE, (6,), [0.4, 0.2], norm=2, clipped=False, beta=0.5),
    "dense-l1": Case(48, DENSE, (6,), [0.8, 0.4], norm=1, clipped=False, kappa=0.5),
    "conv": Case(5, CONV, (1, 5, 5), [0.04, 0.06], beta=0.75, kappa=0.25),
    "conv-strided": Case(32, STRIDED, (2, 7, 7), [0.05, 0.02], clipped=False),
    "conv-rectangular": Case(49, RECTANGULAR, (1, 4, 5), [0.5, 0.3], norm=2, clipped=False, beta=0.3, kappa=0.1),
    "conv-l1": Case(57, PADDED, (1, 5, 4), [1.0, 0.5], norm=1, clipped=False, given={"eta": 0.5}),
    "conv-pixels": Case(56, CHANNELS, (2, 4, 5), np.linspace(0, 0.3, 80).reshape(2, 2, 4, 5), beta=0.5, kappa=0.2),
    "affine": Case(14, [Linear(5, 6), Linear(6, 6), ReLU(), Linear(6, 5), Linear(5, 3)], (5,), [0.2, 0.1], beta=0.5),
    "linear": Case(8, [Linear(4, 5), Linear(5, 3)], (4,), [0.1, 0.2], kappa=0.5),
    "eps-zero": Case(8, [Linear(4, 5), ReLU(), Linear(5, 3)], (4,), [0.0, 0.0], beta=0.5),
    "stable": Case(2, DENSE, (6,), [1e-3, 2e-3], kappa=0.5),
    "objectives": Case(60, DENSE, (6,), [0.15, 0.3, 0.1], attacked=True),
    "objectives-l2": Case(61, DENSE, (6,), [0.4, 0.2], norm=2, clipped=False, beta=0.5, kappa=0.3, attacked=True),
    "objectives-conv": Case(62, CONV, (1, 5, 5), [0.06, 0.1], beta=0.75, kappa=0.25, attacked=True),
    # In the first ReLU: an unstable unit, one that is always 0 (l = u = 0), an active and an inactive one.
    "dead": Case(33, [Linear(3, 4), ReLU(), Linear(4, 4), ReLU(), Linear(4, 3)], (3,), [0.4, 0.3], given={
        "0.weight": [[1, -1, 0.5], [0, 0, 0], [0.25, 0.5, -1], [-1, -0.5, -1]], "0.bias": [-0.25, 0.0, 9.0, -9.0]}),
}


def inputs(name):
    """The arrays that a case is computed from."""
    case = CASES[name]
    rng, N = np.random.default_rng(case.seed), len(case.eps)
    net = rb.models.initialise(rng, case.layers, case.shape, np.float64)
    net = net.with_params({key: 2 * p for key, p in net.params.items()})  # or most margins look alike
    x = rng.uniform(-0.3, 1.3, (N, *case.shape))
    domain = (0.0, 1.0) if case.clipped else (-np.inf, np.inf)
    version = next((found.version for found in distributions(name="refbound")), "not installed")
    source = {"version": version, "numpy": np.__version__, "command": "python -m verify.golden write DIR",
              "case": name, "seed": case.seed}
    arrays = {"provenance": json.dumps(source), "architecture": json.dumps(net.spec()), "input_shape": case.shape,
              **net.params, "x": np.clip(x, *domain), "y": rng.integers(net.classes, size=N),
              "eps": case.eps, "norm": float(case.norm), "domain": domain, "beta": case.beta, "kappa": case.kappa,
              "eta": 2.0, "p": 0.25, "q": 0.75, "steps": 5}
    arrays |= {f"a0/{k}": rng.random((N, *net.shapes[i])) for k, i in enumerate(net.relus)}
    if case.norm == np.inf:  # Cauchy projections are for l∞
        places = (0, *net.relus[:-1])
        arrays |= {f"cauchy/{k}": rng.standard_cauchy((6, *net.shapes[i])) for k, i in enumerate(places)}
    if case.attacked:
        ball = rb.Ball(arrays["x"], arrays["eps"], norm=case.norm, domain=(0.0, 1.0) if case.clipped else None)
        arrays |= {"x_adv": rb.pgd(net, ball, arrays["y"], steps=3, rng=rng), "alpha": 0.3, "lam": 0.4}
    return {key: np.array(value) for key, value in (arrays | case.given).items()}


# ---- what this code makes of a case ----

def problem(arrays):
    """(net, ball, y, options) of a case."""
    params = {name: a for name, a in arrays.items() if re.fullmatch(r"\d+\.(weight|bias)", name)}
    net = rb.Network([from_spec(s) for s in json.loads(str(arrays["architecture"]))], params, arrays["input_shape"])
    domain = tuple(arrays["domain"]) if np.isfinite(arrays["domain"]).all() else None
    ball = rb.Ball(arrays["x"], arrays["eps"], norm=float(arrays["norm"]), domain=domain)
    a0 = [as_rows(arrays[f"a0/{k}"], net.dtype) for k in range(len(net.relus))]
    eta, p, q = (float(arrays[name]) for name in ("eta", "p", "q"))
    return net, ball, arrays["y"], {"a0": a0, "eta": eta, "p": p, "q": q, "steps": int(arrays["steps"])}


def outputs(arrays, variant):
    """{VARIANT/...: array} from the inputs among the arrays; {} where a case does not have the variant."""
    if variant in TRAINED:
        return trained(arrays, *TRAINED[variant])
    net, ball, y, options = problem(arrays)
    method, changes = VARIANTS[variant]
    if "projections" in changes:
        draws = [arrays[name] for name in sorted(arrays) if name.startswith("cauchy/")]
        if not draws:
            return {}
        changes = {"projections": [as_rows(t, net.dtype)[:, None, :] for t in draws]}
    row, options, region = rb.METHODS[method], {**options, **changes}, ball.region(net.dtype)
    margins, beta, kappa = row.bound(net, region, y, options), float(arrays["beta"]), float(arrays["kappa"])
    g, b = margins.linear_function(net)
    mixture = (row, beta), (rb.METHODS["ibp"], 1 - beta)
    loss = mixed_loss(net, region, as_rows(ball.x, net.dtype), y, mixture, options, kappa)
    result = {"margins": with_true_class(margins.s, y), "g": images(with_true_class(g, y), net.input_shape),
              "b": with_true_class(b, y), "loss": loss.value.mean()}
    for k, (i, (l, u)) in enumerate(zip(net.relus, margins.pre)):
        result[f"preactivation/{k}/l"], result[f"preactivation/{k}/u"] = (images(z, net.shapes[i]) for z in (l, u))
        if margins.lines:
            slopes = margins.lines[k].a_lo
            result[f"slopes/{k}"] = images(slopes if slopes.ndim == 2 else slopes.swapaxes(0, 1), net.shapes[i])
    if row.trains:
        grads = mixed_loss_vjp(np.full(len(y), 1 / len(y)), net, loss, kappa)
        result |= {f"grad/{name}": grads[name] for name in net.params}
    return {f"{variant}/{name}": np.array(a) for name, a in result.items()}


def trained(arrays, objective, method):
    """{OBJECTIVE.METHOD/...: array}; {} where a case has no attack."""
    if "x_adv" not in arrays:
        return {}
    net, ball, y, _ = problem(arrays)
    own = ({"a0": [arrays[f"a0/{k}"] for k in range(len(net.relus))], "eta": float(arrays["eta"])}
           if method == "one-step" else {})
    own |= {name: float(arrays[name]) for name in (*rb.OBJECTIVES[objective].options, "beta", "kappa")}
    out = rb.objective_loss(net, ball, y, objective, method, arrays["x_adv"], **own)
    result = {"margins": out.margins, "loss": out.value, **{f"grad/{name}": d for name, d in out.grads.items()}}
    return {f"{objective}.{method}/{name}": np.array(a) for name, a in result.items()}


@functools.cache
def golden(name):
    """Every array of a case, in the order of the file."""
    arrays = inputs(name)
    arrays["logits"] = problem(arrays)[0](arrays["x"])
    for variant in (*VARIANTS, *TRAINED):
        arrays |= outputs(arrays, variant)
    return {key: np.array(a, order="C") for key, a in arrays.items()}
