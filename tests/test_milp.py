"""The exact worst case: against every pattern of the ReLUs, between attack and bounds, and as verdicts."""

import itertools

import numpy as np
import pytest
from networks import INF, hand
from scipy.optimize import linprog
from test_lp import last_layer_times, random_network

import refbound as rb
from refbound.layers import Conv2d, Flatten, Linear, ReLU
from verify.programs import mixed_integer
from verify.programs.mixed_integer import SLACK, check_witness, exact_margins, verdict
from verify.programs.sparse import fold
from verify.verdicts.problem import tightest

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
