"""When HiGHS's word counts: its tolerance, the gain, and where it contradicts the network or itself."""

import itertools
import types
from pathlib import Path

import numpy as np
import pytest
from test_lp import last_layer_times, random_network

import refbound as rb
from refbound.layers import Linear, ReLU
from trainers import data
from verify.programs import mixed_integer
from verify.programs.mixed_integer import SLACK, check_witness, double, exact_margins, scaled, verdict
from verify.programs.sparse import fold
from verify.verdicts.problem import tightest

WONG = Path(__file__).resolve().parents[2] / "shared" / "models" / "wong2018_mnist.npz"
TIGHT = ("cap", "crown")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("hat, drop", [((0.33, 0.37, 0.41), 0.02), ((0.496, 0.5, 0.504), 0.001)])
@pytest.mark.parametrize("u", [1e-3, 3e-6, 1e-6, 2.5e-7, 3e-8, 1e-10])
def test_what_hangs_on_a_unit_thinner_than_a_tolerance_is_never_robust(u, hat, drop, sign):
    """The first unit is active (sign −1: inactive) on the last u of the input's range alone; a hat is on part of it."""
    hat = np.array(hat)
    if sign == 1:
        W, bias = np.ones((1, 1)), np.array([u - 1])
        V, c = np.full((3, 1), 1 / u), -hat
    else:  # h = max(1 − u − x, 0) − (1 − u − x) is made of a unit that is inactive there, and of the input
        W, bias = np.array([[-1.0], [1.0]]), np.array([1 - u, 2.0])
        V, c = np.full((3, 2), 1 / u), -(3 - u) / u - hat
    layers = [Linear(1, len(W)), ReLU(), Linear(len(W), 3), ReLU(), Linear(3, 2)]
    net = rb.Network(layers, {"0.weight": W, "0.bias": bias, "2.weight": V, "2.bias": c,
                              "4.weight": np.array([[0, 0, 0], [1.0, -2, 1]]), "4.bias": np.array([0, -drop])}, (1,))
    ball, there = rb.Ball(np.zeros((1, 1)), 1.0, domain=None), np.array([[1 - u + hat[1] * u]])
    pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "ibp")]
    assert net(np.zeros((1, 1))).argmax() == 0 and net(there).argmax() == 1
    room = 1e-4 * fold(net, ball, 0, pre).margin(1, 0)[2]
    assert exact_margins(net, ball, 0, pre)[1].bound >= np.subtract(*net(there)[0, ::-1]) - room
    try:
        assert verdict(net, ball, 0, pre).answer in (("not robust", "unknown") if u < 1e-3 else ("not robust",))
    except RuntimeError as error:
        assert u < 1e-3 and "HiGHS's tolerance in a unit" in str(error)


@pytest.mark.parametrize("weight, more", [(0, 1), (1e-13, 1 + 1e-4), (1e-11, 1)])
def test_the_gain_is_how_far_errors_in_the_units_may_move_a_margin(weight, more):
    """A unit's h goes to two others by 3 and −2, these to the margin by 1 and 4; sizes 1, 5 and 2, the margin's 13.

    What is dropped, a weight of 1e-13, is an error in the unit of 1e-4 of the tolerance.
    """
    net = rb.Network([Linear(2, 1), ReLU(), Linear(1, 2), ReLU(), Linear(2, 2)], {
        "0.weight": np.array([[1.0, weight]]), "0.bias": np.zeros(1),
        "2.weight": np.array([[3.0], [-2.0]]), "2.bias": np.zeros(2),
        "4.weight": np.array([[0.0, 0], [1, 4]]), "4.bias": np.zeros(2)}, (2,))
    pre = [(np.array([-1.0]), np.array([1.0])), (np.array([-1.0, -2.0]), np.array([5.0, 2.0]))]
    folded = fold(net, rb.Ball(np.zeros((1, 2)), 1.0, domain=None), 0, pre)
    assert (folded.gain(1, 0) == pytest.approx(((3 + 2 * 4) * more + 5 * 1 + 2 * 4) / 13, rel=1e-14)
            and folded.margin(1, 0)[2] == 13)
    net = rb.Network([Linear(2, 2)], {"0.weight": np.array([[0, 0], [1.0, weight]]), "0.bias": np.zeros(2)}, (2,))
    folded = fold(net, rb.Ball(np.zeros((1, 2)), 1.0, domain=None), 0, [])
    assert folded.gain(1, 0) == pytest.approx(more - 1, abs=1e-16)


