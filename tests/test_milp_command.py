"""verify.milp as a command: a file of verdicts that can be gone on with, and what is refused."""

import json

import numpy as np
import pytest
from test_lp import last_layer_times

import refbound as rb
from refbound.layers import Linear, ReLU
from refbound.rounding import margin_rounding
from trainers.inputs import arguments
from verify import milp
from verify.verdicts.problem import witnessed


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.npz"
    rb.save(rb.models.mlp(np.random.default_rng(0), (784, 8, 10), input_shape=(1, 28, 28)), path)
    return path


def rows(path):
    head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_an_interrupted_run_goes_on_where_it_stopped(model, tmp_path, monkeypatch, capsys):
    whole, parts, one = tmp_path / "whole.jsonl", tmp_path / "new" / "parts.jsonl", milp.one
    command = [str(model), "--eps", "0.003", "--n", "12"]
    milp.main([*command, "--out", str(whole)])

    def stop(net, ball, y, i, args):
        if i == 7:
            raise KeyboardInterrupt
        return one(net, ball, y, i, args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(milp, "one", stop)
        milp.main([*command, "--out", str(parts)])
    assert rows(parts) == rows(whole)[:7]
    monkeypatch.setattr(milp, "one", lambda net, ball, y, i, args: one(net, ball, y, i, args) if i >= 7 else None)
    capsys.readouterr()
    milp.main([*command, "--out", str(parts)])
    assert rows(parts) == rows(whole) and not list(tmp_path.rglob("*.part"))
    counted = milp.counts(rows(whole))
    assert sum(counted.values()) == 12 and counted["robust"] and counted["not robust"]
    assert ", ".join(f"{n} {answer}" for answer, n in counted.items()) in capsys.readouterr().out


def test_an_image_that_the_solver_fails_on_is_unknown_and_the_others_go_on(
        model, tmp_path, monkeypatch, capsys, failing_milp):
    command = [str(model), "--eps", "0.1", "--n", "12", "--out"]
    monkeypatch.setattr(rb, "pgd", lambda net, ball, *rest, **more: ball.x)  # what is not robust is found by the solver
    milp.main([*command, str(tmp_path / "whole.jsonl")])
    whole = rows(tmp_path / "whole.jsonl")
    failing_milp()
    capsys.readouterr()
    milp.main([*command, str(tmp_path / "failed.jsonl")])
    printed, failed = capsys.readouterr().out, rows(tmp_path / "failed.jsonl")
    unknown = [row["image"] for row in failed if row["answer"] == "unknown"]
    assert unknown and len(unknown) < 12 and f"{len(unknown)} unknown of 12 images" in printed
    assert all(f"image {i}: unknown: milp: HiGHS failed on class" in printed for i in unknown)
    least = [row["answer"] for row in failed].count("not robust")
    assert f"{100 * least / 12:.2f} % to {100 * (least + len(unknown)) / 12:.2f} %" in printed
    assert ([row for row in failed if row["image"] not in unknown]
            == [row for row in whole if row["image"] not in unknown])
    assert all(failed[i]["bound"] >= whole[i]["bound"] and failed[i]["witness"] is None for i in unknown)


def test_a_stored_witness_may_be_off_by_rounding_and_by_no_more():
    """z = (0, h − 1/2), h = max(x, 0): misclassified from x = 1/2 on. One ulp below, another machine may find it."""
    net = rb.Network([Linear(1, 1), ReLU(), Linear(1, 2)], {
        "0.weight": np.array([[1.0]]), "0.bias": np.zeros(1),
        "2.weight": np.array([[0.0], [1]]), "2.bias": np.array([0, -0.5])}, (1,))
    ball, below = rb.Ball(np.array([[0.4]]), 0.2), [np.nextafter(0.5, 0)]
    y = np.array([0])
    witnessed(net, ball, y, 0, [0.5])
    witnessed(net, ball, y, 0, below, stored=True)
    of_one = margin_rounding(net, np.array([[0.5]]), y)[0, 1]
    witnessed(net, ball, y, 0, [0.5 - of_one], stored=True)
    for x, stored in ((below, False), ([0.5 - 3 * of_one], True)):
        with pytest.raises(ValueError, match="image 0: witness: expected a misclassified input"):
            witnessed(net, ball, y, 0, x, stored)


@pytest.mark.parametrize("c", [1e-6, 1e9])
def test_the_verdicts_of_the_command_do_not_depend_on_the_last_layers_scale(c, model, tmp_path):
    rb.save(last_layer_times(rb.load(model), np.float32(c)), tmp_path / "times.npz")
    for path in (model, tmp_path / "times.npz"):
        milp.main([str(path), "--eps", "0.003", "--n", "12", "--out", str(tmp_path / f"{path.stem}.jsonl")])
    one, other = rows(tmp_path / "model.jsonl"), rows(tmp_path / "times.jsonl")
    assert [row["answer"] for row in one] == [row["answer"] for row in other]
    assert [row["bound"] for row in one] == pytest.approx([row["bound"] / c for row in other], rel=1e-4, abs=1e-5)


def test_results_of_another_computation_are_refused(model, tmp_path):
    out = tmp_path / "out.jsonl"
    command = [str(model), "--eps", "0.1", "--n", "1", "--out", str(out)]
    milp.main(command)
    for change, message in ((["--eps", "0.2"], "eps 0.1, now 0.2"), (["--no-clip"], r"domain \[0.0, 1.0\], now None")):
        with pytest.raises(ValueError, match=message):
            milp.main([*command, *change])
    text = out.read_text(encoding="utf-8")
    head, row = map(json.loads, text.splitlines())
    other = json.dumps({"config": head["config"] | {"model": "another"}}) + "\n" + json.dumps(row)
    out.write_text(other, encoding="utf-8")
    with pytest.raises(ValueError, match="model"):
        milp.main(command)
    del row["witness"]
    contrary = [json.dumps(head) + "\n" + json.dumps({**row, "witness": None, "answer": "robust"} | change)
                for change in ({"answer": "not robust"}, {"witness": [0.0]}, {"image": 1}, {"answer": ["robust"]})]
    for damaged in (*contrary, json.dumps(head) + "\n" + json.dumps(row), text[:-20],
                    text.replace("robust", "sturdy"), text + text.splitlines()[1], "[]", ""):
        out.write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match="not a file of verdicts"):
            milp.main(command)


