"""What holds of every method whatever it bounds: exact zeros, dtypes, independence of examples, draws, stable units."""

import numpy as np
import pytest
from networks import ALL, METHODS, TRAINED, batch, build, draws

import refbound as rb
from refbound import relaxation

VARIANTS = {**METHODS, "cap, projected": ("cap", {"projections": 5})}


def close(a, b, atol=1e-12):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


# ---- margins ----

@pytest.mark.parametrize("name", ALL)
def test_the_column_of_the_label_is_exactly_0(name):
    net = build(name)
    ball, y = batch(net)
    for method, options in VARIANTS.values():
        s = rb.margin_bounds(net, ball, y, method, **options, rng=draws())
        g, b = rb.linear_bound(net, ball, y, method, **options, rng=draws())
        n = np.arange(len(y))
        assert s.shape == (len(y), net.classes)
        assert (s[n, y] == 0).all() and (b[n, y] == 0).all() and (g[n, y] == 0).all()


@pytest.mark.parametrize("variant", TRAINED)
@pytest.mark.parametrize("name", ["dense", "rectangular"])
def test_the_loss_of_a_batch_is_the_mean_of_its_examples(name, variant):
    """Margins, logits, value and gradients: no example sees another."""
    net, (method, options) = build(name), TRAINED[variant]
    ball, y = batch(net, N=4)
    a0 = [draws().random((4, *net.shapes[i])) for i in net.relus]

    def loss(n):
        drawn = {"a0": [a[n] for a in a0]} if "a0" in rb.METHODS[method].options else {}
        return rb.robust_loss(net, ball[n], y[n], method, 0.6, 0.3, **options, **drawn)

    whole, parts = loss(slice(4)), [loss(slice(n, n + 1)) for n in range(4)]
    close(whole.margins, np.concatenate([part.margins for part in parts]))
    close(whole.logits, np.concatenate([part.logits for part in parts]))
    close(whole.value, np.mean([part.value for part in parts]))
    for key, grad in whole.grads.items():
        close(grad, np.mean([part.grads[key] for part in parts], axis=0))


# ---- dtypes ----

def arrays(result):
    """Every array in a nest of tuples, lists and dicts."""
    if isinstance(result, np.ndarray):
        return [result]
    if isinstance(result, (tuple, list, dict)):
        return [a for part in (result.values() if isinstance(result, dict) else result) for a in arrays(part)]
    return []


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name, ball", [
    ("dense", "inf"), ("stride 1, 2, padding 1", "inf, not clipped"), ("rectangular", "l2"),
    ("ReLU on the input", "l1"), ("ReLU at the end", "inf"), ("no ReLU", "inf")])
def test_a_float32_network_computes_in_float32(name, ball, variant):
    method, options = VARIANTS[variant]
    if variant == "cap, projected" and not ball.startswith("inf"):
        ball = "inf"
    net = build(name, dtype=np.float32)
    ball, y = batch(net, ball)
    found = [rb.margin_bounds(net, ball, y, method, **options, rng=draws()),
             rb.linear_bound(net, ball, y, method, **options, rng=draws()),
             rb.preactivation_bounds(net, ball, method, **options, rng=draws()), net(ball.x)]
    if method != "alpha":
        found.append(rb.robust_loss(net, ball, y, method, 0.6, 0.3, **options, rng=draws())[1:])
    assert {a.dtype for a in arrays(found)} == {np.dtype(np.float32)}


D = np.float64  # a NumPy number, unlike a Python one, widens what it meets
WIDE = {
    "x": lambda net, ball, y: rb.margin_bounds(net, rb.Ball(ball.x.astype(D), 0.1, ball.norm), y, "crown"),
    "x of the network": lambda net, ball, y: net(ball.x.astype(D)),
    "eps": lambda net, ball, y: rb.margin_bounds(net, rb.Ball(ball.x, D(0.1), ball.norm), y, "cap"),
    "eps of each": lambda net, ball, y: rb.margin_bounds(net, rb.Ball(ball.x, np.full(3, 0.1), ball.norm), y, "ibp"),
    "eps in pgd": lambda net, ball, y: rb.pgd(net, rb.Ball(ball.x, np.full(3, 0.1), ball.norm), y, steps=2),
    "domain": lambda net, ball, y: rb.margin_bounds(net, rb.Ball(ball.x, 0.1, domain=(D(-5), D(5))), y, "ibp"),
    "step_size": lambda net, ball, y: rb.pgd(net, ball, y, steps=2, step_size=D(0.01)),
    "step_size of each": lambda net, ball, y: rb.pgd(net, ball, y, steps=2, step_size=np.full(3, 0.01)),
    "beta": lambda net, ball, y: rb.robust_loss(net, ball, y, "crown-ibp", beta=D(0.6)),
    "kappa": lambda net, ball, y: rb.robust_loss(net, ball, y, "crown-ibp", kappa=D(0.3)),
    "eta": lambda net, ball, y: rb.robust_loss(net, ball, y, "one-step", eta=D(2), rng=draws()),
    "p, q": lambda net, ball, y: rb.robust_loss(net, ball, y, "sparse", p=D(0.3), q=D(0.4), rng=draws()),
    "slopes": lambda net, ball, y: rb.robust_loss(net, ball, y, "cap-ibp", slopes=[np.zeros((3, 8)), np.zeros((3, 7))]),
    "a0": lambda net, ball, y: rb.robust_loss(net, ball, y, "one-step", a0=[np.zeros((3, 8)), np.zeros((3, 7))]),
}


