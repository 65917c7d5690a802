"""Branch and bound: alpha's bound, autograd's gradients, the verdicts of all patterns of the ReLUs and of the MILP."""

import collections

import autograd
import numpy as np
import pytest
from networks import ALL, BALLS, batch, build, draws, inside
from test_errors import refuses
from test_milp import by_patterns

import refbound as rb
from refbound.arrays.ops import rows
from refbound.branching import bounded, branch_and_bound, cut, gradients, optimise, relax_cut, whole
from refbound.layers import Conv2d, Flatten, Linear, ReLU, margin_matrix
from refbound.linear import maximise
from refbound.methods import METHODS
from refbound.relaxation import adaptive, enclose
from verify.programs.mixed_integer import check_witness, verdict


def random_problem(seed):
    """A random network, dense or convolutional, a ball, and the label of its centre.
    Two to four layers, at most 8 ReLUs; ε is up to half the domain, by which the ball is cut or not."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        layers, shape = [Conv2d(1, 2, 2, 1, 0), ReLU(), Flatten(), Linear(4, 4), ReLU(), Linear(4, 3)], (1, 2, 3)
    else:
        widths = [3, *rng.integers(2, [[8], [4, 4], [3, 3, 2]][seed // 2 % 3], endpoint=True), 3]
        layers, shape = [layer for n, m in zip(widths, widths[1:])
                         for layer in (ReLU(), Linear(int(n), int(m)))][1:], (3,)
    net = rb.models.initialise(rng, layers, shape, np.float64)
    net = net.with_params({name: 2 * value for name, value in net.params.items()})  # so that more units are unstable
    domain = (0.0, 1.0) if seed % 4 < 2 else None
    ball = rb.Ball(rng.random((1, *shape)), rng.uniform(0, 0.5), domain=domain)
    return net, ball, net(ball.x).argmax(1)


def raised(net, y, by):
    """The network with its other logits raised, and so every margin."""
    last = f"{len(net.layers) - 1}.bias"
    return net.with_params({**net.params, last: net.params[last] + by * (np.arange(net.classes) != y)})


def problem_in_rows(net, ball, method="crown"):
    """Region and [(l, u)], in rows."""
    pre = rb.preactivation_bounds(net, ball, method)
    return ball.region(net.dtype), [tuple(rows(z, net.shapes[i]) for z in pair) for i, pair in zip(net.relus, pre)]


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", ALL)
def test_without_a_cut_the_bound_is_alphas_to_the_last_bit(name, ball):
    net = build(name)
    ball, y = batch(net, ball)
    region, pre = problem_in_rows(net, ball, "ibp")
    none = [np.zeros_like(l) for l, _ in pre]
    s = optimise(net, margin_matrix(y, net.classes, net.dtype), region, pre, none, none, adaptive(pre), 7)[0]
    assert np.array_equal(s, METHODS["alpha"].bound(net, region, y, {"steps": 7, "shared": False}).s)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", [name for name in ALL if name != "no ReLU"])
def test_the_gradients_in_beta_and_in_the_slopes_are_autograds(name, ball):
    net = build(name)
    ball, y = batch(net, ball)
    region, pre = problem_in_rows(net, ball, "ibp")
    rng, C = draws(), margin_matrix(y, net.classes, net.dtype)
    sigma = [rng.integers(-1, 2, (len(C), *l.shape)) for l, _ in pre]
    beta, a = ([rng.random(signs.shape) for signs in sigma] for _ in range(2))

    def bound(a, beta):
        relaxation = relax_cut(net, C, [enclose(l, u, k) for (l, u), k in zip(pre, a)], sigma, beta)
        return relaxation, *maximise(relaxation, region)

    relaxation, _, worst = bound(a, beta)
    found = gradients(net, relaxation, worst, sigma)
    expected = autograd.grad(lambda free: bound(*free)[1].sum())((a, beta))
    unstable = [(l < 0) & (u > 0) for l, u in pre]  # elsewhere no slope is free
    for d, other, free in zip(found[0], expected[0], unstable):
        np.testing.assert_allclose(d * free, other, rtol=0, atol=1e-9)
    for d, other in zip(found[1], expected[1]):
        np.testing.assert_allclose(d, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_bound_of_a_part_is_above_its_exact_optimum(seed):
    net, ball, y = random_problem(seed)
    region, pre = problem_in_rows(net, ball)
    parts = bounded(net, region, pre, whole(net, region, y, pre), 20, 8)
    for _ in range(2):
        halves = bounded(net, region, pre, cut(net, region, pre, parts), 20, 8)
        for k, s in enumerate(halves.s):
            signs = np.concatenate([sigma[k] for sigma in halves.sigma])
            assert s >= by_patterns(net, ball, int(halves.C[k].argmax()), y[0], signs) - 1e-9
        parts = halves


def verdicts(seed):
    """With a counterexample and without: (worst by all patterns, Decision, MILP's Verdict, ball, label, network)."""
    net, ball, y = random_problem(seed)
    now = max(by_patterns(net, ball, m, y[0]) for m in range(net.classes) if m != y[0])
    for worst in (0.01, -0.01):
        net, now = raised(net, y, worst - now), worst
        pre = rb.preactivation_bounds(net, ball, "crown")
        exact = verdict(net, ball, int(y[0]), [(l[0], u[0]) for l, u in pre])
        yield worst, branch_and_bound(net, ball, y, pre)[0], exact, ball, int(y[0]), net


@pytest.mark.parametrize("seed", range(12))
def test_verdicts_are_those_of_all_patterns_and_of_the_milp(seed):
    """Of 200 networks: python tests/test_branching.py"""
    for worst, found, exact, ball, y, net in verdicts(seed):
        assert found.answer == exact.answer == ("not robust" if worst > 0 else "robust")
        if found.witness is not None:
            assert 0 <= check_witness(net, ball, y, found.witness) <= worst + 1e-9
        else:
            assert worst - 1e-9 <= found.bound < 0


def test_a_part_whose_bound_can_be_below_0_gets_there():
    """Steps towards s̄ = 0 come near it, and stay above: no limit was enough for this network."""
    params = {"0.weight": [[-0.7, 0.3], [-1.1, 0.8], [0.4, -0.7], [1.2, -0.4]], "0.bias": [-0.9, -0.7, 1.2, -0.6],
              "2.weight": [[0, -0.8, -0.8, 0.5], [0.8, -0.1, 0.2, 0.3]], "2.bias": [0.54, 0.2]}
    net = rb.Network([Linear(2, 4), ReLU(), Linear(4, 2)], {name: np.array(p) for name, p in params.items()}, (2,))
    ball, y = rb.Ball(np.array([[0.2, 0.4]]), 1.0, domain=None), np.array([1])
    found = branch_and_bound(net, ball, y, limit=30)[0]
    assert found.answer == "robust" and by_patterns(net, ball, 0, 1) <= found.bound + 1e-9 < 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_ends_early_or_is_nan_is_unknown():
    net, ball, y = random_problem(4)
    now = max(by_patterns(net, ball, m, y[0]) for m in range(net.classes) if m != y[0])
    net = raised(net, y, -1e-4 - now)
    pre = rb.preactivation_bounds(net, ball, "ibp")
    assert branch_and_bound(net, ball, y, pre)[0].answer == "robust"
    for early in ({"limit": 0}, {"seconds": 0}):
        found = branch_and_bound(net, ball, y, pre, **early)[0]
        assert found.answer == "unknown" and found.witness is None and found.bound >= 0 and found.parts == 0
    assert branch_and_bound(net, ball, (y + 1) % 3, pre, limit=0)[0].answer == "not robust"  # at x
    for ends in ((np.nan, 1), (-np.inf, 1), (-np.inf, -np.inf), (-1, np.inf), (np.inf, np.inf)):  # each chord is NaN
        odd = [tuple(np.full_like(l, end) for end in ends) for l, _ in pre]
        found = branch_and_bound(net, ball, y, odd, limit=5)[0]
        assert found.answer == "unknown" and found.bound == np.inf


def test_an_image_is_cut_into_no_more_parts_than_the_limit_and_those_in_hand():
    net, ball, y = random_problem(5)
    now = max(by_patterns(net, ball, m, y[0]) for m in range(net.classes) if m != y[0])
    net, pre = raised(net, y, -1e-4 - now), rb.preactivation_bounds(net, ball, "ibp")
    for limit, width, parts in ((3, 1, 4), (8, 2, 10)):  # two halves of each part in hand
        found = branch_and_bound(net, ball, y, pre, steps=0, limit=limit, width=width)[0]
        assert (found.answer, found.parts) == ("unknown", parts)
    assert branch_and_bound(net, ball, y, pre)[0].answer == "robust"


def test_a_part_is_cut_at_the_unit_whose_upper_line_costs_most():
    """s = h1 + 3 h2 − 2 h3 over [−1, 1]: g⁺ b̄ is 1/2, 3/2 and 0."""
    params = {"0.weight": np.ones((3, 1)), "0.bias": np.zeros(3), "2.weight": np.array([[0, 0, 0], [1, 3, -2.0]]),
              "2.bias": np.zeros(2)}
    net = rb.Network([Linear(1, 3), ReLU(), Linear(3, 2)], params, (1,))
    ball, y = rb.Ball(np.zeros((1, 1)), 1.0, domain=None), np.array([0])
    region, pre = problem_in_rows(net, ball)
    (sigma,) = cut(net, region, pre, whole(net, region, y, pre)).sigma
    assert sigma.tolist() == [[0, 1, 0], [0, -1, 0]]


def test_without_a_relu_what_rounds_to_0_is_unknown():
    """There is nothing to cut: no part is finer than the ball."""
    ball, y, tied = rb.Ball(np.full((1, 2), 0.5), 0.1), np.array([0]), set()
    for seed in range(20):
        params = {"0.weight": draws(seed).normal(size=(2, 2)), "0.bias": np.zeros(2)}
        net = rb.Network([Linear(2, 2)], params, (2,))
        params["0.bias"][1] = -rb.margin_bounds(net, ball, y, "ibp")[0, 1]
        tied.add(branch_and_bound(net, ball, y, limit=3)[0].answer)
    assert "unknown" in tied


@pytest.mark.parametrize("ball", BALLS)
def test_the_parts_of_many_images_are_one_batch_on_every_ball(ball):
    """Each image gets the verdict that it gets alone, and no robust one is attacked."""
    net = build("dense")
    net = net.with_params({name: 1.5 * value for name, value in net.params.items()})
    ball, _ = batch(net, ball, N=8)
    y = net(ball.x).argmax(1)
    y[0] = (y[0] + 1) % net.classes  # misclassified as it is
    together = branch_and_bound(net, ball, y, width=3)
    alone = [branch_and_bound(net, ball[n:n + 1], y[n:n + 1])[0] for n in range(len(y))]
    assert [found.answer for found in together] == [found.answer for found in alone]
    assert {"robust", "not robust"} <= {found.answer for found in together}
    attacked = net(rb.pgd(net, ball, y, rng=draws(), targeted=True)).argmax(1) != y
    for n, found in enumerate(together):
        assert found.answer == "not robust" if attacked[n] else found.answer != "unknown"
        if found.witness is not None:
            z = net(found.witness[None])[0]
            assert np.delete(z, y[n]).max() >= z[y[n]]
            assert inside(found.witness[None], ball[n:n + 1])


def test_arguments_that_cannot_be_are_refused():
    net, ball, y = random_problem(0)
    swapped = [(u + 1, l) for l, u in rb.preactivation_bounds(net, ball, "ibp")]
    for pre in (3, [], [(ball.x, ball.x)], swapped, [(l.astype(str), u) for l, u in swapped]):
        refuses(lambda: branch_and_bound(net, ball, y, pre), "pre:")
    for name, value in (("steps", -1), ("width", 0), ("limit", 1.5), ("seconds", -1), ("seconds", np.nan)):
        refuses(lambda: branch_and_bound(net, ball, y, **{name: value}), f"{name}:")


def test_no_beta_below_0_bounds_a_part():
    """s = h over [−1, 1], cut to x ≥ 0, comes to 1. Of any β the bound is |1 + β|, of a β below 0 a false one."""
    params = {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1),
              "2.weight": np.array([[0.0], [1]]), "2.bias": np.zeros(2)}
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 2)], params, (1,))
    ball, y = rb.Ball(np.zeros((1, 1)), 1.0, domain=None), np.array([0])
    region, pre = problem_in_rows(net, ball)
    active = cut(net, region, pre, whole(net, region, y, pre)).at([0])
    found = bounded(net, region, pre, active._replace(s=np.array([np.inf]), beta=[np.full((1, 1), 0.5)]), 20, 8)
    assert found.s == [1] and found.beta[0] == [[0]]


if __name__ == "__main__":
    answers = collections.Counter((worst > 0, found.answer, exact.answer) for seed in range(200)
                                  for worst, found, exact, *_ in verdicts(seed))
    for (attackable, *both), count in sorted(answers.items()):
        print(f"{count} {'with' if attackable else 'without'} a counterexample: branch and bound {both[0]}, "
              f"MILP {both[1]}")
