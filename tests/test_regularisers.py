"""A start that suits interval bounds, and the two regularisers: formulas, gradients, limits, and runs with them."""

import json
import re
from dataclasses import asdict

import autograd.numpy as anp
import numpy as np
import pytest
from networks import ALL, BALLS, batch, build, extent, hand
from test_gradients import check_by_autograd, with_params
from test_objectives import step_of
from test_training import SHORT

import refbound as rb
from refbound.interval import interval
from refbound.regularisers import PAIRS, measures, penalty, regularise
from trainers import data, train
from trainers.files import checkpoint, words
from trainers.loop import minibatch, optim, schedule

WIDTHS = (100, 200, 200, 200, 200, 200, 10)

# ---- the start ----


def gains(net, eps=0.1):
    """The mean radius at each ReLU, in units of the input's."""
    x = np.random.default_rng(1).random((4, *net.input_shape)).astype(net.dtype)
    return [float((u - l).mean() / 2 / eps)
            for l, u in interval(net, rb.Ball(x, eps, domain=None).region(net.dtype)).pre]


def started(seed, widths=WIDTHS):
    rng = np.random.default_rng(seed)
    return rb.models.for_intervals(rng, rb.models.mlp(rng, widths))


@pytest.mark.parametrize("seed", range(10))
def test_radii_stay_within_a_factor_of_two_through_five_layers(seed):
    found, uniform = gains(started(seed)), gains(rb.models.mlp(np.random.default_rng(seed), WIDTHS))
    assert len(found) == 5 and max(found) < 2 * min(found) and 1 < min(found) < max(found) < 4
    assert all(after > 2 * before for before, after in zip(uniform, uniform[1:]))


def test_every_relu_has_radii_of_twice_the_inputs_in_the_mean():
    """To four standard errors of the mean of 400 networks."""
    found = np.array([gains(started(seed, (20, 30, 30, 30, 30, 30, 3))) for seed in range(400)])
    error = found.std(0) / 20
    assert (error < 0.05).all() and (np.abs(found.mean(0) - 2) < 4 * error).all()


@pytest.mark.parametrize("name", rb.models.MODELS)
def test_only_weights_before_the_last_layer_are_drawn_anew(name):
    net = rb.models.MODELS[name](np.random.default_rng(0))
    other, (*before, _) = rb.models.for_intervals(np.random.default_rng(1), net), (f"{i}.weight" for i, _ in net.affine)
    for key, value in other.params.items():
        assert (value == net.params[key]).all() == (key not in before) and value.dtype == net.dtype
    for key in before:  # the standard deviation of so many draws, to five of its own
        weight = other.params[key]
        assert abs(weight.std() * weight[0].size / np.sqrt(2 * np.pi) - 1) < 5 / np.sqrt(2 * weight.size)


# ---- the regularisers ----


class Penalised:
    """The mean of R in the parameters alone."""

    def __init__(self, name, ball="inf"):
        self.net = build(name)
        self.ball, _ = batch(self.net, ball, N=6)
        self.region = self.ball.region(self.net.dtype)

    def value(self, params):
        return anp.mean(penalty(interval(with_params(self.net, params), self.region).pre, self.region.radius.mean(-1)))


each = pytest.mark.parametrize("name", ALL)
ball_of = pytest.mark.parametrize("ball", BALLS)


@pytest.mark.filterwarnings("ignore:Output seems independent")  # without a ReLU behind weights it is, and 0
@ball_of
@each
def test_the_gradient_of_the_regularisers_is_autograds(name, ball):
    problem = Penalised(name, ball)
    value, grads = regularise(problem.net, problem.ball)
    assert abs(value - problem.value(problem.net.params)) < 1e-12
    check_by_autograd(problem, grads)


def by_torch(torch, l, u, r0):
    """The terms of one ReLU and example as the authors write them, with min(ρ, 1 / ρ); constant if A or I is empty."""
    c, on, off = (l + u) / 2, l > 0, u < 0
    terms = [torch.relu(0.5 - r0 / ((u - l) / 2).mean()) / 0.5]
    for of in (c, (c - c.mean()) ** 2):
        ratio = (of * on).sum() / (of * off).sum().abs()
        if on.any() and off.any():
            terms.append(torch.relu(0.5 - torch.minimum(ratio, 1 / ratio)) / 0.5)
        elif on.any() or off.any():
            terms.append(torch.ones(()))
    return sum(terms)


