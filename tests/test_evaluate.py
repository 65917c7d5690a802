"""The evaluator as a command: what it counts, what stops it, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_training import SHORT

import refbound as rb
from refbound.layers import Linear, ReLU
from trainers import data, evaluate, train
from trainers.files import checkpoint, record, words
from trainers.inputs import draws


def test_evaluation_states_what_it_did_and_verified_contains_pgd(few, tmp_path, capsys):
    rb.save(rb.models.mlp(np.random.default_rng(0), input_shape=(1, 28, 28)), tmp_path / "net.npz")
    evaluate.main([str(tmp_path / "net.npz"), "--data-dir", few, "--eps", "0.01", "--method", "random", "ibp",
                   "--draws", "3", "--pgd-steps", "5", "--out", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "ε = 0.01" in printed and "clipped" in printed and "seed 0" in printed and "over draws" in printed
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["standard_error"] <= result["pgd_error"] <= min(result["verified_error_of_draws"])
    assert len(result["verified_error_of_draws"]) == 3
    evaluate.main([str(tmp_path / "net.npz"), "--data-dir", few, "--eps", "0.01", "--pgd-steps", "2", "--targeted"])
    assert "1 random start, each margin by itself too" in capsys.readouterr().out


def test_a_log_has_a_line_for_every_tenth_of_the_work(capsys):
    assert list(words.progress(iter(range(25)), "images", 25)) == list(range(25))
    assert capsys.readouterr().err.splitlines() == [f"images: {n} of 25" for n in (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)]
    assert list(words.progress("ab", "letters")) == ["a", "b"]
    assert capsys.readouterr() == ("", "letters: 1 of 2\nletters: 2 of 2\n")


def test_a_run_is_evaluated_as_it_ended_unless_asked_otherwise(few, tmp_path):
    run = tmp_path / "run"
    train.main([*SHORT, "--method", "crown-ibp", "--beta", "1", "0.5", "--no-clip", "--data-dir", few,
                "--run", str(run)])
    kept, found = (["verified_error", "clipped", "method", "standard_error", "pgd_error"],
                   json.loads((run / "result.json").read_text()))
    evaluate.main([str(run), "--out", str(tmp_path / "same.json")])
    same = json.loads((tmp_path / "same.json").read_text())
    assert {k: same[k] for k in kept} == {k: found[k] for k in kept}
    assert found["method"] == ["crown-ibp", "ibp"] and not found["clipped"]
    evaluate.main([str(run), "--clip", "--method", "ibp", "--out", str(tmp_path / "other.json")])
    other = json.loads((tmp_path / "other.json").read_text())
    assert other["clipped"] and other["method"] == ["ibp"]


def test_the_images_that_a_run_held_out_are_those_of_its_log(few, tmp_path, capsys):
    run = tmp_path / "run"
    train.main([*SHORT, "--data-dir", few, "--run", str(run)])
    rows = [row for row in checkpoint.read_log(run / "log.csv") if row["validation_eps"] == 0.1]
    evaluate.main([str(run), "--held-out", "--pgd-steps", "0", "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images"] == 100 and found["held_out"] and "100 images held out" in capsys.readouterr().out
    assert found["verified_error"] == min(row["validation_verified_error"] for row in rows)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "versions": {**config["versions"], "draws": 1}}))
    for other in (run, run / "best.npz"):
        with pytest.raises(ValueError, match="--held-out: expected the folder of a run of this version"):
            evaluate.main([str(other), "--eps", "0.1", "--held-out"])
    for name, value in (("method", ["ibp"]), ("beta", None), ("beta", []), ("norm", "3"), ("data_dir", 5),
                        ("eps", "0.1"), ("seed", "x"), ("split_seed", None)):
        (run / "config.json").write_text(json.dumps({**config, "arguments": {**config["arguments"], name: value}}))
        with pytest.raises(ValueError, match=f"found {name} .* in its config.json"):
            evaluate.main([str(run)])
    del config["arguments"]["validation"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="--held-out: expected validation in .*config.json, found none"):
        evaluate.main([str(run), "--held-out"])


def test_a_method_is_asked_for_the_images_that_those_before_it_left(few, monkeypatch):
    net, test = rb.models.mlp(np.random.default_rng(0), (784, 20, 10), (1, 28, 28)), data.load("mnist", "test", few)
    x, asked, bounds = data.to_float(test.images, np.float32), [], rb.margin_bounds
    alone = {method: rb.certified(bounds(net, rb.Ball(x, 0.002), test.labels, method), test.labels)
             for method in ("ibp", "crown")}
    monkeypatch.setattr(rb, "margin_bounds", lambda net, ball, *rest, **more:
                        asked.append(len(ball)) or bounds(net, ball, *rest, **more))
    args = evaluate.Args(eps=0.002, method=("ibp", "crown", "ibp"), norm="inf", pgd_steps=0, seed=0, threads=1,
                         shard=len(x))
    found = evaluate.evaluate(net, test, args, quiet=True)["verified_error"]
    either, right = alone["ibp"] | alone["crown"], net(x).argmax(1) == test.labels
    assert (asked == [right.sum(), (right & ~alone["ibp"]).sum(), (right & ~either).sum()]
            and 0 < asked[2] < asked[1] < asked[0])
    assert found == pytest.approx(100 * (1 - (either & right).mean()))


def leading(w, dtype=np.float32):
    """logits 10⁴ + w Σ max(x, 0) for class 1, 10⁴ for 0 and 2: in float32 numbers there are 2⁻¹⁰ apart."""
    second = np.zeros((3, 4), dtype)
    second[1] = w
    params = {"0.weight": np.eye(4, dtype=dtype), "0.bias": np.zeros(4, dtype),
              "2.weight": second, "2.bias": np.full(3, 1e4, dtype)}
    return rb.Network([Linear(4, 4), ReLU(), Linear(4, 3)], params, (4,))


def near(method, **more):
    """(three images with Σ x = 2.0078, how they are evaluated) at ε = 0.05, over which Σ x goes from 1.81 to 2.21."""
    images = data.Dataset(np.full((3, 1, 2, 2), 128, np.uint8), np.array([1, 2, 1]))
    return images, evaluate.Args(**{"eps": 0.05, "norm": "inf", "method": (method,), "seed": 0, "threads": 1, **more})


@pytest.mark.parametrize("norm, method", [("inf", "ibp"), ("inf", "one-step"), ("inf", "cap"), ("2", "crown"),
                                          ("1", "crown-ibp")])
def test_a_rounding_tie_is_counted_as_unverified_and_reported(norm, method):
    """Class 1 leads by 4.9·10⁻⁴ or more: that rounds to 2⁻¹⁰ at x, and to 0 in the ball where it is below 2⁻¹¹."""
    net, (images, args) = leading(2**-11 * 1.004 / 2.0078), near(method, norm=norm)
    found = evaluate.evaluate(net, images, args, quiet=True)
    assert found["standard_error"] == pytest.approx(100 / 3) and found["pgd_error"] == found["verified_error"] == 100
    assert (found["ties"] == 2
            and "2 certified, yet attacked by a rounding error: counted as unverified" in evaluate.report(found))
    wide = evaluate.evaluate(leading(2**-11 * 1.004 / 2.0078, np.float64), images, args, quiet=True)
    assert (wide["ties"] == 0 and wide["verified_error"] == pytest.approx(100 / 3)
            and "rounding" not in evaluate.report(wide))


def test_a_rounding_tie_on_the_device_is_the_one_on_the_host(device):
    net, (images, args) = leading(2**-11 * 1.004 / 2.0078), near("one-step", device="cuda")
    there = net.with_params({name: device.asarray(value) for name, value in net.params.items()})
    assert evaluate.evaluate(there, images, args, quiet=True)["ties"] == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bound_below_an_attack_by_more_than_rounding_stops_the_evaluation(dtype, monkeypatch):
    """Class 1 is 8·10⁻⁵ behind class 0 at x, and up to 1.9·10⁻³ ahead in the ball; the bounds are 3·10⁻³ too low."""
    net, (images, args), bounds = leading(-0.01, dtype), near("crown-ibp", shard=1, threads=2), rb.margin_bounds
    net.params["2.bias"][:] = (0, 0.02, -1)
    images = images._replace(labels=np.array([1, 0, 0]))
    assert evaluate.evaluate(net, images, args, quiet=True)["ties"] == 0
    monkeypatch.setattr(rb, "margin_bounds", lambda *given, **more: bounds(*given, **more) - 3e-3)
    with pytest.raises(ValueError, match="image 1: certified, yet attacked, by more than rounding"):
        evaluate.evaluate(net, images, args, quiet=True)


@pytest.mark.parametrize("norm", ["inf", "2", "1"])
def test_an_attack_that_leaves_the_ball_stops_the_evaluation(norm, monkeypatch):
    net, (images, args), pgd = leading(0.1), near("crown-ibp", norm=norm), rb.pgd
    assert evaluate.evaluate(net, images, args, quiet=True)["verified_error"] == pytest.approx(100 / 3)
    monkeypatch.setattr(rb, "pgd", lambda net, ball, *rest, **more: pgd(net, ball, *rest, **more) - np.float32(0.6))
    with pytest.raises(ValueError, match="image 0: certified, yet attacked, by more than rounding"):
        evaluate.evaluate(net, images, args, quiet=True)


def test_a_misclassified_image_is_not_bounded_and_leaves_the_others_their_draws(few, monkeypatch):
    net, test = rb.models.mlp(np.random.default_rng(0), (784, 20, 10), (1, 28, 28)), data.load("mnist", "test", few)
    asked, bounds = [], rb.margin_bounds
    monkeypatch.setattr(rb, "margin_bounds", lambda net, ball, y, *rest, **more:
                        asked.append((y, more["a0"])) or bounds(net, ball, y, *rest, **more))
    args = evaluate.Args(eps=0.3, method=("random",), norm="inf", pgd_steps=0, seed=3, threads=1, shard=100)
    evaluate.evaluate(net, test, args, quiet=True)
    right = net(data.to_float(test.images, np.float32)).argmax(1) == test.labels
    [(y, [a0])] = asked
    assert 0 < right.sum() < 100 and np.array_equal(y, test.labels[right])
    assert np.array_equal(a0, draws.stream("bound", 3, 0, 0, 0).random((100, 20), np.float32)[right])


def test_what_is_certified_is_attacked_by_fewer_steps_what_is_wrong_by_none_and_all_where_nothing_is_certified(
        few, monkeypatch):
    net, test, pgd, seen = (rb.models.mlp(np.random.default_rng(0), (784, 20, 10), (1, 28, 28)),
                            data.load("mnist", "test", few), rb.pgd, [])

    def spied(net, ball, y, steps, **more):
        seen.append((steps, len(y)))
        return pgd(net, ball, y, steps, **more)

    monkeypatch.setattr(rb, "pgd", spied)
    args = evaluate.Args(eps=0.003, method=("ibp",), norm="inf", seed=0, threads=1, pgd_steps=30,
                         shard=len(test.labels))
    found, n = evaluate.evaluate(net, test, args, quiet=True), len(test.labels)
    certified, right = (round(n * (1 - found[key] / 100)) for key in ("verified_error", "standard_error"))
    assert 0 < certified < right < n and seen == [(30, right - certified), (evaluate.CHECK, certified)]
    seen.clear()
    evaluate.evaluate(net, test, replace(args, method=("cap",), projections=50), quiet=True)
    assert seen == [(30, right)]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"], ids=["empty", "text", "cut"])
def test_evaluating_a_foreign_file_is_one_line(content, tmp_path, refused):
    (tmp_path / "net.npz").write_bytes(content)
    refused(evaluate, [tmp_path / "net.npz", "--eps", "0.1"], "net.npz")
    refused(evaluate, [tmp_path / "missing.npz", "--eps", "0.1"], "missing.npz")
    (tmp_path / "net.onnx").write_bytes(content)
    refused(evaluate, [tmp_path / "net.onnx", "--eps", "0.1"], "net.onnx", "verify.exchange")


@pytest.mark.parametrize("p, q, slope", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
def test_sparse_is_verified_at_its_own_rates(p, q, slope, few):
    net, test = rb.models.mlp(np.random.default_rng(0), (784, 20, 10), (1, 28, 28)), data.load("mnist", "test", few)
    args = evaluate.Args(eps=0.01, method=("sparse",), norm="inf", p=p, q=q, pgd_steps=0, seed=0, threads=1)
    s = rb.margin_bounds(net, rb.Ball(data.to_float(test.images, np.float32), 0.01), test.labels, "crown-ibp",
                         slopes=[np.full((len(test.labels), 20), slope, np.float32)])
    right = net(data.to_float(test.images, np.float32)).argmax(1) == test.labels
    expected = 100 * (1 - (right & rb.certified(s, test.labels)).mean())
    assert evaluate.evaluate(net, test, args, quiet=True)["verified_error"] == pytest.approx(expected)


@pytest.mark.parametrize("argv, words", [
    (["--out", "none/out.json"], "there is no folder none"), (["--out", "."], "found a folder"),
    (["--out", "net.npz"], "expected a name for results, got that of a network"),
    (["--n", "101"], "at most the 100"), (["--p", "0"], "--p: not an option of ibp"),
    (["--seed", "-1"], "--seed: expected at least 0"), (["--n", "-5"], "--n: expected at least 0, got -5"),
    (["--draws", "0"], "--draws: expected at least 1, got 0"), (["--eps", "8"], "--eps: expected at most 1"),
    (["--shard", "-1"], "--shard: expected at least 0, got -1"), (["--method", "foo", "--eta", "1"], "foo")])
def test_what_an_evaluation_cannot_do_is_said_before_it_begins(argv, words, few, tmp_path, refused):
    rb.save(rb.models.mlp(np.random.default_rng(0), input_shape=(1, 28, 28)), tmp_path / "net.npz")
    refused(evaluate, [tmp_path / "net.npz", "--data-dir", few, "--eps", "0.1", "--method", "ibp", *argv], words)


def test_a_run_is_verified_by_its_method_and_where_the_bound_was_not_minimised_by_alpha_too():
    assert (evaluate.certifiers("ibp", (1, 1)) == ("ibp",)
            and evaluate.certifiers("crown-ibp", (1, 0)) == ("crown-ibp", "ibp"))
    assert evaluate.certifiers("ibp", (1, 1), "sabr") == ("ibp", "crown-ibp", "alpha")
    assert evaluate.certifiers("crown-ibp", (1, 0.5), "cc-ibp") == ("crown-ibp", "ibp", "alpha")


def test_a_run_is_evaluated_in_its_norm_by_its_options_and_with_its_seed(few, tmp_path, monkeypatch):
    run, asked, real = str(tmp_path / "run"), [], evaluate.evaluate
    train.main([*SHORT, "--method", "sparse", "--p", "0.25", "--q", "0.75", "--norm", "2", "--seed", "3",
                "--eps", "0.2", "--epochs", "2", "--data-dir", few, "--run", run])
    monkeypatch.setattr(evaluate, "evaluate", lambda net, images, args: asked.append(args) or real(net, images, args))
    evaluate.main([run, "--pgd-steps", "0"])
    [args] = asked
    assert (args.norm, args.p, args.q, args.eta, args.seed, args.eps) == ("2", 0.25, 0.75, None, 3, 0.2)
    assert args.shard == 20  # which seeds the draws


def test_the_error_over_draws_is_their_mean_and_every_draw_is_another(few):
    net, test = rb.load(record.RESULTS / "ibp-mlp-0.1-0.npz"), data.load("mnist", "test", few)
    args = evaluate.Args(eps=0.1, method=("random",), norm="inf", pgd_steps=0, seed=0, threads=1, draws=4)
    found = evaluate.evaluate(net, test, args, quiet=True)
    each = found["verified_error_of_draws"]
    assert len(each) == 4 and len(set(each)) > 1 and found["verified_error"] == pytest.approx(sum(each) / 4)


def test_the_attack_has_the_starts_the_targets_and_the_seed_that_were_asked_for(monkeypatch):
    net, pgd, seen = leading(0.1), rb.pgd, []

    def spied(net, ball, y, steps, rng, **more):
        seen.append((steps, rng.bit_generator.state, more))
        return pgd(net, ball, y, steps, rng=rng, **more)

    monkeypatch.setattr(rb, "pgd", spied)
    for seed, restarts, targeted in ((5, 3, True), (0, 1, False)):
        images, args = near("ibp", seed=seed, restarts=restarts, targeted=targeted, pgd_steps=2)
        evaluate.evaluate(net, images, args, quiet=True)
        assert seen == [(2, draws.stream("attack", seed, 0).bit_generator.state,
                         {"restarts": restarts, "targeted": targeted})]
        seen.clear()


def test_by_sound_a_lead_within_rounding_is_not_verified():
    """Class 1 leads by 4.9·10⁻⁴ or more, where numbers are 2⁻¹⁰ apart: so says the plain bound, which rounds too."""
    net = leading(2**-11 * 1.004 / 2.0078)
    found = [evaluate.evaluate(net, *near("ibp", pgd_steps=0, sound=sound), quiet=True) for sound in (False, True)]
    assert [one["verified_error"] for one in found] == pytest.approx([100 / 3, 100])
    assert [one["sound"] for one in found] == [False, True]


def test_the_arithmetic_is_the_one_that_was_asked_for(few, tmp_path):
    rb.save(rb.models.mlp(np.random.default_rng(0), input_shape=(1, 28, 28)), tmp_path / "net.npz")
    for dtype in ("float32", "float64"):
        evaluate.main([str(tmp_path / "net.npz"), "--data-dir", few, "--eps", "0.01", "--n", "5", "--pgd-steps", "0",
                       "--dtype", dtype, "--out", str(tmp_path / "out.json")])
        assert json.loads((tmp_path / "out.json").read_text())["dtype"] == dtype


def test_by_sound_no_parameter_may_be_rounded(few, tmp_path, refused):
    net = rb.models.mlp(np.random.default_rng(0), input_shape=(1, 28, 28), dtype=np.float64)
    halves = net.with_params({name: np.full_like(value, 0.5) for name, value in net.params.items()})
    rb.save(net, tmp_path / "drawn.npz")
    rb.save(halves, tmp_path / "exact.npz")
    argv = ["--data-dir", few, "--eps", "0.01", "--n", "2", "--pgd-steps", "0", "--method", "ibp", "--sound"]
    refused(evaluate, [str(tmp_path / "drawn.npz"), *argv], "--sound", "expected --dtype float64")
    for more in ([str(tmp_path / "drawn.npz"), *argv, "--dtype", "float64"], [str(tmp_path / "exact.npz"), *argv]):
        evaluate.main(more)


def test_the_images_held_out_are_by_the_seed_of_the_split_in_training_and_after(few, tmp_path):
    args = train.Args(data_dir=few, crop=0, validation=100, split_seed=3, seed=1)
    expected = data.split_validation(data.load("mnist", "train", few), 100, 3)[1].images
    with checkpoint.alone(tmp_path / "run"):
        checkpoint.open_folder(tmp_path / "run", vars(args), None, [None, train.examples(args)[1].checksum])
    for found in (train.examples(args)[1], evaluate.held_out(tmp_path / "run")):
        np.testing.assert_array_equal(found.images, expected)
    config = checkpoint.read_json(tmp_path / "run" / "config.json")
    checkpoint.write_json(tmp_path / "run" / "config.json", {**config, "images": [None, "of others"]})
    with pytest.raises(ValueError, match="--held-out: .*run held out other images than those of "):
        evaluate.held_out(tmp_path / "run")


def test_the_data_of_a_run_are_its_own_if_they_are_named_too(few, tmp_path, capsys):
    net = rb.models.mlp(np.random.default_rng(0), input_shape=(1, 28, 28))
    with checkpoint.alone(tmp_path / "run"):
        checkpoint.open_folder(tmp_path / "run", vars(train.Args(method="ibp", data_dir=few)), None)
    rb.save(net, tmp_path / "run" / "best.npz")
    for more in ([], ["--data", "mnist"]):
        evaluate.main([str(tmp_path / "run"), "--pgd-steps", "0", *more])
        assert f"on {len(data.load('mnist', 'test', few).labels)} images" in capsys.readouterr().out
