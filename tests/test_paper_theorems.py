"""The paper's Theorems 1 and 2 on small networks: they hold wherever their assumptions do, and what they assume.

The quantities come from verify/smoothness/. Here each is found again from margin_bounds and linear_bound alone, by
differences and enumeration, and one that is wrong by 1 % is seen.
"""

import numpy as np
import pytest
from scipy.optimize import brentq

import refbound as rb
from refbound.layers import Linear, ReLU
from verify import theorems
from verify.smoothness import theorem1, theorem2
from verify.smoothness.derivatives import Case, Derivatives, flat, loss, moved

INF, ONE, TWO = np.inf, (Linear(3, 6), ReLU(), Linear(6, 3)), (Linear(3, 5), ReLU(), Linear(5, 4), ReLU(), Linear(4, 3))
KINDS = [(TWO, INF, (0.0, 1.0)), (ONE, 2, None), (ONE, INF, None), (ONE, 1, None)]
VARIANTS = list(theorems.METHODS)


def start(variant, layers, norm, domain, seed=3):
    """A random network, its balls from radius 0 to the target's, and the Case of a method."""
    (method, options), rng = theorems.METHODS[variant], np.random.default_rng(seed)
    net = rb.models.initialise(rng, list(layers), (3,), np.float64)
    x, y = rng.random((2, 3)), rng.integers(0, 3, 2)
    if "a0" in rb.METHODS[method].options:
        options = {**options, "a0": [rng.random((2, *net.shapes[i])) for i in net.relus]}
    return net, [rb.Ball(x, eps, norm, domain) for eps in np.linspace(0, 0.2, 16)], Case(y, method, options)


def steps(variant, kind):
    """(net, there, near, ball, case, Descent or None) of each gradient step through the ramp."""
    net, balls, case = start(variant, *kind)
    for near in balls[:-1]:
        step = theorem1.descent(net, near, balls[-1], case)
        there = moved(net, -step.length * step.u if step else -0.1 * theorem1.direction(net, near, case))
        yield net, there, near, balls[-1], case, step
        net = there


@pytest.fixture(scope="module")
def trials():
    return {(variant, k): list(steps(variant, kind)) for variant in VARIANTS for k, kind in enumerate(KINDS)}


# ---- both inequalities, wherever their assumptions hold ----

def test_theorem_1_holds_in_every_trial_in_which_its_assumptions_do(trials):
    held = [[step for *_, step in own if step and step.counts] for own in trials.values()]
    assert sum(map(len, held)) >= 500 and min(map(len, held)) >= 5
    for step in sum(held, []):
        assert step.curvature > 0 and step.cos > 0
        assert step.after <= step.before * (1 - step.mu / 2 * step.cos ** 2 / np.linalg.norm(step.Hu))  # (4)


def test_theorem_2_holds_in_every_trial_and_for_either_parameters(trials):
    for (variant, _), own in trials.items():
        for k, (net, there, _, ball, case, _) in enumerate(own):
            found = theorem2.change(net, there, ball, case)
            assert found.left <= found.right  # (6)
            assert found.zeroth.any() == found.first.any() == (variant != "ibp")
            if k % 8 == 0:
                found = theorem2.change(there, net, ball, case)
                assert found.left <= found.right


# ---- every quantity, found again ----

def differences(f, net, h=1e-6):
    """The gradient of f(net), an array, in the parameters: (P, ...)."""
    return np.array([(f(moved(net, e)) - f(moved(net, -e))) / (2 * h) for e in h * np.eye(flat(net, net.params).size)])


def bound(net, ball, case):
    return rb.margin_bounds(net, ball, case.y, case.method, **case.options)


def value(net, ball, case):
    """L^ε from margin_bounds."""
    return float(np.log(np.exp(bound(net, ball, case)).sum(1)).mean())


def hessian_vector(net, u, at, ball, case, h=1e-5):
    """∇²L^ε(θ_t − at u) u."""
    ends = (loss(moved(net, (t - at) * u), ball, case)[1] for t in (h, -h))
    return (next(ends) - next(ends)) / (2 * h)


def descent_again(net, near, ball, case, step):
    """The Descent of a step of this length; H by its integral over Hessians, for a loss without a kink on the way."""
    G, u = (differences(lambda at: value(at, inside, case), net) for inside in (ball, near))
    u, (nodes, weights) = u / np.linalg.norm(u), np.polynomial.legendre.leggauss(12)
    before, after = value(net, ball, case), value(moved(net, -step.length * u), ball, case)
    Hu = sum(w * (1 - s) * hessian_vector(net, u, s * step.length, ball, case)
             for s, w in zip((nodes + 1) / 2, weights))
    return theorem1.Descent(before, after, G @ u / np.linalg.norm(G), G @ G / (2 * before), step.length,
                            2 * (after - before + step.length * (G @ u)) / step.length ** 2, u, Hu)