def test_many_entries_near_1e_9_are_not_lost():
    """HiGHS takes them for 0 if it may. 784 of them are all that h₀ and h₁ differ by, and so all of the margin."""
    W, n = np.zeros((2, 785)), 785
    W[:, 0], W[0, 1:] = 1, 1.8e-9
    net = rb.Network([Linear(n, 2), ReLU(), Linear(2, 1), ReLU(), Linear(1, 2)], {
        "0.weight": W, "0.bias": -4e-4 - 1.8e-9 * np.array([392, 0]), "2.weight": np.array([[1.0, -1]]),
        "2.bias": np.array([-2e-7]), "4.weight": np.array([[0.0], [1]]), "4.bias": np.array([1.5e-7, 0])}, (n,))
    ball = rb.Ball(np.full((1, n), 0.5), 0.5)
    assert net(np.ones((1, n))).argmax() == 1
    assert verdict(net, ball, 0, tightest(net, ball, TIGHT)).answer == "not robust"


def tent():
    """(net, ball, pre) whose margin is 1/4 − |x − 0.3| on [−1, 1]."""
    net = rb.Network([Linear(1, 2), ReLU(), Linear(2, 2)], {
        "0.weight": np.array([[1.0], [-1]]), "0.bias": np.array([-0.3, 0.3]),
        "2.weight": np.array([[0.0, 0], [-1, -1]]), "2.bias": np.array([0, 0.25])}, (1,))
    ball = rb.Ball(np.zeros((1, 1)), 1.0, domain=None)
    return net, ball, [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "ibp")]


@pytest.mark.parametrize("said, outcome", [
    (lambda presolve: mixed_integer.INFEASIBLE * (not presolve), "HiGHS contradicts itself"),  # as it has done
    (lambda presolve: mixed_integer.INFEASIBLE, "HiGHS contradicts itself"),
    (lambda presolve: mixed_integer.INFEASIBLE * presolve, "not robust"),
    (lambda presolve: mixed_integer.LIMIT if presolve else mixed_integer.INFEASIBLE, "unknown")])
def test_nothing_is_robust_where_highs_contradicts_itself_or_has_no_time_to_say_it_again(said, outcome, monkeypatch):
    """The margin is −0.05 at the centre of the ball, and to call it infeasible is a lie."""
    (net, ball, pre), real = tent(), mixed_integer.solve
    assert net(ball.x).argmax() == 0 and net(np.array([[0.3]])).argmax() == 1

    def solve(folded, m, y, seconds, floor=None, presolve=False):
        return (said(presolve), None, None) if said(presolve) else real(folded, m, y, seconds, floor, presolve)

    monkeypatch.setattr(mixed_integer, "solve", solve)
    try:
        assert verdict(net, ball, 0, pre).answer == outcome
    except RuntimeError as error:
        assert outcome in str(error)


def test_an_optimum_below_another_point_is_an_error(monkeypatch):
    (net, ball, pre), real = tent(), mixed_integer.solve
    assert exact_margins(net, ball, 0, pre)[1].bound == pytest.approx(0.25)

    def solve(folded, m, y, seconds, floor=None, presolve=False):
        return (real(folded, m, y, seconds, floor, presolve) if floor is not None
                else (mixed_integer.OPTIMAL, np.ones_like(folded.inputs.low), -0.45))

    monkeypatch.setattr(mixed_integer, "solve", solve)
    with pytest.raises(RuntimeError, match="HiGHS contradicts itself on class 1"):
        exact_margins(net, ball, 0, pre)


def test_what_is_attacked_has_the_same_classes_and_logits_of_one_size():
    for seed, c in itertools.product(range(4), (1e-6, 1.0, 1e9)):
        net, ball, _ = random_network(seed)
        found = scaled(last_layer_times(net, c), ball.x)(ball.x)
        assert np.ptp(found) == pytest.approx(20) and (np.argsort(found) == np.argsort(net(ball.x))).all()
    assert np.isfinite(scaled(last_layer_times(net, 1e-311), ball.x)(ball.x)).all()
    dead = rb.Network([Linear(1, 1), ReLU(), Linear(1, 2)], {  # its last layer times 20 / 1e-200 is beyond float64
        "0.weight": np.zeros((1, 1)), "0.bias": np.array([-1.0]), "2.weight": np.array([[1e200], [0.0]]),
        "2.bias": np.array([1e-200, 0.0])}, (1,))
    assert np.isfinite(scaled(dead, np.zeros((1, 1)))(np.zeros((1, 1)))).all()
    nothing = net.with_params({name: 0 * value for name, value in net.params.items()})
    assert (scaled(nothing, ball.x)(ball.x) == 0).all()


@pytest.mark.skipif(not WONG.exists(), reason="needs the published network, ../shared/models/wong2018_mnist.npz")
@pytest.mark.parametrize("image, answer", [(0, "robust"), (8, "not robust"), (359, "robust")])
def test_verdicts_on_a_published_network_without_attack_or_bounds(image, answer):
    """Image 359 is certified neither by cap nor by crown."""
    test = data.load("mnist", "test")
    net = double(rb.load(WONG))
    ball = rb.Ball(data.to_float(test.images[image:image + 1], np.float64), 0.1)
    assert verdict(net, ball, test.labels[image], tightest(net, ball, TIGHT)).answer == answer


