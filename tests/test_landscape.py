"""The measures of the loss landscape: by hand, as released, and as a trainer's probe that changes nothing."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from networks import ALL, BALLS, batch, build, draws, extent, hand
from test_training import SHORT

import refbound as rb
from refbound.landscape import (LENGTHS, along, as_released, distances, jump, loss_value, lower_slopes, slope_shares,
                                tightness, variation)
from refbound.relaxation import bernoulli, enclose
from trainers import data, landscape, train
from trainers.files import checkpoint, record
from trainers.inputs.draws import stream as draws_of
from trainers.loop import minibatch, parallel, probe

DRAWN = ["one-step", "random", "sparse"]
RATES = [(0, 0), (0, 0.5), (0, 1), (0.5, 1), (1, 1)]  # (p, q) of the paper's Figure 2


# ---- by hand ----

def test_distances_by_hand():
    """h − g = (0, 0; −8), of length 8;  g·h = 9 − 16 = −7 and ‖g‖ = ‖h‖ = 5: a cosine of −7/25."""
    g = {"0.weight": np.array([[3.0, 0.0]]), "0.bias": np.array([4.0])}
    h = {"0.weight": np.array([[3.0, 0.0]]), "0.bias": np.array([-4.0])}
    assert distances(g, h) == (8, 1 + 7 / 25)
    assert distances(g, g) == (0, 0)
    zero = {name: 0 * v for name, v in g.items()}
    assert distances(zero, zero) == (0, 0)


# g = (1, 2; 2), h = (4, 2; 6), of two arrays: h − g = (3, 0; 4), so ‖h − g‖² = 25 over 3 numbers: RMS = √(25/3).
# g·h = 4 + 4 + 12 = 20, ‖g‖ = √9 = 3, ‖h‖ = √56: similarity = 20 / (3 √56), distance 1 − that.
STORED = ({"0.weight": np.array([[1.0, 2.0]]), "0.bias": np.array([2.0])},
          {"0.weight": np.array([[4.0, 2.0]]), "0.bias": np.array([6.0])})


def test_as_released_is_the_root_mean_square_and_the_cosine_similarity():
    rms, similarity = as_released(*STORED)
    assert rms == pytest.approx(math.sqrt(25 / 3), rel=1e-15)
    assert similarity == pytest.approx(20 / (3 * math.sqrt(56)), rel=1e-15)
    g, h = (np.concatenate([v.ravel() for v in grads.values()]) for grads in STORED)
    assert rms == pytest.approx(np.sqrt(np.mean((h - g) ** 2)), rel=1e-15)  # its MSELoss(reduction="mean").sqrt()
    assert distances(*STORED) == pytest.approx((5, 1 - similarity), rel=1e-15)
    zero = {name: 0 * v for name, v in STORED[0].items()}
    assert as_released(zero, zero) == (0, 0)  # its CosineSimilarity, where ours is a distance of 0


def test_losses_along_a_direction_by_hand():
    """L(w) = w² from w = 1 along the gradient 2 at ρ = 1/4: L(1 − τ/2) = 1/4, 0, 1 at τ = 1, 2, 4: a variation of 1."""
    params, direction = {"w": np.array([1.0])}, {"w": np.array([2.0])}
    losses = along(lambda p: float(p["w"][0] ** 2), params, direction, 0.25, (1, 2, 4))
    assert losses == [0.25, 0, 1] and variation(losses) == 1
    assert all(np.isnan(variation(list(order))) for order in ((1.0, 2.0, np.nan), (np.nan, 1.0, 2.0)))


def test_slopes_are_counted_on_unstable_units_alone():
    """Of (l, u) = (−1, 1) three times, (1, 2), (−2, −1) and (0, 1), three are unstable: slopes 0, 1/2, 1."""
    l, u = np.array([[-1.0, -1, -1, 1, -2, 0]]), np.array([[1.0, 1, 1, 2, -1, 1]])
    lines = enclose(l, u, np.array([[0, 0.5, 1, 0.5, 0.5, 0.5]]))
    assert slope_shares([(l, u)], [lines]) == (1 / 3, 1 / 3, 1 / 3)


def test_slopes_of_the_hand_worked_network():
    """crown-ibp: 1, 0, 1, 1;  cap-ibp: 3/4, 1/2, 4/5, 3/5;  ibp has constant lines; at ε = 0 no unit is unstable."""
    net, ball, y = hand()
    assert lower_slopes(net, ball, y, "crown-ibp") == (0.25, 0, 0.75)
    assert lower_slopes(net, ball, y, "cap-ibp") == (0, 1, 0)
    assert lower_slopes(net, ball, y, "ibp") is None
    assert lower_slopes(net, rb.Ball(ball.x, 0.0, domain=None), y, "crown-ibp") is None


def test_a_slope_of_one_is_counted_as_one_in_float32():
    """ā + (1 − ā) rounds to 1: for ā ≥ 1/2 the difference is exact; below it is off by at most a quarter of the
    spacing of floats above 1, half that of those below, and a tie goes to 1, which is even."""
    u = np.random.default_rng(0).random((100_000, 1)).astype(np.float32)
    assert (enclose(u - 1, u, np.ones_like(u)).a_lo[(u > 0) & (u < 1)] == 1).all()


# ---- tightness and jump ----

def test_tightness_is_the_ratio_of_the_two_products_by_hand():
    """With the matrices of each example written out: 2-layer products of the rows that are active at x."""
    net = build("dense")
    ball, y = batch(net)
    W, ratios, low_high = [net.params[f"{i}.weight"] for i in (0, 2, 4)], [], extent(ball)
    for n, (x, label) in enumerate(zip(ball.x, y)):
        r, h, D = (low_high[1][n] - low_high[0][n]) / 2, x, []
        for i, weight in zip((0, 2), W):
            z = weight @ h + net.params[f"{i}.bias"]
            D.append(np.diag((z > 0).astype(float)))
            h = np.maximum(z, 0)
        C = np.delete(np.eye(net.classes) - np.eye(net.classes)[label], label, axis=0)
        last = C @ W[2] @ D[1]
        ratios.append(np.abs(last @ W[1] @ D[0] @ W[0]) @ r / (np.abs(last) @ np.abs(W[1]) @ D[0] @ np.abs(W[0]) @ r))
    assert tightness(net, ball, y) == pytest.approx(np.mean(ratios), rel=1e-12) and 0 < np.mean(ratios) < 0.9


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("ball", BALLS)
def test_tightness_is_at_most_1_and_1_where_no_product_is_taken(name, ball):
    net = build(name)
    region, y = batch(net, ball)
    found = tightness(net, region, y)
    assert found == 1 if name in ("no ReLU", "one ReLU, on the input") else 0 < found <= 1
    assert tightness(net, batch(net, ball, eps=0.0)[0], y) is None


def test_the_jump_at_the_tie_of_the_hand_worked_network():
    """z2 in [−2, 2] is on the tie. Label 0: its slope a takes (−2 z1 − 8 a z2 + 16)/5 from 18/5 at a = 0 to
    (−10 x1 + 6 x2 + 14)/5 ≤ 6 at a = 1: 2.4. Label 1 takes its upper line."""
    net, ball, y = hand()
    half = [np.full((2, 2), 0.5)] * 2
    for method, expected in (("crown-ibp", 2.4), ("crown", 2.4),
                             ("cap-ibp", 0), ("cap", 0), ("ibp", 0), ("one-step", 0)):
        options = {"a0": [a[:1] for a in half]} if method == "one-step" else {}
        assert jump(net, ball[:1], y[:1], method, h=1e-9, **options) == pytest.approx(expected, abs=1e-7)
        options = {"a0": [a[:1] for a in half]} if method == "one-step" else {}
        assert jump(net, ball[1:], y[1:], method, h=1e-9, **options) == pytest.approx(0, abs=1e-7)
    assert jump(net, ball, y, "crown-ibp", h=1e-9) == pytest.approx(1.2, abs=1e-7)  # the mean of both
    assert jump(net, rb.Ball(ball.x, 0.0, domain=None), y, "crown-ibp") is None


def test_the_jump_takes_the_unit_nearest_to_its_tie_in_any_layer():
    """With biases 1/2 of z2 and −11/4 of z3, z3 in [−11/4, 11/4] alone is on the tie: its slope goes from 0 to 1."""
    net, ball, y = hand()
    net = net.with_params({**net.params, "0.bias": np.array([1.0, 0.5]), "2.bias": np.array([-2.75, 0.0])})
    slopes = [(l + u > 0).astype(float) for l, u in rb.preactivation_bounds(net, ball, "ibp")]
    assert slopes[1][:, 0].tolist() == [0, 0]
    before, after = (rb.margin_bounds(net, ball, y, "crown-ibp", slopes=[slopes[0], slopes[1] + np.array([a, 0])])
                     for a in (0, 1))
    expected = np.abs(after - before).max(1).mean()
    assert expected > 0.1 and jump(net, ball, y, "crown-ibp", h=1e-9) == pytest.approx(expected, abs=1e-7)


# ---- random slopes ----

@pytest.mark.parametrize("p, q", RATES)
def test_sparse_slopes_have_the_rates_p_and_q(p, q):
    """Of n draws at rate r the share of ones is within 5 √(r (1 − r) / n) of r: a deviation of 5 σ; none at 0 and 1."""
    rng = np.random.default_rng(0)
    l, u = -rng.random((400, 500)), rng.random((400, 500))
    ones = bernoulli([(l, u)], [rng.random((400, 500))], p, q)[0]
    assert set(np.unique(ones)) <= {0, 1}
    for where, rate in ((-l > u, p), (-l <= u, q)):
        assert abs(ones[where].mean() - rate) <= 5 * math.sqrt(rate * (1 - rate) / where.sum())


@pytest.mark.parametrize("p, q", RATES)
def test_shares_of_sparse_slopes_on_a_network_follow_p_and_q(p, q):
    """The expected share of ones is p times the share of unstable units with −l > u, and q times the rest."""
    net = build("dense")
    ball, y = batch(net, N=400)
    zero, between, one = lower_slopes(net, ball, y, "sparse", p=p, q=q, rng=draws())
    pre = rb.preactivation_bounds(net, ball, "sparse")
    lower = np.concatenate([(-l > u)[(l < 0) & (u > 0)] for l, u in pre])
    expected, spread = lower.mean() * p + (1 - lower.mean()) * q, math.sqrt(0.25 / lower.size)
    assert between == 0 and zero + one == pytest.approx(1)
    assert abs(one - expected) <= 5 * spread * ((p, q) not in ((0, 0), (1, 1))) + 1e-12


# ---- the probe ----

@pytest.mark.parametrize("method", DRAWN)
def test_variation_is_exactly_zero_at_step_length_0_with_the_start_held(method):
    net = build("dense")
    ball, y = batch(net)
    a0 = [draws(k).random((len(y), *net.shapes[i])) for k, i in enumerate(net.relus)]
    grads = rb.robust_loss(net, ball, y, method, a0=a0).grads
    held = along(lambda params: loss_value(net.with_params(params), ball, y, method, a0=a0), net.params, grads, 0.1,
                 np.zeros(10))
    assert variation(held) == 0
    rng = draws()
    redrawn = along(lambda params: loss_value(net.with_params(params), ball, y, method, rng=rng), net.params, grads,
                    0.1, np.zeros(10))
    assert variation(redrawn) > 0  # as in the published code


def here(few, method, **more):
    """A step of training on a few images, as train.py hands it to its probe, and the network."""
    args = train.Args(crop=0, method=method, model="mlp", batch=30, shard=10, data_dir=few, as_released=True)
    images = data.load("mnist", "train", few)
    net = train.new_network(args, np, images.images.shape[1:], 10)
    now = {"eps": 0.02, "beta": 1.0, "kappa": 0.0, "rate": 0.01, **more}
    return net, minibatch.Minibatch(images, np.arange(30), [0, 1, 2], now, args, map)


@pytest.mark.parametrize("method", [*DRAWN, "cap-ibp"])
def test_a_probe_holds_the_draws_of_its_step(method, few):
    """At rate 0 every point is the step's own: the loss is that of the step, to the last bit, and nothing varies."""
    net, step = here(few, method, rate=0.0)
    loss, grads, *_ = minibatch.gradient(net, step)
    row = probe.probe(net, net, grads, step)
    assert row["least_loss"] == row["greatest_loss"] == loss
    assert row["variation"] == row["l2_distance"] == 0 and abs(row["cosine_distance"]) < 1e-6
    assert (row["released_variation"] > 0) == (method in DRAWN) and (row["released_rms"] > 0) == (method in DRAWN)


