"""The objectives: formulas, gradients, limits, and what follows from s_adv ≤ s̄."""

import importlib
import inspect
import itertools
import json
import re
from dataclasses import asdict
from pathlib import Path

import autograd.numpy as anp
import numpy as np
import pytest
from networks import BALLS, batch, build, draws, extent, inside, length, margins
from test_gradients import Problem, check_by_autograd, check_by_differences, with_params
from test_training import SHORT

import refbound as rb
from refbound.attack import climb
from refbound.arrays.ops import as_rows, with_true_class
from refbound.ball import Region
from refbound.layers import forward
from refbound.losses import mixed_loss
from refbound.objectives import small_box
from trainers import data, train
from trainers.files import checkpoint, words
from trainers.inputs.draws import stream
from trainers.loop import minibatch, optim

SETTING = {"robust": {}, "sabr": {"lam": 0.4},
           "mtl-ibp": {"alpha": 0.3}, "cc-ibp": {"alpha": 0.3}, "exp-ibp": {"alpha": 0.3}}
MIXED = ("mtl-ibp", "cc-ibp", "exp-ibp")
METHODS = ("ibp", "crown-ibp", "one-step")
each = pytest.mark.parametrize("objective", SETTING)
by = pytest.mark.parametrize("method", METHODS)


def attacked(name="dense", ball="inf", eps=None):
    """A network, a ball, labels, and points that an attack finds there."""
    net = build(name)
    ball, y = batch(net, ball, eps=eps)
    return net, ball, y, rb.pgd(net, ball, y, 5, rng=draws(7))


def L(s):
    """(1) from (N, c), 0 in column y."""
    return np.log(np.exp(s).sum(1))


def by_hand(ball, x_adv, lam):
    """The small box, or ball, as a Region: of inputs in rows."""
    x, x_adv, eps = as_rows(ball.x, float), as_rows(x_adv, float), as_rows(ball.eps, float)
    if ball.norm == 2:  # the way from x to x_adv, as far as (1 − λ) ε
        far = np.linalg.norm(x_adv - x, axis=1, keepdims=True)
        return Region(x + (x_adv - x) * np.minimum(1, (1 - lam) * eps / far), lam * eps, 2)
    low, high = (as_rows(side, float) for side in extent(ball))
    radius = np.minimum(lam * eps, (high - low) / 2)
    return Region(np.minimum(np.maximum(x_adv, low + radius), high - radius), radius, np.inf)


class Attacked(Problem):
    """The loss of an objective in the parameters alone: x_adv, slopes and draws are held."""

    def __init__(self, objective, method, name, ball="inf", weights=(0.6, 0.3)):
        super().__init__(name, method, ball, weights)
        self.objective, self.row, self.setting = objective, rb.OBJECTIVES[objective], SETTING[objective]
        self.x_adv = rb.pgd(self.net, self.ball, self.y, 5, rng=draws(7))
        if objective == "sabr":
            self.region = small_box(self.ball, self.x_adv, self.setting["lam"])
        if method == "one-step":  # the slopes of the region that it is
            given = rb.checks.method_options(self.net, self.ball, method, {"rng": draws()})
            lines = rb.METHODS[method].bound(self.net, self.region, self.y, given).lines
            self.held = {"slopes": [line.a_lo for line in lines]}

    def value(self, params):
        beta, kappa = self.weights
        net, mixture = with_params(self.net, params), ((rb.METHODS[self.method], beta), (rb.METHODS["ibp"], 1 - beta))
        clean, bound = (mixed_loss(net, self.region, self.x, self.y, mixture, self.held, k) for k in (1, 0))
        s_adv = (bound.C * forward(net, as_rows(self.x_adv, net.dtype))[0]).sum(-1)
        return anp.mean((1 - kappa) * self.row.loss(bound.s, s_adv, self.setting.get("alpha")) + kappa * clean.value)

    def hand_written(self):
        return rb.objective_loss(self.net, self.ball, self.y, self.objective, self.method, self.x_adv, draws(),
                                 **self.setting, beta=self.weights[0], kappa=self.weights[1])


