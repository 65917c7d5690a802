"""The exact worst case of a margin, s* = max z_m − z_y over B, by mixed-integer programs.

Each unstable ReLU takes a binary t, 1 where it is active; stable ones fold away (sparse.py):

    h ≥ 0,   h ≥ z,   h ≤ u t,   h ≤ z − l (1 − t),   t ∈ {0, 1}     is     h = max(z, 0)  for l ≤ z ≤ u

The bounds l, u are arguments: s* does not depend on them as long as they hold, only the time to find it does.

What `robust` means: of each margin a bound that was given, or that of the triangle LP by weak duality, is negative, or
HiGHS, working in floating point, found that no input brings it to −SLACK. HiGHS allows itself errors: at its default
tolerances optima 2·10⁻⁴ too low were seen on the network of Wong and Kolter (margins of 10, with presolve). Hence no
presolve, a tolerance of 10⁻⁹, and SLACK = 10⁻⁴ of room, both in units of the margin's size (sparse.py). Even so it has
called programs infeasible whose solution is at hand: its word counts if `stands` finds no contradiction. That is still
no proof in exact arithmetic. A worst margin within SLACK of 0 may be `unknown`. Where the tolerance in each unit may be
more than SLACK in the margin (GAIN), HiGHS's bounds and its "infeasible" count for nothing: such an image is robust by
other bounds, not robust, or unknown.
"""

import time
import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp

from refbound.arrays.ops import as_rows
from refbound.layers import forward, unbroken

from .lp import LIMIT, OPTIMAL, triangle
from .sparse import DROPPED, TOLERANCE, box, fold, widened

SLACK = 1e-4  # of the size of a margin
GAIN = 1e4    # times the tolerance in each unit, 1e-9, is a tenth of SLACK in the margin (Folded.gain)
ANSWERS = ("robust", "not robust", "unknown")
ANY = 1e30  # the relative gap at which any feasible point ends the search
INFEASIBLE = 2  # scipy's status


class Exact(NamedTuple):
    """What is known of s* = max z_m − z_y over B: value ≤ s* ≤ bound."""

    value: float   # the margin at x, through the network itself; −inf where none was found
    bound: float   # as HiGHS reports it, or of the triangle LP
    x: object      # (*input_shape), or None
    status: str    # "optimal", "time limit" or "gain"


class Verdict(NamedTuple):
    """What is known of a ball, and the witness if it is not robust."""

    answer: str      # "robust", "not robust" or "unknown"
    bound: float     # the greatest bound known of a margin; above −SLACK the MILP's are no proof
    witness: object  # (*input_shape), an input of B that is misclassified, or None
    margin: object   # max_m z_m − z_y at the witness, at least 0; or None


def exact_margins(net, ball, y, pre, time_limit=120, classes=None):
    """An Exact for each class m of `classes` (default: all); time_limit seconds for each program.

    A ball of one example, its label y, and pre [(l, u)] shaped as the input of each ReLU, in float64. An optimum counts
    as one if `stands` finds that nothing is SLACK above it, in as many seconds again.
    Raises ValueError for an argument that cannot be, RuntimeError where HiGHS fails or contradicts the network.
    """
    folded, net, found = fold(net, ball, y, pre), double(net), []
    for m in range(net.classes) if classes is None else classes:
        if m == y:
            found.append(Exact(0.0, 0.0, ball.x[0], "optimal"))
            continue
        status, v, bound = solve(folded, m, y, time_limit)
        (*_, size), deadline = folded.margin(m, y), time.monotonic() + time_limit
        x = None if v is None else at(folded.inputs, v, ball)
        value = -np.inf if x is None else float(np.fmax(margins(net, x, y)[m], -np.inf))
        unsure = doubtful(folded, m, y)
        if bound is None or unsure:  # no unstable unit, or no feasible point in time; or it is not to be trusted
            bound = triangle(folded, y, [m], time_limit).s[0]
        elif status == OPTIMAL and not stands(
                folded, m, y, bound + SLACK * size, margins(net, ball.x[0], y)[m], deadline):
            status = LIMIT
        if value > bound + SLACK * size:
            raise RuntimeError(f"milp: class {m}: the network attains {value:g}, above the bound {bound:g} of HiGHS")
        found.append(Exact(value, max(value, float(bound)), x,
                           "gain" if unsure else "optimal" if status == OPTIMAL else "time limit"))
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
    if witness is None and is_witness(net, ball.x[0], y):
        witness = ball.x[0]
    if witness is not None:
        return Verdict("not robust", float(upper.max()), witness, check_witness(net, ball, y, witness))
    for m in np.flatnonzero(upper >= 0):
        upper[m] = min(upper[m], triangle(folded, y, [m], max(deadline - time.monotonic(), 0)).s[0])
    left = sorted(np.flatnonzero(upper >= 0), key=lambda m: -upper[m])
    for m in left:
        upper[m], x = decide(folded, net, ball, m, y, upper[m], deadline)
        if x is not None:
            return Verdict("not robust", float(upper.max()), x, check_witness(net, ball, y, x))
    settled = all(upper[m] <= -SLACK * folded.margin(m, y)[2] for m in left)
    return Verdict("robust" if settled else "unknown", float(upper.max()), None, None)


