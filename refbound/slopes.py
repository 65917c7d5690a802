"""Lower slopes that look at the loss: the paper's one step (7), and its repetition.

    a̲ = Π[0,1](a₀ − η sign ∇_a L(s̄(a₀)))        a₀ ~ U[0, 1], η ≥ 1                          (7)

The gradient is that of `linear.slope_gradient`. The slopes are then constants: no gradient goes through (7).
"""

from .arrays.ops import namespace
from .linear import maximise, relax, slope_gradient
from .losses import cross_entropy, cross_entropy_vjp
from .relaxation import adaptive, enclose


def one_step(net, region, C, pre, a0, eta=2.0):
    """One projected gradient step (7), the paper's OURS. pre: [(l, u)]; a0, and the result: a̲ (N, n) of each ReLU."""
    _, da = bound_and_gradient(net, region, C, pre, a0)
    xp = namespace(*da)
    return [xp.clip(a - eta * xp.sign(d), 0, 1) for a, d in zip(a0, da)]  # (7)


def alpha(net, region, C, pre, steps=20, shared=True):
    """(7) repeated from the adaptive slopes; the best slopes met are kept.

    The steps fall from 1/2, a factor of 2⁻⁸ over all. Shared slopes descend the loss of each example. Otherwise each
    margin has its own slopes, (S, N, n), and descends itself: it ends no higher than where it started, at crown-ibp.
    """
    least, best, a = float("inf"), adaptive(pre), adaptive(pre)
    for t in range(steps + 1):
        s, da = bound_and_gradient(net, region, C, pre, a, shared)
        xp = namespace(s)
        value = (cross_entropy(s) if shared else s)[..., None]  # (N, 1) or (S, N, 1)
        best = [xp.where(value < least, new, old) for new, old in zip(a, best)]
        least = xp.minimum(value, least)
        step = 2.0 ** (-1 - 8 * t / max(steps, 1))
        a = [xp.clip(slopes - step * xp.sign(d), 0, 1) for slopes, d in zip(a, da)]
    return best


def bound_and_gradient(net, region, C, pre, slopes, shared=True):
    """s̄ with these lower slopes, and the gradient in them of the loss (1), or of each margin by itself."""
    stop = len(net.layers)
    relaxation = relax(net, stop, C, [enclose(l, u, a) for (l, u), a in zip(pre, slopes)])
    s, worst = maximise(relaxation, region)
    ds = cross_entropy_vjp(1, s) if shared else 0 * s + 1
    return s, slope_gradient(ds, net, stop, relaxation, worst, shared)
