"""The sandwich as a command: it holds on a small network, and a bound that breaks it stops the command."""

import json

import numpy as np
import pytest
from test_lp import last_layer_times

import refbound as rb
from refbound.layers import Conv2d, Flatten, Linear
from verify import tightness
from verify.programs import lp


@pytest.fixture
def model(tmp_path):
    """A network on images of MNIST's size with few units."""
    rb.save(rb.models.mlp(np.random.default_rng(0), widths=(784, 6, 5, 10), input_shape=(1, 28, 28)),
            tmp_path / "net.npz")
    return str(tmp_path / "net.npz")


def rows(path):
    return {row["bound"]: row for row in json.loads(path.read_text(encoding="utf-8"))["table"]}


def test_the_sandwich_holds_with_the_exact_optimum_and_is_saved(model, tmp_path, capsys):
    tightness.main([model, "--n", "2", "--eps", "0.02", "--exact", "--pgd-steps", "10",
                    "--out", str(tmp_path / "out.json"), "--figure", str(tmp_path / "out.png")])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*tightness.METHODS, "PGD", "exact", "LP"))
    found = rows(tmp_path / "out.json")
    assert abs(found["exact"]["mean_gap"]) < 1e-6 and found["PGD"]["mean_gap"] <= 1e-6
    assert all(found[name]["mean_gap"] >= found["LP"]["mean_gap"] - 1e-6 for name in tightness.METHODS)
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_a_bound_below_the_attack_stops_the_command(model, monkeypatch):
    real = rb.margin_bounds
    monkeypatch.setattr(rb, "margin_bounds", lambda net, ball, y, method, **more:
                        real(net, ball, y, method, **more) - 10 * (method == "crown-ibp"))
    with pytest.raises(ValueError, match="above crown-ibp.*one of them is wrong"):
        tightness.main([model, "--n", "1", "--eps", "0.02", "--pgd-steps", "2"])


def test_an_optimum_that_was_not_found_in_time_is_not_called_exact(model, monkeypatch, capsys):
    real = tightness.exact_margins
    monkeypatch.setattr(tightness, "exact_margins",
                        lambda *given: [one._replace(status="time limit") for one in real(*given)])
    tightness.main([model, "--n", "1", "--eps", "0.02", "--pgd-steps", "2", "--exact"])
    printed = capsys.readouterr().out
    assert "MILP, cut off" in printed and "exact" not in printed


def test_an_lp_without_time_is_marked_and_a_bound_all_the_same(model, tmp_path):
    command = [model, "--n", "2", "--eps", "0.02", "--pgd-steps", "10", "--rows", "LP", "LP on interval"]
    tightness.main([*command, "--out", str(tmp_path / "whole.json")])
    tightness.main([*command, "--time-limit", "0.001", "--out", str(tmp_path / "cut.json")])
    whole, cut = rows(tmp_path / "whole.json"), rows(tmp_path / "cut.json")
    assert (whole.keys() == {"PGD", "LP", "LP on interval"}
            and cut.keys() == {"PGD", "LP, cut off", "LP on interval, cut off"})
    assert all(cut[f"{name}, cut off"]["sum"] >= whole[name]["sum"] for name in ("LP", "LP on interval"))


def test_the_rows_that_are_asked_for_are_computed_and_no_other(model, tmp_path, monkeypatch, capsys):
    for name in ("triangle", "exact_margins"):
        monkeypatch.setattr(tightness, name, None)
    command = [model, "--n", "2", "--eps", "0.02", "--pgd-steps", "2"]
    tightness.main([*command, "--rows", "cap", "alpha, each",
                    "--figure", str(tmp_path / "out.png"), "--out", str(tmp_path / "out.json")])
    found = rows(tmp_path / "out.json")
    assert (list(found) in (["PGD", "alpha, each", "cap"], ["PGD", "cap", "alpha, each"])
            and (tmp_path / "out.png").exists())
    assert min(found["cap"]["mean_gap"], found["alpha, each"]["mean_gap"]) >= 0
    for argv, words in ((["--rows", "none"], "invalid choice: 'none'"), (["--rows"], "expected at least one argument")):
        with pytest.raises(SystemExit):
            tightness.main([*command, *argv])
        assert words in capsys.readouterr().err
    with pytest.raises(ValueError, match="--figure: expected a method other than ibp among --rows, got ibp, LP"):
        tightness.main([*command, "--rows", "ibp", "LP", "--figure", str(tmp_path / "none.png")])


