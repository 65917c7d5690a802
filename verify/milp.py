"""The exact worst case of a margin, s* = max z_m − z_y over B, by mixed-integer programs.

Each unstable ReLU takes a binary t, 1 where it is active; stable ones fold away (sparse.py):

    h ≥ 0,   h ≥ z,   h ≤ u t,   h ≤ z − l (1 − t),   t ∈ {0, 1}     is     h = max(z, 0)  for l ≤ z ≤ u

The bounds l, u are arguments: s* does not depend on them as long as they hold, only the time to find it does.

    python -m verify.milp MODEL --eps 0.1 --n 100 --time-limit 120

What `robust` means: of each margin a bound that was given is negative (the command gives those of cap and crown, in float64,
their own rounding not counted), or HiGHS, working in floating point, found that no input brings it to −SLACK. HiGHS allows itself
errors: at its default tolerances optima 2·10⁻⁴ too low were seen on the network of Wong and Kolter (margins of 10, with
presolve). Hence no presolve, a tolerance of 10⁻⁹, and SLACK = 10⁻³ of room; still no proof in exact arithmetic. `not robust`
needs no trust: the witness has been run through the network in float64. A worst margin within SLACK of 0 may be `unknown`.
"""

import hashlib
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp
from tqdm import tqdm

import refbound as rb
from trainers import data
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .exchange import as_the_run, load_any
from .lp import triangle
from .sparse import diagonal, fold, widened

SLACK = 1e-3
ANSWERS = ("robust", "not robust", "unknown")
ANY = 1e30  # the relative gap at which any feasible point ends the search
OPTIMAL, LIMIT, INFEASIBLE = 0, 1, 2  # scipy's statuses


class Exact(NamedTuple):
    """What is known of s* = max z_m − z_y over B: value ≤ s* ≤ bound."""

    value: float   # the margin at x, through the network itself; −inf where none was found
    bound: float   # as HiGHS reports it
    x: object      # (*input_shape), or None
    status: str    # "optimal" or "time limit"


class Verdict(NamedTuple):
    """What is known of a ball, and the witness if it is not robust."""

    answer: str      # "robust", "not robust" or "unknown"
    bound: float     # the greatest bound known of a margin; above −SLACK the solver's are no proof
    witness: object  # (*input_shape), an input of B that is misclassified, or None
    margin: object   # max_m z_m − z_y at the witness, at least 0; or None


class Program(NamedTuple):
    """The rows, the bounds and the binaries of one network and ball; V unknowns, then U binaries."""

    folded: object
    A: object      # (R, V + U) sparse
    b: object      # (R,): A (v, t) ≤ b
    bounds: object
    binary: object


def exact_margins(net, ball, y, pre, time_limit=120, classes=None):
    """An Exact for each class m of `classes` (default: all); time_limit seconds for each.

    A ball of one example, its label y, and pre [(l, u)] shaped as the input of each ReLU, in float64.
    Raises ValueError for an argument that cannot be, RuntimeError where HiGHS fails or contradicts the network.
    """
    program, net, found = build(fold(net, ball, y, pre)), double(net), []
    for m in range(net.classes) if classes is None else classes:
        if m == y:
            found.append(Exact(0.0, 0.0, ball.x[0], "optimal"))
            continue
        status, v, bound = solve(program, m, y, time_limit)
        x = None if v is None else at(program, v, ball)
        value = -np.inf if x is None else float(margins(net, x, y)[m])
        if bound is None:  # without a feasible point scipy passes no bound on
            bound = triangle(program.folded, y, [m])[0]
        if value > bound + SLACK:
            raise RuntimeError(f"milp: class {m}: the network attains {value:g}, above the bound {bound:g} of HiGHS")
        found.append(Exact(value, max(value, float(bound)), x, "optimal" if status == OPTIMAL else "time limit"))
    return found


def verdict(net, ball, y, pre, upper=None, time_limit=120, witness=None):
    """The Verdict on a ball of one example, in about time_limit seconds.

    upper (c,): bounds of the margins; those that are negative already are not looked at again. witness: an input
    (*input_shape) said to be misclassified. Raises ValueError where it is not, and as exact_margins does.
    """
    deadline, folded, net = time.monotonic() + time_limit, fold(net, ball, y, pre), double(net)
    upper = np.full(net.classes, np.inf) if upper is None else np.array(upper, float)
    if upper.shape != (net.classes,) or np.isnan(upper).any():
        raise ValueError(f"upper: expected a bound for each of {net.classes} classes, got {upper}")
    upper[y] = -np.inf
    if witness is None and margins(net, ball.x[0], y).max() >= 0:
        witness = ball.x[0]
    if witness is not None:
        return Verdict("not robust", float(upper.max()), witness, check_witness(net, ball, y, witness))
    left = [m for m in np.argsort(-upper) if upper[m] >= 0]
    upper[left] = np.minimum(upper[left], triangle(folded, y, left))
    program = build(folded)
    for m in sorted(left, key=lambda m: -upper[m]):
        if upper[m] >= -SLACK:
            upper[m], x = decide(program, net, ball, m, y, upper[m], deadline)
            if x is not None:
                return Verdict("not robust", float(upper.max()), x, check_witness(net, ball, y, x))
    settled = all(upper[m] <= -SLACK for m in left)
    return Verdict("robust" if settled else "unknown", float(upper.max()), None, None)


