"""The sandwich as a command: it holds on a small network, and a bound that breaks it stops the command."""

import json

import numpy as np
import pytest

import refbound as rb
from verify import tightness


@pytest.fixture
def model(tmp_path):
    """A network on images of MNIST's size with few units."""
    rb.save(rb.models.mlp(np.random.default_rng(0), widths=(784, 6, 5, 10), input_shape=(1, 28, 28)), tmp_path / "net.npz")
    return str(tmp_path / "net.npz")


def test_the_sandwich_holds_with_the_exact_optimum_and_is_saved(model, tmp_path, capsys):
    tightness.main([model, "--n", "2", "--eps", "0.02", "--exact", "--pgd-steps", "10", "--out", str(tmp_path / "out.json"),
                    "--figure", str(tmp_path / "out.png")])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*tightness.METHODS, "PGD", "exact", "LP"))
    rows = {row["bound"]: row for row in json.loads((tmp_path / "out.json").read_text())["table"]}
    assert abs(rows["exact"]["mean_gap"]) < 1e-12 and rows["PGD"]["mean_gap"] <= 1e-6
    assert all(rows[name]["mean_gap"] >= -1e-6 for name in tightness.METHODS)
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_a_bound_below_the_attack_stops_the_command(model, monkeypatch):
    real = rb.margin_bounds
    monkeypatch.setattr(rb, "margin_bounds", lambda net, ball, y, method, **more:
                        real(net, ball, y, method, **more) - 10 * (method == "crown-ibp"))
    with pytest.raises(ValueError, match="above crown-ibp.*one of them is wrong"):
        tightness.main([model, "--n", "1", "--eps", "0.02", "--pgd-steps", "2"])


def test_an_optimum_that_was_not_found_in_time_is_not_called_exact(model, monkeypatch, capsys):
    real = tightness.exact_margins
    monkeypatch.setattr(tightness, "exact_margins", lambda *given: [one._replace(status="time limit") for one in real(*given)])
    tightness.main([model, "--n", "1", "--eps", "0.02", "--pgd-steps", "2", "--exact"])
    printed = capsys.readouterr().out
    assert tightness.CUT in printed and "exact" not in printed


def test_a_number_of_images_that_cannot_be_is_refused(model):
    for n, expected in (("0", "at least 1"), ("-9999", "at least 1"), ("10001", "at most the 10000 images")):
        with pytest.raises(ValueError, match=f"--n: expected {expected}.*, got {n}"):
            tightness.main([model, "--n", n, "--eps", "0.02"])


def test_every_bound_is_held_against_the_lp_on_its_own_intermediate_bounds():
    values = {name: np.array([[0.0, 3.0]]) for name in (*tightness.METHODS, "LP on interval")} | {"PGD": np.array([[0.0, 1.0]]),
                                                                                                 "LP": np.array([[0.0, 2.0]])}
    tightness.check(values)
    for name in ("ibp", *tightness.BY_INTERVAL):
        with pytest.raises(ValueError, match=f"LP on interval 3 is above {name} 2.5"):
            tightness.check({**values, name: np.array([[0.0, 2.5]])})
