"""Projected gradient descent (Madry et al. 2018): a lower bound of the worst case.

    x ← Π_B(x + ρ furthest(∇_x L(x))),    furthest(g) the point of the unit ball furthest along g (ball.py)
                                          ρ, as ε, one number or one for each example or pixel

ascends the loss log Σ exp s_m over the classes m ≠ y, from starts in B(x, ε). The largest margin of an example over all
points met is a lower bound of its exact worst case; an example is attacked if that is not negative.

The targeted attack then ascends each margin s_m by itself (Gowal et al. 2019, multi-targeted), from the same starts and
first from x*, the worst case (2) of its cap-ibp bound: parallel lines see through units that are inactive at x, where
the network's own gradient is 0. Its steps fall from ρ, a factor of 2⁻⁸ over all.
"""

from . import checks
from .arrays.ops import as_rows, images, namespace, to_like
from .ball import furthest, length
from .layers import forward, forward_vjp, margin_matrix
from .methods import METHODS


def pgd(net, ball, y, steps=100, step_size=None, restarts=1, rng=None, targeted=False):
    """x_adv (N, *input_shape) in the ball: the worst point met by projected gradient ascent, for each example.

    step_size defaults to ε/4. The first start is x itself without rng, else every start is random. With `targeted` each
    margin is ascended by itself as well, from one more start: about 2c times the work for a single start. ValueError
    for an argument that cannot be.
    """
    checks.problem(net, ball, y)
    steps, restarts = checks.whole("steps", steps, 0), checks.whole("restarts", restarts, 1)
    step_size = checks.step_size(step_size, ball, net)
    if rng is not None or restarts > 1:
        checks.generator(rng, f"{restarts} restarts are drawn")
    starts = ([as_rows(ball.x, net.dtype)] if rng is None
              else [random_start(ball, rng, net.dtype) for _ in range(restarts)])
    goals = [(None, x) for x in starts]
    if checks.truth("targeted", targeted):
        bound = METHODS["cap-ibp"].bound(net, ball.region(net.dtype), y, {})
        margins = margin_matrix(y, net.classes, net.dtype)
        goals += [(c, x) for c, worst in zip(margins, bound.worst) for x in (worst, *starts)]
    return images(ascend(net, ball, y, steps, step_size, goals)[0], net.input_shape)


def ascend(net, ball, y, steps, step_size, goals):
    """The worst point met for each example, (N, n), and its margins (S, N).

    goals: pairs of what is ascended, a margin of each (N, c) or None for the loss, and a start (N, n), projected onto
    the ball first. step_size: ρ, as checks.step_size gives it.
    """
    C, worst, xp, project = margin_matrix(y, net.classes, net.dtype), None, net.xp, projection(ball, net.dtype)
    for c, x in goals:
        for step in range(steps + 1):
            x = project(x)
            z, inputs = forward(net, x)
            s = (C * z).sum(-1)
            if worst is None:
                worst, margins = x, s
            else:
                better = xp.max(s, axis=0) > xp.max(margins, axis=0)
                worst, margins = xp.where(better[:, None], x, worst), xp.where(better, s, margins)
            if step < steps:
                g = uphill(net, inputs, C, s) if c is None else forward_vjp(c, net, inputs, of="input")
                fall = 1 if c is None else 2.0 ** (-8 * step / steps)
                x = x + fall * step_size * furthest(g[None], ball.norm)[0]
    return worst, margins


def climb(net, ball, y, steps, rng=None):
    """x_adv (N, *input_shape): where so many steps of 2 ε / steps lead, from a random point with rng, else from x.

    For training: cheaper than `pgd`, for it looks at no point on the way, and the last need not be the worst. Together
    the steps are as long as the ball is wide: a single one ends in a corner of an l∞ ball, wherever it starts.
    """
    if rng is not None:
        checks.generator(rng, "the attack starts")
    C, rho = margin_matrix(y, net.classes, net.dtype), checks.step_size(None, ball, net) * (8 / max(steps, 1))
    project = projection(ball, net.dtype)
    x = as_rows(ball.x, net.dtype) if rng is None else project(random_start(ball, rng, net.dtype))
    for _ in range(steps):
        z, inputs = forward(net, x)
        x = project(x + rho * furthest(uphill(net, inputs, C, (C * z).sum(-1))[None], ball.norm)[0])
    return images(x, net.input_shape)


def uphill(net, inputs, C, s):
    """∇_x log Σ_{m≠y} exp s_m: it has the direction of ∇_x of (1), but does not vanish as p_y goes to 1."""
    xp = namespace(s)
    p = xp.exp(s - xp.max(s, axis=0))
    return forward_vjp((C * (p / p.sum(0))[:, :, None]).sum(0), net, inputs, of="input")


def projection(ball, dtype):
    """Π_B: the function that takes each row of x (N, n) to the nearest point of its ball."""
    if ball.norm == float("inf"):
        low, high = ball.box(dtype)
        return lambda x: namespace(x).clip(x, low, high)
    centre, eps, onto = as_rows(ball.x, dtype), as_rows(ball.eps, dtype), _onto_l2 if ball.norm == 2 else _onto_l1
    return lambda x: centre + onto(x - centre, eps)


def _onto_l2(v, eps):
    xp = namespace(v)
    return v * (eps / xp.maximum(xp.maximum(length(v), eps), xp.finfo(v.dtype).tiny))


def _onto_l1(v, eps):
    """Soft thresholding at the t with ‖v‖₁ = ε, found among the sorted magnitudes (Duchi et al. 2008)."""
    xp = namespace(v)
    size = xp.abs(v)
    ordered = -xp.sort(-size, axis=1)
    excess = xp.cumsum(ordered, axis=1) - eps
    rank = xp.arange(1, v.shape[1] + 1).astype(v.dtype)
    t = xp.max(excess / rank, axis=1, keepdims=True)
    return xp.where(size.sum(1, keepdims=True) <= eps, v, xp.sign(v) * xp.maximum(size - t, 0))


def random_start(ball, rng, dtype):
    """A point of the bounding box of the ball, (N, n), drawn on the host from a numpy Generator."""
    low, high = ball.box(dtype)
    draws = rng.random(ball.x.shape, dtype)
    return low + (high - low) * as_rows(to_like(draws, low), dtype)
