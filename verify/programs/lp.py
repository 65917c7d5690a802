"""The margins of a relaxed network, by linear programs: the two-line LP and the triangle LP.

    maximise z_m − z_y  over x' in B, where each unstable ReLU h = max(z, 0) is replaced by

    two-line    a̲ z ≤ h ≤ ā z + b̄             the very lines of a method, a̲ its lower slope
    triangle    0 ≤ h,  z ≤ h ≤ ā z + b̄       their hull: the least set that is convex in (z, h)

with the chord ā = u / (u − l), b̄ = −l ā. Stable units are exact, and no constraint l ≤ z ≤ u is added.

Definition 1 is the dual of the two-line LP at multipliers of which, for each unit, only one line's is positive. So it
is never below the LP, and equal unless the optimum is *pinched*: both lines of a unit bind, where they cross, outside
l < z < u. The triangle LP has the constraints of every a̲ in [0, 1]: it is never above a method with the same l and u.

In float64 by scipy's HiGHS, to a feasibility of 1e-9. Its multipliers are taken, its optimum is not: weak duality makes
a bound of any multipliers, and so of those that HiGHS found, whatever its tolerance was; the rounding of its own sums
is not counted. Balls are l∞, clipped or not, and l1.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from .sparse import TOLERANCE, fold, picked, widened

ACCURACY = dict.fromkeys(("primal_feasibility_tolerance", "dual_feasibility_tolerance"), TOLERANCE)
SECONDS = 120  # for a margin
OPTIMAL, LIMIT = 0, 1  # scipy's statuses


class Maxima(NamedTuple):
    """For each class m asked for."""

    s: object        # a bound of z_m − z_y by weak duality: its maximum, where that was found; exactly 0 where m = y
    pinched: object  # bool: two lines of one unit bind at the optimum, so that Definition 1 may lie above s
    found: object    # bool: the optimum was found in time


def two_line_lp(net, ball, y, pre, slopes, classes=None, seconds=SECONDS):
    """The Maxima for each class m of `classes` (default: all, (c,)); at most `seconds` for each.

    A ball of one example and its label y; pre [(l, u)] and slopes [a̲] hold arrays shaped as the input of each ReLU.
    ValueError for an argument that cannot be, RuntimeError where HiGHS ends with neither an optimum nor its time.
    """
    folded = fold(net, ball, y, pre)
    shapes, given = [np.shape(l) for l, _ in pre], [np.shape(a) for a in slopes]
    if given != shapes or not all(np.all((0 <= a) & (a <= 1)) for a in slopes):
        raise ValueError(f"slopes: expected numbers in [0, 1] for each ReLU, of shapes {shapes}, got shapes {given}")
    return maxima(folded, picked(slopes, folded.units), -np.inf, y, classes, seconds)


def triangle_lp(net, ball, y, pre, classes=None, seconds=SECONDS):
    """max z_m − z_y with the triangle for each unstable ReLU; arguments and errors of two_line_lp."""
    return triangle(fold(net, ball, y, pre), y, classes, seconds).s


def triangle(folded, y, classes=None, seconds=SECONDS):
    """The Maxima with the lower line of slope 1, and h ≥ 0."""
    return maxima(folded, np.ones(len(folded.l)), 0, y, classes, seconds)


def maxima(folded, a_lo, least, y, classes=None, seconds=SECONDS):
    """The Maxima over a̲ z ≤ h ≤ ā z + b̄ and h ≥ least, for a̲ (U,): one matrix, and an objective for each class."""
    inputs, Z, z0, H, l, u = folded.inputs, folded.Z, folded.z0, folded.H, folded.l, folded.u
    (U, V), a = Z.shape, u / (u - l)
    A = sp.vstack([sp.diags_array(a_lo) @ Z - H, H - sp.diags_array(a) @ Z, widened(inputs.A, V)], format="csc")
    b = np.concatenate([-a_lo * z0, a * (z0 - l), inputs.b])
    bounds = np.concatenate([np.stack([inputs.low, inputs.high], 1), np.tile([least, np.inf], (U, 1))])
    s, (pinched, found) = np.zeros(len(folded.f0)), np.zeros((2, len(folded.f0)), bool)
    classes = list(range(len(s)) if classes is None else classes)
    for m in set(classes) - {y}:
        C, c0, size = folded.margin(m, y)
        result = linprog(-C, A, b, bounds=bounds, method="highs", options={**ACCURACY, "time_limit": seconds})
        if result.status not in (OPTIMAL, LIMIT):
            raise RuntimeError(f"lp: no optimum for class {m}: {' '.join(result.message.split())}")
        found[m] = result.status == OPTIMAL
        force = -result.ineqlin.marginals if found[m] else np.zeros(len(b))  # lower lines, upper lines, inputs
        s[m] = size * (c0 + weak_duality(folded, C, a_lo, least, *np.split(force, [U, 2 * U])))
        pinched[m] = np.any(np.minimum(force[:U], force[U:2 * U]) > 1e-9)
    found[y] = True
    return Maxima(s[classes], pinched[classes], found[classes])


def weak_duality(folded, C, a_lo, least, lower, upper, ends):
    """A bound, a float, of C v (V,) over a̲ z ≤ h ≤ ā z + b̄, h ≥ least, A p ≤ b and the box of p, by any multipliers.

    lower, upper (U,) and ends (R,) are what a solver says they are: what is below 0 counts as 0. Then, from the last
    ReLU back as in Definition 1, the multipliers are mended: an h that has the weight w so far needs λ̄ − λ̲ = w, and

        w h = λ̄ h − λ̲ h ≤ λ̄ (ā z + b̄) − λ̲ a̲ z,     of λ̲ only a part where h ≥ 0 takes the rest
    """
    inputs, Z, z0, l, a = folded.inputs, folded.Z, folded.z0, folded.l, folded.u / (folded.u - folded.l)
    g, P, bound, stop = C.copy(), len(inputs.low), 0.0, len(l)
    for count in reversed([len(unstable) for unstable in folded.units]):
        k = slice(stop - count, stop)
        w = g[P:][k]
        up = np.maximum(np.maximum(upper[k], 0), w)
        lo = up - w if least < 0 else np.minimum(np.maximum(lower[k], 0), up - w)
        slope = a[k] * up - a_lo[k] * lo
        bound += slope @ z0[k] - up @ (a * l)[k]
        g, stop = g + slope @ Z[k], stop - count
    ends = np.maximum(ends, 0)
    g = g[:P] - ends @ inputs.A
    return bound + ends @ inputs.b + np.maximum(g * inputs.low, g * inputs.high).sum()