def change_again(net, there, ball, case):
    """The Change of the same parameters: g, b and s̄ by the public functions, norms by all signs or singular values."""
    def bounds(at):
        g, b = rb.linear_bound(at, ball, case.y, case.method, **case.options)
        return np.concatenate([g, b[..., None], bound(at, ball, case)[..., None]], 2)  # (N, c, n + 2)

    (g1, b1, s1), (g2, b2, s2) = ((d[..., :-2], d[..., -2], d[..., -1])
                                  for d in (differences(bounds, at) for at in (net, there)))
    p1, p2 = (e / e.sum(1, keepdims=True) for e in (np.exp(bound(at, ball, case)) for at in (net, there)))
    signs = np.array(list(np.ndindex(2, 2, 2))) * 2 - 1
    corners = np.clip(ball.x[:, None] + 0.2 * signs, *ball.domain or (-INF, INF))
    M = abs(corners).max() if ball.norm == INF else max(np.linalg.norm(x, ball.norm) + 0.2 for x in ball.x)

    def size(J):
        """(N, c) of J (P, N, c, n)."""
        if ball.norm == 2:
            return np.linalg.norm(J, 2, axis=(0, 3))
        if ball.norm == 1:  # the corners of its unit ball are the unit vectors
            return np.linalg.norm(J, axis=0).max(-1)
        return np.linalg.norm(np.einsum("vn,Pkmn->vPkm", signs, J), axis=1).max(0)

    Lb, Lp = np.linalg.norm(b2 - b1, axis=0).max(0), np.linalg.norm(p2 - p1, axis=1).max()
    last = Lb + Lp * np.linalg.norm(s1, 2, axis=(0, 2))[:, None]
    left = np.einsum("Pkm,km->P", s2, p2 / 2) - np.einsum("Pkm,km->P", s1, p1 / 2)
    return theorem2.Change(np.linalg.norm(left), 2 * 0.2 * size(g1), M * size(g2 - g1), last)


def same(found, expected):
    """AssertionError unless every quantity is the other's, to 1e-4."""
    for name, one, other in zip(found._fields, found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max(), err_msg=name)


def without_kinks(trials):
    """The step on which H u, from gradients, best meets the curvature, from losses."""
    return min((t for t in trials if t[-1]), key=lambda t: abs(t[-1].u @ t[-1].Hu / t[-1].curvature - 1))


@pytest.mark.parametrize("kind", [0, 1, 2, 3], ids=["two hidden layers", "l2", "inf", "l1"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_quantity_is_that_of_its_definition(variant, kind, trials):
    net, there, near, ball, case, step = without_kinks(trials[variant, kind])
    if kind > 0:  # with two hidden layers a step passes kinks, where there is no Hessian
        same(step, descent_again(net, near, ball, case, step))
    assert step.before - step.promised == pytest.approx(
        step.before * (1 - step.mu / 2 * step.cos ** 2 / np.linalg.norm(step.Hu)))  # (4)
    same(theorem2.change(net, there, ball, case), change_again(net, there, ball, case))


@pytest.fixture(scope="module")
def again():
    net, there, near, ball, case, step = without_kinks(steps("crown-ibp", KINDS[2]))
    descent, change = descent_again(net, near, ball, case, step), change_again(net, there, ball, case)
    same(step, descent)
    same(theorem2.change(net, there, ball, case), change)
    return (net, there, near, ball, case), descent, change


def by(factor, function):
    return lambda *given: factor * function(*given)


def scaled(quantities, name, factor):
    return quantities._replace(**{name: factor * getattr(quantities, name)})


@pytest.mark.parametrize("factor", [0.99, 1.01])
@pytest.mark.parametrize("name", [*theorem1.Descent._fields, *theorem2.Change._fields, *Derivatives._fields, "product",
                                  "direction", "furthest", "operator_norm"])
def test_a_quantity_that_is_wrong_by_1_percent_is_seen(name, factor, again, monkeypatch):
    (net, there, near, ball, case), descent, change = again
    for module in (theorem1, theorem2):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, by(factor, getattr(module, name)))
    if name in Derivatives._fields:
        real = theorem2.derivatives
        monkeypatch.setattr(theorem2, "derivatives", lambda *given: scaled(real(*given), name, factor))
    one, two = theorem1.descent(net, near, ball, case), theorem2.change(net, there, ball, case)
    one, two = (scaled(of, name, factor) if name in of._fields else of for of in (one, two))
    with pytest.raises(AssertionError):
        same(one, descent)
        same(two, change)


# ---- what is taken for H ----

@pytest.mark.parametrize("variant", VARIANTS)
def test_theorem_1_holds_with_the_hessian_at_a_point_of_the_step(variant, trials):
    """H = ∇²L^ε(θ̃_t), as the paper notes: its θ̃_t is found on the step, where uᵀ∇²L^ε u is the curvature."""
    net, _, _, ball, case, step = without_kinks(trials[variant, 1])

    def excess(s):
        return step.u @ hessian_vector(net, step.u, s * step.length, ball, case) - step.curvature

    Hu = hessian_vector(net, step.u, brentq(excess, 0, 1) * step.length, ball, case)
    assert step.before - step.after >= step.before * step.mu / 2 * step.cos ** 2 / np.linalg.norm(Hu)  # (4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_5_is_exact_as_the_step_shrinks(variant, trials):
    net, _, near, ball, case, step = without_kinks(trials[variant, 0])
    d = -1e-4 * step.u
    difference = loss(moved(net, d), ball, case)[1] - loss(net, ball, case)[1]
    error = theorem1.product(net, d, ball, case) - difference
    assert np.linalg.norm(error) <= 2e-3 * np.linalg.norm(difference)  # (5)
