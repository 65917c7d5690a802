"""The exact worst case: against every pattern of the ReLUs, between attack and bounds, and as verdicts."""

import itertools
import types
from pathlib import Path

import numpy as np
import pytest
from networks import INF, hand
from scipy.optimize import linprog
from test_lp import last_layer_times, random_network

import refbound as rb
from refbound.layers import Conv2d, Flatten, Linear, ReLU
from trainers import data
from verify.programs import mixed_integer
from verify.programs.mixed_integer import SLACK, check_witness, double, exact_margins, scaled, verdict
from verify.programs.sparse import fold
from verify.verdicts.problem import tightest

WONG = Path(__file__).resolve().parents[2] / "shared" / "models" / "wong2018_mnist.npz"
TIGHT = ("cap", "crown")
BOUNDS = ("ibp", "crown-ibp", "cap-ibp", "cap", "crown", "alpha")


def tiny(seed):
    """A network of at most 8 ReLUs over 2 to 4 inputs, dense or convolutional, and a ball."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        layers, shape = [Conv2d(1, 2, 2, 1, 0), ReLU(), Flatten(), Linear(2, 4), ReLU(), Linear(4, 3)], (1, 2, 2)
    else:
        layers, shape = [Linear(2, 4), ReLU(), Linear(4, 4), ReLU(), Linear(4, 3)], (2,)
    net = rb.models.initialise(rng, layers, shape, np.float64)
    params = {name: 2 * value for name, value in net.params.items()}  # so that more units are unstable
    norm, domain = ((INF, (0.0, 1.0)), (INF, None), (1, None))[seed % 3]
    return (net.with_params(params), rb.Ball(rng.random((1, *shape)), 0.5, norm=norm, domain=domain),
            int(rng.integers(3)))


def slack(net, ball, y):
    """SLACK, of the largest margin's size."""
    folded = fold(net, ball, y, tightest(net, ball, TIGHT))
    return SLACK * max(folded.margin(m, y)[2] for m in range(net.classes) if m != y)


def by_patterns(net, ball, m, y, signs=()):
    """max z_m − z_y: for each on/off pattern of all ReLUs, or of those whose signs (1, −1, 0: any) it keeps, a linear
    program over the inputs that have it."""
    x, eps, n, best = ball.x.ravel(), ball.eps[0], net.units[0], -np.inf
    low, high = x - eps, x + eps
    if ball.domain is not None:
        low, high = np.maximum(low, ball.domain[0]), np.minimum(high, ball.domain[1])
    corners = np.array(list(itertools.product((1, -1), repeat=n)))
    sides = (corners, corners @ x + eps) if ball.norm == 1 else (np.zeros((0, n)), np.zeros(0))
    choices = ([{1: (1,), -1: (0,)}.get(int(sign), (0, 1)) for sign in signs]
               or [(0, 1)] * sum(net.units[i] for i in net.relus))
    for pattern in itertools.product(*choices):
        M, c, (rows, ends), left = np.eye(n), np.zeros(n), sides, np.array(pattern)
        for i, layer in enumerate(net.layers):
            if isinstance(layer, ReLU):
                on, left = left[:len(c)], left[len(c):]
                rows, ends = np.vstack([rows, (1 - 2 * on)[:, None] * M]), np.append(ends, -(1 - 2 * on) * c)
                M, c = on[:, None] * M, on * c
            elif isinstance(layer, Flatten):
                M, c = layer.reorder(M.T).T, layer.reorder(c)
            else:
                A = layer.apply(net.params[f"{i}.weight"], layer.patches(np.eye(net.units[i]))).T  # column by column
                M, c = A @ M, A @ c + layer.per_unit(net.params[f"{i}.bias"])
        found = linprog(M[y] - M[m], rows, ends, bounds=np.stack([low, high], 1))
        if found.status == 0:
            best = max(best, c[m] - c[y] - found.fun)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_exact_margins_are_the_best_of_all_patterns(seed):
    net, ball, y = tiny(seed)
    for m, exact in enumerate(exact_margins(net, ball, y, tightest(net, ball, TIGHT))):
        assert exact.status == "optimal"
        assert exact.value == pytest.approx(0 if m == y else by_patterns(net, ball, m, y), abs=1e-6)
        assert exact.value <= exact.bound <= exact.value + 1e-6


