"""An ε for each pixel: the box |x′_i − x_i| ≤ ε_i. Soundness, gradients and devices: BALLS in networks.py."""

from fractions import Fraction

import numpy as np
import pytest
from networks import METHODS, batch, build, draws, hand, inside, margins
from rationals import exact
from test_certificate import margins_at, problem

import refbound as rb
from refbound.rounding import sound_margin_bounds
from trainers.data import to_float
from verify.certificate import make
from verify.programs.lp import triangle_lp
from verify.programs.mixed_integer import check_witness, exact_margins
from verify.prover.claims import Rejected, read, save
from verify.prover.exact import prove
from verify.verdicts.problem import tightest

PIXELS = "inf, an ε for each pixel"
TIGHT = ("cap", "crown")


# ---- the hand-worked network (networks.py) at x = (0, 0), with ε = (1, 1/2) ----
#
# z1 = x1 + x2 + 1 ∈ [−1/2, 5/2]: ā = 5/6, b̄ = 5/12, slope 1
# z2 = x1 − x2 ∈ [−3/2, 3/2]: ā = 1/2, b̄ = 3/4, a tie: slope 0
# ibp   h1 ∈ [0, 5/2], h2 ∈ [0, 3/2], so z3 = h1 + h2 − 1 ∈ [−1, 3]: ā = b̄ = 3/4;
#   z4 = h1 − h2 ∈ [−3/2, 5/2]: ā = 5/8, b̄ = 15/16;   h3 ∈ [0, 3], h4 ∈ [0, 5/2]
#   y = 0: s = h4 − h3 + 1 ≤ 7/2;   y = 1: s = h3 − h4 − 1 ≤ 2
# crown-ibp, slopes 1, 0, 1, 1
#   y = 0: −z3 + (10 z4 + 15)/16 + 1 = (−6 h1 − 26 h2 + 47)/16 ≤ (−6 z1 + 47)/16 = (−6 x1 − 6 x2 + 41)/16
#          ≤ (6 + 3 + 41)/16 = 25/8
#   y = 1: (3 z3 + 3)/4 − z4 − 1 = (−h1 + 7 h2)/4 − 1 ≤ (−z1 + 7/2 z2 + 21/4)/4 − 1 = (10 x1 − 18 x2 + 1)/16
#          ≤ (10 + 9 + 1)/16 = 5/4
# exact y = 0: at (1/2, 1/2) h1 = 2, h2 = 0, z3 = 1, z4 = 2, s = 2, and no more as over the larger ball (test_milp.py).
#   y = 1: at (1, −1/2) h1 = h2 = 3/2, z3 = 2, z4 = 0, s = 1, and no more as there.

def test_the_hand_worked_network_with_two_radii():
    net, ball, y = hand()
    ball = rb.Ball(ball.x, np.array([[1, 0.5], [1, 0.5]]), domain=None)
    for method, expected in (("ibp", (7 / 2, 2)), ("crown-ibp", (25 / 8, 5 / 4))):
        s = rb.margin_bounds(net, ball, y, method)
        np.testing.assert_allclose(s[[0, 1], 1 - y], expected, rtol=0, atol=1e-15)
    g, b = rb.linear_bound(net, ball, y, "crown-ibp")
    np.testing.assert_allclose(g[[0, 1], 1 - y], np.array([[-6, -6], [10, -18]]) / 16, rtol=0, atol=1e-15)
    np.testing.assert_allclose(b[[0, 1], 1 - y], [41 / 16, 1 / 16], rtol=0, atol=1e-15)
    for n, expected in enumerate((2, 1)):
        one = ball[n:n + 1]
        found = exact_margins(net, one, y[n], tightest(net, one, TIGHT), classes=[1 - y[n]])[0]
        assert found.value == pytest.approx(expected, abs=1e-6) and found.bound == pytest.approx(expected, abs=1e-6)
        assert inside(found.x[None], one)


