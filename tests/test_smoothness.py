"""Why a loss on relaxed bounds may jump, as inequalities on small networks.

Definition 1 gives s̄_m(θ) = g_m(θ)·x* + b_m(θ) with x* = c + r v(g_m), the worst case (2). By Danskin's theorem its
gradient in the parameters is that at the fixed x*:

    ∇s̄_m(θ) = D_m(θ; x*),    D_m(θ; x) = ∇_θ (g_m(θ)·x + b_m(θ))

D is linear in (x, 1). So, from θ₁ to θ₂, with x₁* and x₂* the worst cases of margin m (add and subtract D_m(θ₂; x₁*)):

    ∇s̄_m(θ₂) − ∇s̄_m(θ₁) = [D_m(θ₂; x₁*) − D_m(θ₁; x₁*)] + (∇g_m(θ₂))ᵀ (x₂* − x₁*)                      (split)

The first part is the change at the same input. The second is what the worst case adds by moving, and it jumps with v:

    ‖(∇g)ᵀ (x₂* − x₁*)‖ ≤ ‖∇g‖ ‖x₂* − x₁*‖                                                              (jump)
    ‖x₂* − x₁*‖ = 2 (Σ r_i², i where g changes sign)^½ for l∞,    ε √(2 − 2 cos(g(θ₁), g(θ₂))) for l2

(‖u − v‖² = 2 − 2 u·v for unit vectors.) It vanishes where g = 0, as with the constant lines of `ibp`. For two layers,
where g = Wᵀ(ā w⁺ + a̲ w⁻) for an output w·max(W x + bias, 0) and lines that w does not move,

    ∇_w g = Wᵀ diag(a),  a = ā where w > 0 and a̲ elsewhere, so  ‖∇_w g‖ ≤ ‖Wᵀ‖ ‖a‖ ≤ ‖Wᵀ‖ (‖a̲‖ + ‖ā‖)     (two layers)

in the Frobenius norm on the left, and all the more in the spectral norm: fewer and smaller lower slopes, smaller jumps.

The loss is L(s̄), with ∇L = Σ_m p_m ∇s̄_m, p = dL/ds (1). From Σ_m p_m < 1 and ‖p(s) − p(s′)‖₁ ≤ ‖s − s′‖_∞,

    ‖∇L(θ₂) − ∇L(θ₁)‖ ≤ max_m ‖∇s̄_m(θ₂) − ∇s̄_m(θ₁)‖ + max_m ‖∇s̄_m(θ₁)‖ · ‖s̄(θ₂) − s̄(θ₁)‖_∞               (loss)

(Along s, dp_m = p_m (ds_m − Σ_k p_k ds_k), s_y = 0 among the k. For |ds| ≤ 1, Σ_m p_m |ds_m − mean| ≤ √variance ≤ 1.)

(two layers) is the example of the paper's Section 5. The others are our own. The paper's Theorems 1 and 2 are in
test_paper_theorems.py: (split) and (jump) keep ‖x₂* − x₁*‖ where its (6) has 2ε. How loose ours come out:

    python tests/test_smoothness.py
"""

import numpy as np
import pytest
from networks import batch, build, draws, unit

import refbound as rb
from refbound.layers import Linear, ReLU
from refbound.losses import cross_entropy_vjp
from verify.smoothness.derivatives import Case, norm, point

RELAXED = ["crown-ibp", "cap-ibp", "random", "sparse", "one-step", "cap", "crown"]  # where (2) is over the ball itself
CASES = [(method, ball) for method in RELAXED for ball in ("inf", "l2")]
SIZES = [1e-4, 1e-2, 1e-1]  # of the step from θ₁ to θ₂, against the parameters


def at(net, ball, y, method):
    """The Point of one example, with the same draws at any parameters."""
    return point(net, ball, Case(y, method, {"rng": draws()}))


