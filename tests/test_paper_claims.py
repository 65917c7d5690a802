"""Where a statement of the paper needs more than it says, a counterexample each; and Section 5's chord and chain."""

import numpy as np
import pytest
from networks import batch, build, draws, points, unit

import refbound as rb
from refbound.layers import Linear, ReLU, margin_matrix
from refbound.linear import maximise, relax
from refbound.relaxation import Lines, chord
from verify.programs.lp import triangle_lp
from verify.smoothness import theorem1, theorem2
from verify.smoothness.derivatives import Case, loss, moved

ONE = (Linear(5, 8), ReLU(), Linear(8, 2))


# ---- Theorems 1 and 2 ----

def network(layers, x, radii, **params):
    """A network of these parameters, and balls around the one input x."""
    net = rb.Network(layers, {f"{name[-1]}.{name[:-1]}": np.array(value, float) for name, value in params.items()},
                     (len(x),))
    return net, [rb.Ball(np.array([x], float), eps, domain=None) for eps in radii]


def test_theorem_1_needs_gradients_at_less_than_a_right_angle():
    """s = w x + b at x = −2, w = 1. ∇s̄ is (−2, 1) for ε_t = 0 and (−2 + 3, 1) for ε = 3: cos φ = −1/√10. The loss is
    convex; every step against the first raises it: ΔᵀHΔ, μ > 0, and (4) is false for every step size. I_t is empty."""
    net, (near, ball) = network([Linear(1, 2)], [-2], (0, 3), weight0=[[0], [1]], bias0=[0, 0])
    case = Case(np.array([0]), "crown-ibp", {})
    assert theorem1.descent(net, near, ball, case) is None
    (before, G), u = loss(net, ball, case), theorem1.direction(net, near, case)
    assert G @ u / np.linalg.norm(G) == pytest.approx(-0.1 ** 0.5)
    for length in np.geomspace(1e-6, 1, 13):
        after = loss(moved(net, -length * u), ball, case)[0]
        assert after > before and after - before + length * (G @ u) > 0


def test_theorem_2_is_false_for_a_box_with_euclidean_norms():
    """s = v (w·x + 1) + 10 behind one active unit, w = (1, …, 1), x = 0, ε = 0.01: g = v w, b = v + 10. From v = t to
    −t x*_i goes from ε to −ε and ∂s̄/∂v from 1 + nε to 1 − nε: by 2ε n, p ≈ 1. But ‖∇g‖ = √n, spectral or Frobenius."""
    n, t, eps = 9, 1e-6, 0.01
    there, back = (network([Linear(n, 1), ReLU(), Linear(1, 2)], np.zeros(n), [eps], weight0=np.ones((1, n)), bias0=[1],
                           weight2=[[0], [v]], bias2=[0, 10]) for v in (t, -t))
    case = Case(np.array([0]), "crown-ibp", {})
    found = theorem2.change(there[0], back[0], there[1][0], case)
    J = theorem2.derivatives(there[0], there[1][0], case).g[0, 1]
    rest = found.right - found.zeroth.max()  # what vanishes with t
    for euclidean in (np.linalg.norm(J, 2), np.linalg.norm(J)):
        assert found.left > 1.2 * (2 * eps * euclidean + np.sqrt(n) * rest)
    assert found.left <= found.right


def test_no_constant_of_assumption_1_holds_for_ibp_across_a_kink():
    """b = s̄ = 2 max(u, 0) − 1 with u = w + 2 |w|: its gradient in w is 6 for w > 0 and −2 for w < 0, however near. So
    L^b, and with it the last term of (6), does not shrink with the step, though g = 0."""
    net, ball, _ = unit()
    case, last = Case(np.array([1]), "ibp", {}), []
    for t in (1e-2, 1e-4, 1e-8):
        there, back = (net.with_params({**net.params, "0.weight": np.array([[w]])}) for w in (t, -t))
        found = theorem2.change(there, back, ball[:1], case)
        assert not found.zeroth.any() and not found.first.any() and found.left <= found.right
        last.append(found.last.max())
    assert min(last) >= 8


# ---- the chord is the best upper line, and 0 the best intercept of the lower one (Appendix C.2, Section 5) ----

def sound(l, u, rng):
    """Another upper line (a, b): at l at least 0, at u at least u, on one of them in half of the cases."""
    a = rng.uniform(-0.5, 1.5, l.shape)
    return a, np.maximum(-a * l, u - a * u) + rng.random(l.shape) * rng.integers(0, 2, l.shape)


def test_on_its_interval_the_chord_is_below_every_sound_line_and_above_the_sound_lower_ones_is_one_through_0():
    rng, t = np.random.default_rng(0), np.linspace(0, 1, 21)[:, None]
    l, u = -rng.random(5000) - 1e-3, rng.random(5000) + 1e-3
    z, (a, b), (a2, b2) = l + t * (u - l), chord(l, u), sound(l, u, rng)
    assert (a * z + b <= a2 * z + b2 + 1e-12).all() and (a * z + b >= np.maximum(z, 0) - 1e-12).all()
    lower = rng.uniform(-1, 2, 5000)
    least = (np.maximum(z, 0) - lower * z).min(0)  # its greatest intercept: at l, 0 or u
    least = np.minimum(least, 0)
    assert (np.clip(lower, 0, 1) * z >= lower * z + least - 1e-12).all()