def test_a_probe_measures_what_its_formulas_say(few):
    net, step = here(few, "one-step")
    grads = minibatch.gradient(net, step)[1]
    after = net.with_params({name: w - 0.01 * np.sign(grads[name]) for name, w in net.params.items()})
    row = probe.probe(net, after, grads, step)
    losses = [minibatch.gradient(net.with_params({k: w - float(0.01 * t) * grads[k] for k, w in net.params.items()}),
                                 step)[0] for t in LENGTHS]
    assert row["least_loss"] == min(losses) and row["greatest_loss"] == max(losses)
    assert (row["l2_distance"], row["cosine_distance"]) == distances(grads, minibatch.gradient(after, step)[1])
    raw = net.with_params({name: w - 0.01 * grads[name] for name, w in net.params.items()})
    rms, similarity = as_released(grads, minibatch.gradient(raw, step, redraw=len(probe.RELEASED) + 1)[1])
    assert (row["released_rms"], row["released_similarity"]) == (rms, similarity)
    assert sum(row[name] for name in probe.SLOPES) == pytest.approx(1)
    x, y = data.to_float(step.train.images[:10], np.float32), step.train.labels[:10]
    ball, draw = rb.Ball(x, 0.02), draws_of("bound", 0, 1, 2, 0, 0)  # of the first shard
    lower_slopes(net, ball, y, "one-step", rng=draw)  # which come first
    assert row["tightness"] == tightness(net, ball, y) and row["jump"] == jump(net, ball, y, "one-step", rng=draw)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_value_of_a_minibatch_is_that_of_its_gradient_to_the_last_bit(threads, few):
    net, step = here(few, "one-step", beta=0.5, kappa=0.25)
    with parallel.workers(threads) as pmap:
        step = step._replace(pmap=pmap)
        assert minibatch.value(net, step) == minibatch.gradient(net, step)[0]
        assert minibatch.value(net, step, redraw=1) != minibatch.value(net, step)


