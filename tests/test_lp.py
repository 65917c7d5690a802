"""The linear programs of verify: the rows are the network, and the bounds of every method are their optima."""

import numpy as np
import pytest
from networks import ALL, HAND_MARGINS, INF, batch, build, hand

import refbound as rb
from refbound.arrays.ops import images
from refbound.checks import method_options
from refbound.layers import Conv2d, Flatten, Linear, ReLU
from verify.programs import lp
from verify.programs.lp import triangle, triangle_lp, two_line_lp
from verify.programs.sparse import fold

LINES = ("crown-ibp", "cap-ibp", "random", "one-step", "cap", "crown")  # methods whose final bound has two lines
SAME_LINES = ("cap-ibp", "cap", "crown")  # parallel lines, or inner bounds by the same lines: never pinched
FIFTY = 50


def random_network(seed):
    """A dense network or, for odd seeds, a convolutional one, with one example: (net, ball, y)."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        side, k, s, p = rng.integers(4, 7), rng.integers(1, 4), rng.integers(1, 3), rng.integers(0, 2)
        conv = Conv2d(int(rng.integers(1, 3)), 3, int(k), int(s), int(p))
        shape = (conv.in_channels, int(side), int(side) + 1)
        n = int(np.prod(conv.at(shape)[1]))
        layers = [conv, ReLU(), Flatten(), Linear(n, 6), ReLU(), Linear(6, 3)]
    else:
        widths = [int(n) for n in rng.integers(3, 9, rng.integers(3, 6))]
        shape, layers = widths[:1], [Linear(widths[0], widths[1])]
        for n, m in zip(widths[1:], [*widths[2:], 3]):
            layers += [ReLU(), Linear(n, m)]
    net = rb.models.initialise(rng, layers, shape, np.float64)
    norm, domain = ((INF, (0.0, 1.0)), (INF, None), (1, None))[seed % 3]
    ball = rb.Ball(rng.random((1, *net.input_shape)), rng.uniform(0.05, 0.6), norm=norm, domain=domain)
    return net, ball, rng.integers(0, 3, 1)


def lines_of(net, ball, y, method, **options):
    """(s̄ (S,), pre, slopes) that a method uses on a ball of one example."""
    if method in ("random", "one-step") and "a0" not in options:
        options["rng"] = np.random.default_rng(7)
    found = rb.METHODS[method].bound(net, ball.region(net.dtype), y, method_options(net, ball, method, options))
    shapes = [net.shapes[i] for i in net.relus]
    pre = [(images(l, shape)[0], images(u, shape)[0]) for (l, u), shape in zip(found.pre, shapes)]
    return found.s[:, 0], pre, [np.clip(images(a.a_lo, shape)[0], 0, 1) for a, shape in zip(found.lines, shapes)]


def last_layer_times(net, c):
    """The network with its last affine layer times c."""
    i, _ = net.affine[-1]
    return net.with_params({name: value * (c if name.startswith(f"{i}.") else 1) for name, value in net.params.items()})


def others(y, classes):
    return [m for m in range(classes) if m != y]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["inf", "inf, not clipped", "l1"])
def test_rows_are_the_network(name, kind):
    net = build(name)
    ball, y = batch(net, kind, N=1)
    folded = fold(net, ball, y[0], [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "crown-ibp")])
    inputs, rng = folded.inputs, np.random.default_rng(3)
    for _ in range(5):
        p = rng.uniform(inputs.low, inputs.high)
        p *= min(1, *(inputs.b / (inputs.A @ p))) if len(inputs.b) else 1
        x, v = inputs.X @ p + inputs.x0, np.append(p, np.zeros(len(folded.l)))
        for j in range(len(folded.l)):  # each z depends on the h before it
            v[len(p) + j] = max((folded.Z[[j]] @ v + folded.z0[j])[0], 0)
        assert np.allclose(folded.H @ v, v[len(p):], rtol=0, atol=0)
        assert np.allclose(folded.F @ v + folded.f0, net(x.reshape(1, *net.input_shape))[0], rtol=0, atol=1e-12)


def test_margins_equal_their_two_line_lp():
    """Definition 1 is never below the LP, and equal to it where the LP is not pinched."""
    equal, all_margins = 0, 0
    for seed in range(FIFTY):
        net, ball, y = random_network(seed)
        for method in LINES:
            s, pre, slopes = lines_of(net, ball, y, method)
            lp = two_line_lp(net, ball, y[0], pre, slopes, others(y[0], 3))
            gap = s - lp.s
            assert (gap > -1e-10).all(), (seed, method)
            assert (gap[~lp.pinched] < 1e-10).all(), (seed, method)
            assert method not in SAME_LINES or (gap < 1e-10).all(), (seed, method)
            equal, all_margins = equal + (gap < 1e-10).sum(), all_margins + len(gap)
    assert equal > 0.95 * all_margins


def test_a_pinched_lp_is_below_definition_1():
    """One unit behind another. x ∈ [−2, 2], z1 = x: ā = 1/2, b̄ = 1. With a̲ = 1, h1 ≥ x reaches −2, where h ≥ 0 was
    assumed: z2 = h1 − 1 ∈ [−1, 1] by intervals, ā = b̄ = 1/2, a̲ = 1/4; and s = −h2 for y = 1, of the logits (0, h2).
    Definition 1: −h2 ≤ −z2/4 = (1 − h1)/4 ≤ (1 − x)/4 ≤ 3/4.   The LP has h2 ≤ (z2 + 1)/2 besides, so z2 ≥ −2:
    the lines cross at z2/4 = (z2 + 1)/2, and there −h2 = 1/2."""
    params = {"0.weight": [[1]], "0.bias": [0], "2.weight": [[1]], "2.bias": [-1],
              "4.weight": [[0], [1]], "4.bias": [0, 0]}
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 1), ReLU(), Linear(1, 2)],
                     {name: np.array(value, float) for name, value in params.items()}, (1,))
    ball, y, slopes = (rb.Ball(np.zeros((1, 1)), 2.0, domain=None), np.array([1]),
                       [np.ones((1, 1)), np.full((1, 1), 0.25)])
    assert np.isclose(rb.margin_bounds(net, ball, y, "crown-ibp", slopes=slopes)[0, 0], 0.75)
    pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "crown-ibp")]
    s, pinched, found = two_line_lp(net, ball, 1, pre, [a[0] for a in slopes])
    assert np.allclose(s, [0.5, 0]) and pinched.tolist() == [True, False] and found.all()
    # crown-ibp's own slopes, at an end of [l, u]: x ∈ [−2, 3], z2 = 2 − h1 ∈ [−1, 2],
    # s = h2 ≤ (2 z2 + 2)/3 ≤ (6 − 2 x)/3 ≤ 10/3, but h2 ≥ z2 crosses that line at z2 = u = 2
    params |= {"2.weight": [[-1]], "2.bias": [2]}
    net = rb.Network(net.layers, {name: np.array(value, float) for name, value in params.items()}, (1,))
    ball, y = rb.Ball(np.full((1, 1), 0.5), 2.5, domain=None), np.array([0])
    assert np.isclose(rb.margin_bounds(net, ball, y, "crown-ibp")[0, 1], 10 / 3)
    pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "crown-ibp")]
    s, pinched, found = two_line_lp(net, ball, 0, pre, [np.ones(1), np.ones(1)])
    assert np.allclose(s, [0, 2]) and pinched.tolist() == [False, True] and found.all()


@pytest.mark.parametrize("method", ["crown-ibp", "cap-ibp", "one-step", "cap", "crown"])
def test_two_line_lp_of_the_hand_worked_network(method):
    net, ball, y = hand()
    for n, expected in enumerate(HAND_MARGINS[method]):
        options = {"a0": [np.full((1, 2), 0.5)] * 2} if method == "one-step" else {}
        s, pre, slopes = lines_of(net, ball[n:n + 1], y[n:n + 1], method, **options)
        lp = two_line_lp(net, ball[n:n + 1], y[n], pre, slopes)
        assert lp.s[y[n]] == 0 and np.isclose(lp.s[1 - y[n]], expected)


def test_triangle_lp_is_never_above_a_method_with_the_same_bounds():
    for seed in range(FIFTY):
        net, ball, y = random_network(seed)
        for stage, methods in (("ibp", ("crown-ibp", "cap-ibp", "random", "one-step")),
                               ("cap", ["cap"]), ("crown", ["crown"])):
            pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, stage)]
            least = triangle_lp(net, ball, y[0], pre, others(y[0], 3))
            for method in methods:
                assert (least <= lines_of(net, ball, y, method)[0] + 1e-7).all(), (seed, method)


def test_triangle_lp_without_unstable_units_is_the_network():
    net, ball, y = random_network(1)
    point = rb.Ball(ball.x, 0.0)
    pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, point, "crown-ibp")]
    z = net(ball.x)[0]
    assert np.allclose(triangle_lp(net, point, y[0], pre), z - z[y[0]], rtol=0, atol=1e-9)


# ---- weak duality ----

def programs(monkeypatch, seed):
    """[(the arguments of weak_duality, HiGHS's optimum of C v)] of a random network's triangle and two-line LPs."""
    net, ball, y = random_network(seed)
    real_duality, real_linprog, calls, optima = lp.weak_duality, lp.linprog, [], []
    with monkeypatch.context() as patch:
        patch.setattr(lp, "weak_duality", lambda *given: calls.append(given) or real_duality(*given))
        patch.setattr(lp, "linprog", lambda *given, **more: optima.append(real_linprog(*given, **more)) or optima[-1])
        for method in ("crown-ibp", "random"):
            _, pre, slopes = lines_of(net, ball, y, method)
            triangle_lp(net, ball, y[0], pre)
            two_line_lp(net, ball, y[0], pre, slopes)
    return [(given, -result.fun) for given, result in zip(calls, optima, strict=True)]


def of_the_relaxation(folded, a_lo, least, rng):
    """A point v of the program: an input, then each h somewhere between its lines, or on one."""
    inputs, a = folded.inputs, folded.u / (folded.u - folded.l)
    p = rng.uniform(inputs.low, inputs.high)
    p *= min(1, *(inputs.b / (inputs.A @ p))) if len(inputs.b) else 1
    v = np.append(p, 0 * folded.l)
    for j in range(len(a)):
        z = (folded.Z[[j]] @ v + folded.z0[j])[0]
        low, high = max(a_lo[j] * z, least), a[j] * (z - folded.l[j])
        if low > high:
            return None  # lines that cross: this input has no point
        v[len(p) + j] = low + rng.choice([0, 1, rng.random()]) * (high - low)
    return v


def test_the_dual_bound_equals_the_optimum_and_is_never_below_it(monkeypatch):
    for seed in range(20):
        for given, optimum in programs(monkeypatch, seed):
            assert -1e-12 <= lp.weak_duality(*given) - optimum <= 1e-9  # of margins of size 1


def test_the_dual_bound_is_one_whatever_the_multipliers(monkeypatch):
    """Of multipliers that are off, negative or 0. The dual objective b·λ alone is none: it falls below the optimum."""
    rng, below = np.random.default_rng(0), 0
    for seed in range(12):
        for (folded, C, a_lo, least, *multipliers), optimum in programs(monkeypatch, seed):
            found = (of_the_relaxation(folded, a_lo, least, rng) for _ in range(20))
            met = [C @ v for v in found if v is not None]
            for noise in (1e-6, 1e-2, 1.0):
                off = [value + noise * rng.normal(size=len(value)) for value in multipliers]
                bound = lp.weak_duality(folded, C, a_lo, least, *off)
                assert bound >= max([optimum - 1e-12, *met]), seed
                lower, upper, ends = (np.maximum(value, 0) for value in off)
                a = folded.u / (folded.u - folded.l)
                below += (upper @ (a * (folded.z0 - folded.l)) - lower @ (a_lo * folded.z0)
                          + ends @ folded.inputs.b < optimum)
            nothing = [0 * value for value in multipliers]
            assert lp.weak_duality(folded, C, a_lo, least, *nothing) >= optimum - 1e-12
    assert below > 10


def test_without_time_the_lp_is_a_bound_all_the_same():
    for seed in range(6):
        net, ball, y = random_network(seed)
        pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "crown")]
        folded = fold(net, ball, y[0], pre)
        s, _, found = triangle(folded, y[0], seconds=0)
        assert (s >= triangle(folded, y[0]).s - 1e-12).all() and np.isfinite(s).all() and s[y[0]] == 0
        assert found.tolist() == [m == y[0] for m in range(3)] or not len(folded.l)


@pytest.mark.parametrize("c", [1e-6, 1e-3, 1e6, 1e9])
def test_an_lp_of_a_last_layer_times_c_is_c_times_the_lp(c):
    for seed in range(12):
        net, ball, y = random_network(seed)
        _, pre, slopes = lines_of(net, ball, y, "crown-ibp")
        for solve in (lambda net: triangle_lp(net, ball, y[0], pre),
                      lambda net: two_line_lp(net, ball, y[0], pre, slopes).s):
            expected = solve(net)
            np.testing.assert_allclose(solve(last_layer_times(net, c)), c * expected,
                                       rtol=0, atol=c * 1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_bounds_that_cross_by_their_rounding_are_taken_whatever_their_scale(scale):
    net, ball, y = random_network(0)
    net = net.with_params({name: value * (scale if name.startswith("0.") else 1) for name, value in net.params.items()})
    (l, u), *rest = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "ibp")]

    def crossed(by):
        gap = by * max(np.abs(l).max(), np.abs(u).max())
        return [(np.append(gap, l[1:]), np.append(0, u[1:])), *rest]

    fold(net, ball, y[0], crossed(1e-12))
    with pytest.raises(ValueError, match="pre: .*finite l ≤ u"):
        fold(net, ball, y[0], crossed(1e-6))


# ---- what cannot be ----

def test_arguments_that_cannot_be_are_named():
    net, ball, y = random_network(2)
    pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "ibp")]
    slopes = [np.zeros(l.shape) for l, _ in pre]
    for message, call in {
        "ball: .*norm 2": lambda: triangle_lp(net, rb.Ball(ball.x, 0.1, norm=2), y[0], pre),
        "ball: .*one example": lambda: triangle_lp(net, rb.Ball(np.repeat(ball.x, 2, 0), 0.1), y[0], pre),
        "ball: .*shape": lambda: triangle_lp(net, rb.Ball(ball.x[:, :1], 0.1), y[0], pre),
        "y: ": lambda: triangle_lp(net, ball, 3, pre),
        "pre: .*shapes": lambda: triangle_lp(net, ball, y[0], pre[1:]),
        "pre: .*finite l ≤ u": lambda: triangle_lp(net, ball, y[0], [(u + 1, l) for l, u in pre]),
        "slopes: ": lambda: two_line_lp(net, ball, y[0], pre, slopes[1:]),
        r"slopes: .*\[0, 1\]": lambda: two_line_lp(net, ball, y[0], pre, [a + 2 for a in slopes]),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_an_infeasible_program_is_an_error():
    """Bounds that do not hold leave nothing between the lines: z = x ∈ [1, 3], claimed to lie in [−1, 1/2]."""
    params = {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1), "2.weight": np.ones((2, 1)), "2.bias": np.zeros(2)}
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 2)], params, (1,))
    ball = rb.Ball(np.full((1, 1), 2.0), 1.0, domain=None)
    with pytest.raises(RuntimeError, match="lp: no optimum"):
        triangle_lp(net, ball, 0, [(np.array([-1.0]), np.array([0.5]))])


def test_a_unit_too_small_for_an_inverse_has_a_finite_program():
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 2)], {
        "0.weight": np.array([[1e-310]]), "0.bias": np.zeros(1), "2.weight": np.array([[1.0], [-1.0]]),
        "2.bias": np.zeros(2)}, (1,))
    ball = rb.Ball(np.zeros((1, 1)), 1.0, domain=None)
    folded = fold(net, ball, 0, [(np.array([-1e-310]), np.array([1e-310]))])
    assert all(np.isfinite(of).all() for of in (folded.Z.data, folded.z0, folded.l, folded.u))
