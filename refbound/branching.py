"""Branch and bound: a ball is cut in two at unstable ReLUs until every part is bounded (Wang et al. 2021, β-CROWN).

A part of the ball is given by signs σ: it holds the x at which σ_j z_j(x) ≥ 0 for the input z_j of every ReLU, where
σ_j is 1 or −1, or 0 if z_j is not cut. A cut unit is stable there: l ← max(l, 0) or u ← min(u, 0). For every β_j ≥ 0

    C f(x) ≤ C f(x) + Σ_j β_j σ_j z_j(x) ≤ g·x + b        for every x of the part,

where g and b are those of Definition 1 with one term more, that of z_j itself. Backwards through h = max(z, 0)

    b ← b + g·b̂,        g ← â g + σ β.

That is still linear in (g, b): `linear.upstream` pushes the worst case x* forwards as before. With v, what z_j becomes,

    ∂s̄/∂β_j = σ_j v_j,        ∂s̄/∂a̲_j = g_j⁻ v_j,        β ← (β − 1.9 (s̄ + τ)⁺ ∂s̄/∂β / ‖∂s̄/∂β‖²)⁺

are the gradients, and Polyak's step towards s̄ = −τ. (Steps towards 0 would come near it, from above.) τ falls with the
steps of the slopes, from half of the first s̄⁺. Where s̄ is convex in β, as it is while x* on its way stays in every
[l, u], the step comes nearer to every β that has s̄ ≤ −τ; elsewhere it is a heuristic, and the least s̄ that was met is
kept. Its norm is one of what may move, β_j > 0 or ∂s̄/∂β_j < 0. Least in (a̲, β), s̄ is the dual of a linear
program: the mean of the x* on the way comes near a point that attains it, from which an attack starts. The unit to cut
has the largest g_j⁺ b̄_j, what the chord adds to s̄ (the intercept score of BaBSR).
"""

import time
from typing import NamedTuple

import numpy as np

from . import checks
from .arrays.ops import as_rows, images, namespace, positive, to_host
from .attack import ascend
from .interval import interval
from .layers import ReLU, forward, margin_matrix, unbroken
from .linear import Relaxation, maximise, relax, upstream
from .relaxation import adaptive, enclose


class Decision(NamedTuple):
    """What is known of an image."""

    answer: str      # "robust", "not robust" or "unknown"
    bound: float     # the greatest s̄ of a margin over the parts; where not robust, over those below 0, or −∞
    witness: object  # (*input_shape), a point of the ball with a margin of at least 0, but for rounding; or None
    parts: int       # how many were bounded, the whole balls not counted


class Parts(NamedTuple):
    """N parts of balls, each with one margin."""

    image: object  # (N,) whose ball, on the host
    s: object      # (N,) s̄, on the host
    x: object      # (N, n), where an attack starts
    C: object      # (N, c), the margin
    sigma: list    # of each ReLU, (N, n)
    beta: list     # of each ReLU, (N, n)
    a: list        # a̲ of each ReLU, (N, n)

    def at(self, rows):
        """Those of an index array, or of a mask."""
        return Parts(*([z[rows] for z in array] if isinstance(array, list) else array[rows] for array in self))


