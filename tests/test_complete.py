"""verify.complete: the MILP's verdicts, whatever stage they come from, and a file of them that can be gone on with."""

import json

import numpy as np
import pytest

import refbound as rb
from refbound import branching
from refbound.branching import branch_and_bound
from refbound.layers import Flatten, Linear, ReLU
from trainers import data, evaluate, train
from trainers.files import checkpoint, record
from trainers.inputs import arguments
from verify import complete, milp
from verify.programs import mixed_integer
from verify.programs.mixed_integer import double
from verify.verdicts import stages
from verify.verdicts.problem import problem, witnessed

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
    assert (plain == [row["answer"] for row in rows]
            and {"robust", "not robust", "misclassified"} == set(whole["verdicts"]))
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
            patch.setattr(stages, "attack",
                          lambda *here, **more: (attack if "steps" in more else nothing)(*here, **more))
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
    for message, far in (("within 0.04", 0.2), ("misclassified", 0.0)):  # what is attacked is correct at x itself
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
    train.main(["--method", "ibp", "--model", "mlp", "--data-dir", few, "--limit", "256", "--validation", "64",
                "--batch", "64", "--epochs", "1", "--ramp", "0.5", "--warmup", "0", "--probe", "0",
                "--run", str(folder), "--threads", "1"])
    complete.main([str(folder), "--eps", "0.02", "--held-out", "--jobs", "1", "--out", str(out)])
    x, y = evaluate.held_out(folder)
    wrong = rb.load(folder / "best.npz")(data.to_float(x, np.float32)).argmax(1) != y
    verdicts = json.loads(out.read_text(encoding="utf-8"))["verdicts"]
    assert (len(y) == 64 and [answer == "misclassified" for answer in verdicts] == wrong.tolist()
            and "robust" in verdicts)
    for argv, message in (([str(folder), "--record", "any.json"], "--record: .* got --held-out"),
                          ([str(folder / "best.npz")], "--held-out: expected the folder")):
        with pytest.raises(ValueError, match=message):
            complete.main([*argv, "--eps", "0.02", "--held-out"])