def decide(program, net, ball, m, y, bound, deadline):
    """(bound of the margin, witness or None): is there a point of at least −SLACK, and if it is no witness, of SLACK?"""
    for floor in (-SLACK, SLACK):
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            break
        status, v, reached = solve(program, m, y, seconds, floor)
        if status == INFEASIBLE:
            return min(bound, floor), None
        bound = bound if reached is None else min(bound, reached)
        x = None if v is None else at(program, v, ball)
        if x is not None and margins(net, x, y).max() >= 0:
            return bound, x
    return bound, None


def build(folded):
    """The Program of a folded network."""
    inputs, Z, z0, H, l, u = folded.inputs, folded.Z, folded.z0, folded.H, folded.l, folded.u
    A = sp.vstack([sp.hstack([Z - H, 0 * diagonal(l)]),      # h ≥ z
                   sp.hstack([H, -diagonal(u)]),             # h ≤ u t
                   sp.hstack([H - Z, -diagonal(l)]),         # h ≤ z − l (1 − t)
                   widened(inputs.A, Z.shape[1] + len(l))], format="csc")
    bounds = Bounds(np.concatenate([inputs.low, 0 * u, 0 * u]), np.concatenate([inputs.high, u, 0 * u + 1]))
    binary = np.concatenate([np.zeros(Z.shape[1]), np.ones(len(l))])
    return Program(folded, A, np.concatenate([-z0, 0 * u, z0 - l, inputs.b]), bounds, binary)