def test_exact_margins_of_the_hand_worked_network():
    """y = 0: s = h4 − h3 + 1. At (1, 1): h1 = 3, h2 = 0, z3 = 2, z4 = 3, s = 2. Where z3 ≥ 0, h4 ≤ max(0, h1 − h2) and
    h3 = h1 + h2 − 1 give s ≤ 2; where z3 < 0, h1 < 1 and s ≤ 1 + h1. So s* = 2.
    y = 1: s = h3 − h4 − 1. At (1, −1): h1 = 1, h2 = 2, z3 = 2, z4 < 0, s = 1. If z4 ≥ 0, s ≤ 2 h2 − 2 ≤ h1 + h2 − 2,
    and h1 + h2 ≤ 1 + 2 x1 ≤ 3 where both are positive, h1 = 0 or h2 = 0 giving less. So s* = 1."""
    net, ball, y = hand()
    for n, expected in enumerate((2, 1)):
        exact = exact_margins(net, ball[n:n + 1], y[n], tightest(net, ball[n:n + 1], TIGHT), classes=[1 - y[n]])[0]
        assert exact.value == pytest.approx(expected, abs=1e-6) and exact.bound == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_exact_margins_lie_between_attacks_and_bounds(seed):
    net, ball, y = random_network(seed)
    exact = exact_margins(net, ball, y[0], tightest(net, ball, TIGHT))
    rng = np.random.default_rng(seed)
    attacks = [rb.pgd(net, ball, np.array([y[0]]), steps=50, restarts=3, rng=rng)[0]]
    attacks += [ball.x[0] + ball.eps[0] * d / (np.abs(d).sum() if ball.norm == 1 else 1)
                for d in rng.uniform(-1, 1, (200, *net.input_shape))]
    if ball.domain is not None:
        attacks = np.clip(attacks, *ball.domain)
    met = np.max([z - z[y[0]] for z in net(np.stack(attacks))], axis=0)
    values = np.array([e.value for e in exact])
    assert (met <= values + 1e-6).all()
    for method in BOUNDS:
        assert (values <= rb.margin_bounds(net, ball, y, method)[0] + 1e-9).all(), method
    for m, e in enumerate(exact):
        z = net(e.x[None])[0]
        assert z[m] - z[y[0]] == e.value


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("eps", [0.02, 0.1])
def test_verdicts_agree_with_exact_margins(seed, eps):
    net, ball, _ = random_network(seed)
    ball = rb.Ball(ball.x, eps, norm=ball.norm, domain=ball.domain)
    y = int(net(ball.x)[0].argmax())
    pre = tightest(net, ball, TIGHT)
    worst = max(e.value for m, e in enumerate(exact_margins(net, ball, y, pre)) if m != y)
    assert abs(worst) > 2 * slack(net, ball, y)
    for upper in (None, rb.margin_bounds(net, ball, np.array([y]), "crown")[0]):
        found = verdict(net, ball, y, pre, upper)
        assert found.answer == ("not robust" if worst >= 0 else "robust")
        assert found.bound >= worst or found.bound == pytest.approx(worst, abs=1e-6)
        if worst >= 0:
            assert found.margin == check_witness(net, ball, y, found.witness) <= worst + 1e-6
        else:
            assert found.bound < 0 and found.witness is None


def shifted(shift):
    """The hand-worked network for y = 1, a logit moved so that s* = shift instead of 1; at x itself s = shift − 3."""
    net, ball, y = hand()
    bias = net.params["4.bias"] + np.array([shift - 1, 0])
    return net.with_params({**net.params, "4.bias": bias}), ball[1:], y[1]


@pytest.mark.parametrize("shift, answer", [
    (-0.01, "robust"), (-1e-4, "unknown"), (0.01, "not robust"), (1.0, "not robust")])
def test_a_margin_within_slack_of_zero_is_not_called_robust(shift, answer):
    net, ball, y = shifted(shift)
    found = verdict(net, ball, y, tightest(net, ball, TIGHT))
    assert found.answer == answer
    room = slack(net, ball, y)
    assert found.bound <= -room if answer == "robust" else found.bound >= min(shift, room) - 1e-6


def test_a_bound_of_the_solver_above_minus_slack_is_no_proof(monkeypatch):
    net, ball, y = shifted(-0.01)
    monkeypatch.setattr(mixed_integer, "decide", lambda *arguments: (-slack(net, ball, y) / 2, None))
    assert verdict(net, ball, y, tightest(net, ball, TIGHT)).answer == "unknown"


def test_a_bound_by_weak_duality_needs_no_slack():
    """Without a ReLU the LP is the margin: x1 − 1 over [−1, 1] × [−1, 1], a little lower."""
    params = {"0.weight": np.array([[0.0, 0], [1, 0]]), "0.bias": np.array([0, -1 - 1e-9])}
    net, ball = rb.Network([Linear(2, 2)], params, (2,)), rb.Ball(np.zeros((1, 2)), 1.0, domain=None)
    assert verdict(net, ball, 0, []).answer == "robust" and exact_margins(net, ball, 0, [])[1].bound < 0
    at_zero = net.with_params({**params, "0.bias": np.array([0, -1.0])})
    assert verdict(at_zero, ball, 0, []).answer == "not robust"