def decide(folded, net, ball, m, y, bound, deadline):
    """(the margin's bound, witness or None): is there a point of at least −SLACK, and if it is no witness, of SLACK?"""
    size, unsure = folded.margin(m, y)[2], doubtful(folded, m, y)
    for floor in (-SLACK * size, SLACK * size):
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            break
        status, v, reached = solve(folded, m, y, seconds, floor)
        if status == INFEASIBLE and unsure:
            raise RuntimeError("milp: HiGHS's tolerance in a unit may change the margin by more than the room "
                               "that it is given")
        if status == INFEASIBLE:
            return (min(bound, floor) if stands(folded, m, y, floor, margins(net, ball.x[0], y)[m], deadline)
                    else bound), None
        # less than 0 would be a proof that `stands` has not seen
        bound = bound if reached is None or unsure else min(bound, max(reached, 0.0))
        x = None if v is None else at(folded.inputs, v, ball)
        if x is not None and is_witness(net, x, y):
            return bound, x
    return bound, None


def stands(folded, m, y, floor, known, deadline):
    """Whether HiGHS's "infeasible" at this floor counts; False if time is out, RuntimeError if it contradicts itself.

    With presolve it must say so again and both ways find a point that reaches `known`, the margin at the ball's centre.
    """
    known = min(floor, known - SLACK * folded.margin(m, y)[2])
    for at_least, presolve, expected in ((floor, True, INFEASIBLE), (known, False, OPTIMAL), (known, True, OPTIMAL)):
        status, *_ = solve(folded, m, y, max(deadline - time.monotonic(), 0), at_least, presolve)
        if status == LIMIT:
            return False
        if status != expected:
            raise RuntimeError(f"milp: HiGHS contradicts itself on class {m}, "
                               f"on whether a point has a margin of {at_least:g}")
    return True


def doubtful(folded, m, y):
    """Whether HiGHS's tolerance may move a margin by more than a tenth of SLACK; a gain that is NaN may."""
    return not folded.gain(m, y) <= GAIN


def program(folded):
    """The network and the ball as keywords of scipy's milp: the unknowns v, then a binary t for each unstable unit."""
    inputs, Z, z0, H, l, u = folded.inputs, folded.Z, folded.z0, folded.H, folded.l, folded.u
    U, V = Z.shape
    A = sp.vstack([widened(Z - H, V + U),                       # h ≥ z
                   sp.hstack([H, -sp.diags_array(u)]),          # h ≤ u t
                   sp.hstack([H - Z, -sp.diags_array(l)]),      # h ≤ z − l (1 − t)
                   widened(inputs.A, V + U)], format="csc")
    return {"constraints": [LinearConstraint(A, ub=np.concatenate([-z0, 0 * u, z0 - l, inputs.b]))],
            "bounds": Bounds(np.concatenate([inputs.low, 0 * u, 0 * u]), np.concatenate([inputs.high, u, 0 * u + 1])),
            "integrality": np.repeat([0, 1], [V, U])}