def pairs(ball, method, size, count=4):
    """(Point of θ₁, Point of θ₂) for several examples and random steps of a size."""
    net, rng = build("dense"), np.random.default_rng(5)
    region, y = batch(net, ball, N=count)
    for k in range(count):
        step = {name: size * rng.normal(size=w.shape) * np.abs(w).mean() for name, w in net.params.items()}
        there = net.with_params({name: w + step[name] for name, w in net.params.items()})
        yield tuple(at(some, region[k:k + 1], y[k:k + 1], method) for some in (net, there))


# ---- the pieces ----

@pytest.mark.parametrize("method, ball", CASES)
def test_the_gradient_of_a_margin_is_that_at_its_fixed_worst_case(method, ball):
    """Danskin: the gradient of the loss is Σ p_m D_m(θ; x*_m)."""
    net = build("dense")
    region, y = batch(net, ball, N=1)
    here = at(net, region, y, method)
    p = cross_entropy_vjp(1.0, here.margins.s)[:, 0]
    total = sum(p[m] * here.D(m, 0, here.worst(m, 0)) for m in range(len(p)))
    grads = rb.robust_loss(net, region, y, method, rng=draws()).grads
    np.testing.assert_allclose(total, np.concatenate([grads[name].ravel() for name in net.params]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method, ball", CASES)
@pytest.mark.parametrize("size", SIZES)
def test_the_change_of_a_margin_s_gradient_is_that_at_one_input_and_a_jump(method, ball, size):
    """(split) and (jump), and the length that the worst case moves."""
    for one, two in pairs(ball, method, size):
        for m in range(len(one.margins.s)):
            x1, x2 = one.worst(m, 0), two.worst(m, 0)
            J = two.parts(m, 0)[0]
            jump, change = J.T @ (x2 - x1), two.D(m, 0, x2) - one.D(m, 0, x1)
            np.testing.assert_allclose(change, two.D(m, 0, x1) - one.D(m, 0, x1) + jump, rtol=0, atol=1e-11)  # (split)
            assert norm(jump) <= np.linalg.norm(J, 2) * norm(x2 - x1) * (1 + 1e-9) + 1e-12  # (jump)
            assert norm(x2 - x1) == pytest.approx(moved(one, two, m), abs=1e-7)


def moved(one, two, m):
    """How far the worst case moves, from g alone."""
    g1, g2, (_, r, kind) = one.margins.relaxation.g[m, 0], two.margins.relaxation.g[m, 0], one.region
    if kind == 2:
        return float(r[0, 0] * np.sqrt(max(0, 2 - 2 * g1 @ g2 / (norm(g1) * norm(g2)))))
    return 2 * float(np.sqrt((r[0] ** 2)[np.sign(g1) != np.sign(g2)].sum()))


def test_a_sign_of_g_that_flips_makes_the_gradient_jump_and_ibp_has_no_g():
    """z = w x, s = 1 − 2 max(z, 0), x in [−1, 3], a̲ = 1/2: s̄ = max (1 − w x), so g = −w. For w = t > 0 the worst case
    is −1 and the gradient in w is 1; for w = −t it is 3 and −3: apart by 4, however small t is. By ibp s̄ = 1."""
    net, ball, y = unit()
    ball, y = ball[:1], y[:1]
    for t in (1e-2, 1e-4, 1e-8):
        for w, expected in ((t, 1.0), (-t, -3.0)):
            there = net.with_params({**net.params, "0.weight": np.array([[w]])})
            held = {"slopes": [np.full((1, 1), 0.5)]}
            p = 1 / (1 + np.exp(-rb.margin_bounds(there, ball, y, "crown-ibp", **held)[0, 1]))
            gradient = rb.robust_loss(there, ball, y, "crown-ibp", **held).grads["0.weight"][0, 0]
            assert gradient == pytest.approx(p * expected, rel=1e-12)
            assert rb.robust_loss(there, ball, y, "ibp").grads["0.weight"][0, 0] == 0
    assert (rb.linear_bound(net, ball, y, "ibp").g == 0).all()


# ---- two layers ----

TWO = [Linear(6, 9), ReLU(), Linear(9, 2)]


@pytest.mark.parametrize("method", ["crown-ibp", "cap-ibp", "random", "sparse", "one-step"])
@pytest.mark.parametrize("seed", range(5))
def test_of_two_layers_the_gradient_of_g_is_bounded_by_the_slopes(method, seed):
    """‖∇_w g‖ ≤ ‖Wᵀ‖ (‖a̲‖ + ‖ā‖), with w = W₂[1] − W₂[0] for y = 0, so that ∂g/∂w = ∂g/∂W₂[1]."""
    net = rb.models.initialise(np.random.default_rng(seed), TWO, (6,), np.float64)
    ball, _ = batch(net, N=1, seed=seed)
    here = at(net, ball, np.array([0]), method)
    line, W, w = here.margins.lines[0], net.params["0.weight"], net.params["2.weight"][1] - net.params["2.weight"][0]
    a_lo, a_up = line.a_lo[0], line.a_up[0]
    a = np.where(w > 0, a_up, a_lo)
    np.testing.assert_allclose(here.margins.relaxation.g[0, 0], W.T @ (a * w), rtol=0, atol=1e-12)
    names = np.concatenate([np.full(p.size, name) for name, p in net.params.items()])
    J = here.parts(0, 0)[0][:, names == "2.weight"].reshape(6, 2, 9)[:, 1]  # (n, hidden)
    np.testing.assert_allclose(J, W.T * a, rtol=0, atol=1e-12)
    bound = np.linalg.norm(W.T, 2) * (norm(a_lo) + norm(a_up))
    assert (np.linalg.norm(J, 2) <= np.linalg.norm(J)
            <= np.linalg.norm(W.T, 2) * norm(a) * (1 + 1e-12) <= bound * (1 + 2e-12))


# ---- the loss ----

def test_the_softmax_moves_no_more_in_l1_than_the_margins_in_the_maximum_norm():
    rng = np.random.default_rng(0)
    s = rng.normal(size=(5, 20_000)) * rng.choice([0.1, 1, 10], 20_000)
    t = s + rng.normal(size=s.shape) * rng.choice([1e-3, 0.1, 3], 20_000)
    p, q = cross_entropy_vjp(1.0, s), cross_entropy_vjp(1.0, t)
    assert (p.sum(0) <= 1 + 1e-12).all()
    assert (np.abs(p - q).sum(0) <= np.abs(s - t).max(0) * (1 + 1e-9)).all()


@pytest.mark.parametrize("method, ball", CASES)
@pytest.mark.parametrize("size", SIZES)
def test_the_loss_is_as_smooth_as_its_margins(method, ball, size):
    """(loss)"""
    for one, two in pairs(ball, method, size):
        J1, J2 = (np.array([here.D(m, 0, here.worst(m, 0)) for m in range(len(here.margins.s))]) for here in (one, two))
        p1, p2 = (cross_entropy_vjp(1.0, here.margins.s)[:, 0] for here in (one, two))
        change = np.abs(two.margins.s - one.margins.s).max()
        bound = max(map(norm, J2 - J1)) + max(map(norm, J1)) * change
        assert norm(J2.T @ p2 - J1.T @ p1) <= bound * (1 + 1e-9)


# ---- the sparsity of one-step ----

def test_in_a_network_of_one_unit_the_gradient_in_its_slope_is_never_negative():
    """s̄ = max over z in [l, u] of w⁺ (ā z + b̄) + w⁻ a̲ z + rest: for w < 0 it is −w a̲ (−l) + rest, whose gradient
    in a̲ is w l > 0; for w ≥ 0 a̲ is not in it. So one-step takes a̲ = 0 wherever the slope matters. With more units,
    active ones included, it is a frequency and no theorem: their worst cases compete, as the next test shows."""
    net, ball, y = unit()
    s = rb.margin_bounds(net, ball, y, "one-step", a0=[np.full((4, 1), 0.5)])
    np.testing.assert_array_equal(s, rb.margin_bounds(net, ball, y, "one-step", slopes=[np.zeros((4, 1))]))
    low, high = (rb.margin_bounds(net, ball, y, "one-step", slopes=[np.full((4, 1), a)]) for a in (0.25, 0.75))
    assert (high >= low).all() and (high > low).any()


def test_beside_an_active_unit_the_gradient_in_the_slope_may_be_negative():
    """For x in [−1, 1], h₁ = max(x, 0) is unstable and h₂ = x + 10 active. s̄ of h₂ − ½ h₁ is
    the maximum of x + 10 − ½ a̲ x, at x = 1: 11 − ½ a̲."""
    params = {"0.weight": np.ones((2, 1)), "0.bias": np.array([0.0, 10.0]),
              "2.weight": np.array([[0, 0], [-0.5, 1]]), "2.bias": np.zeros(2)}
    net = rb.Network([Linear(1, 2), ReLU(), Linear(2, 2)], params, (1,))
    ball, y = rb.Ball(np.zeros((1, 1)), 1.0, domain=None), np.array([0])
    s = [rb.margin_bounds(net, ball, y, "one-step", slopes=[np.full((1, 2), a)])[0, 1] for a in (0.0, 0.5, 1.0)]
    assert s == [11.0, 10.75, 10.5]
    assert rb.margin_bounds(net, ball, y, "one-step", a0=[np.full((1, 2), 0.5)])[0, 1] == 10.5


# ---- how loose the bounds are, as a table ----

def two_layers(method, seed):
    """The bound (two layers) over the Frobenius norm of ∇_w g."""
    net = rb.models.initialise(np.random.default_rng(seed), TWO, (6,), np.float64)
    line = at(net, batch(net, N=1, seed=seed)[0], np.array([0]), method).margins.lines[0]
    W, w = net.params["0.weight"], net.params["2.weight"][1] - net.params["2.weight"][0]
    a = np.where(w > 0, line.a_up[0], line.a_lo[0])
    return np.linalg.norm(W.T, 2) * (norm(line.a_lo) + norm(line.a_up)) / np.linalg.norm(W.T * a)


def looseness(method, ball, size, count=20):
    """(the share of margins whose worst case moves, jump over change there, (jump) and (loss) over what they bound)."""
    moves, shares, jumps, losses = [], [], [], []
    for one, two in pairs(ball, method, size, count):
        J1, J2 = (np.array([here.D(m, 0, here.worst(m, 0)) for m in range(len(here.margins.s))]) for here in (one, two))
        p1, p2 = (cross_entropy_vjp(1.0, here.margins.s)[:, 0] for here in (one, two))
        bound = max(map(norm, J2 - J1)) + max(map(norm, J1)) * np.abs(two.margins.s - one.margins.s).max()
        losses.append(bound / norm(J2.T @ p2 - J1.T @ p1))
        for m in range(len(J1)):
            way = two.worst(m, 0) - one.worst(m, 0)
            moves.append(norm(way) > 1e-9)
            if moves[-1]:
                J = two.parts(m, 0)[0]
                shares.append(norm(J.T @ way) / norm(J2[m] - J1[m]))
                jumps.append(np.linalg.norm(J, 2) * norm(way) / norm(J.T @ way))
    return np.mean(moves), *(np.median(values) if values else np.nan for values in (shares, jumps, losses))


if __name__ == "__main__":
    print("medians over 20 examples, θ₂ at random, a tenth of θ₁ away\n")
    print("ball  method      moves  jump / change  (jump) / jump  (loss) / change")
    for ball in ("inf", "l2"):
        for method in RELAXED:
            print(f"{ball:5} {method:10}", "{:6.2f} {:14.2f} {:14.2f} {:16.2f}".format(*looseness(method, ball, 0.1)))
    print("\n(two layers) / ‖∇_w g‖, medians over 50 networks:", ", ".join(
        f"{method} {np.median([two_layers(method, seed) for seed in range(50)]):.1f}" for method in RELAXED[:5]))