def branch_and_bound(net, ball, y, pre=None, *, steps=20, width=32, limit=1000, seconds=None):
    """A Decision for each image, a list. A net of float64 is advised: bounds do not count their own rounding in.

    pre: bounds [(l, u)] of the input of each ReLU, (N, *shape) (default: those of ibp); steps: of `optimise`, and of
    the attack; width: parts bounded at a time; limit: parts of an image, and seconds: for all images, beyond which
    nothing is cut. Robust is an image all of whose parts have s̄ < 0: a NaN, an overflow or an early end is not.
    ValueError for an argument that cannot be.
    """
    region, bound, count = checks.problem(net, ball, y), np.full(len(y), -np.inf), np.zeros(len(y), int)
    steps, width, limit = (checks.whole("steps", steps, 0), checks.whole("width", width, 1),
                           checks.whole("limit", limit, 0))
    deadline = time.monotonic() + (np.inf if seconds is None else checks.number("seconds", seconds, 0))
    pre = interval(net, region).pre if pre is None else checks.bounds(net, ball, pre)
    parts, bound = left(whole(net, region, y, pre), bound)
    witness = attack(net, ball, y, parts._replace(x=as_rows(ball.x, net.dtype)[parts.image]), 0)  # x itself
    parts = bounded(net, region, pre, parts, steps, width)
    while True:
        parts, bound = left(parts, bound)
        ready = np.flatnonzero(count[parts.image] < limit)
        if len(ready) == 0 or time.monotonic() >= deadline:
            break
        ready = ready[np.lexsort((-parts.s[ready], count[parts.image[ready]]))]  # by its image's parts so far, and s̄
        chosen, rest = parts.at(ready[:width]), parts.at(np.setdiff1d(np.arange(len(parts.s)), ready[:width]))
        witness = {**attack(net, ball, y, chosen, steps), **witness}
        chosen, rest = (some.at(~np.isin(some.image, list(witness))) for some in (chosen, rest))
        halves = bounded(net, region, pre, cut(net, region, pre, chosen), steps, width)
        np.add.at(count, halves.image, 1)
        parts = join(rest, halves)
    np.maximum.at(bound, parts.image, parts.s)
    answers = ["not robust" if n in witness else "unknown" if n in parts.image else "robust" for n in range(len(y))]
    return [Decision(answer, float(bound[n]), witness.get(n), int(count[n])) for n, answer in enumerate(answers)]


def whole(net, region, y, pre):
    """The whole ball of each image, a part for each margin; s̄ with the adaptive slopes."""
    C, a = margin_matrix(y, net.classes, net.dtype), adaptive(pre)
    s, worst = maximise(relax(net, len(net.layers), C, [enclose(l, u, k) for (l, u), k in zip(pre, a)]), region)
    m, n = np.indices(s.shape).reshape(2, -1)
    none = [0 * k[n] for k in a]
    return Parts(n, to_host(s)[m, n], worst[m, n], C[m, n], [k.astype("int8") for k in none], none, [k[n] for k in a])


def left(parts, bound):
    """The parts not bounded below 0, as an overflow is not; and `bound`, by image, with the others' greatest s̄."""
    parts = parts._replace(s=np.where(np.isfinite(parts.s), parts.s, np.inf))
    done, bound = parts.s < 0, bound.copy()
    np.maximum.at(bound, parts.image[done], parts.s[done])
    return parts.at(~done), bound


def join(*several):
    """The Parts of several, one after another."""
    def joined(*arrays):
        return ([joined(*z) for z in zip(*arrays)] if isinstance(arrays[0], list)
                else namespace(*arrays).concatenate(arrays))
    return Parts(*(joined(*arrays) for arrays in zip(*several)))


def attack(net, ball, y, parts, steps):
    """{image: witness} of the images for which an ascent from `x` finds one."""
    if len(parts.s) == 0:
        return {}
    here = ball[parts.image]
    x, s = ascend(net, here, y[parts.image], steps, checks.step_size(None, here, net), [(parts.C, parts.x)])
    found = (s >= 0).any(0) & unbroken(*forward(net, x))
    return {int(parts.image[k]): images(x[k], net.input_shape) for k in np.flatnonzero(to_host(found))}


def place(region, pre, parts):
    """The region and the [(l, u)] of each part, in which a cut unit is stable."""
    n, xp = parts.image, namespace(region.centre)
    pre = [(xp.where(sigma > 0, positive(l[n]), l[n]), xp.where(sigma < 0, -positive(-u[n]), u[n]))
           for (l, u), sigma in zip(pre, parts.sigma)]
    return region._replace(centre=region.centre[n], radius=region.radius[n]), pre


def bounded(net, region, pre, parts, steps, width):
    """The parts with what `optimise` finds from where they stand; s̄ never rises, for they lie in what it bounded."""
    found = []
    for i in range(0, len(parts.s), width):
        some = parts.at(slice(i, i + width))
        s, x, a, beta = optimise(net, some.C[None], *place(region, pre, some), some.sigma, some.beta, some.a, steps)
        found.append(some._replace(s=np.minimum(some.s, to_host(s[0])), x=x[0],
                                   a=[k[0] for k in a], beta=[k[0] for k in beta]))
    return join(*found) if found else parts


