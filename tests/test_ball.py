"""The ball: its furthest point along a direction (2), its nearest point, and the attack that uses both."""

import numpy as np
import pytest
from networks import BALLS, batch, build, draws, inside, margins, points

import refbound as rb
from refbound.attack import projection
from refbound.ball import furthest
from refbound.arrays.ops import as_rows


@pytest.mark.parametrize("norm, dual", [(np.inf, 1), (2, 2), (1, np.inf)])
def test_the_furthest_point_lies_in_the_unit_ball_and_attains_the_dual_norm(norm, dual):
    """Whole numbers, so that there are ties, among which l1 shares the ball, and zeros, along which v is 0."""
    g = draws().integers(-2, 3, (5, 30, 4)).astype(float)
    g[0, 0] = 0
    v = furthest(g, norm)
    assert (np.linalg.norm(v, ord=norm, axis=-1) <= 1 + 1e-15).all() and (v[0, 0] == 0).all()
    np.testing.assert_allclose((g * v).sum(-1), np.linalg.norm(g, ord=dual, axis=-1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [2.0**80, 2.0**-80])
@pytest.mark.parametrize("norm", [2, 1])
@pytest.mark.parametrize("layer", [0, -1], ids=["first layer", "last layer"])
def test_no_square_overflows_or_vanishes_in_a_dual_norm(norm, scale, layer):
    """In float32 2^160 is infinite and 2^-160 is 0; scaled by a power of two, nothing else changes but the scale."""
    net = rb.models.mlp(draws(), (6, 5, 4))
    i, _ = net.affine[layer]
    scaled = net.with_params({k: w * np.float32(scale) if k.startswith(f"{i}.") else w for k, w in net.params.items()})
    ball, y = rb.Ball(draws().random((3, 6), np.float32), 0.2, norm=norm), np.arange(3)
    if layer == 0:
        for (l, u), (L, U) in zip(*(rb.preactivation_bounds(one, ball, "ibp") for one in (net, scaled))):
            np.testing.assert_array_equal([L, U], np.float32(scale) * np.array([l, u]))
        return
    for method in set(rb.METHODS) - {"one-step", "alpha"}:  # whose loss is another at another scale
        s, S = (rb.margin_bounds(one, ball, y, method, rng=draws()) for one in (net, scaled))
        np.testing.assert_array_equal(S, np.float32(scale) * s)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", ["dense", "stride 1, 2, padding 1"])
@pytest.mark.parametrize("eps", [None, 0.0, 0.3, [0.0, 0.2, 0.7]])
def test_attacks_stay_in_the_ball_and_find_no_less_than_the_clean_input(name, ball, eps):
    net = build(name)
    ball, y = batch(net, ball, eps=eps)
    clean = margins(net(ball.x), y).max(1)
    for rng in (None, draws()):
        x = rb.pgd(net, ball, y, steps=10, step_size=0.2, rng=rng)
        assert x.shape == ball.x.shape and inside(x, ball)
        assert ball.domain is None or (ball.domain[0] <= x.min() and x.max() <= ball.domain[1])
        if rng is None:
            assert (margins(net(x), y).max(1) >= clean - 1e-12).all()


@pytest.mark.parametrize("ball", BALLS)
def test_the_projection_is_the_nearest_point_of_the_ball(ball):
    """p is the nearest to x in a convex set if (p′ − p)·(x − p) ≤ 0 for every p′ of it; x is far, near, or inside."""
    net = build("dense")
    ball, _ = batch(net, ball)
    for scale in (5.0, 0.3, 0.01):
        x = as_rows(ball.x, float) + scale * draws().normal(size=(3, 6))
        p = projection(ball, np.dtype(float))(x)
        assert inside(p, ball)
        for other in points(ball, draws()):
            assert (((as_rows(other, float) - p) * (x - p)).sum(1) <= 1e-12).all()


@pytest.mark.parametrize("ball", BALLS)
def test_the_attack_is_exact_on_a_linear_network_of_two_classes(ball):
    net = rb.models.mlp(np.random.default_rng(0), (6, 2), dtype=np.float64)
    ball, y = batch(net, ball)
    found = margins(net(rb.pgd(net, ball, y, steps=200, step_size=0.1)), y).max(1)
    for method in rb.METHODS:
        s = rb.margin_bounds(net, ball, y, method, rng=draws()).max(1)
        np.testing.assert_allclose(np.maximum(found, 0), s, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", [2, 1])
@pytest.mark.parametrize("eps", [1e-19, 1e-25])
def test_the_projection_stays_in_a_ball_whose_squares_vanish(norm, eps):
    ball = rb.Ball(np.zeros((1, 4), np.float32), eps, norm=norm)
    p = projection(ball, np.dtype(np.float32))(np.full((1, 4), 10 * eps, np.float32))
    assert np.linalg.norm(p[0].astype(float), norm) == pytest.approx(eps, rel=1e-6)


def test_the_attack_moves_where_the_loss_rounds_to_0():
    """s = x − 200: in float32 exp(s) is 0, and so is the gradient of (1)."""
    params = {"0.weight": np.array([[0], [1]], np.float32), "0.bias": np.array([200, 0], np.float32)}
    net = rb.Network([rb.layers.Linear(1, 2)], params, (1,))
    ball = rb.Ball(np.zeros((1, 1), np.float32), 1.0, domain=None)
    assert rb.pgd(net, ball, np.array([0]), steps=4).item() == 1


def test_more_restarts_find_no_less():
    net = build("dense")
    ball, y = batch(net)
    s = [margins(net(rb.pgd(net, ball, y, steps=2, restarts=n, rng=draws())), y).max(1) for n in (1, 2, 8)]
    assert (s[0] <= s[1] + 1e-12).all() and (s[1] <= s[2] + 1e-12).all() and (s[0] < s[2]).any()


@pytest.mark.parametrize("ball", BALLS)
def test_the_targeted_attack_finds_no_less_and_stays_in_the_ball(ball):
    net = build("dense")
    ball, y = batch(net, ball, N=20)
    plain, targeted = (rb.pgd(net, ball, y, steps=5, rng=draws(), targeted=on) for on in (False, True))
    s, more = (margins(net(x), y).max(1) for x in (plain, targeted))
    assert (more >= s - 1e-12).all() and (more > s + 1e-6).any()
    assert inside(targeted, ball)
    assert ball.domain is None or (ball.domain[0] <= targeted.min() and targeted.max() <= ball.domain[1])


def test_the_targeted_attack_sees_through_an_inactive_unit():
    """h = max(x − 1, 0), s = h − 1/2, x in [−1, 2]: the gradient at 0 is 0; the line around h leads to s = 1/2 at 2."""
    params = {"0.weight": [[1]], "0.bias": [-1], "2.weight": [[1], [0]], "2.bias": [0, 0.5]}
    layers = [rb.layers.Linear(1, 1), rb.layers.ReLU(), rb.layers.Linear(1, 2)]
    net = rb.Network(layers, {name: np.array(value, float) for name, value in params.items()}, (1,))
    ball, y = rb.Ball(np.array([[0.0]]), 2.0, domain=(-1.0, 2.0)), np.array([1])
    assert [net(rb.pgd(net, ball, y, targeted=on)).tolist() for on in (False, True)] == [[[0, 0.5]], [[1, 0.5]]]


@pytest.mark.parametrize("edge", [-0.3, -0.7, 0.1])
def test_an_input_on_the_edge_of_a_domain_that_float32_rounds_lies_in_its_box(edge):
    """In float64 the edge would lie inside of its float32 neighbour: a box of negative radius, in which all holds."""
    for domain, x in (((edge, 2.0), np.float32(edge)), ((-2.0, edge), np.float32(edge))):
        region = rb.Ball(np.full((1, 1), x, np.float32), 0.0, domain=domain).region(np.float64)
        assert region.radius.item() == 0 and region.centre.item() == float(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean, std", [(0.1307, 0.3081), (0.2860, 0.3530), (0.4914, 0.2470), (0.4377, 0.1980),
                                       (0.5, 0.5), (0.9, 0.1)])
def test_pixels_that_were_rounded_on_another_way_than_their_domain_are_taken_into_it(mean, std, dtype):
    """Normalised by published constants in four ways, and back to [0, 1]: up to an ulp beyond ends rounded once."""
    pixels, m, s = np.arange(256).astype(dtype)[None], dtype(mean), dtype(std)
    ways = [(pixels / dtype(255) - m) / s, (pixels - dtype(255 * mean)) / dtype(255 * std),
            pixels / dtype(255) * dtype(1 / std) - dtype(mean / std),
            pixels * dtype(1 / (255 * std)) - dtype(mean / std)]
    for domain, images in (((0 - mean) / std, (1 - mean) / std), ways), ((0, 1), [x * s + m for x in ways]):
        for x in images:
            ball = rb.Ball(x, 0.1, domain=domain)
            assert ball.domain[0] <= ball.x.min() and ball.x.max() <= ball.domain[1] and ball.x.dtype == dtype
            inner = (x >= ball.domain[0]) & (x <= ball.domain[1])
            assert (ball.x == x)[inner].all() and (np.isin(ball.x[~inner], ball.domain)).all()
            assert abs(ball.x - x).max() <= 4 * np.finfo(dtype).eps * np.abs(ball.domain).max()
            assert (ball.region(np.dtype(float)).radius >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 1.0), (-2.0, 0.5), (16.0, 256.0)])