@ball_of
@pytest.mark.parametrize("name", ["dense", "affine after affine", "ReLU after ReLU"])
def test_value_and_gradient_are_torchs_by_the_authors_formula(name, ball, torch):
    problem = Penalised(name, ball)
    net, low, high = problem.net, *(torch.tensor(side) for side in extent(problem.ball))
    params, eps = ({k: torch.tensor(v, requires_grad=True) for k, v in net.params.items()},
                   torch.tensor(np.array(problem.ball.eps)))
    if problem.ball.norm == np.inf:
        centre, radius, r0 = (high + low) / 2, (high - low) / 2, ((high - low) / 2).mean(1)
        start = 0
    else:  # the first affine layers are one, and the ball's radius meets the dual norm of its rows
        centre, W, start, r0 = (torch.tensor(problem.ball.x), torch.eye(net.units[0], dtype=torch.float64),
                                net.relus[0], eps)
        for i in range(start):
            W, centre = params[f"{i}.weight"] @ W, centre @ params[f"{i}.weight"].T + params[f"{i}.bias"]
        radius = r0[:, None] * torch.linalg.vector_norm(W, 2 if problem.ball.norm == 2 else np.inf, dim=1)
    terms = []
    for i in range(start, net.head):
        if i in net.relus:
            l, u = centre - radius, centre + radius
            terms += [by_torch(torch, *one) / len(net.relus) for one in zip(l, u, r0)]
            centre, radius = (u.relu() + l.relu()) / 2, (u.relu() - l.relu()) / 2
        else:
            W = params[f"{i}.weight"]
            centre, radius = centre @ W.T + params[f"{i}.bias"], radius @ W.abs().T
    expected = sum(terms) / len(problem.ball)
    expected.backward()
    value, grads = regularise(net, problem.ball)
    assert abs(value - expected.item()) < 1e-12 and value > 0
    for key, grad in grads.items():
        other = params[key].grad
        np.testing.assert_allclose(grad, 0 if other is None else other.numpy(), rtol=0, atol=1e-9, err_msg=key)


def test_the_networks_of_these_tests_meet_every_term():
    met = np.zeros(5)
    for problem in map(Penalised, ALL):
        for l, u in interval(problem.net, problem.region).pre:
            found = problem.region.radius.mean(-1), *measures(l, u)
            met += [((0 < found[i]) & (found[i] < found[j] / 2)).sum() for i, j in PAIRS]
    assert (met > 0).all(), met


def test_the_regularisers_of_networks_worked_by_hand():
    """The hand-worked network has no stable unit. r̄₀ = 1; r̄ = 2 has the ratio 1/2 = τ, 5/2 has 2/5: R = 1/2 − 2/5.

    Then one ReLU of four units, r = 1, 1/2, 3/4, 41/4, r̄ = 25/8: 1 in A, 2 in I, 1 unstable; with −c, 2 in A, 1 in I.
        c = 6, −1, −2, 5   c̄ = 2   −Σ_I c / Σ_A c = 3/6    Σ_A δ² = 16, Σ_I δ² = 9 + 16: nothing; r̄₀ = r̄/4 leaves 1/4
        c = 12, −1, −2, 7  c̄ = 4   3/12 leaves 1/4         Σ_A δ² = 64, Σ_I δ² = 25 + 36
        c = 16, −1, −1, 2  c̄ = 4   2/16 leaves 3/8         Σ_A δ² = 144, Σ_I δ² = 25 + 25: 50/144 leaves 11/72
    """
    net, ball, _ = hand()
    assert regularise(net, ball)[0] == pytest.approx(0.1, abs=1e-15)
    r = np.array([[1, 0.5, 0.75, 10.25]])
    for sign in (1, -1):
        for c, r0, left in (([6, -1, -2, 5], 25 / 32, 1 / 4), ([12, -1, -2, 7], 25 / 8, 1 / 4),
                            ([16, -1, -1, 2], 25 / 8, 3 / 8 + 11 / 72)):
            c = sign * np.array([c])
            np.testing.assert_allclose(penalty([(c - r, c + r)], np.array([r0])), 2 * left, rtol=0, atol=1e-15)


@ball_of
@each
def test_at_radius_0_tightness_is_left_out_and_nothing_is_nan(name, ball):
    net = build(name)
    point, _ = batch(net, ball, eps=0.0)
    with np.errstate(all="raise"):
        value, grads = regularise(net, point)
    pre = interval(net, point.region(net.dtype)).pre
    balance = np.mean(penalty(pre, np.ones(len(point))))  # no radius is above 2 r̄₀
    assert value == balance and all(np.isfinite(grad).all() for grad in grads.values())
    nearly = rb.Ball(point.x, 1e-9, norm=point.norm, domain=point.domain)
    pre, r0 = interval(net, nearly.region(net.dtype)).pre, nearly.region(net.dtype).radius.mean(-1)
    tightness = sum(np.maximum(1 - 2 * r0 / ((u - l) / 2).mean(-1), 0) for l, u in pre)  # its limit
    assert regularise(net, nearly)[0] == pytest.approx(balance + np.mean(tightness) / max(len(pre), 1), abs=1e-6)


def test_layers_without_active_or_without_inactive_units_are_no_nan():
    net = build("dense")
    for shift in (9.0, -9.0):
        other = net.with_params({k: v + shift if k == "0.bias" else v for k, v in net.params.items()})
        with np.errstate(all="raise"):
            value, grads = regularise(other, batch(net)[0])
        assert np.isfinite(value) and all(np.isfinite(grad).all() for grad in grads.values())