def test_without_time_the_answer_is_unknown_with_a_bound():
    net, ball, y = shifted(-0.01)
    found = verdict(net, ball, y, tightest(net, ball, TIGHT), time_limit=0)
    assert found.answer == "unknown" and found.witness is None and 0 <= found.bound < np.inf


def test_margins_that_are_bounded_below_zero_are_skipped():
    net, ball, y = shifted(1.0)  # not robust, so that a bound below 0 is a lie that only a skip believes
    assert verdict(net, ball, y, tightest(net, ball, TIGHT), upper=np.array([-1.0, 0])).answer == "robust"


def test_a_misclassified_input_is_its_own_witness():
    net, ball, y = shifted(-0.01)
    found = verdict(net, ball, 1 - y, tightest(net, ball, TIGHT))
    assert found.answer == "not robust" and (found.witness == ball.x[0]).all() and found.margin > 0


def test_a_wrong_witness_is_an_error():
    net, ball, y = random_network(0)  # l∞, clipped to [0, 1]
    y = int(net(ball.x)[0].argmax())
    x, pre = ball.x[0], tightest(net, ball, TIGHT)
    edge = rb.Ball(np.zeros_like(ball.x), 0.5)
    for message, where, witness in (("misclassified", ball, x), ("within", ball, x + 2 * ball.eps[0]),
                                    ("shape", ball, x[:-1]), ("finite", ball, x * np.nan),
                                    (r"pixels in \(0.0, 1.0\)", edge, edge.x[0] - 0.1)):
        with pytest.raises(ValueError, match=f"witness: .*{message}"):
            verdict(net, where, y, pre, witness=witness)


def test_a_given_witness_is_run_and_returned():
    net, ball, y = shifted(1.0)
    found = verdict(net, ball, y, tightest(net, ball, TIGHT), witness=np.array([1.0, -1.0]))
    assert found.answer == "not robust" and found.margin == pytest.approx(1.0)


def test_bounds_that_are_not_numbers_are_an_error():
    net, ball, y = shifted(1.0)
    for upper in (np.array([np.nan, 0]), np.zeros(3)):
        with pytest.raises(ValueError, match="upper: "):
            verdict(net, ball, y, tightest(net, ball, TIGHT), upper=upper)


@pytest.mark.parametrize("c", [1e-6, 1e9])
def test_a_last_layer_times_c_changes_no_verdict_and_no_optimum_but_by_c(c):
    answers = set()
    for seed in range(6):  # each kind of network with each kind of ball
        net, ball, y = random_network(seed)
        pre, times = tightest(net, ball, TIGHT), last_layer_times(net, c)
        for one, other in zip(exact_margins(net, ball, y[0], pre), exact_margins(times, ball, y[0], pre)):
            assert (other.value / c, other.bound / c) == pytest.approx((one.value, one.bound), rel=1e-6, abs=1e-6)
        for radius in (0.02, 0.2):
            near = rb.Ball(ball.x, radius, norm=ball.norm, domain=ball.domain)
            label, pre = int(net(ball.x)[0].argmax()), tightest(net, near, TIGHT)
            one, other = verdict(net, near, label, pre), verdict(times, near, label, pre)
            answers.add(one.answer)
            assert one.answer == other.answer and one.bound == pytest.approx(other.bound / c, rel=1e-6, abs=1e-6)
    assert answers == {"robust", "not robust"}


@pytest.mark.parametrize("t", [1e-9, 1e9])
def test_inputs_and_radius_times_t_change_no_verdict_and_no_optimum(t):
    answers = set()
    for seed in range(4):
        (net, ball, y), norm = random_network(seed), (INF, 1)[seed // 2 % 2]
        first = f"{net.affine[0][0]}.weight"
        times, label = net.with_params({**net.params, first: net.params[first] / t}), int(net(ball.x)[0].argmax())
        for radius in (0.02, 0.2):
            near, far = (rb.Ball(k * ball.x, k * radius, norm=norm, domain=None) for k in (1, t))
            pre = tightest(net, near, TIGHT)
            one, other = verdict(net, near, label, pre), verdict(times, far, label, pre)
            answers.add(one.answer)
            assert one.answer == other.answer and one.bound == pytest.approx(other.bound, rel=1e-6, abs=1e-6)
            assert [e.value for e in exact_margins(times, far, y[0], pre)] == pytest.approx(
                [e.value for e in exact_margins(net, near, y[0], pre)], rel=1e-6, abs=1e-6)
    assert answers == {"robust", "not robust"}


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