def test_a_pixel_is_taken_in_from_4_ulps_of_the_larger_end_and_from_no_further(low, high, dtype):
    """The larger end is a power of 2, of which these ulps are exact."""
    ulp = np.finfo(dtype).eps * max(-low, high)
    for x, end in ((low - 4 * ulp, low), (high + 4 * ulp, high)):
        assert rb.Ball(np.full((1, 1), x, dtype), 0.1, domain=(low, high)).x.item() == end
    for x in (low - 6 * ulp, high + 6 * ulp):
        with pytest.raises(ValueError, match=r"^x: expected pixels in the domain \["):
            rb.Ball(np.full((1, 1), x, dtype), 0.1, domain=(low, high))


def test_half_precision_is_refused_and_one_example_is_a_slice():
    for dtype in (np.float16, np.longdouble):
        with pytest.raises(ValueError, match=f"x: expected a float32 or float64 array .* {np.dtype(dtype)}"):
            rb.Ball(np.zeros((1, 2), dtype), 0.1)
    for eps in (None, "0.1", True):
        with pytest.raises(ValueError, match=f"eps: .* got {eps!r}"):
            rb.Ball(np.zeros((1, 2)), eps)
    for odd in ((0, 1), [[0, 1]], np.array(0), None, ...):
        with pytest.raises(ValueError, match="^ball: expected a slice or an index array, got "):
            rb.Ball(np.zeros((3, 2)), 0.1)[odd]
    with pytest.raises(ValueError, match=r"a slice or an index array, got 1: ball\[1:2\]"):
        rb.Ball(np.zeros((3, 2)), 0.1)[1]