@pytest.mark.parametrize("clip", [[], ["--no-clip"]])
@pytest.mark.parametrize("layers, shape", [
    ([Linear(784, 10)], (784,)), ([Conv2d(1, 2, 5, 3, 1), Flatten(), Linear(162, 12), Linear(12, 10)], (1, 28, 28))])
def test_without_a_relu_every_row_is_the_optimum(layers, shape, clip, tmp_path):
    rb.save(rb.models.initialise(np.random.default_rng(1), layers, shape, np.float32), tmp_path / "net.npz")
    tightness.main([str(tmp_path / "net.npz"), "--n", "2", "--eps", "0.03", "--exact",
                    "--out", str(tmp_path / "out.json"), "--figure", str(tmp_path / "out.png"), *clip])
    sums = [row["sum"] for name, row in rows(tmp_path / "out.json").items() if name != "PGD"]
    assert len(sums) == len(tightness.ROWS) + 1 and (tmp_path / "out.png").exists()
    np.testing.assert_allclose(sums, sums[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("c", [2.0**-17, 1e9])
def test_a_last_layer_times_c_changes_no_row_but_by_c(c, model, tmp_path):
    """But for the rows whose slopes follow the gradient of a loss, which is not c times as large."""
    rb.save(last_layer_times(rb.load(model), np.float32(c)), tmp_path / "times.npz")
    names = [name for name in tightness.ROWS if name not in ("one-step", "alpha")]
    for path, out in ((model, "one.json"), (str(tmp_path / "times.npz"), "other.json")):
        tightness.main([path, "--n", "2", "--eps", "0.02", "--pgd-steps", "10", "--rows", *names,
                        "--out", str(tmp_path / out)])
    one, other = rows(tmp_path / "one.json"), rows(tmp_path / "other.json")
    assert list(one) == list(other)
    for name, row in one.items():
        for key in ("sum", "mean_gap", "worst_gap"):
            assert other[name][key] / c == pytest.approx(row[key], rel=1e-5, abs=1e-5 * abs(one["PGD"]["sum"]))
        assert (row["tightest"], row["error"]) == (other[name]["tightest"], other[name]["error"])


def test_logits_far_above_their_margins_round_them_and_stop_nothing(model, tmp_path, monkeypatch):
    """A bias of 1e11 for all classes: float64 has such logits to 1e-5, the tolerance is 1e-6 of the largest margin."""
    net = rb.load(model)
    net = net.with_params({name: value.astype(np.float64) for name, value in net.params.items()})
    rb.save(net.with_params({**net.params, "5.bias": net.params["5.bias"] + 1e11}), tmp_path / "far.npz")
    command = [str(tmp_path / "far.npz"), "--n", "2", "--eps", "0.0001", "--pgd-steps", "2"]
    tightness.main(command)
    with monkeypatch.context() as patched, pytest.raises(ValueError, match="one of them is wrong"):
        patched.setattr(tightness, "rounding_allowance", lambda net, ball, y: np.zeros((len(y), net.classes)))
        tightness.main(command)


def test_a_coarse_allowance_for_rounding_hides_no_wrong_bound(model, monkeypatch):
    """In a network of six ReLUs it may be above 1."""
    real = rb.margin_bounds
    monkeypatch.setattr(tightness, "rounding_allowance", lambda net, ball, y: np.full((len(y), net.classes), 1e9))
    monkeypatch.setattr(rb, "margin_bounds", lambda net, ball, y, method, **more:
                        real(net, ball, y, method, **more) - 1e-3 * (method == "crown-ibp"))
    with pytest.raises(ValueError, match="above crown-ibp.*one of them is wrong"):
        tightness.main([model, "--n", "1", "--eps", "0.0001", "--pgd-steps", "2"])


def test_margins_far_from_1_are_printed_in_a_unit_that_is_said(model, tmp_path, capsys):
    rb.save(last_layer_times(rb.load(model), np.float32(1e6)), tmp_path / "times.npz")
    command = ["--n", "1", "--eps", "0.02", "--pgd-steps", "2", "--rows", "crown"]
    tightness.main([model, *command])
    plain = capsys.readouterr().out.splitlines()
    tightness.main([str(tmp_path / "times.npz"), *command])
    times = capsys.readouterr().out.splitlines()
    assert "in units of" not in plain[0] and times[0].endswith("; s̄ in units of 1e+06")
    assert [line.split()[:4] for line in plain[1:]] == [line.split()[:4] for line in times[1:]]


def test_a_bound_that_breaks_the_sandwich_by_little_is_found_in_a_network_of_small_margins(
        model, tmp_path, monkeypatch):
    rb.save(last_layer_times(rb.load(model), np.float32(1e-6)), tmp_path / "times.npz")
    real = rb.margin_bounds
    monkeypatch.setattr(rb, "margin_bounds", lambda net, ball, y, method, **more:
                        real(net, ball, y, method, **more) - 1e-7 * (method == "crown-ibp"))
    with pytest.raises(ValueError, match="above crown-ibp.*one of them is wrong"):
        tightness.main([str(tmp_path / "times.npz"), "--n", "1", "--eps", "0.0001", "--pgd-steps", "2"])


def test_an_image_that_the_solver_fails_on_is_left_out_and_said(model, tmp_path, monkeypatch, capsys):
    real, count = lp.linprog, []

    def failing(*given, **more):
        result = real(*given, **more)
        count.append(None)
        if len(count) == 10 or everywhere:  # the first class of the second image
            result.status, result.message = 4, "numerical difficulties"
        return result

    monkeypatch.setattr(lp, "linprog", failing)
    command, everywhere = [model, "--n", "3", "--eps", "0.02", "--pgd-steps", "2", "--rows", "LP", "crown"], False
    assert tightness.main([*command, "--out", str(tmp_path / "out.json")]) == 1
    printed = capsys.readouterr().out
    assert ("image 1: left out of every row: lp: no optimum for class 0: numerical difficulties" in printed
            and "2 images" in printed)
    left = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["margins"]
    assert all(np.isfinite(s).all() and len(s) == 2 for s in left.values())
    everywhere = True
    with pytest.raises(RuntimeError, match="HiGHS failed on every image"):
        tightness.main(command)


def test_a_number_of_images_that_cannot_be_is_refused(model):
    for n, expected in (("0", "at least 1"), ("-9999", "at least 1"), ("10001", "at most the 10000 images")):
        with pytest.raises(ValueError, match=f"--n: expected {expected}.*, got {n}"):
            tightness.main([model, "--n", n, "--eps", "0.02"])


def test_every_bound_is_held_against_the_lp_on_its_own_intermediate_bounds():
    values = ({name: np.array([[0.0, 3.0]]) for name in (*tightness.METHODS, "LP on interval")}
              | {"PGD": np.array([[0.0, 1.0]]), "LP": np.array([[0.0, 2.0]])})
    tightness.check(values, [5])
    for name in ("ibp", *tightness.BY_INTERVAL):
        with pytest.raises(ValueError, match=f"image 5, class 1: LP on interval 3 is above {name} 2.5"):
            tightness.check({**values, name: np.array([[0.0, 2.5]])}, [5])
    few = {name: s for name, s in values.items() if name != "LP on interval"}
    for name in tightness.METHODS:
        with pytest.raises(ValueError, match=f"LP 2 is above {name} 1.5"):
            tightness.check({**few, name: np.array([[0.0, 1.5]])}, [5])
    for cut in ("LP", "LP on interval"):  # no least value, but a bound: above the attack
        rest = {name: s for name, s in values.items() if name != cut}
        tightness.check({**rest, tightness.CUT[cut]: np.array([[0.0, 5.0]])}, [5])
        with pytest.raises(ValueError, match=f"PGD 1 is above {cut}, cut off 0.5"):
            tightness.check({**rest, tightness.CUT[cut]: np.array([[0.0, 0.5]])}, [5])