def solve(folded, m, y, seconds, floor=None, presolve=False):
    """(scipy's status, v or None, bound or None) of max z_m − z_y; with a floor, of any point that reaches it."""
    given, (C, c0, size) = program(folded), folded.margin(m, y)
    C = np.append(C, 0 * folded.u)
    if floor is not None:
        given["constraints"].append(LinearConstraint(-C, ub=c0 - floor / size))
    options = {"time_limit": seconds, "presolve": presolve, "mip_rel_gap": 0.0 if floor is None else ANY,
               "mip_abs_gap": TOLERANCE, "mip_feasibility_tolerance": TOLERANCE, "small_matrix_value": DROPPED}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy hands these to HiGHS, and warns that it does
        result = milp(-C, **given, options=options)
    infeasible = floor is not None or doubtful(folded, m, y)  # without a floor the network is a solution
    if result.status not in (OPTIMAL, LIMIT, *[INFEASIBLE] * infeasible):
        raise RuntimeError(f"milp: HiGHS failed on class {m}: {' '.join(result.message.split())}")
    reached = result.mip_dual_bound
    if reached is None and floor is None and result.status == OPTIMAL and len(folded.u):  # not passed on at v = 0
        reached = result.fun
    return result.status, result.x, None if reached is None else size * (c0 - reached)


def at(inputs, v, ball):
    """The input (*input_shape) of a solution v, moved into the ball where HiGHS left it by its tolerance."""
    p = np.clip(v[:len(inputs.low)], inputs.low, inputs.high)
    for total, most in zip(inputs.A @ p, inputs.b):
        p = p * (most / total) if total > most else p
    x = inputs.X @ p + inputs.x0
    return (np.clip(x, *box(ball)) if ball.norm == np.inf else x).reshape(ball.x.shape[1:])


def double(net):
    """The network in float64: the real function of its weights, as near as floating point is."""
    return net.with_params({name: value.astype(np.float64) for name, value in net.params.items()})


def scaled(net, x):
    """The network, to be attacked: its last layer times what brings the mean spread of its logits at x (N, ...) to 20.

    An attack that ascends a softmax of the margins depends on their unit; what is misclassified does not.
    """
    (i, _), spread = net.affine[-1], np.ptp(net(x), axis=1).mean()
    last = {name: net.params[name] for name in (f"{i}.weight", f"{i}.bias")}
    most = np.finfo(float).max / 2 / max(1, *(np.abs(value).max() for value in last.values()))  # what they can be times
    factor = min(20 / max(spread, 1e-290), most) if 0 < spread < np.inf else 1
    return net.with_params({**net.params, **{name: value * factor for name, value in last.items()}})


def is_witness(net, x, y):
    """Whether the greatest margin at x is at least 0; not if anything overflows on the way to a logit."""
    return bool(margins(net, x, y).max() >= 0)


def margins(net, x, y):
    """z_m − z_y at x (*input_shape), −∞ for y: (c,)."""
    z = logits(net, x[None])[0]
    return np.where(np.arange(len(z)) == y, -np.inf, z - z[y])


def logits(net, x):
    """f(x) of x (N, *input_shape), NaN where a number overflows on the way."""
    z, inputs = forward(net, as_rows(x, net.dtype))
    return np.where(unbroken(z, inputs)[:, None], z, np.nan)


def check_witness(net, ball, y, witness, room=None):
    """max_m z_m − z_y at a witness; ValueError unless it lies in the ball and the domain and is misclassified.

    room: a function of the witness, by how much each margin there may be below 0.
    """
    x, eps, w = ball.x[0].astype(float), ball.eps[0].astype(float), np.asarray(witness, float)
    if w.shape != x.shape or not np.isfinite(w).all():
        raise ValueError(f"witness: expected finite numbers of shape {x.shape}, got shape {w.shape}")
    distance, eps = np.broadcast_arrays(np.abs(w - x) if ball.norm == np.inf else np.abs(w - x).sum(), eps)
    if (distance > eps + 1e-12 * (eps + np.abs(x).max())).any():  # room for the rounding of x ± ε
        at = (distance - eps).argmax()
        raise ValueError(f"witness: expected an input within {eps.flat[at]:g} of x, got one at {distance.flat[at]:g}")
    if ball.domain is not None and (w.min() < ball.domain[0] or w.max() > ball.domain[1]):
        raise ValueError(f"witness: expected pixels in {ball.domain}, got [{w.min():g}, {w.max():g}]")
    s = margins(net, w, y)
    if not (s + room(w) if room else s).max() >= 0:
        raise ValueError(f"witness: expected a misclassified input, got one whose greatest margin is {s.max():g}")
    return float(s.max())