# ---- the trainer ----

PROBED = ["--method", "one-step", "--eps", "0.05", "--probe", "5"]


def test_probing_changes_nothing_in_the_run(few, tmp_path):
    for name, more in (("probed", [*PROBED, "--as-released"]), ("plain", [*PROBED[:-1], "0"])):
        train.main([*SHORT, "--data-dir", few, *more, "--run", str(tmp_path / name)])
    for file in ("best.npz", "model.npz"):
        assert (tmp_path / "probed" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    assert not (tmp_path / "plain" / "landscape.csv").exists()
    rows = checkpoint.read_log(tmp_path / "probed" / "landscape.csv")
    assert [12 * (row["epoch"] - 1) + row["step"] for row in rows] == list(range(0, 36, 5))
    assert all(row["variation"] == row["greatest_loss"] - row["least_loss"] > 0 for row in rows)
    for name in ("zero_slopes", "tightness", "jump"):
        assert [row[name] is None for row in rows] == [row["eps"] == 0 for row in rows]
    assert json.loads((tmp_path / "probed" / "result.json").read_text())["probe_seconds"] > 0
    assert json.loads((tmp_path / "plain" / "result.json").read_text())["probe_seconds"] == 0


def test_the_table_gives_the_means_of_each_phase(few, tmp_path, capsys):
    run = str(tmp_path / "run")
    train.main([*SHORT, *PROBED, "--data-dir", few, "--run", run])
    capsys.readouterr()
    landscape.main([run, "--out", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert all(phase in printed for phase in landscape.PHASES) and "every 5 steps" in printed
    rows, [summary] = (checkpoint.read_log(f"{run}/landscape.csv"),
                       json.loads((tmp_path / "out.json").read_text())["runs"])
    ramp = [row["variation"] for row in rows if 0.5 <= row["time"] < 1.5]  # SHORT: --warmup 0.5 --ramp 1
    assert summary["phases"]["ramp"]["probes"] == len(ramp)
    assert summary["phases"]["ramp"]["variation"] == pytest.approx(sum(ramp) / len(ramp), rel=1e-5)  # of six digits
    assert summary["phases"]["warm-up"]["zero_slopes"] is None  # at ε = 0


def test_a_run_without_probes_beside_others_is_left_out_and_named(capsys):
    landscape.main([str(record.RESULTS / "longer")])
    out, err = capsys.readouterr()
    assert "mtl-ibp-small-0.3-0" in err and "mtl-ibp" not in out and "one-step-small-0.3-0" in out


def test_a_run_without_probes_and_a_flag_without_probes_are_refused(few, tmp_path, refused):
    refused(landscape, [str(tmp_path)], "expected a run folder")
    train.main([*SHORT, "--data-dir", few, "--probe", "0", "--run", str(tmp_path / "run")])
    refused(landscape, [str(tmp_path / "run")], "run: ", "landscape.csv", "--probe")
    refused(train, [*SHORT, "--data-dir", few, "--probe", "0", "--as-released"], "--probe", "at least 1")


def test_means_over_the_seeds_by_hand():
    def run(seed, method, l2, error):
        return {"run": f"{method}-{seed}", "model": "mlp", "eps": 0.1, "heading": method, "verified_error": error,
                "seed": seed, "alike": {},
                "phases": {"ramp": {"variation": 0.5, "l2_distance": l2, "cosine_distance": None}}}
    _, _, first, second = landscape.by_seeds(
        [run(0, "IBP", 1.0, 9.0), run(0, "OURS", 2.0, 3.0), run(1, "OURS", 4.0, 4.0)]).splitlines()
    assert [cell.strip() for cell in first.split("|")[3:-1]] == [
        "OURS", "2", "0.5", "3 (2 to 4)", "–", "3.50 (3.00 to 4.00)"]
    assert [cell.strip() for cell in second.split("|")[3:-1]] == ["IBP", "1", "0.5", "1", "–", "9.00"]
    with pytest.raises(ValueError, match="IBP-0, IBP-0: expected runs of different seeds"):
        landscape.by_seeds([run(0, "IBP", 1.0, 9.0), run(0, "IBP", 1.0, 9.0)])


def test_runs_that_differ_in_more_than_their_seeds_are_not_averaged():
    def summary(seed, **more):
        given = asdict(train.Args(seed=seed, threads=seed, **more))
        measured = {"time": [1.0], "variation": [1.0 + seed]}
        return landscape.summary({"name": "run", "arguments": given, "landscape": measured, "result": {}, "exact": None,
                                  "log": {"seconds": [1.0], "probe_seconds": [0.1]}})

    others = [{"data_dir": "fashion"}, {"epochs": 9}, {"norm": "2"}, {"train_eps": 0.2}]
    rows = landscape.by_seeds([summary(0), summary(1), *(summary(2, **more) for more in others)]).splitlines()[2:]
    assert (sorted([cell.strip() for cell in row.split("|")[4:6]] for row in rows)
            == [["1", "3"]] * 4 + [["2", "1.5 (1 to 2)"]])


def plain(W):
    """The network of logits W max(x, 0)."""
    c, n = W.shape
    params = {"0.weight": np.eye(n), "0.bias": np.zeros(n), "2.weight": W, "2.bias": np.zeros(c)}
    return rb.Network([rb.layers.Linear(n, n), rb.layers.ReLU(), rb.layers.Linear(n, c)], params, (n,))


def test_the_jump_is_of_the_margin_that_moves_most_and_a_mean_over_the_examples_that_have_one():
    """The margins −h and −3 h, z = x. In [−1, 1] z is on the tie: slope 1 in place of 0 takes them to 1 and 3, and by
    parallel lines ā goes from (1 − h) / 2 to (1 + h) / 2, h = 1/1000. In [4, 6] it is active."""
    net, y = plain(np.array([[3.0], [2.0], [0.0]])), np.array([0, 0])
    ball = rb.Ball(np.array([[0.0], [5.0]]), 1.0, domain=None)
    assert jump(net, ball, y, "crown-ibp", h=1e-9) == pytest.approx(3, abs=1e-7)
    assert jump(net, ball, y, "cap-ibp") == pytest.approx(3e-3)


def test_the_unit_nearest_to_its_tie_is_the_nearest_for_its_width():
    """z1 in [−0.05, 0.15] is 0.1 from its tie, half its width; z2 in [−4.5, 5.5] is 1, a tenth: −h2 goes to 4.5."""
    net = plain(np.array([[1.0, 1.0], [0.0, 0.0]]))
    ball = rb.Ball(np.array([[0.05, 0.5]]), np.array([[0.1, 5.0]]), domain=None)
    assert jump(net, ball, np.array([0]), "crown-ibp", h=1e-9) == pytest.approx(4.5, abs=1e-7)


def test_a_probe_is_of_the_networks_around_the_step_and_of_the_gradient_as_it_was_before_it_was_clipped(
        few, monkeypatch):
    seen, (net, step) = [], here(few, "ibp")
    monkeypatch.setattr(train, "probe", lambda *given: seen.append(given) or {})
    args = train.Args(model="mlp", method="ibp", batch=30, shard=10, probe=1, l1=0.1, clip_norm=1e-3)
    images = data.Dataset(*(column[:30] for column in step.train))
    after = train.train_epoch(net, {}, images, 1, args, map, None)[0]
    [(before, there, grads, of)] = seen
    assert before is net and there is after
    for name, grad in minibatch.gradient(net, of)[1].items():
        np.testing.assert_array_equal(grads[name], grad)


def test_the_released_variation_is_over_points_with_new_draws_from_the_start_to_one_step(few):
    net, step = here(few, "one-step")
    _, grads, *_ = minibatch.gradient(net, step)
    losses = []
    for n, t in enumerate((0, *LENGTHS, 1), 1):
        there = net.with_params({k: w - float(0.01 * t) * grads[k] for k, w in net.params.items()})
        losses.append(minibatch.value(there, step, redraw=n))
    assert probe.probe(net, net, grads, step)["released_variation"] == variation(losses)