def test_a_saved_witness_is_run_again(model, tmp_path):
    out = tmp_path / "out.jsonl"
    milp.main([str(model), "--n", "4", "--eps", "0.05", "--out", str(out)])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    hit = next(line for line in lines[1:] if line["witness"])
    hit["witness"][0][0][0] += 1
    out.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(ValueError, match="witness"):
        milp.main([str(model), "--n", "4", "--eps", "0.05", "--out", str(out)])


def test_with_more_time_what_is_unknown_is_tried_again(model, tmp_path):
    out = tmp_path / "out.jsonl"
    command = [str(model), "--n", "4", "--eps", "0.05", "--out", str(out)]
    milp.main(command)
    head, *whole = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    lines = [{"config": {**head["config"], "time_limit": 1.0}}, whole[0],
             *({**row, "answer": "unknown", "witness": None, "seconds": -1} for row in whole[1:])]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    milp.main([*command, "--n", "3"])
    made, *found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["answer"] for row in found] == [*(row["answer"] for row in whole[:3]), "unknown"]
    assert found[0] == whole[0] and made == {**head, "again": [3]}
    milp.main(command)
    made, *found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["answer"] for row in found] == [row["answer"] for row in whole] and made == head


def test_the_command_says_in_a_line_what_it_cannot_do(model, tmp_path, capsys):
    given = [str(model), "--eps", "0.1"]
    for argv, word in (([str(tmp_path / "none.npz")], "none.npz"), ([str(model)], "--eps"),
                       ([*given, "--n", "0"], "--n"), ([*given, "--eps", "-1"], "eps"),
                       ([*given, "--time-limit", "0"], "--time-limit")):
        with pytest.raises(SystemExit) as stopped:
            arguments.run(lambda argv=argv: milp.main([*argv, "--out", str(tmp_path / "out.jsonl")]))
        line, = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code == 1 and line.startswith("error: ") and word in line
    assert not (tmp_path / "out.jsonl").exists()


def test_of_a_longer_file_the_images_that_are_asked_for_are_counted(model, tmp_path, capsys):
    command = [str(model), "--eps", "0.003", "--out", str(tmp_path / "out.jsonl"), "--n"]
    milp.main([*command, "12"])
    capsys.readouterr()
    milp.main([*command, "4"])
    few = milp.counts(rows(tmp_path / "out.jsonl")[:4])
    assert f"{', '.join(f'{count} {answer}' for answer, count in few.items())} of 4 images" in capsys.readouterr().out
