"""No point of the ball gives more than a bound says: every method, every norm, against points, vertices and attacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ALL, BALLS, METHODS, batch, build, draws, extent, margins, points

import refbound as rb
from refbound import relaxation
from refbound.arrays.ops import as_rows, images
from refbound.layers import forward

TOLERANCE = 1e-12


def worst_of(net, ball, y):
    """The largest margins over `points` and over PGD's."""
    attacked = rb.pgd(net, ball, y, steps=15, restarts=2, rng=draws())
    return np.max([margins(net(x), y) for x in (*points(ball, draws()), attacked)], axis=0)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", ALL)
def test_no_point_of_the_ball_exceeds_a_margin_bound(name, ball):
    net = build(name)
    ball, y = batch(net, ball)
    worst = worst_of(net, ball, y)
    for variant, (method, options) in METHODS.items():
        s = rb.margin_bounds(net, ball, y, method, **options, rng=draws())
        assert (worst <= s + TOLERANCE).all(), variant


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", ALL)
def test_preactivations_lie_in_their_bounds(name, ball):
    net = build(name)
    ball, _ = batch(net, ball)
    seen = [[forward(net, as_rows(x, net.dtype))[1][i] for x in points(ball, draws())] for i in net.relus]
    for method in ("ibp", "cap", "crown"):
        pre = rb.preactivation_bounds(net, ball, method)
        assert len(pre) == len(net.relus)
        for i, (l, u), z in zip(net.relus, pre, seen):
            assert l.shape == u.shape == (len(ball), *net.shapes[i])
            assert (as_rows(l, net.dtype) <= np.min(z, axis=0) + TOLERANCE).all(), method
            assert (as_rows(u, net.dtype) >= np.max(z, axis=0) - TOLERANCE).all(), method


# ---- the maximum (2) of a linear function ----

def maximum(g, ball):
    """max over the ball of g·x′ for g (N, k, *input): its best corner (l∞), or x and ε times the dual norm (l2, l1)."""
    g = g.reshape(*g.shape[:2], -1)
    low, high, x = (v.reshape(len(v), 1, -1) for v in (*extent(ball), ball.x))
    if ball.norm == np.inf:
        return np.maximum(g * low, g * high).sum(-1)
    dual = np.sqrt((g**2).sum(-1)) if ball.norm == 2 else np.abs(g).max(-1)
    return (g * x).sum(-1) + ball.eps[:, None] * dual


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", [name for name in ALL if name != "no ReLU"])
def test_first_layer_bounds_are_the_maxima_over_the_ball(name, ball):
    net = build(name)
    ball, _ = batch(net, ball)
    first, n = net.relus[0], net.units[0]
    at_zero = forward(net, np.zeros((1, n)))[1][first]
    F = images((forward(net, np.eye(n))[1][first] - at_zero).T, net.input_shape)[None]  # linear forms (1, m, *input)
    F = F + np.zeros((len(ball), *F.shape[1:]))
    loses = name in ("affine after affine", "convolution after convolution") and ball.norm == np.inf  # a box between
    for method in ("cap", "crown") if loses else ("ibp", "cap", "crown"):
        l, u = rb.preactivation_bounds(net, ball, method)[0]
        np.testing.assert_allclose(as_rows(u, float), maximum(F, ball) + at_zero, rtol=0, atol=1e-12)
        np.testing.assert_allclose(as_rows(l, float), -maximum(-F, ball) + at_zero, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", ALL)
def test_the_margin_bound_is_the_maximum_of_the_linear_bound(name, ball):
    net = build(name)
    ball, y = batch(net, ball)
    near = list(points(ball, draws(), count=20))
    for variant, (method, options) in METHODS.items():
        g, b = rb.linear_bound(net, ball, y, method, **options, rng=draws())
        s = rb.margin_bounds(net, ball, y, method, **options, rng=draws())
        np.testing.assert_allclose(maximum(g, ball) + b, s, rtol=0, atol=1e-12, err_msg=variant)
        for x in near:
            plane = np.einsum("nci,ni->nc", g.reshape(*g.shape[:2], -1), x.reshape(len(x), -1)) + b
            assert (margins(net(x), y) <= plane + TOLERANCE).all(), variant


@pytest.mark.parametrize("ball", BALLS)
def test_epsilon_for_each_example_is_each_example_alone_with_its_epsilon(ball):
    net, radii = build("rectangular"), np.array([0.0, 0.1, 0.4])
    whole, y = batch(net, ball, eps=radii)
    a0 = [draws().random((3, *net.shapes[i])) for i in net.relus]
    for variant, (method, options) in METHODS.items():
        def start(n, drawn="a0" in rb.METHODS[method].options):
            return {"a0": [a[n] for a in a0]} if drawn else {}
        s = rb.margin_bounds(net, whole, y, method, **options, **start(slice(3)))
        for n, eps in enumerate(radii):
            one = rb.Ball(whole.x[n:n + 1], eps, norm=whole.norm, domain=whole.domain)
            alone = rb.margin_bounds(net, one, y[n:n + 1], method, **options, **start(slice(n, n + 1)))
            np.testing.assert_allclose(alone[0], s[n], rtol=0, atol=1e-12, err_msg=variant)


# ---- the lines of a ReLU ----

reals = st.floats(-1e6, 1e6)
RULES = {"adaptive": lambda l, u, t: relaxation.enclose(l, u, relaxation.adaptive([(l, u)])[0]),
         "parallel": lambda l, u, t: relaxation.enclose(l, u),
         "uniform": lambda l, u, t: relaxation.enclose(l, u, t + 0 * l),
         "bernoulli": lambda l, u, t: relaxation.enclose(
             l, u, relaxation.bernoulli([(l, u)], [t + 0 * l], 0.3, 0.7)[0])}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(reals, reals, st.floats(0, 1), st.floats(0, 1))
def test_the_lines_of_every_rule_enclose_the_relu(one, other, t, draw):
    l, u = (np.array([[v]]) for v in sorted((one, other)))
    z = np.clip(l + t * (u - l), l, u)
    slack = 1e-12 * (u - l + np.abs(u))
    for name, rule in RULES.items():
        a_lo, a_up, b_up, _ = rule(l, u, draw)
        for at in (l, z, u, np.clip(0.0, l, u)):
            relu = np.maximum(at, 0)
            assert a_lo * at <= relu + slack, name
            assert a_up * at + b_up >= relu - slack, name


@pytest.mark.parametrize("l, u", [(-1.5e308, 1.5e308), (-1e308, 1.7e308)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_lines_enclose_the_relu_where_the_interval_is_wider_than_the_largest_number(l, u):
    l, u = np.array([[l]]), np.array([[u]])
    line = relaxation.enclose(l, u)
    for z in (0.0 * l, u / 2, u):
        assert not line.a_up * z + line.b_up < z * (1 - 1e-15)  # a NaN or an infinity claims nothing
