"""The public functions: they check what comes in (checks.py), and turn rows of units into arrays of images.

Shapes outside: images (N, *input_shape), labels (N,), margins (N, c), slopes one array (N, *shape) for each ReLU.
Arrays may be NumPy's or CuPy's, all of the one module; what goes in decides what comes out.

Options by keyword, those that METHODS[name].options lists, and rng, a numpy Generator for what has to be drawn:
    slopes       a̲ for each ReLU, (N, *shape) or (N, S, *shape) with S = c − 1 margins, instead of the method's rule
    a0           numbers in [0, 1] for each ReLU, (N, *shape): start of one-step, slopes of random, coins of sparse
    eta, p, q    η of equation (7), default 2; the rates of sparse, default 1/2
    steps        of alpha, default 20;  shared: one set of slopes for all margins (default), or False: one for each
    projections  of cap: the number of Cauchy projections. Bounds become estimates, never a certificate
"""

from typing import NamedTuple

from . import checks
from .arrays.ops import as_rows, images, namespace, with_true_class
from .losses import mixed_loss, mixed_loss_vjp
from .methods import METHODS


class LinearBound(NamedTuple):
    """z_m(x′) − z_y(x′) ≤ g·x′ + b for every x′ in B (Definition 1)."""

    g: object  # (N, c, *input_shape), the relaxed gradient; 0 in column y
    b: object  # (N, c); 0 in column y


class RobustLoss(NamedTuple):
    """The mixed loss of a batch, and its gradient."""

    value: float    # the mean loss of the batch
    grads: dict     # its gradient in every parameter, named and shaped as net.params
    margins: object  # (N, c) the mixed margin bounds (3)
    logits: object   # (N, c) of the clean inputs


def preactivation_bounds(net, ball, method, **options):
    """[(l, u), ...]: bounds of the input of each ReLU, (N, *shape) as that input. Raises as margin_bounds does."""
    row, region = checks.method(method), checks.problem(net, ball)
    pre = row.preactivation(net, region, checks.method_options(net, ball, method, options, drawn=False)).pre
    return [tuple(images(z, net.shapes[i]) for z in checks.finite("preactivation_bounds", pair))
            for i, pair in zip(net.relus, pre)]


def margin_bounds(net, ball, y, method, **options):
    """s̄ (N, c): upper bounds of z_m − z_y over the ball; column y is exactly 0 (Section 3.1).

    net a Network, ball a Ball of N inputs, y (N,) integer labels, method a key of METHODS. With `projections` they are
    estimates, which certify nothing. ValueError for an argument that cannot be, and where a bound overflows or is NaN.
    """
    row, region = checks.method(method), checks.problem(net, ball, y)
    margins = row.bound(net, region, y, checks.method_options(net, ball, method, options))
    return checks.finite("margin_bounds", with_true_class(margins.s, y), *margins.pre)


def linear_bound(net, ball, y, method, **options):
    """The LinearBound that the method's margins are the maximum of: s̄ = max over B of g·x′ + b (Definition 1).

    The lines of `ibp` are constant, so that its g is 0 and its b is s̄. Raises as margin_bounds does.
    """
    row, region = checks.method(method), checks.problem(net, ball, y)
    margins = row.bound(net, region, y, checks.method_options(net, ball, method, options))
    g, b = (with_true_class(v, y) for v in margins.linear_function(net))
    checks.finite("linear_bound", g, b, *margins.pre)
    return LinearBound(images(g, net.input_shape), b)


def certified(s, y):
    """(N,) bool: every margin bound but that of y is negative. It proves what they do: estimates (projections) nothing.

    s (N, c) from margin_bounds, y (N,) integer labels. ValueError if a bound is NaN or −∞.
    """
    checks.margins(s, y)
    return ((s < 0) | (namespace(s).arange(s.shape[1]) == y[:, None])).all(axis=1)


def robust_loss(net, ball, y, method, beta=1.0, kappa=0.0, **options):
    """The mean of (1 − κ) L(β s̄ + (1 − β) s̄_ibp) + κ L(clean) and its gradient: equations (1) and (3).

    `one-step`, `random` and `sparse` hold their slopes constant. ValueError as margin_bounds, but a loss that
    overflows is returned as it is.
    """
    loss = checked_loss(net, ball, y, method, beta, kappa, options)
    grads = mixed_loss_vjp(loss.value * 0 + 1 / len(y), net, loss, float(kappa))
    return RobustLoss(float(loss.value.mean()), {name: grads[name] for name in net.params},
                      with_true_class(loss.s, y), loss.logits)


def checked_loss(net, ball, y, method, beta, kappa, options, region=None):
    """The MixedLoss of arguments that are checked first; region: where its bounds hold, if not in all of the ball."""
    row = checks.method(method)
    if not row.trains:
        raise ValueError(f"method: {method!r} is for evaluation and has no gradient; expected another")
    beta, kappa = checks.number("beta", beta, 0, 1), checks.number("kappa", kappa, 0, 1)
    region = region or checks.problem(net, ball, y)
    x, mixture = as_rows(ball.x, region.centre.dtype), ((row, beta), (METHODS["ibp"], 1 - beta))
    return mixed_loss(net, region, x, y, mixture, checks.method_options(net, ball, method, options), kappa)