def optimise(net, C, region, pre, sigma, beta, a, steps=20):
    """The least s̄ met (S, N), the mean x* (S, N, n) of the second half of the steps, a̲ of that s̄, and the last β.

    The slopes take the steps of `alpha`, those of each margin by itself; β takes Polyak's.
    """
    least, best, x, first = float("inf"), a, 0, None
    for t in range(steps + 1):
        fall = 2.0 ** (-1 - 8 * t / max(steps, 1))
        relaxation = relax_cut(net, C, [enclose(l, u, k) for (l, u), k in zip(pre, a)], sigma, beta)
        s, worst = maximise(relaxation, region)
        xp, better = namespace(s), (s < least)[..., None]
        first = positive(s) if first is None else first
        best = [xp.where(better, new, old) for new, old in zip(a, best)]
        least, x = xp.minimum(s, least), x + worst * (2 * t >= steps) / (steps // 2 + 1)
        da, dbeta = gradients(net, relaxation, worst, sigma)
        a = [xp.clip(k - fall * xp.sign(d), 0, 1) for k, d in zip(a, da)]
        free = [d * ((k > 0) | (d < 0)) for k, d in zip(beta, dbeta)]
        square = sum((d * d).sum(-1) for d in free)
        polyak = (1.9 * positive(s + fall * first) / (square + (square == 0)))[..., None]
        beta = [positive(k - polyak * d) for k, d in zip(beta, free)]
    return least, x, best, beta


def relax_cut(net, C, lines, sigma, beta):
    """Definition 1 with the term of β, a layer at a time."""
    g, b, trace, k = C, 0, [None] * len(net.layers), len(lines)
    for i in reversed(range(len(net.layers))):
        layer = relax(net, i + 1, g, lines, start=i)
        g, b, trace[i] = layer.g, b + layer.b, layer.trace[i]
        if i in net.relus:
            k -= 1
            g = g + sigma[k] * beta[k]
    return Relaxation(g, b, trace)


def gradients(net, relaxation, worst, sigma):
    """∂s̄/∂a̲ = g⁻ v and ∂s̄/∂β = σ v, each (S, N, n), of each ReLU."""
    xp = namespace(worst)
    met = upstream(xp.ones(worst.shape[:2], worst.dtype), net, len(net.layers), relaxation, worst)
    g_v = [(relaxation.trace[i][0], v) for i, layer, v in met if isinstance(layer, ReLU)]
    return [xp.minimum(g, 0) * v for g, v in g_v], [signs * v for signs, (_, v) in zip(sigma, g_v)]


def cut(net, region, pre, parts):
    """The two halves of each part, at the unstable unit with the largest g⁺ b̄; itself where no unit is unstable."""
    if len(parts.s) == 0 or not net.relus:
        return parts
    (_, pre), xp = place(region, pre, parts), namespace(region.centre)
    lines = [enclose(l, u, k) for (l, u), k in zip(pre, parts.a)]
    trace = relax_cut(net, parts.C[None], lines, parts.sigma, parts.beta).trace
    score = xp.concatenate([xp.where((l < 0) & (u > 0), (positive(trace[i][0]) * line.b_up)[0], -1)
                            for i, (l, u), line in zip(net.relus, pre, lines)], 1)
    unit = xp.where(xp.max(score, axis=1) >= 0, score.argmax(1), -1)[:, None]
    halves, first = ([], []), 0
    for sigma in parts.sigma:
        here, first = unit == xp.arange(first, first + sigma.shape[1]), first + sigma.shape[1]
        for half, sign in zip(halves, (1, -1)):
            half.append(xp.where(here, sign, sigma).astype("int8"))
    up, down = (parts._replace(sigma=half) for half in halves)
    return join(up, down.at(to_host(unit[:, 0]) >= 0))
