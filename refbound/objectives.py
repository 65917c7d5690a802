"""What training minimises: the paper's loss, and later ones, which set an attack beside the bound or in its place.

    robust    L(s̄)                              Lee et al. 2021: (1), (3)
    sabr      L(s̄ over a box of radius λ ε)     Müller et al. 2023, "Certified training: small boxes are all you need"
    mtl-ibp   α L(s̄) + (1 − α) L(s_adv)         De Palma et al. 2024, "Expressive losses for verified robustness via
    cc-ibp    L(α s̄ + (1 − α) s_adv)            convex combinations"
    exp-ibp   L(s̄)^α L(s_adv)^(1−α)

s_adv are the margins at x_adv, an attack's point of the ball, which is a constant of the gradient. They lie below s̄:
with α from 0 to 1 an objective grows from the attack's loss to the bound's. So does sabr with λ by ibp; its box holds
x_adv (`small_box`). s̄ may be any method's; those papers take ibp's. The mixture (3), and κ, the weight of the clean
loss, are as in losses.py: ℓ = (1 − κ) objective + κ L(C(y) f(x)). The gradient in s̄ and in s_adv is `loss_vjp`'s;
mixed_loss_vjp and forward_vjp take it on to the parameters.
"""

from typing import NamedTuple

from . import checks
from .api import RobustLoss, checked_loss
from .arrays.ops import as_rows, described, is_array, namespace, with_true_class
from .attack import climb, projection
from .ball import Ball, Region
from .layers import add, forward, forward_vjp
from .losses import cross_entropy, cross_entropy_vjp, mixed_loss_vjp

STEPS = 8  # of the attack


class Objective(NamedTuple):
    """A row of the table."""

    within: object    # ball, x_adv, λ -> the Region that s̄ holds in; None for B itself
    loss: object      # s̄, s_adv (S, N), α -> (N,)
    loss_vjp: object  # d (N,), s̄, s_adv, α -> (ds̄, ds_adv), None where it has no s_adv
    options: tuple    # those of alpha and lam that it takes; one that takes neither needs no attack
    summary: str

    def __repr__(self):
        return f"<{self.summary}; options: {', '.join(self.options) or 'none'}>"


def small_box(ball, x_adv, lam):
    """The box of radius λ ε around x_adv, moved into B, and cut to B's width where that is less."""
    xp, x, radius = namespace(x_adv), as_rows(x_adv, x_adv.dtype), lam * as_rows(ball.eps, x_adv.dtype)
    if ball.norm != float("inf"):  # the ball of that radius around the point of B(x, (1 − λ) ε) nearest to x_adv
        return Region(projection(Ball(ball.x, (1 - lam) * ball.eps, norm=ball.norm), x.dtype)(x), radius, ball.norm)
    low, high = ball.box(x.dtype)
    radius = xp.minimum(radius, (high - low) / 2)
    return Region(xp.clip(x, low + radius, high - radius), radius, ball.norm)  # (sabr)


def of_bound(s, s_adv, alpha):
    """L(s̄)."""
    return cross_entropy(s)


def of_bound_vjp(d, s, s_adv, alpha):
    """ds̄ = d ∇L(s̄)."""
    return cross_entropy_vjp(d, s), None


def mtl(s, s_adv, alpha):
    """α L(s̄) + (1 − α) L(s_adv)."""
    return alpha * cross_entropy(s) + (1 - alpha) * cross_entropy(s_adv)  # (mtl-ibp)


def mtl_vjp(d, s, s_adv, alpha):
    """ds̄ = d α ∇L(s̄), ds_adv = d (1 − α) ∇L(s_adv)."""
    return alpha * cross_entropy_vjp(d, s), (1 - alpha) * cross_entropy_vjp(d, s_adv)


def cc(s, s_adv, alpha):
    """L(α s̄ + (1 − α) s_adv)."""
    return cross_entropy(alpha * s + (1 - alpha) * s_adv)  # (cc-ibp)


def cc_vjp(d, s, s_adv, alpha):
    """ds̄ = d α ∇L, ds_adv = d (1 − α) ∇L, both at α s̄ + (1 − α) s_adv."""
    dmixed = cross_entropy_vjp(d, alpha * s + (1 - alpha) * s_adv)
    return alpha * dmixed, (1 - alpha) * dmixed


def exp(s, s_adv, alpha):
    """L(s̄)^α L(s_adv)^(1−α)."""
    return cross_entropy(s) ** alpha * cross_entropy(s_adv) ** (1 - alpha)  # (exp-ibp)