def other_uppers(net, region, y, method, rng):
    """(s̄ with the chord, s̄ with other sound upper lines), the same l, u and lower slopes."""
    row, C = rb.METHODS[method], margin_matrix(y, net.classes, net.dtype)
    found = row.bound(net, region, y, {})
    lines = []
    for (l, u), line in zip(found.pre, found.lines):
        unstable, (a, b) = (l < 0) & (u > 0), sound(l, u, rng)
        lines.append(Lines(line.a_lo, np.where(unstable, a, line.a_up), np.where(unstable, b, line.b_up), False))
    return found.s, maximise(relax(net, len(net.layers), C, lines), region)[0]


@pytest.mark.parametrize("method, name", [("cap", "dense"), ("crown", "dense"), ("cap", "stride 1, 2, padding 1"),
                                          ("crown", "rectangular"), ("crown-ibp", "one"), ("cap-ibp", "one")])
@pytest.mark.parametrize("ball", ["inf", "inf, not clipped", "l2", "l1"])
def test_no_sound_upper_line_is_better_than_the_chord_where_z_stays_in_its_interval(method, name, ball):
    """So it does with one hidden layer, and where l and u were found by the same lines: then every point that the
    chords allow has l ≤ z ≤ u, where they are lowest."""
    net = rb.models.initialise(np.random.default_rng(0), list(ONE), (5,), np.float64) if name == "one" else build(name)
    of, y = batch(net, ball)
    rng, worse = np.random.default_rng(4), 0
    for _ in range(20):
        own, other = other_uppers(net, of.region(net.dtype), y, method, rng)
        assert (other >= own - 1e-9).all()
        worse += (other > own + 1e-6).sum()
    assert worse > 0


def test_where_z_leaves_its_interval_another_upper_line_may_be_better_than_the_chord():
    """x in [−2, 3], z₂ = 2 − max(x, 0) in [−1, 2] by intervals, s = max(z₂, 0). The adaptive slope of x is 1, so
    z₂ ≤ 2 − x reaches 4, where the chord 2/3 z + 2/3 is 10/3. The constant line 2, as sound on [−1, 2], gives 2."""
    net, (ball,) = network([Linear(1, 1), ReLU(), Linear(1, 1), ReLU(), Linear(1, 2)], [0.5], [2.5],
                           weight0=[[1]], bias0=[0], weight2=[[-1]], bias2=[2], weight4=[[0], [1]], bias4=[0, 0])
    y, region = np.array([0]), ball.region(np.float64)
    found = rb.METHODS["crown-ibp"].bound(net, region, y, {})
    first, second = found.lines
    assert found.pre[1] == (-1, 2) and found.s[0, 0] == pytest.approx(10 / 3)
    constant = Lines(second.a_lo, 0 * second.a_up, 0 * second.b_up + 2, False)
    assert maximise(relax(net, 5, margin_matrix(y, 2, np.float64), [first, constant]), region)[0][0, 0] == 2


# ---- L(s̄) ≥ min over φ of L(s̄(φ)) ≥ max over B of L(f) (Section 5) ----

def cross_entropy(s):
    return np.log(np.exp(s).sum(1))


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_of_a_method_is_above_the_least_over_the_lines_and_that_above_the_worst(seed):
    """One hidden layer, two classes: by duality the least s̄ over the lines is the triangle LP's; alpha goes there."""
    net = rb.models.initialise(np.random.default_rng(seed), list(ONE), (5,), np.float64)
    ball, y = batch(net, "inf", N=2, seed=seed, eps=0.3)
    pre = rb.preactivation_bounds(net, ball, "ibp")
    least = cross_entropy(np.array([triangle_lp(net, ball[k:k + 1], y[k], [(l[k], u[k]) for l, u in pre])
                                    for k in range(2)]))
    worst = np.max([cross_entropy(net(x) - net(x)[np.arange(2), y][:, None]) for x in points(ball, draws())], axis=0)
    assert (least >= worst - 1e-9).all() and (least > worst + 1e-4).any()
    losses = {method: cross_entropy(rb.margin_bounds(net, ball, y, method, rng=draws()))
              for method in ("ibp", "crown-ibp", "cap-ibp", "random", "sparse", "one-step", "cap", "crown")}
    for method, own in losses.items():
        assert (own >= least - 1e-9).all(), method
    assert any((own > least + 1e-3).any() for own in losses.values())
    near = cross_entropy(rb.margin_bounds(net, ball, y, "alpha", steps=2000))
    np.testing.assert_allclose(near, least, rtol=0, atol=2e-3)