def solve(program, m, y, seconds, floor=None):
    """(scipy's status, v or None, bound or None) of max z_m − z_y; with a floor, of any point that reaches it."""
    C, c0 = program.folded.margin(m, y)
    C = widened(C, len(program.binary))
    A, b, gap = program.A, program.b, 0.0
    if floor is not None:
        A, b, gap = sp.vstack([A, -C], format="csc"), np.append(b, c0 - floor), ANY
    options = {"time_limit": seconds, "presolve": False, "mip_rel_gap": gap, "mip_feasibility_tolerance": 1e-9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy hands the tolerance to HiGHS, and warns that it does
        result = milp(-C.toarray()[0], integrality=program.binary, bounds=program.bounds,
                      constraints=LinearConstraint(A, ub=b), options=options)
    if result.status not in ((OPTIMAL, LIMIT) if floor is None else (OPTIMAL, LIMIT, INFEASIBLE)):
        raise RuntimeError(f"milp: HiGHS failed on class {m}: {' '.join(result.message.split())}")
    reached = result.mip_dual_bound
    if reached is None and result.status == OPTIMAL:  # no unstable unit: a linear program
        reached = result.fun
    return result.status, result.x, None if reached is None else c0 - reached


def at(program, v, ball):
    """The input (*input_shape) of a solution v, moved into the ball where HiGHS left it by its tolerance."""
    inputs = program.folded.inputs
    p = np.clip(v[:len(inputs.low)], inputs.low, inputs.high)
    for total, most in zip(inputs.A @ p, inputs.b):
        p = p * (most / total) if total > most else p
    return (inputs.X @ p + inputs.x0).reshape(ball.x.shape[1:])


def double(net):
    """The network in float64: the real function of its weights, as near as floating point is."""
    return net.with_params({name: value.astype(np.float64) for name, value in net.params.items()})


def margins(net, x, y):
    """z_m − z_y at x (*input_shape), −∞ for y: (c,)."""
    z = net(x[None])[0]
    return np.where(np.arange(len(z)) == y, -np.inf, z - z[y])


def check_witness(net, ball, y, witness):
    """max_m z_m − z_y at a witness; ValueError unless it lies in the ball and the domain and is misclassified."""
    x, eps, w = ball.x[0].astype(float), float(ball.eps[0]), np.asarray(witness, float)
    if w.shape != x.shape or not np.isfinite(w).all():
        raise ValueError(f"witness: expected finite numbers of shape {x.shape}, got shape {w.shape}")
    distance = float(np.abs(w - x).max() if ball.norm == np.inf else np.abs(w - x).sum())
    if distance > eps + 1e-12 * (eps + np.abs(x).max()):  # room for the rounding of x ± ε
        raise ValueError(f"witness: expected an input within {eps:g} of x, got one at {distance:g}")
    if ball.domain is not None and (w.min() < ball.domain[0] or w.max() > ball.domain[1]):
        raise ValueError(f"witness: expected pixels in {ball.domain}, got [{w.min():g}, {w.max():g}]")
    margin = float(margins(net, w, y).max())
    if not margin >= 0:
        raise ValueError(f"witness: expected a misclassified input, got one whose greatest margin is {margin:g}")
    return margin


# ---- the command: bounds, attacks and files are refbound's from here on ----

@dataclass
class Args:
    """Exact verdicts on MNIST test images: robust, not robust or unknown."""

    model: str = argument("", "a network (.npz, .onnx) or a run folder, whose best network is taken", positional=True)
    eps: float = argument(None, "radius of the l∞ ball, pixels in [0, 1] (default: that of the run)", type=float)
    n: int = argument(100, "test images, from the first")
    time_limit: float = argument(120.0, "seconds for an image")
    no_clip: bool = argument(None, "do not intersect the ball with [0, 1] (default: as the run)", type=bool)
    seed: int = argument(0, "of the attack's random starts")
    out: str = argument(None, "results, a JSON line for each image (default: runs/verdicts-...jsonl)", type=str)
    data_dir: str = argument(None, "folder of the data set (default: that of the run, or MNIST as shipped)", type=str)


def main(argv=None):
    """Verdicts on the images that the file of results does not hold yet, saved one by one; then the counts."""
    args = arguments.parse(Args, "verify.milp", argv)
    arguments.at_least(args, eps=0, n=1, time_limit=0.001, seed=0)
    net = double(load_any(args.model))
    as_the_run(args)
    test = data.load("mnist", "test", args.data_dir)
    images, y = data.first(test, args.n, net)
    domain = None if args.no_clip else (0.0, 1.0)
    ball = rb.Ball(data.to_float(images, np.float64), args.eps, domain=domain)
    config = {"model": sha256(*net.params.values()), "architecture": [net.spec(), list(net.input_shape)],
              "data": sha256(test.images, test.labels), "eps": args.eps, "domain": domain and list(domain),
              "time_limit": args.time_limit, "seed": args.seed}
    path = Path(args.model).resolve()
    name = f"verdicts-{path.name if path.is_dir() else path.stem}-{args.eps:g}{'-no-clip' * args.no_clip}.jsonl"
    out = Path(args.out or Path("runs") / name)
    rows = resume(out, config)
    for row in rows[:args.n]:
        if row["witness"] is not None:
            check_witness(net, ball[row["image"]:row["image"] + 1], y[row["image"]], row["witness"])
    bar = tqdm(range(len(rows), args.n), initial=min(len(rows), args.n), total=args.n, unit="image", disable=None)
    for i in bar:
        rows.append(one(net, ball[i:i + 1], y[i], i, args))
        write(out, config, rows)
        bar.set_postfix(counts(rows))
        if bar.disable:
            print(f"image {i}: {rows[-1]['answer']} in {rows[-1]['seconds']} s", flush=True)
    found = counts(rows[:args.n])
    least, most = found["not robust"], args.n - found["robust"]
    print(", ".join(f"{count} {answer}" for answer, count in found.items()), f"of {args.n} images in {out}")
    error = f"{100 * least / args.n:.2f} %" + f" to {100 * most / args.n:.2f} %" * (most > least)
    print(f"exact error at ε = {args.eps:g}, {'not clipped' if args.no_clip else 'clipped to [0, 1]'}: {error}")


def one(net, ball, y, i, args):
    """The row of image i. Bounds are the tightest of `cap` and `crown`, all in float64."""
    start, label = time.monotonic(), np.array([y])
    attack = rb.pgd(net, ball, label, restarts=3, rng=np.random.default_rng([args.seed, i]))[0]
    witness = attack if margins(net, attack, y).max() >= 0 else None
    found = [rb.preactivation_bounds(net, ball, method) for method in ("cap", "crown")]
    pre = [(np.maximum(a[0], b[0])[0], np.minimum(a[1], b[1])[0]) for a, b in zip(*found)]
    upper = np.minimum(*(rb.margin_bounds(net, ball, label, method)[0] for method in ("cap", "crown")))
    answer = verdict(net, ball, y, pre, upper, args.time_limit, witness)
    row = {"image": i, "label": int(y), "seconds": round(time.monotonic() - start, 2), **answer._asdict()}
    return {**row, "witness": None if answer.witness is None else answer.witness.tolist()}


def counts(rows):
    """How many images have each answer."""
    return {answer: sum(row["answer"] == answer for row in rows) for answer in ANSWERS}


def sha256(*arrays):
    """Of dtypes, shapes and bytes: what a file of results belongs to."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(f"{a.dtype} {a.shape}".encode() + np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()


def resume(path, config):
    """The rows of a file of results, none if there is no such file; ValueError if it is of another computation."""
    if not path.exists():
        return []
    try:
        head, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        made, order = dict(head["config"]), [(row["image"], row["answer"] in ANSWERS and "witness" in row) for row in rows]
        if order != [(i, True) for i in range(len(rows))]:
            raise ValueError("its images are not 0, 1, 2, …, each with an answer and its witness or null")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of verdicts ({error}); give another --out") from None
    for name, value in config.items():
        if made.get(name) != value:
            raise ValueError(f"{path}: made with {name} {made.get(name)!r}, now {value!r}; give another --out")
    return rows


def write(path, config, rows):
    """Every row, all of them or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write(path, "".join(json.dumps(line) + "\n" for line in [{"config": config}, *rows]))


if __name__ == "__main__":
    arguments.run(main)