# ---- the same number at each pixel is that number ----

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("clipped", [True, False])
@pytest.mark.parametrize("name", ["dense", "stride 2, 1, padding 0"])
def test_equal_radii_give_every_bit_of_the_scalar_case(name, clipped, dtype):
    net = build(name, dtype=dtype)
    one, y = batch(net, "inf" if clipped else "inf, not clipped")
    each = rb.Ball(one.x, np.full(one.x.shape, 0.15, dtype), domain=one.domain)

    def results(ball):
        yield from (rb.pgd(net, ball, y, steps=7),
                    rb.pgd(net, ball, y, steps=7, step_size=0.03, restarts=2, rng=draws()))
        for method, options in METHODS.values():
            given = net, ball, y, method
            yield rb.margin_bounds(*given, rng=draws(), **options)
            yield from rb.linear_bound(*given, rng=draws(), **options)
            yield from (z for pair in rb.preactivation_bounds(net, ball, method) for z in pair)
            if method != "alpha":
                yield from rb.robust_loss(*given, 0.6, 0.3, rng=draws(), **options).grads.values()
            if method not in ("cap", "crown"):
                yield sound_margin_bounds(*given, rng=draws(), **options)

    for a, b in zip(results(one), results(each), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- the attack ----

def test_a_step_is_a_fraction_of_each_pixels_own_radius():
    """On a linear network of two classes every step goes the same way: k ≤ 4 steps of ε/4 lead to x + k ε/4 sign(g)."""
    net = rb.models.mlp(draws(), (6, 2), dtype=np.float64)
    ball, y = batch(net, PIXELS)
    ball = rb.Ball(ball.x, ball.eps, domain=None)
    way = np.sign(rb.linear_bound(net, ball, y, "ibp").g[np.arange(3), 1 - y])
    for k in (1, 3, 6):
        expected = ball.x + min(k / 4, 1) * ball.eps * way
        for step_size in (None, np.array(ball.eps) / 4):
            np.testing.assert_allclose(rb.pgd(net, ball, y, steps=k, step_size=step_size), expected, rtol=0, atol=1e-15)


# ---- linear and mixed-integer programs ----

@pytest.mark.parametrize("name", ["dense", "stride 2, 1, padding 0"])
def test_the_exact_optimum_lies_between_the_attack_and_every_bound(name):
    net = build(name)
    ball, y = batch(net, PIXELS, N=2, seed=3)
    attacked = margins(net(rb.pgd(net, ball, y, steps=50, restarts=3, rng=draws())), y)
    bounds = [rb.margin_bounds(net, ball, y, method, rng=draws(), **options) for method, options in METHODS.values()]
    for n in range(2):
        one, pre = ball[n:n + 1], tightest(net, ball[n:n + 1], TIGHT)
        found, lp = exact_margins(net, one, y[n], pre), triangle_lp(net, one, y[n], pre)
        for m, e in enumerate(found):
            assert e.status == "optimal" and inside(e.x[None], one)
            assert attacked[n, m] <= e.value + 1e-9 and e.value <= lp[m] + 1e-6
            assert all(e.value <= s[n, m] + 1e-9 for s in bounds)


def test_a_witness_that_leaves_the_ball_at_one_pixel_is_refused():
    net, ball, y = hand()
    ball = rb.Ball(ball.x[:1], np.array([[1, 0.5]]), domain=None)
    assert check_witness(net, ball, 0, [1, 0.5]) == 1  # of the two radii
    for witness, words in (([0.5, 0.75], "within 0.5 of x, got one at 0.75"),
                           ([1.25, 0.5], "within 1 of x, got one at 1.25")):
        with pytest.raises(ValueError, match=f"witness: expected an input {words}"):
            check_witness(net, ball, 0, witness)


# ---- certificates ----

def radii_of(images):
    """Decimal fractions of different lengths, shaped as the images: 0, 0.01, 0.017, …"""
    return np.resize(np.array(["0", "0.01", "0.017", "1/40", "0.0299", "3e-2"]), images.shape)


@pytest.mark.parametrize("name", ["dense", "stride 2, 1, padding 0"])
@pytest.mark.parametrize("method", ["crown-ibp", "cap"])
def test_what_is_proved_of_a_box_holds_at_every_point_and_equals_the_float_bound(name, method, tmp_path):
    net, network, pictures, labels = problem(name)
    eps = radii_of(pictures)
    wide = net.with_params({k: v.astype(float) for k, v in net.params.items()})
    ball = rb.Ball(to_float(pictures, float), np.vectorize(lambda e: float(Fraction(e)))(eps))
    s, rng = rb.margin_bounds(wide, ball, labels, method), np.random.default_rng(0)
    for n, (c, _) in enumerate(make(net, pictures, labels, eps, methods=(method,))):
        assert c.eps == eps[n].ravel().tolist()
        save(c, tmp_path / "c.npz")
        proof = prove(read(tmp_path / "c.npz"), network)
        x, r = exact(c.image.astype(int)) / 255, exact(eps[n].ravel())
        low, high = np.maximum(x - r, Fraction(0)), np.minimum(x + r, Fraction(1))
        for at in (rng.random(len(x)), *rng.integers(0, 2, (3, len(x))).astype(float)):
            found = margins_at(net, low + exact(at) * (high - low), c.label)
            assert all(value <= proof.margins[m] for m, value in found.items())
        assert all(float(v) - s[n, m] <= 1e-3 for m, v in proof.margins.items())
        assert method == "cap" or all(float(v) - s[n, m] >= -1e-3 for m, v in proof.margins.items())


def test_some_box_is_proved_robust():
    net, network, pictures, _ = problem("dense")
    labels = net(to_float(pictures, net.dtype)).argmax(1)
    proofs = [prove(c, network) for c, _ in make(net, pictures, labels, radii_of(pictures))]
    assert any(proof.holds for proof in proofs)


def test_equal_radii_are_proved_to_the_same_fractions():
    net, network, pictures, labels = problem("stride 2, 1, padding 0")
    one, each = (make(net, pictures, labels, eps) for eps in ("0.03", np.full(pictures.shape, "0.03")))
    for (a, s), (b, t) in zip(one, each):
        assert s == t and a.eps == "0.03" and set(b.eps) == {"0.03"} and prove(a, network) == prove(b, network)


def test_radii_that_cannot_be_are_rejected_and_a_changed_one_is_noticed():
    net, network, pictures, labels = problem("dense", N=1)
    eps = radii_of(pictures)
    (c, _), = make(net, pictures, labels, eps)
    for change in (c.eps[1:], [*c.eps, "0"], ["-0.1", *c.eps[1:]], ["x", *c.eps[1:]],
                   [0.1] * 6, [], None, 0.1, np.array(c.eps)):
        with pytest.raises(
                Rejected, match="^eps: expected a decimal fraction of at least 0, or 6 of them, got ") as caught:
            prove(c._replace(eps=change).sealed(), network)
        assert "\n" not in str(caught.value)
    with pytest.raises(Rejected, match="changed since"):
        prove(c._replace(eps=["0.001", *c.eps[1:]]), network)
    for wrong, words in ((np.full((1, 5), "0.1"), "shape"), (np.full(pictures.shape, "x"), "decimal fraction"),
                         (np.full(pictures.shape, "-1"), "at least 0")):
        with pytest.raises(ValueError, match=f"eps: expected .*{words}"):
            make(net, pictures, labels, wrong)


# ---- the ball ----

def test_parts_of_a_ball_keep_their_own_radii():
    net = build("stride 2, 1, padding 0")
    ball, y = batch(net, PIXELS)
    s = rb.margin_bounds(net, ball, y, "crown")
    for part in (slice(1, 3), [2, 0], np.array([True, False, True])):
        assert ball[part].eps.shape == ball[part].x.shape
        np.testing.assert_allclose(rb.margin_bounds(net, ball[part], y[part], "crown"), s[part], rtol=0, atol=1e-12)
    assert repr(ball).endswith(f"norm inf, ε 0 to {ball.eps.max():g}, domain (0.0, 1.0)>")


def test_radii_are_laid_out_as_the_pixels_are():
    """The first layer is the identity of an image of two channels: l and u are x ± ε, pixel by pixel."""
    x, eps = np.full((1, 2, 2, 3), 0.5), np.arange(12).reshape(1, 2, 2, 3) / 24
    layers = [rb.layers.Flatten(), rb.layers.Linear(12, 12), rb.layers.ReLU(), rb.layers.Linear(12, 2)]
    net = rb.Network(layers, {"1.weight": np.eye(12), "1.bias": np.zeros(12),
                              "3.weight": np.ones((2, 12)), "3.bias": np.zeros(2)}, (2, 2, 3))
    for method in ("ibp", "cap", "crown"):
        (l, u), = rb.preactivation_bounds(net, rb.Ball(x, eps), method)
        np.testing.assert_allclose([l[0], u[0]], [(x - eps).ravel(), (x + eps).ravel()], rtol=0, atol=1e-15)


@pytest.mark.parametrize("norm", [2, 1])
def test_only_boxes_have_a_radius_for_each_pixel(norm):
    ball, y = batch(build("dense"))
    with pytest.raises(ValueError, match=rf"^eps: expected a number or an array of shape \(3,\) with norm {norm}, "
                                         r"got float64 \(3, 6\)$"):
        rb.Ball(ball.x, np.full(ball.x.shape, 0.1), norm=norm)
    with pytest.raises(ValueError, match=r"^step_size: expected a number or an array of shape \(3,\), .* "
                                         r"got float64 \(3, 6\)$"):
        rb.pgd(build("dense"), rb.Ball(ball.x, 0.1, norm=norm), y, step_size=np.full(ball.x.shape, 0.1))


def test_one_radius_that_cannot_be_is_named():
    ball, _ = batch(build("dense"))
    for value in (-0.1, np.nan, np.inf):
        eps = np.where(np.arange(6) == 2, value, np.full(ball.x.shape, 0.1))
        with pytest.raises(ValueError, match="^eps: expected finite numbers of at least 0"):
            rb.Ball(ball.x, eps)