def test_what_a_file_says_against_the_network_is_refused(model, whole, tmp_path):
    out = tmp_path / "out.json"
    for was, says in (("misclassified", "robust"), ("robust", "misclassified")):
        i = whole["verdicts"].index(was)
        out.write_text(json.dumps({**whole, "verdicts": [*whole["verdicts"][:i], says, *whole["verdicts"][i + 1:]]}),
                       encoding="utf-8")
        with pytest.raises(ValueError, match=f"out.json: says {says} of image {i}, against the network"):
            run(model, out)
    hit = next(iter(whole["witnesses"]))
    out.write_text(json.dumps({**whole, "witnesses": {**whole["witnesses"], hit: {"a": 1}}}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"image {hit}: "):
        run(model, out)


def test_networks_of_the_same_arrays_under_other_names_share_no_file(tmp_path):
    layers, rng = [Flatten(), Linear(784, 10), ReLU(), Linear(10, 10), ReLU(), Linear(10, 10)], np.random.default_rng(0)
    net = rb.models.initialise(rng, layers, (1, 28, 28), np.float64)
    exchanged = {f"{i}.{part}": net.params[f"{j}.{part}"]
                 for i, j in ((1, 1), (5, 3), (3, 5)) for part in ("weight", "bias")}
    for name, one in (("a", net), ("b", rb.Network(layers, exchanged, (1, 28, 28)))):
        rb.save(one, tmp_path / f"{name}.npz")
    argv, out = ["--eps", "0", "--n", "1", "--jobs", "1"], tmp_path / "out.json"
    complete.main([str(tmp_path / "a.npz"), *argv, "--out", str(out)])
    with pytest.raises(ValueError, match="made with model"):
        complete.main([str(tmp_path / "b.npz"), *argv, "--out", str(out)])


def test_a_tie_within_rounding_is_unknown_and_stops_nothing(tmp_path, capsys):
    """Class 0 is ahead of all others by 1e-18, everywhere: the bounds see it, the logits do not."""
    W, bias = np.tile(np.random.default_rng(0).normal(size=784) / 784, (10, 1)), np.array([0.0, *[-1e-18] * 9])
    rb.save(rb.Network([Flatten(), Linear(784, 10)], {"1.weight": W, "1.bias": bias}, (1, 28, 28)),
            tmp_path / "tie.npz")
    complete.main([str(tmp_path / "tie.npz"), "--eps", "0.1", "--n", "4", "--jobs", "1",
                   "--out", str(tmp_path / "out.json")])
    assert "image 3: unknown: robust by ibp and attacked, both within rounding" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["verdicts"] == [*["misclassified"] * 3, "unknown"]


def test_what_cannot_be_gone_on_with_is_refused(model, whole, tmp_path):
    out, text = tmp_path / "out.json", json.dumps(whole)
    out.write_text(text, encoding="utf-8")
    for change, message in ((["--eps", "0.05"], "eps 0.04, now 0.05"), (["--no-clip"], "domain"),
                            (["--seed", "1"], "seed"), (["--time-limit", "9"], "time_limit 60.0, now 9.0")):
        with pytest.raises(ValueError, match=message):
            run(model, out, *change)
        assert out.read_text(encoding="utf-8") == text
    out.write_text(json.dumps({**whole, "config": {key: value for key, value in whole["config"].items()
                                                   if key != "program"}}), encoding="utf-8")
    with pytest.raises(ValueError, match="made by another version, which may decide otherwise"):
        run(model, out)
    for damaged in ({**whole, "verdicts": whole["verdicts"][1:]}, {**whole, "witnesses": {}}, {"verdicts": []},
                    {**whole, "seconds": {"ibp": "none"}}, {**whole, "stages": [[] for _ in whole["stages"]]},
                    {**whole, "verdicts": {}}, {**whole, "witnesses": []}):
        out.write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(ValueError, match="not a file of verdicts"):
            run(model, out)


def test_arguments_that_cannot_be_are_one_line(model, tmp_path, capsys):
    out = str(tmp_path / "out.json")
    for command, message in (([str(tmp_path / "none"), "--eps", "0.1"], "no such file or folder"), ([model], "--eps"),
                             ([model, "--eps", "1.5"], "--eps: expected at most 1"),
                             ([model, "--eps", "-1"], "--eps: .*at least 0"),
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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_network_that_overflows_leaves_every_image_unknown(model, tmp_path, capsys):
    net = rb.load(model)
    rb.save(net.with_params({name: 1e160 * value.astype(float) for name, value in net.params.items()}),
            tmp_path / "huge.npz")
    found = run(str(tmp_path / "huge.npz"), tmp_path / "out.json", "--n", "3", "--time-limit", "0.1")
    assert found["verdicts"] == ["unknown"] * 3 and found["witnesses"] == {}
    assert "image 2: unknown: margin_bounds: a bound overflowed" in capsys.readouterr().out
    milp.main([str(tmp_path / "huge.npz"), "--eps", EPS, "--n", "2", "--out", str(tmp_path / "milp.jsonl")])
    assert "2 unknown of 2 images" in capsys.readouterr().out


def test_the_verdicts_are_added_to_the_record_of_the_run(model, whole, tmp_path):
    path, wrong = tmp_path / "run.json", whole["verdicts"].count("misclassified")
    one = {"name": "run", "arguments": record.settings(vars(train.Args(eps=float(EPS)))), "versions": {},
           "log": {}, "landscape": {},
           "result": {"standard_error": 100 * wrong / N, "pgd_error": 50.0, "verified_error": 70.0, "images": N,
                      "method": ["ibp"], "estimate": False, "training_seconds": 1.0}}
    other = {**one, "result": {**one["result"], "standard_error": one["result"]["standard_error"] + 0.1}}
    path.write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(ValueError, match="run.json: expected the record of this network, .*, found that of another"):
        run(model, tmp_path / "out.json", "--record", str(path))
    path.write_text(json.dumps(one), encoding="utf-8")
    run(model, tmp_path / "out.json", "--record", str(path))
    done = record.read_one(path)["complete"]
    assert done["verdicts"] == "".join(verdict[0] for verdict in whole["verdicts"]) and done["unknown"] == 0
    assert done["exact_error"] == 100 * (N - whole["verdicts"].count("robust")) / N and done["images"] == N
    text = path.read_text(encoding="utf-8")
    for more, message in ((["--eps", "0.05"], "--eps"), (["--no-clip"], "--no-clip"), (["--n", "39"], "39 test")):
        with pytest.raises(ValueError, match=f"run.json: expected .*{message}"):
            run(model, tmp_path / "out.json", "--record", str(path), *more)
    assert path.read_text(encoding="utf-8") == text
    other = rb.load(model)
    rb.save(other.with_params({name: 2 * value for name, value in other.params.items()}), path.with_suffix(".npz"))
    with pytest.raises(ValueError, match="run.json: expected the record of .*, found that of another, .*run.npz"):
        run(model, tmp_path / "out.json", "--record", str(path))
    given = checkpoint.read_json(path)
    given["complete"]["verdicts"] = given["complete"]["verdicts"][::-1]
    path.write_text(json.dumps(given), encoding="utf-8")
    with pytest.raises(ValueError, match="run.json: expected the record of this network, found .* says .* of image "):
        run(model, tmp_path / "out.json", "--record", str(path))


def test_a_witness_of_branch_and_bound_that_is_none_by_itself_is_unknown(model, monkeypatch):
    net, (images, labels) = rb.load(model), data.first(data.load("mnist", "test"), 1, rb.load(model))
    found = branching.Decision("not robust", 1e-15, data.to_float(images[0], np.float64), 1)  # as in a batch it rounds
    monkeypatch.setattr(stages, "branch_and_bound", lambda *given, **more: [found])
    ball = rb.Ball(data.to_float(images, np.float64), 1e-15)
    assert stages.branch(double(net), ball, labels, 1.0) == [stages.UNKNOWN]


def test_with_more_time_what_is_unknown_is_tried_again(model, whole, tmp_path, monkeypatch):
    out, decide, asked = tmp_path / "out.json", complete.decide, []
    unknown = [i for i, stage in enumerate(whole["stages"]) if stage in ("cap or crown", "branch and bound", "MILP")]
    less = {**whole, "config": {**whole["config"], "time_limit": 1.0},
            **{name: [other if i in unknown else value for i, value in enumerate(whole[name])]
               for name, other in (("verdicts", "unknown"), ("stages", None))}}
    less["witnesses"] = {i: x for i, x in whole["witnesses"].items() if int(i) not in unknown}

    def seen(net, methods, seed, time_limit, chunk):
        asked.append((chunk[0], len(chunk[2]), time_limit))
        return decide(net, methods, seed, time_limit, chunk)

    monkeypatch.setattr(complete, "decide", seen)
    out.write_text(json.dumps(less), encoding="utf-8")
    assert len(unknown) > 1 and run(model, out, "--time-limit", "1") == less and not asked
    last = str(unknown[-1])
    part = run(model, out, "--n", last)  # as a run that was stopped before the last
    assert asked == [(i, 1, 60.0) for i in unknown[:-1]] and part["again"] == unknown[-1:]
    assert part["verdicts"] == [*whole["verdicts"][:int(last)], "unknown", *whole["verdicts"][int(last) + 1:]]
    found = run(model, out)
    assert asked[len(unknown) - 1:] == [(unknown[-1], 1, 60.0)] and found.keys() == whole.keys()
    assert all(found[name] == whole[name] for name in ("config", "verdicts")) and None not in found["stages"]
    assert {*found["witnesses"]} == {*whole["witnesses"]}


def test_of_a_longer_file_the_images_that_are_asked_for_are_counted(model, whole, tmp_path, capsys):
    out, robust = tmp_path / "out.json", whole["verdicts"][:10].count("robust")
    out.write_text(json.dumps(whole), encoding="utf-8")
    capsys.readouterr()
    run(model, out, "--n", "10")
    printed = capsys.readouterr().out
    assert "0 of 10 images unknown" in printed and f"clipped to [0, 1]: {100 * (10 - robust) / 10:.2f} %\n" in printed


def test_other_images_or_labels_are_another_problem(model):
    args = arguments.parse(complete.Args, "verify.complete", [model, "--eps", EPS, "--n", "4"])
    test = data.load("mnist", "test")
    assert len({problem(args, images)[3]["data"] for images in (
        test, test._replace(images=test.images[::-1]), test._replace(labels=test.labels[::-1]))}) == 3


def test_an_attack_beyond_rounding_stops_the_command_by_however_little(monkeypatch):
    """The margin x − 1/2 comes to 1e-13, which rounding could not do."""
    net = rb.Network([Linear(1, 2)], {"0.weight": np.array([[0.0], [1]]), "0.bias": np.array([0, -0.5])}, (1,))
    monkeypatch.setattr(stages, "certify", lambda net, ball, y, **more: [("robust", None)] * len(y))
    with pytest.raises(ValueError, match="image 0: robust by ibp, yet attacked"):
        stages.decide(net, {"ibp": {}}, 0, 1.0, (0, rb.Ball(np.array([[0.45]]), 0.05 + 1e-13), np.array([0])))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_point_where_a_logit_overflows_is_no_witness():
    net = rb.Network([Linear(1, 2)], {"0.weight": np.array([[0.0], [1e308]]), "0.bias": np.array([0, 1e308])}, (1,))
    assert net(np.ones((1, 1)))[0, 1] == np.inf and not mixed_integer.is_witness(net, np.ones(1), 0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_overflow_that_a_relu_hides_makes_no_verdict():
    """z = −10⁴⁰⁰ x rounds to −∞, of which the ReLU makes 0: the logits are (0, 0.1), as if nothing had been."""
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 1), ReLU(), Linear(1, 2)], {
        "0.weight": np.array([[1e200]]), "0.bias": np.zeros(1), "2.weight": np.array([[-1e200]]), "2.bias": np.zeros(1),
        "4.weight": np.array([[1.0], [0]]), "4.bias": np.array([0, 0.1])}, (1,))
    ball, y = rb.Ball(np.ones((1, 1)), 1e-6), np.array([0])
    assert net(ball.x).tolist() == [[0, 0.1]] and not mixed_integer.is_witness(net, ball.x[0], 0)
    assert stages.clean(net, ball, y) == [stages.UNKNOWN] and branch_and_bound(net, ball, y)[0].answer == "unknown"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_margin_of_infinity_is_no_witness():
    """At x logit 0 is (1 + 1 − 1.5) 10³⁰⁸, in floats ∞; logit 1 is 0.6 10³⁰⁸. h₃ − h₄ = 0 is what bounds do not see."""
    W = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1.0]])
    net = rb.Network([Linear(3, 4), ReLU(), Linear(4, 2)], {
        "0.weight": W, "0.bias": np.array([0, 0, -0.5, -0.5]),
        "2.weight": 1e308 * np.array([[1, 1, 0.8, -0.8], [0.8, 0.8, 0, 0]]),
        "2.bias": np.array([-1.5e308, -1e308])}, (3,))
    ball, y = rb.Ball(np.array([[1, 1, 0.5]]), np.array([[0.01, 0.01, 0.4]])), np.array([1])
    assert net(ball.x)[0, 0] == np.inf and branch_and_bound(net, ball, y)[0].answer == "robust"
    pre = [(l[0], u[0]) for l, u in rb.preactivation_bounds(net, ball, "ibp")]
    with pytest.raises(RuntimeError, match="class 0 overflows"):
        mixed_integer.verdict(net, ball, 1, pre)
    with pytest.raises(ValueError, match="expected a misclassified input"):
        mixed_integer.check_witness(net, ball, 1, ball.x[0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_stored_witness_counts_where_the_network_of_magnitudes_overflows():
    """z = 10²⁰⁰ (x₁ − x₂) + 1: at x the margin is 0.9·10²⁰⁰, and that of |W| is beyond float64."""
    net = rb.Network([Linear(2, 1), ReLU(), Linear(1, 2)], {
        "0.weight": np.array([[1e200, -1e200]]), "0.bias": np.ones(1), "2.weight": np.array([[0.0], [1e200]]),
        "2.bias": np.array([0, -1e199])}, (2,))
    witnessed(net, rb.Ball(np.full((1, 2), 0.5), 0.1), np.array([0]), 0, [0.5, 0.5], stored=True)