def exp_vjp(d, s, s_adv, alpha):
    """log ℓ = α log L(s̄) + (1 − α) log L(s_adv): ds̄ = d ℓ α ∇L(s̄) / L(s̄), ds_adv alike; 0 if an L rounds to 0."""
    d, (L, L_adv) = d * exp(s, s_adv, alpha), (cross_entropy(margins) for margins in (s, s_adv))
    dlog, dlog_adv = cross_entropy_vjp(1, s) / (L + (L == 0)), cross_entropy_vjp(1, s_adv) / (L_adv + (L_adv == 0))
    return d * alpha * dlog, d * (1 - alpha) * dlog_adv


OBJECTIVES = {
    "robust": Objective(None, of_bound, of_bound_vjp, (), "the bound's loss (1), (3)"),
    "sabr": Objective(small_box, of_bound, of_bound_vjp, ("lam",), "that of a small box around an attack"),
    "mtl-ibp": Objective(None, mtl, mtl_vjp, ("alpha",), "the mean of the bound's loss and an attack's"),
    "cc-ibp": Objective(None, cc, cc_vjp, ("alpha",), "the loss of the mean of the bound and an attack"),
    "exp-ibp": Objective(None, exp, exp_vjp, ("alpha",), "the geometric mean of the bound's loss and an attack's"),
}


def objective_loss(net, ball, y, objective, method="ibp", x_adv=None, rng=None, alpha=None, lam=None,
                   beta=1.0, kappa=0.0, **options):
    """The mean of (1 − κ) objective + κ L(clean) and its gradient, as robust_loss returns them.

    objective   a key of OBJECTIVES; alpha, lam: its α or λ in [0, 1], 1/2 if not given
    x_adv       (N, *input_shape), in the ball; else the objective attacks by itself, in STEPS steps (attack.climb)
    rng         a numpy Generator for the attack's start (else x), then for what the method draws; options: the method's
    The margins it returns are s̄: sabr's hold in its small box alone, and certify nothing. ValueError as robust_loss.
    """
    row, region = find(objective), checks.problem(net, ball, y)
    alpha, lam = (setting(name, value, objective) for name, value in (("alpha", alpha), ("lam", lam)))
    if row.options or x_adv is not None:
        x_adv = climb(net, ball, y, STEPS, rng) if x_adv is None else points(x_adv, net, ball)
    region = row.within(ball, x_adv, lam) if row.within else region
    bound = checked_loss(net, ball, y, method, beta, kappa, {**options, "rng": rng}, region)
    z, inputs = forward(net, as_rows(x_adv, net.dtype)) if "alpha" in row.options else (None, None)
    s_adv, d, kappa = (bound.C * z).sum(-1) if inputs else None, bound.value * 0 + 1 / len(y), float(kappa)
    value, (ds, ds_adv) = row.loss(bound.s, s_adv, alpha), row.loss_vjp(d, bound.s, s_adv, alpha)
    grads = mixed_loss_vjp(d, net, bound, kappa, (1 - kappa) * ds)
    if inputs:
        grads = add(grads, forward_vjp((bound.C * ((1 - kappa) * ds_adv)[:, :, None]).sum(0), net, inputs))
    return RobustLoss(float(((1 - kappa) * value + bound.clean).mean()), {name: grads[name] for name in net.params},
                      with_true_class(bound.s, y), bound.logits)


def find(objective):
    """The row of an objective."""
    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise ValueError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {objective!r}")
    return OBJECTIVES[objective]


def setting(name, value, objective):
    """An objective's α or λ, in [0, 1]."""
    if value is not None and name not in (taken := find(objective).options):
        raise ValueError(f"{name}: not an option of {objective!r}, which takes {', '.join(taken) or 'none'}")
    return checks.number(name, 0.5 if value is None else value, 0, 1)


def points(x_adv, net, ball):
    """x_adv, in the network's dtype; ValueError unless it lies in the ball, but for rounding."""
    fits = is_array(x_adv) and namespace(x_adv) is net.xp and x_adv.shape == ball.x.shape and x_adv.dtype.kind in "fiu"
    if not fits or not bool((abs(projection(ball, net.dtype)(x := as_rows(x_adv, net.dtype)) - x)
                             <= 2e-6 * (1 + abs(x) + as_rows(ball.eps, x.dtype))).all()):
        raise ValueError(f"x_adv: expected points of the ball, {tuple(ball.x.shape)} of {net.xp.__name__}, "
                         f"got {'some outside of it' if fits else described(x_adv)}")
    return x_adv.astype(net.dtype)
