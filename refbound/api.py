"""The public functions: they check what comes in, turn batches into rows of units, and call the mathematics.

Shapes outside: images (N, *input_shape), labels (N,), margins (N, c), slopes one array (N, *shape) for each ReLU.
Arrays may be NumPy's or CuPy's, all of the one module; what goes in decides what comes out.

Options of the methods, by keyword; each method takes those that METHODS[name].options lists, and rng:
    slopes       a̲ for each ReLU, (N, *shape) or (N, S, *shape) with S = c − 1 margins, instead of the method's rule
    a0           numbers in [0, 1] for each ReLU, (N, *shape): one-step's start, the slopes of random, the coins of sparse
    eta          η of equation (7), default 2
    p, q         the rates of sparse, default 1/2
    steps        of alpha, default 20;  shared: one set of slopes for all margins (default), or False: one for each
    projections  of cap: the number of Cauchy projections. Bounds become estimates, never a certificate
    rng          a numpy Generator, for whatever of the above has to be drawn
"""

from typing import NamedTuple

from . import attack as _attack
from . import checks, robust
from .backend import is_array, namespace
from .layout import images
from .methods import METHODS
from .network import as_rows, with_true_class


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
    """[(l, u), ...]: bounds of the input of each ReLU over the ball, shaped (N, *shape) as that input.

    Raises ValueError for an argument that cannot be.
    """
    row, region = METHODS[checks.method(method)], checks.region(net, ball)
    found = row.stage.find(net, region, checks.options(net, ball, method, options))
    return [(images(l, net.shapes[i]), images(u, net.shapes[i])) for i, (l, u) in zip(net.relus, found.pre)]


def margin_bounds(net, ball, y, method, **options):
    """s̄ (N, c): upper bounds of z_m − z_y over the ball; column y is exactly 0 (Section 2).

    net a Network, ball a Ball of N inputs, y (N,) integer labels, method a key of METHODS, options as in help(refbound.api).
    With `projections` they are estimates, which bound and certify nothing. Raises ValueError for an argument that cannot be,
    and where a bound overflows or is NaN.
    """
    s = _margins(net, ball, y, method, options).s
    return checks.finite(with_true_class(s, y), "margin_bounds")


def linear_bound(net, ball, y, method, **options):
    """The LinearBound that the method's margins are the maximum of: s̄ = max over B of g·x′ + b (Definition 1).

    The lines of `ibp` are constant, so that its g is 0 and its b is s̄. Raises as margin_bounds does.
    """
    margins = _margins(net, ball, y, method, options)
    g, b = margins.bound.g, margins.bound.b
    if method == "ibp" and net.relus:
        b = margins.s
        g = namespace(b).zeros((*b.shape, net.units[0]), b.dtype)
    g, b = (checks.finite(with_true_class(v, y), "linear_bound") for v in (g, b))
    return LinearBound(images(g, net.input_shape), b)


def certified(s, y):
    """(N,) bool: every margin bound but that of y is negative. It proves what the bounds do: estimates (projections) nothing.

    s (N, c) from margin_bounds, y (N,) integer labels. ValueError if a bound is NaN.
    """
    if not is_array(s) or s.ndim != 2:
        raise ValueError(f"s: expected margin bounds (N, c), got {getattr(s, 'shape', type(s).__name__)}")
    xp = namespace(s)
    checks.labels(y, s.shape[0], s.shape[1], xp)
    if bool(xp.isnan(s).any()):
        raise ValueError("s: expected margin bounds, got NaN")
    return ((s < 0) | (xp.arange(s.shape[1]) == y[:, None])).all(axis=1)


def robust_loss(net, ball, y, method, beta=1.0, kappa=0.0, **options):
    """The mean of (1 − κ) L(β s̄ + (1 − β) s̄_ibp) + κ L(clean) and its gradient: equations (1) and (3).

    `one-step`, `random` and `sparse` hold their slopes constant. Raises ValueError for an argument that cannot be;
    a loss that overflows is returned as it is.
    """
    region, opts, kappa, loss = _robust_loss(net, ball, y, method, beta, kappa, options)
    share = loss.value * 0 + 1 / len(ball)
    grads = robust.robust_loss_vjp(share, net, region, loss, opts, kappa)
    return RobustLoss(float(loss.value.mean()), {name: grads[name] for name in net.params},
                      with_true_class(loss.s, y), loss.logits)


def loss_value(net, ball, y, method, beta=1.0, kappa=0.0, **options):
    """The value of robust_loss without its gradient."""
    return float(_robust_loss(net, ball, y, method, beta, kappa, options)[-1].value.mean())


def pgd(net, ball, y, steps=100, step_size=None, restarts=1, rng=None):
    """x_adv (N, *input_shape) in the ball: the worst point met by projected gradient ascent, for each example.

    step_size defaults to ε/4. The first start is x itself without rng, else every start is random.
    """
    checks.region(net, ball)
    checks.labels(y, len(ball), net.classes, net.xp)
    steps, restarts = checks.whole("steps", steps, 0), checks.whole("restarts", restarts, 1)
    step_size = checks.step_size(step_size, ball, net)
    if rng is not None or restarts > 1:
        checks.generator("rng", rng, f"{restarts} restarts are drawn")
    if rng is None:
        starts = [as_rows(ball.x, net.dtype)]
    else:
        starts = (_attack.random_start(ball, rng, net.dtype) for _ in range(restarts))
    x, _ = _attack.pgd(net, ball, y, steps, step_size, starts)
    return images(x, net.input_shape)


def _margins(net, ball, y, method, options):
    row, region = METHODS[checks.method(method)], checks.region(net, ball)
    checks.labels(y, len(ball), net.classes, net.xp)
    return robust.margins(net, region, y, row, checks.drawn_options(net, ball, method, options))


def _robust_loss(net, ball, y, method, beta, kappa, options):
    row, region = METHODS[checks.method(method)], checks.region(net, ball)
    if method == "alpha":
        raise ValueError("method: 'alpha' is for evaluation and has no gradient; expected another")
    beta, kappa = checks.number("beta", beta, 0, 1), checks.number("kappa", kappa, 0, 1)
    checks.labels(y, len(ball), net.classes, net.xp)
    opts = checks.drawn_options(net, ball, method, options)
    x = as_rows(ball.x, net.dtype)
    return region, opts, kappa, robust.robust_loss(net, region, x, y, row, opts, beta, kappa)