@pytest.mark.parametrize("t", [1e-9, 1e-12, 1e9])
def test_the_verdict_does_not_depend_on_how_a_hidden_unit_is_scaled(t):
    """HiGHS takes entries near 1e-9 for 0: in the network's own units it would find no input that is misclassified."""
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 2)],
                     {"0.weight": np.array([[t]]), "0.bias": np.array([-0.5 * t]),
                      "2.weight": np.array([[0.0], [1 / t]]), "2.bias": np.array([0.0, -0.2])}, (1,))
    ball = rb.Ball(np.array([[0.45]]), 0.5)
    pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "cap")]
    assert verdict(net, ball, 0, pre).answer == "not robust"
    assert exact_margins(net, ball, 0, pre)[1].bound == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize("presolved", [False, True])
def test_an_infeasible_that_the_centre_of_the_ball_refutes_is_no_proof(presolved, monkeypatch):
    """HiGHS lies about the floor with presolve and without, and about a point as bad as the centre in one of these."""
    (net, ball, pre), real = tent(), mixed_integer.solve

    def solve(folded, m, y, seconds, floor=None, presolve=False):
        lies = floor > -0.05 or presolve == presolved
        return (mixed_integer.INFEASIBLE, None, None) if lies else real(folded, m, y, seconds, floor, presolve)

    monkeypatch.setattr(mixed_integer, "solve", solve)
    with pytest.raises(RuntimeError, match="HiGHS contradicts itself"):
        verdict(net, ball, 0, pre)


@pytest.mark.parametrize("gain, reached, least", [(mixed_integer.GAIN, -1.0, 0), (0, 0.01, 0.25), (0, -1.0, 0.25)])
def test_a_bound_of_highs_is_never_below_0_and_none_at_all_where_the_gain_is_large(gain, reached, least, monkeypatch):
    """The optimum is 1/4; HiGHS finds no point within the time limit, and reports a bound that is too low."""
    net, ball, pre = tent()
    monkeypatch.setattr(mixed_integer, "GAIN", gain)
    monkeypatch.setattr(mixed_integer, "solve", lambda *given: (mixed_integer.LIMIT, None, reached))
    found = verdict(net, ball, 0, pre)
    assert found.answer == "unknown" and found.bound >= least


@pytest.mark.parametrize("gain", [mixed_integer.GAIN, 0])
def test_an_infeasible_network_is_an_error_and_nothing_at_all_where_the_gain_is_large(gain, monkeypatch):
    """The network is a solution of its own program, so that HiGHS is wrong. The margin is 1/4 at most."""
    net, ball, pre = tent()
    monkeypatch.setattr(mixed_integer, "GAIN", gain)
    monkeypatch.setattr(mixed_integer, "milp", lambda *_, **__: types.SimpleNamespace(
        status=mixed_integer.INFEASIBLE, x=None, mip_dual_bound=np.inf, message="infeasible"))
    if gain:
        with pytest.raises(RuntimeError, match="HiGHS failed on class 1: infeasible"):
            exact_margins(net, ball, 0, pre)
        return
    found = exact_margins(net, ball, 0, pre)[1]
    assert found.value == -np.inf and found.bound >= 0.25 and found.x is None and found.status == "gain"


def test_a_bound_of_highs_below_the_margin_at_its_own_point_is_an_error(monkeypatch):
    net, ball, pre = tent()
    monkeypatch.setattr(mixed_integer, "solve", lambda folded, *given: (
        mixed_integer.LIMIT, np.append(0.3 * np.ones_like(folded.inputs.low), 0 * folded.u), 0.2))
    with pytest.raises(RuntimeError, match="the network attains 0.25, above the bound 0.2 of HiGHS"):
        exact_margins(net, ball, 0, pre)


def test_a_witness_beyond_the_ball_by_little_or_of_an_l1_ball_by_its_sum_is_an_error():
    net, ball, y = random_network(2)  # two inputs or more
    x, eps = ball.x, ball.eps[0]
    for message, where, witness in (
            ("within", rb.Ball(x, eps, domain=None), x[0] + eps + 1e-10),
            ("within", rb.Ball(x, eps, norm=1, domain=None), x[0] + 0.9 * eps),
            (r"pixels in \(0.0, 1.0\)", rb.Ball(np.ones_like(x), eps), np.ones_like(x[0]) + 0.9 * eps)):
        with pytest.raises(ValueError, match=f"witness: .*{message}"):
            check_witness(net, where, y[0], witness)


def test_the_solver_is_given_the_tolerance_that_slack_and_gain_are_made_for(monkeypatch):
    (net, ball, pre), real, seen = tent(), mixed_integer.milp, []
    monkeypatch.setattr(mixed_integer, "milp",
                        lambda *given, options, **more: seen.append(options) or real(*given, options=options, **more))
    exact_margins(net, ball, 0, pre)
    assert seen and all(10 * mixed_integer.GAIN * each["mip_feasibility_tolerance"] == pytest.approx(SLACK)
                        for each in seen)