@pytest.mark.parametrize("given", WIDE)
@pytest.mark.parametrize("ball", ["inf", "l2", "l1"])
def test_a_float64_argument_does_not_widen_a_float32_network(given, ball):
    net = build("dense", dtype=np.float32)
    assert {a.dtype for a in arrays(WIDE[given](net, *batch(net, ball)))} == {np.dtype(np.float32)}


def test_float32_agrees_with_float64():
    for method, options in VARIANTS.values():
        values = []
        for dtype in (np.float32, np.float64):
            net = build("dense")
            net = net.with_params({name: p.astype(dtype) for name, p in net.params.items()})
            ball, y = batch(net)
            a0 = [draws().random((3, *net.shapes[i])) for i in net.relus]
            drawn = {"a0": a0} if "a0" in rb.METHODS[method].options else {"rng": draws()}
            values.append(rb.margin_bounds(net, ball, y, method, **options, **drawn))
        close(*values, atol=1e-6)


# ---- draws ----

@pytest.mark.parametrize("method, options", [
    ("random", {}), ("sparse", {}), ("one-step", {}), ("cap", {"projections": 3})])
def test_what_is_drawn_comes_from_the_generator_alone(method, options):
    net = build("dense")
    ball, y = batch(net)
    one, same, other = (rb.margin_bounds(net, ball, y, method, **options, rng=draws(seed)) for seed in (5, 5, 6))
    assert (one == same).all() and (one != other).any()


def test_nothing_given_is_written_to():
    net = build("stride 1, 2, padding 1")
    ball, y = batch(net)
    before = [a.copy() for a in (*net.params.values(), ball.x, ball.eps, y)]
    for method, options in VARIANTS.values():
        rb.margin_bounds(net, ball, y, method, **options, rng=draws())
        if method != "alpha":
            rb.robust_loss(net, ball, y, method, 0.5, 0.5, **options, rng=draws())
    rb.pgd(net, ball, y, steps=2, rng=draws())
    for a, b in zip((*net.params.values(), ball.x, ball.eps, y), before):
        np.testing.assert_array_equal(a, b)


def test_cauchy_projections_come_near_the_exact_bounds_with_many_draws():
    """The median of |F t| over p draws is ‖F‖₁ within about π/2/√p: some 2.5 % of it with 4001."""
    net = build("dense")
    ball, y = batch(net)
    exact = rb.preactivation_bounds(net, ball, "cap")
    errors = []
    for p in (40, 4001):
        estimate = rb.preactivation_bounds(net, ball, "cap", projections=p, rng=draws())
        errors.append(max((abs(a - b) / (u - l)).max()
                          for pair, (l, u) in zip(estimate, exact) for a, b in zip(pair, (l, u))))
    assert errors[1] < 0.05 and errors[1] < errors[0] / 3


# ---- lines and rules ----

def test_stable_units_have_exact_lines_whatever_the_slope():
    l, u = np.array([[0.5], [0.0], [-2.0], [-2.0], [0.0]]), np.array([[2.0], [1.0], [-0.5], [0.0], [0.0]])
    for slope in (0.0, 0.3, 1.0):
        lines = relaxation.enclose(l, u, slope + 0 * l)
        active = np.array([[1.0], [1], [0], [0], [0]])
        assert (lines.a_lo == active).all() and (lines.a_up == active).all()
        assert (lines.b_up == 0).all()
    for name in ("dense", "rectangular"):  # a ball in which every unit is stable: every method is the network itself
        net = build(name)
        ball, y = batch(net, eps=1e-7)
        assert all(((l > 0) | (u < 0)).all() for l, u in rb.preactivation_bounds(net, ball, "ibp"))
        s = [rb.margin_bounds(net, ball, y, method, **options, rng=draws())
             for variant, (method, options) in METHODS.items() if variant != "ibp"]
        for other in s[1:]:
            close(other, s[0])


def test_unstable_units_have_the_chord_above_and_the_rules_slope_below():
    l, u = np.array([[-1.0], [-3.0], [-2.0]]), np.array([[3.0], [1.0], [2.0]])
    a, b = relaxation.chord(l, u)
    close(a * l + b, 0 * l)
    close(a * u + b, u)
    close(a, [[0.75], [0.25], [0.5]])
    parallel = relaxation.enclose(l, u)
    assert parallel.a_lo is parallel.a_up
    close(parallel.a_lo, a)
    assert relaxation.adaptive([(l, u)])[0].tolist() == [[1], [0], [0]]  # on the tie, 0
    for p, q, draw, expected in ((0.2, 0.6, 0.4, [1, 0, 1]), (0.6, 0.2, 0.4, [0, 1, 0])):  # p where −l > u
        assert relaxation.bernoulli([(l, u)], [draw + 0 * l], p, q)[0][:, 0].tolist() == expected


def test_at_the_rates_0_and_1_no_draw_of_the_interval_makes_another_slope():
    """Draws are in [0, 1), and may be 0."""
    l, u = np.full((1, 2), -1.0), np.full((1, 2), 2.0)
    for rate in (0, 1):
        slopes = relaxation.bernoulli([(l, u)], [np.array([[0.0, np.nextafter(1, 0)]])], rate, rate)[0]
        assert slopes.tolist() == [[rate, rate]]