@pytest.mark.parametrize("name, ball", [
    ("dense", "inf"), ("stride 1, 2, padding 1", "inf"), ("rectangular", "l2"), ("no ReLU", "l1")])
@by
@each
def test_the_gradient_of_an_objective_is_autograds(objective, method, name, ball):
    problem = Attacked(objective, method, name, ball)
    out = problem.hand_written()
    assert abs(out.value - problem.value(problem.net.params)) < 1e-12
    check_by_autograd(problem, out.grads)


@by
@each
def test_the_gradient_of_an_objective_is_its_central_difference(objective, method):
    problem = Attacked(objective, method, "stride 1, 2, padding 1")
    check_by_differences(problem, problem.hand_written().grads)


@by
@each
@pytest.mark.parametrize("name, ball", [("dense", "inf"), ("stride 1, 2, padding 1", "l2")])
def test_an_objective_is_its_formula_of_margin_bounds_and_of_the_margins_at_the_attack(objective, method, name, ball):
    net, ball, y, x_adv = attacked(name, ball)
    out = rb.objective_loss(net, ball, y, objective, method, x_adv, draws(), **SETTING[objective], kappa=0.2)
    s, s_adv = (rb.margin_bounds(net, ball, y, method, rng=None if method != "one-step" else draws()),
                margins(net(x_adv), y))
    if objective == "sabr":
        region, given = by_hand(ball, x_adv, 0.4), rb.checks.method_options(net, ball, method, {"rng": draws()})
        s = with_true_class(rb.METHODS[method].bound(net, region, y, given).s, y)
    value = {"robust": L(s), "sabr": L(s), "mtl-ibp": 0.3 * L(s) + 0.7 * L(s_adv), "cc-ibp": L(0.3 * s + 0.7 * s_adv),
             "exp-ibp": L(s) ** 0.3 * L(s_adv) ** 0.7}[objective]
    assert abs(out.value - np.mean(0.8 * value + 0.2 * L(margins(net(ball.x), y)))) < 1e-12
    np.testing.assert_allclose(out.margins, s, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(out.logits, net(ball.x))


def same(one, other, atol=0.0):
    """Two losses with their gradients."""
    np.testing.assert_allclose(one.value, other.value, rtol=0, atol=atol)
    for key, grad in other.grads.items():
        np.testing.assert_allclose(one.grads[key], grad, rtol=0, atol=atol, err_msg=key)


@by
@pytest.mark.parametrize("weights", [{}, {"beta": 0.6, "kappa": 0.3}], ids=["", "mixed"])
def test_robust_is_the_robust_loss_to_the_last_bit(method, weights):
    net, ball, y, _ = attacked("stride 1, 2, padding 1")
    same(rb.objective_loss(net, ball, y, "robust", method, rng=draws(), **weights),
         rb.robust_loss(net, ball, y, method, rng=draws(), **weights))


@by
@pytest.mark.parametrize("ball", BALLS)
def test_at_alpha_or_lambda_1_an_objective_is_the_robust_loss(method, ball):
    net, ball, y, x_adv = attacked(ball=ball)
    robust = rb.robust_loss(net, ball, y, method, rng=draws())
    for objective, setting in SETTING.items():
        same(rb.objective_loss(net, ball, y, objective, method, x_adv, draws(), **dict.fromkeys(setting, 1.0)),
             robust, 1e-14)


@by
@pytest.mark.parametrize("ball", BALLS)
def test_at_alpha_or_lambda_0_an_objective_is_the_loss_at_the_attack(method, ball):
    net, ball, y, x_adv = attacked(ball=ball)
    there = rb.robust_loss(net, rb.Ball(x_adv, 0.0, domain=None), y, "ibp", beta=0, kappa=1)
    for objective, setting in SETTING.items():
        if objective != "robust":
            out = rb.objective_loss(net, ball, y, objective, method, x_adv, draws(), **dict.fromkeys(setting, 0.0))
            same(out, there, 1e-12)


@by
@each
def test_at_radius_0_an_objective_is_the_clean_loss(objective, method):
    net, ball, y, _ = attacked(eps=0.0)
    out = rb.objective_loss(net, ball, y, objective, method, rng=draws(), **SETTING[objective])
    same(out, rb.robust_loss(net, ball, y, "ibp", beta=0, kappa=1), 1e-12)


@by
def test_objectives_lie_between_attack_and_bound_and_grow_with_alpha(method):
    """As s_adv ≤ s̄. L is convex, so cc ≤ mtl; a geometric mean is below the arithmetic one, so exp ≤ mtl."""
    net, ball, y, x_adv = attacked("stride 1, 2, padding 1")
    found = {objective: [rb.objective_loss(net, ball, y, objective, method, x_adv, draws(), alpha).value
                         for alpha in np.linspace(0, 1, 6)] for objective in MIXED}
    for values in found.values():
        assert (np.diff(values) > 0).all()
    for below in ("cc-ibp", "exp-ibp"):
        assert (np.array(found[below]) <= np.array(found["mtl-ibp"]) + 1e-12).all()


@pytest.mark.parametrize("ball", BALLS)
def test_the_small_box_lies_in_the_ball_and_holds_the_attack(ball):
    net, ball, y, x_adv = attacked(ball=ball)
    (low, high), x = extent(ball), as_rows(x_adv, float)
    for lam in (0.0, 0.3, 0.7, 1.0):
        box = small_box(ball, x_adv, lam)
        if ball.norm == np.inf:
            assert (box.centre - box.radius >= low - 1e-12).all() and (box.centre + box.radius <= high + 1e-12).all()
            assert (np.abs(x - box.centre) <= box.radius + 1e-12).all()
            np.testing.assert_allclose(box.radius, np.minimum(lam * as_rows(ball.eps, float), (high - low) / 2))
        else:  # by the triangle inequality
            assert (length(box.centre - ball.x, ball.norm) + box.radius[:, 0] <= ball.eps + 1e-12).all()
            assert (length(x - box.centre, ball.norm) <= box.radius[:, 0] + 1e-12).all()
            np.testing.assert_allclose(box.radius[:, 0], lam * ball.eps)


@pytest.mark.parametrize("ball", BALLS)
def test_the_attack_climbs_inside_the_ball(ball):
    net, ball, y, _ = attacked("stride 1, 2, padding 1", ball)
    for rng in (None, draws()):
        start, end = climb(net, ball, y, 0, rng and draws()), climb(net, ball, y, 8, rng and draws())
        assert inside(end, ball)
        assert (L(margins(net(end), y)) > L(margins(net(start), y))).all()
        assert (start == ball.x).all() == (rng is None)
        if ball.norm == np.inf and ball.domain is None:  # one step as long as the ball is wide, from anywhere
            step = abs(climb(net, ball, y, 1, rng and draws()) - ball.x)
            np.testing.assert_allclose(step, 0.15, rtol=0, atol=1e-15)


@each
def test_without_points_an_objective_attacks_by_itself_in_8_steps(objective):
    net, ball, y, _ = attacked()
    for rng in (None, draws()):
        x_adv = climb(net, ball, y, 8, rng and draws())
        same(rb.objective_loss(net, ball, y, objective, rng=rng),
             rb.objective_loss(net, ball, y, objective, x_adv=x_adv, **dict.fromkeys(SETTING[objective], 0.5)))
    if objective != "robust":  # the same generator then draws what the method draws
        one, two = draws(), draws()
        same(rb.objective_loss(net, ball, y, objective, "one-step", rng=one),
             rb.objective_loss(net, ball, y, objective, "one-step", climb(net, ball, y, 8, two), two))


@pytest.mark.parametrize("far", [40, 102, 2000])
def test_losses_that_are_rounded_away_leave_a_finite_gradient(far):
    """In float32 exp(−102) has one digit left, exp(−2000) none; the attack's loss is the one so small, or both are."""
    net = build("dense", dtype=np.float32)
    net = net.with_params({**net.params, "4.bias": np.float32([far, 0, 0, 0])})
    (ball, _), y = batch(net, eps=0.0), np.zeros(3, int)
    for wide in (ball, rb.Ball(ball.x, 100.0, domain=None)):
        for objective, alpha in itertools.product(MIXED, (0.0, 0.3, 1.0)):
            out = rb.objective_loss(net, wide, y, objective, x_adv=ball.x, alpha=alpha)
            assert np.isfinite(out.value) and all(np.isfinite(grad).all() for grad in out.grads.values())


@pytest.mark.parametrize("given, line", [
    ({"objective": "mtl"}, "objective: expected one of robust, sabr, mtl-ibp, cc-ibp, exp-ibp, got 'mtl'"),
    ({"lam": 0.5}, "lam: not an option of 'mtl-ibp', which takes alpha"),
    ({"objective": "robust", "alpha": 0.5}, "alpha: not an option of 'robust', which takes none"),
    ({"alpha": 1.5}, "alpha: expected a number in [0, 1], got 1.5"),
    ({"x_adv": np.zeros((3, 5))}, "x_adv: expected points of the ball, (3, 6) of numpy, got float64 (3, 5)"),
    ({"x_adv": np.full((3, 6), np.nan)}, "x_adv: expected points of the ball"),
    ({"x_adv": np.full((3, 6), 200.0)}, "x_adv: expected points of the ball, (3, 6) of numpy, got some outside of it"),
    ({"x_adv": attacked()[1].box(float)[1] + 1e-5}, "x_adv: expected points of the ball, (3, 6) of numpy, got some"),
    ({"x_adv": "text", "objective": "robust"}, "x_adv: expected points of the ball, (3, 6) of numpy, got str"),
    ({"rng": 3}, "rng: the attack starts at random: expected a numpy Generator, got 3"),
    ({"method": "alpha"}, "method: 'alpha' is for evaluation"),
    ({"eta": 2.0}, "eta: not an option of 'ibp', which takes none"),
    ({"kappa": 2}, "kappa: expected a number in [0, 1], got 2"),
])
def test_arguments_that_cannot_be_are_refused_in_one_line(given, line):
    net, ball, y, _ = attacked()
    with pytest.raises(ValueError, match="^" + re.escape(line)) as error:
        rb.objective_loss(net, ball, y, **{"objective": "mtl-ibp", **given})
    assert "\n" not in str(error.value)


def test_what_pgd_finds_in_a_large_ball_is_a_point_of_it():
    """Its projection rounds at the size of ε, here by 9e-6 of a pixel's."""
    rng, net = np.random.default_rng(1), rb.models.mlp(np.random.default_rng(0), (300, 5, 3))
    ball, y = rb.Ball(rng.random((5, 300), dtype=np.float32), 3000.0, norm=1, domain=None), rng.integers(0, 3, 5)
    assert np.isfinite(rb.objective_loss(net, ball, y, "mtl-ibp", x_adv=rb.pgd(net, ball, y, 5, rng=rng)).value)


# ---- in training ----

OBJECTIVE = ["--eps", "0.05", "--objective", "exp-ibp", "--method", "one-step", "--alpha", "0.2",
             "--attack-steps", "2", "--l1", "1e-4", "--kappa", "0.2", "0.1"]
REGULARISED = ["--init", "ibp", "--regularise", "0.5", "--ramp", "2.5"]  # so that ε still rises where a run goes on


def step_of(few, **more):
    """A network and a step of training on a few images, as train.py hands it to minibatch.gradient."""
    args = train.Args(model="mlp", batch=30, shard=10, crop=0, data_dir=few, **more)
    images = data.load("mnist", "train", few)
    now = {"eps": 0.05, "beta": 1.0, "kappa": 0.2, "rate": 0.01}
    return (train.new_network(args, np, images.images.shape[1:], 10),
            minibatch.Minibatch(images, np.arange(30), [0, 1, 2], now, args, map))


@each
def test_the_gradient_of_a_minibatch_is_that_of_the_objective_with_the_draws_of_its_place(objective, few):
    """To the last bit: the slopes' draws are those of the shard, whatever the objective; the attack has its own."""
    setting = SETTING[objective]
    net, here = step_of(few, objective=objective, method="one-step", attack_steps=3, **setting)
    loss, grads, *_ = minibatch.gradient(net, here)
    x, losses, total = data.to_float(here.train.images, np.float32), [], None
    for index in range(3):
        part = slice(10 * index, 10 * index + 10)
        ball, y, given = (rb.Ball(x[part], 0.05), here.train.labels[part],
                          {"rng": stream("bound", 0, 1, 2, index, 0), "kappa": 0.2})
        if objective == "robust":
            out = rb.robust_loss(net, ball, y, "one-step", **given)
        else:
            x_adv = climb(net, ball, y, 3, stream("attack", 0, 1, 2, index, 0))
            out = rb.objective_loss(net, ball, y, objective, "one-step", x_adv, **setting, **given)
        losses.append(10 / 30 * out.value)
        mine = {key: 10 / 30 * grad for key, grad in out.grads.items()}
        total = {key: total[key] + grad for key, grad in mine.items()} if total else mine
    assert loss == sum(losses) == minibatch.value(net, here)
    for key, grad in total.items():
        np.testing.assert_array_equal(grads[key], grad)


def test_a_run_is_the_same_for_any_threads_and_when_it_goes_on_with_an_objective_and_regularisers(
        few, tmp_path, interrupted_in_epoch_3):
    arguments = [*SHORT, *OBJECTIVE, *REGULARISED, "--probe", "5", "--data-dir", few]
    for threads in ("1", "2"):
        train.main([*arguments, "--threads", threads, "--run", str(tmp_path / threads)])
    interrupted_in_epoch_3([*arguments, "--run", str(tmp_path / "cut")])
    train.main([*arguments, "--run", str(tmp_path / "cut")])
    for file in ("best.npz", "model.npz", "landscape.csv"):
        assert len({(tmp_path / name / file).read_bytes() for name in ("1", "2", "cut")}) == 1
    assert checkpoint.read_json(tmp_path / "1" / "result.json")["method"] == ["one-step", "crown-ibp", "alpha"]


def test_a_run_is_the_same_on_the_device_with_an_objective_and_regularisers(few, tmp_path, device):
    for name in ("cpu", "cuda"):
        train.main([*SHORT, *OBJECTIVE, *REGULARISED, "--data-dir", few, "--limit", "200",
                    "--device", name, "--run", str(tmp_path / name)])
    ours, theirs = (rb.load(tmp_path / name / "model.npz").params for name in ("cpu", "cuda"))
    for key, value in ours.items():
        np.testing.assert_allclose(theirs[key], value, rtol=0, atol=train.Args().rate / 100)  # of a step of Adam


def test_the_penalty_adds_the_signs_of_the_weights_alone():
    params = {"0.weight": np.array([[-2.0, 0.0, 3.0]]), "0.bias": np.array([5.0])}
    grads = optim.add_l1({"0.weight": np.ones((1, 3)), "0.bias": np.ones(1)}, params, 0.25)
    assert grads["0.weight"].tolist() == [[0.75, 1, 1.25]] and grads["0.bias"].tolist() == [1]


def test_a_run_from_before_the_objectives_is_known_by_its_arguments(few, tmp_path, capsys):
    run = ["--data-dir", few, "--run", str(tmp_path / "run")]
    train.main([*SHORT, *run])
    for file in ("config.json", "result.json"):
        content = json.loads((tmp_path / "run" / file).read_text())
        content["arguments"] = {k: v for k, v in content["arguments"].items() if k not in checkpoint.ADDED}
        (tmp_path / "run" / file).write_text(json.dumps(content))
    train.main([*SHORT, *run])
    assert "this run is finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--objective robust there, sabr here"):
        train.main([*SHORT, *run, "--objective", "sabr"])


