"""verify.complete: the verdicts of the MILP, whatever stage they come from, and a file of them that can be gone on with."""

import json

import numpy as np
import pytest

import refbound as rb
from trainers import data, evaluate, train
from trainers.files import record
from verify import complete, milp
from verify.verdicts import stages

EPS, N = "0.04", 40


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An MLP of 16 hidden units in two layers, trained without robustness for a moment: every verdict occurs."""
    net = rb.models.mlp(np.random.default_rng(0), (784, 16, 16, 10), input_shape=(1, 28, 28))
    train = data.load("mnist", "train")
    for i in range(0, 6400, 64):
        ball = rb.Ball(data.to_float(train.images[i:i + 64], np.float32), 0.01)
        grads = rb.robust_loss(net, ball, train.labels[i:i + 64], "ibp", kappa=0.9).grads
        net = net.with_params({name: value - np.float32(0.3) * grads[name] for name, value in net.params.items()})
    path = tmp_path_factory.mktemp("complete") / "model.npz"
    rb.save(net, path)
    return str(path)


def run(model, out, *more):
    complete.main([model, "--eps", EPS, "--n", str(N), "--jobs", "1", "--out", str(out), *more])
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    return run(model, tmp_path_factory.mktemp("whole") / "whole.json")


def test_every_verdict_is_that_of_the_milp(model, whole, tmp_path):
    milp.main([model, "--eps", EPS, "--n", str(N), "--out", str(tmp_path / "milp.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "milp.jsonl").read_text(encoding="utf-8").splitlines()][1:]
    plain = ["not robust" if answer == "misclassified" else answer for answer in whole["verdicts"]]
    assert plain == [row["answer"] for row in rows] and {"robust", "not robust", "misclassified"} == set(whole["verdicts"])
    assert len(set(whole["stages"])) >= 5
    test, net = data.load("mnist", "test"), rb.load(model)
    wrong = net(data.to_float(test.images[:N], np.float32)).argmax(1) != test.labels[:N]
    assert (wrong == (np.array(whole["verdicts"]) == "misclassified")).all()


def test_no_verdict_depends_on_the_stage_that_gives_it(model, whole, tmp_path, monkeypatch, capsys):
    def nothing(net, ball, y, **more):
        return [stages.UNKNOWN] * len(y)

    last, attack = {"branch": "branch and bound", "exact": "MILP"}, stages.attack
    for stage, other in (("branch", "exact"), ("exact", "branch")):
        with monkeypatch.context() as patch:
            for name in ("certify", "tight", other) if other == "branch" else ("certify", "tight"):
                patch.setattr(stages, name, nothing)
            patch.setattr(stages, "attack", lambda *here, **more: (attack if "steps" in more else nothing)(*here, **more))
            found = run(model, tmp_path / f"{stage}.json")
        assert found["verdicts"] == whole["verdicts"] and set(found["stages"]) == {"the network", last[stage]}
        assert f"0 of {N} images unknown" in capsys.readouterr().out


def test_an_image_that_every_stage_fails_on_is_unknown(model, whole, tmp_path, monkeypatch, capsys, failing_milp):
    failing_milp()
    for name in ("tight", "branch"):
        monkeypatch.setattr(stages, name, lambda net, ball, y, **more: [stages.UNKNOWN] * len(y))
    capsys.readouterr()
    found, printed = run(model, tmp_path / "failed.json"), capsys.readouterr().out
    unknown = [i for i, answer in enumerate(found["verdicts"]) if answer == "unknown"]
    assert unknown and all(whole["verdicts"][i] == "robust" for i in unknown)
    assert all(f"image {i}: unknown: milp: HiGHS failed" in printed for i in unknown)
    least = 100 * (N - whole["verdicts"].count("robust")) / N
    assert f"{least:.2f} % to {least + 100 * len(unknown) / N:.2f} %" in printed


def test_a_run_that_was_stopped_goes_on_to_the_same_verdicts(model, tmp_path, monkeypatch):
    monkeypatch.setattr(complete.parallel, "shard_size", lambda *given: 16)
    whole, decide = run(model, tmp_path / "whole.json"), complete.decide
    out = tmp_path / "parts.json"

    def stop(net, methods, seed, time_limit, chunk):
        if chunk[0] == 16:
            raise KeyboardInterrupt
        return decide(net, methods, seed, time_limit, chunk)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(complete, "decide", stop)
        run(model, out)
    part = json.loads(out.read_text(encoding="utf-8"))
    assert part["verdicts"] == whole["verdicts"][:16]
    parts = run(model, out, "--jobs", "2")
    assert not list(tmp_path.glob("*.part"))
    assert all(parts[name] == whole[name] for name in ("config", "verdicts", "stages", "witnesses"))


def test_a_bound_below_an_attack_stops_the_command(model, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "certify", lambda net, ball, y, **more: [("robust", None)] * len(y))
    with pytest.raises(ValueError, match=r"image \d+: robust by ibp, yet attacked"):
        run(model, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_witness_that_is_none_stops_the_command(model, whole, tmp_path, monkeypatch):
    out, i = tmp_path / "out.json", whole["verdicts"].index("not robust")
    image = data.to_float(data.load("mnist", "test").images[i], np.float64)
    for message, far in (("within 0.04", 0.2), ("misclassified", 0.0)):  # what is attacked is classified correctly at x itself
        def planted(net, ball, y, *rest, far=far, **more):
            return [("not robust", np.abs(x - far)) for x in ball.x]

        with monkeypatch.context() as patch, pytest.raises(ValueError, match=rf"image \d+: witness: .*{message}"):
            patch.setattr(stages, "certify", lambda net, ball, y, **more: [stages.UNKNOWN] * len(y))
            patch.setattr(stages, "attack", planted)
            run(model, out)
        assert not out.exists()
        witnesses = {**whole["witnesses"], str(i): np.abs(image - far).tolist()}
        out.write_text(json.dumps({**whole, "witnesses": witnesses}), encoding="utf-8")
        with pytest.raises(ValueError, match=f"image {i}: witness: .*{message}"):
            run(model, out)
        out.unlink()


def test_the_images_held_out_are_decided_in_the_test_sets_place(few, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "out.json"
    train.main(["--method", "ibp", "--model", "mlp", "--data-dir", few, "--limit", "256", "--validation", "64", "--batch", "64", "--epochs", "1",
                "--ramp", "0.5", "--warmup", "0", "--probe", "0", "--run", str(folder), "--threads", "1"])
    complete.main([str(folder), "--eps", "0.02", "--held-out", "--jobs", "1", "--out", str(out)])
    x, y = evaluate.held_out(folder)
    wrong = rb.load(folder / "best.npz")(data.to_float(x, np.float32)).argmax(1) != y
    verdicts = json.loads(out.read_text(encoding="utf-8"))["verdicts"]
    assert len(y) == 64 and [answer == "misclassified" for answer in verdicts] == wrong.tolist() and "robust" in verdicts
    for argv, message in (([str(folder), "--record", "any.json"], "--record: .* got --held-out"),
                          ([str(folder / "best.npz")], "--held-out: expected the folder")):
        with pytest.raises(ValueError, match=message):
            complete.main([*argv, "--eps", "0.02", "--held-out"])


def test_what_cannot_be_gone_on_with_is_refused(model, whole, tmp_path):
    out, text = tmp_path / "out.json", json.dumps(whole)
    out.write_text(text, encoding="utf-8")
    for change, message in ((["--eps", "0.05"], "eps 0.04, now 0.05"), (["--no-clip"], "domain"), (["--seed", "1"], "seed"),
                            (["--time-limit", "9"], "time_limit")):
        with pytest.raises(ValueError, match=message):
            run(model, out, *change)
        assert out.read_text(encoding="utf-8") == text
    for damaged in ({**whole, "verdicts": whole["verdicts"][1:]}, {**whole, "witnesses": {}}, {"verdicts": []},
                    {**whole, "seconds": {"ibp": "none"}}):
        out.write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(ValueError, match="not a file of verdicts"):
            run(model, out)


def test_arguments_that_cannot_be_are_one_line(model, tmp_path, capsys):
    out = str(tmp_path / "out.json")
    for command, message in (([str(tmp_path / "none"), "--eps", "0.1"], "no such file or folder"), ([model], "--eps"),
                             ([model, "--eps", "1.5"], "--eps: expected at most 1"), ([model, "--eps", "-1"], "--eps: .*at least 0"),
                             ([model, "--eps", "0.1", "--n", "10001"], "--n: .*10000")):
        with pytest.raises(ValueError, match=message):
            complete.main([*command, "--out", out])
    with pytest.raises(SystemExit):
        complete.main([model, "--eps", "0.1", "--out", str(tmp_path / "none" / "out.json")])
    assert "there is no folder" in capsys.readouterr().err


def test_the_method_of_a_run_is_asked_first_with_its_options(model, tmp_path):
    cheap = {"ibp": {}, "crown-ibp": {}, "one-step": {}, "alpha": {}}
    for given, first in (({"method": "crown-ibp", "beta": [1.0, 0.0]}, {"crown-ibp": {}, "ibp": {}}),
                         ({"method": "sparse", "beta": [1.0, 1.0], "p": 0.0, "q": None}, {"sparse": {"p": 0.0}})):
        (tmp_path / "config.json").write_text(json.dumps({"arguments": {**given, "eps": 0.1}}), encoding="utf-8")
        assert list(complete.bounds_of(str(tmp_path)).items()) == list({**first, **cheap}.items())
    assert complete.bounds_of(model) == cheap


def test_a_stage_that_fails_on_several_images_is_asked_for_each(model, whole, tmp_path, monkeypatch):
    certify, seen = stages.certify, []

    def overflows(net, ball, y, **more):
        seen.append(len(y))
        if len(y) > 1:
            raise ValueError("a bound overflowed")
        return certify(net, ball, y, **more)

    monkeypatch.setattr(stages, "certify", overflows)
    assert run(model, tmp_path / "out.json")["verdicts"] == whole["verdicts"] and min(seen) == 1 < max(seen)


def test_a_network_that_overflows_leaves_every_image_unknown(model, tmp_path, capsys):
    net = rb.load(model)
    rb.save(net.with_params({name: 1e160 * value.astype(float) for name, value in net.params.items()}), tmp_path / "huge.npz")
    found = run(str(tmp_path / "huge.npz"), tmp_path / "out.json", "--n", "3", "--time-limit", "0.1")
    assert found["verdicts"] == ["unknown"] * 3 and found["witnesses"] == {}
    assert "image 2: unknown: margin_bounds: a bound overflowed" in capsys.readouterr().out


def test_the_verdicts_are_added_to_the_record_of_the_run(model, whole, tmp_path):
    path, wrong = tmp_path / "run.json", whole["verdicts"].count("misclassified")
    given = {name: None for name in record.READ["arguments"]}
    one = {"name": "run", "arguments": {**given, "eps": float(EPS), "no_clip": False, "norm": "inf"}, "versions": {}, "log": {},
           "result": {"standard_error": 100 * wrong / N, "pgd_error": 50.0, "verified_error": 70.0, "estimate": False,
                      "training_seconds": 1.0}, "landscape": {}}
    path.write_text(json.dumps(one), encoding="utf-8")
    run(model, tmp_path / "out.json", "--record", str(path))
    done = record.read_one(path)["complete"]
    assert done["verdicts"] == "".join(verdict[0] for verdict in whole["verdicts"]) and done["unknown"] == 0
    assert done["exact_error"] == 100 * (N - whole["verdicts"].count("robust")) / N and done["images"] == N
    text = path.read_text(encoding="utf-8")
    for more, message in ((["--eps", "0.05"], "eps"), (["--no-clip"], "no_clip"), (["--n", "39"], "standard error")):
        with pytest.raises(ValueError, match=f"run.json: expected .*{message}"):
            run(model, tmp_path / "out.json", "--record", str(path), *more)
    assert path.read_text(encoding="utf-8") == text