@ball_of
def test_the_regularisers_of_a_batch_are_the_mean_of_those_of_its_examples(ball):
    problem = Penalised("stride 1, 2, padding 1", ball)
    value, grads = regularise(problem.net, problem.ball)
    ones = [regularise(problem.net, problem.ball[i:i + 1]) for i in range(6)]
    assert value == pytest.approx(np.mean([one for one, _ in ones]), abs=1e-14)
    for key, grad in grads.items():
        np.testing.assert_allclose(grad, np.mean([one[key] for _, one in ones], axis=0), rtol=0, atol=1e-12)


def test_arguments_that_do_not_fit_are_refused():
    net = build("dense")
    with pytest.raises(ValueError, match=re.escape("x: expected shape (N, 6), got (3, 5)")):
        regularise(net, rb.Ball(np.zeros((3, 5)), 0.1))


# ---- in training ----


@pytest.mark.parametrize("eps", [0.05, 0.0])
def test_a_minibatch_has_the_regularisers_of_its_shards_beside_a_loss_without_them(eps, few):
    net, here = step_of(few, method="one-step")
    here.now["eps"] = eps
    without = minibatch.gradient(net, here)
    here.now["regularise"] = 0.3
    *loss, more = minibatch.gradient(net, here)
    assert without[-1] == {} and loss[0] == without[0] == minibatch.value(net, here) and loss[2:] == list(without[2:-1])
    x, total = here.train.images.astype(np.float32) / 255, None
    for part in (slice(0, 10), slice(10, 20), slice(20, 30)):
        grads = regularise(net, rb.Ball(x[part], max(eps, 1e-6)))[1]
        mine = {key: 10 / 30 * 0.3 * grad for key, grad in grads.items()}
        total = {key: total[key] + grad for key, grad in mine.items()} if total else mine
    for key, grad in more.items():
        np.testing.assert_array_equal(loss[1][key], without[1][key])
        np.testing.assert_array_equal(grad, total[key])
    assert abs(more["1.weight"]).max() > 0


def test_the_weight_falls_as_epsilon_rises():
    args = train.Args(eps=0.1, train_eps=0.2, warmup=1, ramp=2, regularise=0.5)
    for time, weight in ((0, 0.5), (1, 0.5), (2, 0.25), (2.5, 0.125), (3, 0), (6, 0)):
        now = schedule.at(time, args)
        assert now["regularise"] == weight == pytest.approx(0.5 * (1 - now["eps"] / 0.2), abs=1e-15)
    assert "regularise" not in schedule.at(0, train.Args())


@pytest.mark.parametrize("l1, limit", [(0.0, 0.0), (0.1, 0.5)])
def test_a_step_follows_the_loss_and_the_regularisers(l1, limit, few, monkeypatch):
    net, here = step_of(few)
    here.now["regularise"] = 0.3
    monkeypatch.setattr(schedule, "at", lambda time, args: here.now)
    args = train.Args(model="mlp", batch=30, shard=10, data_dir=few, optimizer="sgd", probe=0, l1=l1, clip_norm=limit)
    images = data.Dataset(*(column[:30] for column in here.train))
    after = train.train_epoch(net, {}, images, 1, args, map, None)[0]
    order = train.stream("order", 0, 1).permutation(30)
    grads, _, _, more = minibatch.gradient(net, minibatch.Minibatch(images, order, [0, 1, 0], here.now, args, map))[1:]
    downhill = optim.clip_norm(optim.add_l1({k: grads[k] + more[k] for k in grads}, net.params, l1), limit)
    for key, w in net.params.items():
        np.testing.assert_array_equal(after.params[key], w - 0.01 * downhill[key])


def test_a_run_begins_from_the_weights_that_were_asked_for(few):
    uniform, ibp = (train.new_network(train.Args(seed=3, init=init), np, (1, 28, 28), 10)
                    for init in ("uniform", "ibp"))
    rng = train.stream("parameters", 3)
    first = rb.models.small(rng)
    for net, expected in ((uniform, first), (ibp, rb.models.for_intervals(rng, first))):
        for key, value in expected.params.items():
            np.testing.assert_array_equal(net.params[key], value)


@pytest.mark.parametrize("given, words", [
    (["--regularise", "-1"], "--regularise: expected at least 0, got -1"),
    (["--regularise", "inf"], "--regularise: expected a finite number, got inf")])
def test_a_weight_that_cannot_be_is_refused(given, words, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)):
        train.main([*SHORT, *given, "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_a_run_from_before_both_is_known_by_its_arguments():
    now = asdict(train.Args(crop=1))
    before = json.loads(json.dumps({key: value for key, value in now.items() if key not in ("init", "regularise")}))
    assert checkpoint.differences(before, now) == ""
    assert checkpoint.differences(before, {**now, "init": "ibp"}) == "--init uniform there, ibp here"


def test_tables_say_what_a_run_began_from_and_its_weight():
    usual, new = asdict(train.Args()), asdict(train.Args(init="ibp", regularise=0.5))
    before = {key: value for key, value in usual.items() if key not in ("init", "regularise")}
    assert words.schedule(usual) == words.schedule(before)
    assert words.schedule(new) == words.schedule(usual) + ", weights drawn for ibp, regularised (λ = 0.5)"