@pytest.mark.parametrize("given, words", [
    (["--alpha", "0.5"], "alpha: not an option of 'robust'"),
    (["--objective", "sabr", "--lam", "2"], "lam: expected a number in [0, 1], got 2"),
    (["--l1", "-1"], "--l1: expected at least 0"),
    (["--attack-steps", "3"], "--attack-steps: expected an --objective other than robust"),
    (["--attack-steps", "0"], "--attack-steps: expected at least 1, got 0")])
def test_a_run_with_settings_that_cannot_be_is_refused(given, words, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)):
        train.main([*SHORT, *given, "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given, name", [
    ({}, "IBP"), ({"objective": "mtl-ibp", "alpha": 0.01}, "mtl-ibp (α = 0.01)"),
    ({"objective": "sabr", "lam": 0.4, "method": "one-step", "kappa": (0.2, 0.1)},
     "sabr (one-step, λ = 0.4, κ 0.2→0.1)")])
def test_tables_name_the_objective(given, name):
    assert words.heading(asdict(train.Args(**{"method": "ibp", **given}))) == name


def test_the_course_has_formula_source_code_and_test_of_every_objective():
    course = (Path(rb.__file__).parent / "README.md").read_text(encoding="utf-8")
    table = course.split("| objective | what is minimised |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    assert [row[0].strip("`") for row in rows] == list(rb.OBJECTIVES)
    tests = Path(__file__).read_text(encoding="utf-8")
    for name, formula, source, code, test in rows:
        assert formula.startswith("$L") or formula.startswith("$\\alpha")
        assert source and f"def {test.strip('`')}(" in tests
        for module, function in re.findall(r"`(\w+)\.(\w+)`", code):
            assert hasattr(importlib.import_module(f"refbound.{module}"), function)
        text = inspect.getsource(importlib.import_module("refbound.objectives"))
        assert f"  # ({name.strip('`')})" in text or name == "`robust`"


def test_a_shard_has_images_moved_by_draws_of_their_place_and_the_settings_of_the_run(few):
    net, here = step_of(few, method="sparse", p=0.25, q=0.75, no_clip=True)
    here.args.crop = 2
    found = list(minibatch.over_shards(lambda net, share, *given: given, net, here))
    moved = data.random_crop(here.train.images[:30], stream("crop", 0, 1, 2), 2)
    for index, ((ball, y, method), _, options) in enumerate(found):
        part = slice(10 * index, 10 * index + 10)
        np.testing.assert_array_equal(ball.x, data.to_float(moved[part], np.float32))
        assert ball.domain is None and (y == here.train.labels[part]).all() and method == "sparse"
        assert {name: options[name] for name in options if name != "rng"} == {"p": 0.25, "q": 0.75}


def test_a_minibatch_counts_what_is_misclassified_and_what_is_not_verified(few):
    net, here = step_of(few, method="ibp")
    here.now["eps"] = 1e-4
    here = here._replace(batch=np.arange(300))
    x, y = data.to_float(here.train.images[:300], np.float32), here.train.labels[:300]
    wrong = int((net(x).argmax(1) != y).sum())
    unverified = int((~rb.certified(rb.margin_bounds(net, rb.Ball(x, 1e-4), y, "ibp"), y)).sum())
    assert 0 < wrong < unverified < 300 and minibatch.gradient(net, here)[2:4] == (wrong, unverified)
