"""Two regularisers for the time in which ε rises: boxes that do not grow, and active units beside inactive ones.

After Shi, Wang, Zhang, Yi and Hsieh, "Fast certified robust training with short warmup", NeurIPS 2021. At each of m
ReLUs let c = (l + u) / 2 and r = (u − l) / 2. A are the units active on the whole box, l > 0; I the inactive, u < 0. r̄
and c̄ are means over the units, and r̄₀ that of the radii of the ball (of an l2 or l1 ball, ε). With τ = 1/2 and

    short(a, b) = (τ − a / b)⁺ for a, b ≥ 0, not both 0; else 0
    both(a, b) = short(a, b) + short(b, a) = (τ − min(a / b, b / a))⁺

what is minimised, of one example, is

    R = Σ [short(r̄₀, r̄) + both(Σ_A c, −Σ_I c) + both(Σ_A (c − c̄)², Σ_I (c − c̄)²)] / (τ m)          (shi)

over the ReLUs: tightness, and the balance of means and of variances. Training adds λ (1 − ε_t / ε) times the mean of R
over the examples. The authors' code takes each mean and sum over the units of all images of a minibatch, and one ratio
of them. Here each image has its own, so that the shards of a minibatch add up.

Where r̄ is 0, as at ε = 0, tightness is left out. Where A or I is empty, the balance is constant: it has no gradient.
"""

from . import checks
from .interval import interval, interval_vjp

TAU = 0.5
PAIRS = (0, 1), (2, 3), (3, 2), (4, 5), (5, 4)  # of the measures, as they are compared in (shi)


def regularise(net, ball):
    """(mean of R over examples, its gradient named and shaped as net.params). ValueError if net and ball do not fit."""
    region = checks.problem(net, ball)
    found, r0 = interval(net, region), region.radius.mean(-1)
    value = penalty(found.pre, r0)
    grads = interval_vjp(penalty_vjp(0 * value + 1 / len(value), found.pre, r0), net, found)
    return float(value.mean()), {name: grads.get(name, 0 * w) for name, w in net.params.items()}  # 0 past the last ReLU


def penalty(pre, r0):
    """R (N,) from the bounds (l, u) of each ReLU and r̄₀ (N,)."""
    value = 0 * r0
    for l, u in pre:
        found = r0, *measures(l, u)
        value = value + sum(short(found[i], found[j]) for i, j in PAIRS) / (TAU * len(pre))  # (shi)
    return value


def penalty_vjp(d, pre, r0):
    """(dl, du) of each ReLU for upstream d (N,): each pair backwards, then the measures."""
    upstream = []
    for l, u in pre:
        found, dfound = (r0, *measures(l, u)), [0] * 6
        for i, j in PAIRS:
            da, db = short_vjp(d / (TAU * len(pre)), found[i], found[j])
            dfound[i], dfound[j] = dfound[i] + da, dfound[j] + db
        upstream.append(measures_vjp(dfound[1:], l, u))
    return upstream


def measures(l, u):
    """r̄, Σ_A c, −Σ_I c, Σ_A (c − c̄)² and Σ_I (c − c̄)², (N,) each."""
    c, on, off = (l + u) / 2, l > 0, u < 0
    v = (c - c.mean(-1, keepdims=True)) ** 2
    return ((u - l) / 2).mean(-1), (on * c).sum(-1), -(off * c).sum(-1), (on * v).sum(-1), (off * v).sum(-1)


def measures_vjp(d, l, u):
    """(dl, du) for the upstream of the five; A and I are constant.

    A measure Σ_A c passes to the units of A, and r̄ = Σ r / n to all. With δ = c − c̄, of n units,
        dδ = 2 δ (A dΣ_A δ² + I dΣ_I δ²),   dc = A dΣ_A c − I d(−Σ_I c) + dδ − Σ dδ / n,   dr = dr̄ / n,
        dl = (dc − dr) / 2,   du = (dc + dr) / 2.
    """
    c, on, off = (l + u) / 2, l > 0, u < 0
    dr, dc_on, dc_off, dv_on, dv_off = (one[:, None] for one in d)
    ddelta = 2 * (c - c.mean(-1, keepdims=True)) * (on * dv_on + off * dv_off)
    dc, dr = on * dc_on - off * dc_off + ddelta - ddelta.mean(-1, keepdims=True), dr / l.shape[-1]
    return (dc - dr) / 2, (dc + dr) / 2


def short(a, b):
    """(τ − a / b)⁺, and 0 where a = b = 0."""
    low = a < TAU * b  # then b > 0
    return low * (TAU - a / (b + ~low))


def short_vjp(d, a, b):
    """da = −d / b, db = d a / b², where a / b < τ."""
    low = a < TAU * b
    b = b + ~low
    return -d * low / b, d * low * a / b / b
