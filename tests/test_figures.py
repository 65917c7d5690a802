"""The figures: each is drawn from small made-up results, shows the numbers given, and says what is missing."""

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from networks import HAND_MARGINS, HAND_SECOND, hand
from test_training import bytes_of, written

import refbound as rb
from trainers import data, figures, landscape, table1, train
from trainers.files import checkpoint, record
from trainers.plots import colours
from trainers.plots import (gradients, jumps, learning, planes, relaxations, selection, sparsity, style, subject,
                            sweep, violins)
from verify import tightness

COLUMNS = ("time", *learning.COLUMNS, *sparsity.SHARES)


def args(**more):
    """What the figures are given, as the command gives it."""
    return SimpleNamespace(**{"model": None, "eps": None, "network": None, "n": 6, "seed": 0, "threads": 1,
                              "data_dir": None, **more})


def made_up(name, probes=5, network=None, **more):
    """A run as the reader gives it: its landscape counts up, slopes empty at the first probe and, for ibp, at all."""
    given = asdict(train.Args(model="mlp", epochs=3, warmup=0.25, ramp=1.5, **more))
    landscape = {column: [(k + 1) / (c + 2) for k in range(probes)] for c, column in enumerate(COLUMNS)}
    for share in sparsity.SHARES:
        landscape[share] = [None if k == 0 or given["method"] == "ibp" else 0.5 for k in range(probes)]
    log = {"verified_error": [9.0], "seconds": [1.0], "probe_seconds": [0.0]}
    return {"name": name, "arguments": given, "versions": {}, "result": {}, "log": log, "landscape": landscape,
            "network": network}


def of_every_kind(**more):
    """A run of each method that trains, with the paper's variants of sparse."""
    plain = [made_up(method, method=method, **more) for method in selection.METHODS if method != "sparse"]
    return plain + [made_up(f"sparse-{p:g}-{q:g}", method="sparse", p=p, q=q, **more) for p, q in selection.VARIANTS]


@pytest.fixture
def results(tmp_path):
    """A folder of results of every kind, with networks of few units beside those of ibp, crown-ibp and one-step."""
    folder = tmp_path / "results"
    folder.mkdir()
    for k, run in enumerate(of_every_kind(eps=0.02)):
        if run["name"] in record.SHOWN:
            rb.save(rb.models.mlp(np.random.default_rng(k), widths=(784, 8, 6, 10), input_shape=(1, 28, 28)),
                    folder / f"{run['name']}.npz")
        checkpoint.write_json(folder / f"{run['name']}.json", {key: v for key, v in run.items() if key != "network"})
    return folder


# ---- the command ----

def test_every_figure_is_drawn_and_its_numbers_are_written(results, few, tmp_path, capsys):
    out = tmp_path / "figures"
    assert figures.main([str(results), "--out", str(out), "--n", "6", "--data-dir", few, "--threads", "1"]) == 0
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{kind}" for name in figures.FIGURES for kind in ("png", "json")}
    for name, module in figures.FIGURES.items():
        assert (out / f"{name}.png").stat().st_size > 20_000
        again = module.numbers(record.read([results]), args(data_dir=few))
        assert json.loads((out / f"{name}.json").read_text()) == json.loads(json.dumps(again)), name
    assert capsys.readouterr().out.splitlines() == [*(f"{name}: {out / name}.png" for name in figures.FIGURES),
                                                    "tables: left out: no finished run was given"]


def test_the_tables_are_what_their_commands_print(tmp_path, capsys):
    assert figures.main(["--out", str(tmp_path), "--only", "tables"]) == 0
    capsys.readouterr()
    for module in (table1, landscape):
        module.main([])
        assert all(part in (tmp_path / "tables.md").read_text()
                   for part in capsys.readouterr().out.strip().split("\n\n"))


def test_what_is_missing_is_said_and_the_rest_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "none")
    assert figures.main(["--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    free = ("relaxations", "jumps", *planes.PLANES)  # of runs
    assert [line for line in lines if "left out" not in line] == [f"{name}: {tmp_path / name}.png" for name in free]
    assert len(lines) == len(figures.FIGURES) + 1 and len(list(tmp_path.iterdir())) == 2 * len(free)
    assert figures.main(["--out", str(tmp_path), "--only", "sweep"]) == 1


@pytest.mark.parametrize("module, runs, more, words", [
    (learning, [], {}, "no run with a landscape was given"),
    (learning, [{**made_up("a"), "landscape": {}}], {}, "no run with a landscape"),
    (learning, [made_up("a", method="sparse")], {}, "but by sparse"),
    (learning, [made_up("a")], {"eps": 0.3}, "no run was given at ε = 0.3"),
    (learning, [made_up("a")], {"model": "small"}, "no run was given of small"),
    (sparsity, [made_up("a", method="ibp")], {}, "but by ibp"),
    (violins, [], {}, "no run was given"),
    (gradients, [made_up("a")], {}, "no network was given"),
    (sweep, [made_up("a")], {"network": "b"}, "no run was given named b"),
    (sweep, [made_up("a")], {"network": "a"}, "a.npz beside a results file"),
])
def test_missing_inputs_are_named(module, runs, more, words):
    with pytest.raises(selection.Missing, match=words.replace(".", r"\.")):
        module.numbers(runs, args(**more))


def test_a_file_that_is_no_result_is_refused_in_one_line(tmp_path, refused):
    refused(figures, [str(tmp_path / "absent")], "absent", "expected a run folder")
    (tmp_path / "a.json").write_text('{"name": "a"}')
    refused(figures, [str(tmp_path)], "a.json", "no arguments")


def test_a_drawing_that_fails_leaves_the_last_figure(tmp_path):
    (tmp_path / "a.png").write_text("before")
    with pytest.raises(ZeroDivisionError):
        style.save(lambda plt, numbers: 1 / numbers, 0, tmp_path / "a.png")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_run_folder_reads_as_its_results_file(tmp_path):
    run = made_up("mine", method="one-step")
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [dict(zip(run["landscape"], row)) for row in zip(*run["landscape"].values())]
    checkpoint.write_log(folder / "landscape.csv",
                         [{k: "" if v is None else v for k, v in row.items()} for row in rows])
    log = {"epoch": 1, "verified_error": 9.5, "seconds": 2.5, "probe_seconds": 0}
    checkpoint.write_log(folder / "log.csv", [log])
    checkpoint.write_json(folder / "config.json", {"arguments": run["arguments"], "versions": {}})
    (found,) = record.read([folder])
    assert found == {**record.rounded(json.loads(json.dumps(run))),
                     "log": {name: [value] for name, value in log.items()}, "exact": None, "test_set": None}
    rb.save(rb.models.mlp(np.random.default_rng(0), widths=(4, 2)), folder / "best.npz")
    assert record.read([folder])[0]["network"] == str(folder / "best.npz")


def test_every_method_has_a_look_of_its_own():
    assert set(colours.COLOURS) == set(colours.DASHES) == set(colours.MARKERS) == set(rb.METHODS)
    assert len(set(colours.COLOURS.values())) == len(set(colours.MARKERS.values())) == len(rb.METHODS)
    assert tightness.COLOURS is colours.COLOURS


# ---- which runs ----

def test_the_study_has_most_of_what_is_wanted_then_the_larger_network_then_the_least_eps():
    def run(name, method, eps, model="mlp"):
        made = made_up(name, method=method, eps=eps)
        return {**made, "arguments": {**made["arguments"], "model": model}}

    few = [run("a", "ibp", 0.1), run("b", "ibp", 0.1), run("c", "random", 0.1)]
    many = [run("d", "ibp", 0.3), run("e", "one-step", 0.3)]
    wanted = selection.one_of(learning.PAPER)
    assert selection.study(few + many, args(), wanted) == many
    assert selection.study(few + many, args(eps=0.1), wanted) == few
    larger = [run("f", "ibp", 0.3, "small"), run("g", "one-step", 0.3, "small")]
    assert selection.study(many + larger, args(), wanted) == larger
    assert selection.study(many + larger, args(model="mlp"), wanted) == many
    smaller = [run("h", "ibp", 0.2), run("i", "one-step", 0.2)]
    assert selection.study(many + smaller, args(), wanted) == smaller


def test_of_a_methods_runs_the_plainest_is_shown():
    mixed, longer, other = (made_up(name, method="crown-ibp", **more) for name, more in (
        ("mixed", {"beta": (1.0, 0.0)}), ("longer", {}), ("other", {"seed": 1})))
    started = made_up("a", method="crown-ibp", init="ibp", regularise=0.5)
    assert selection.by_method([started, mixed, other, longer]) == {"crown-ibp": longer}
    assert selection.label(started) == "crown-ibp, init ibp, regularise 0.5"
    assert selection.by_method([mixed]) == {"crown-ibp": mixed} and selection.label(mixed) == "crown-ibp, β 1→0"
    sparse, cap = (made_up("s", method="sparse", p=0.0, q=0.5),
                   made_up("c", method="cap", projections=50, kappa=(0.5, 0.5)))
    assert selection.label(sparse) == "sparse (0, 0.5)" and selection.label(cap) == "cap, κ = 0.5, 50 projections"
    assert selection.plainest([sparse, mixed], selection.rates, selection.VARIANTS) == {(0, 0.5): sparse}


# ---- the numbers ----

def test_learning_shows_the_landscape_as_it_was_measured():
    runs = of_every_kind()
    found = learning.numbers(runs, args())
    assert list(found["curves"]) == [method for method in selection.METHODS if method != "sparse"]
    for run in runs[:-len(selection.VARIANTS)]:
        curve = found["curves"][run["arguments"]["method"]]
        assert all(curve[column] == run["landscape"][column] for column in ("time", *learning.COLUMNS))
        assert curve["ramp_end"] == 1.75 and curve["run"] == run["name"]
    assert found["title"] == "MNIST, mlp, l∞, ε = 0.1" and found["axis"] == "time t [epochs]"


def test_the_curves_drawn_are_the_numbers():
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    found = learning.numbers(of_every_kind(), args())
    panels = learning.draw(plt, found).subfigs[1].axes
    for axes, measure in zip(panels, learning.MEASURES, strict=True):
        drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        for method, points in found["curves"].items():
            line = drawn[style.name(method)]
            assert line.get_color() == colours.COLOURS[method]
            assert line.get_xdata().tolist() == points["time"] and line.get_ydata().tolist() == points[measure]
    plt.close("all")


@pytest.mark.parametrize("some", [slice(0, 1), slice(1, 4)])
def test_learning_is_drawn_from_one_run_or_three(some, tmp_path):
    style.save(learning.draw, learning.numbers(of_every_kind()[some], args()), tmp_path / "a.png")


@pytest.mark.parametrize("some", [slice(1, 2), slice(-2, None)])
def test_sparsity_is_drawn_from_methods_or_variants_alone(some, tmp_path):
    style.save(sparsity.draw, sparsity.numbers(of_every_kind()[some], args()), tmp_path / "a.png")


def test_runs_of_different_lengths_share_an_axis():
    short, long = made_up("a", method="ibp"), made_up("b", method="one-step")
    long["arguments"]["epochs"] = 6
    found = learning.numbers([short, long], args())
    assert found["axis"] == "time t [share of the run]"
    assert found["curves"]["one-step"]["time"] == [t / 6 for t in long["landscape"]["time"]]
    assert found["curves"]["ibp"]["ramp_end"] == 1.75 / 3 and found["curves"]["one-step"]["ramp_end"] == 1.75 / 6


def test_many_probes_are_averaged_in_bins_by_hand():
    """Bins of two of (1, 3, ·, 5, ∞, ·, 7): means 2, 5, none, 7."""
    run = {"landscape": {"time": [0, 1, 2, 3, 4, 5, 6], "loss": [1, 3, None, 5, math.inf, None, 7]}}
    assert selection.means(run, ("loss",), bins=4) == {"time": [0.5, 2.5, 4.5, 6], "loss": [2, 5, None, 7]}
    assert selection.means(run, ("loss",), 2, bins=7)["time"] == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_sparsity_shows_the_variants_and_the_shares():
    runs = of_every_kind()
    found = sparsity.numbers(runs, args())
    assert [(v["p"], v["q"]) for v in found["variants"]] == list(selection.VARIANTS)
    assert all(v["loss"] == runs[-1]["landscape"]["loss"] for v in found["variants"])
    assert list(found["shares"]) == [m for m in selection.METHODS if m not in ("ibp", "sparse")]
    assert all(points[share] == [None, 0.5, 0.5, 0.5, 0.5]
               for points in found["shares"].values() for share in sparsity.SHARES)


def test_loss_and_gap_of_the_violins_by_hand():
    """Two classes, y = 1, and bounds of the one margin: by a 0 and log 3 in two draws, by b log 7.
    The least of all is 0, or −1 by alpha. L = log(1 + exp s̄): log 2, log 4 and log 8."""
    def s(*margins):
        return np.array([[[m, 0.0]] for m in margins])

    bounds = {"a": s(0, math.log(3)), "b": s(math.log(7))}
    for best, least in ((1.0, 0), (-1.0, -1)):
        found = violins.measures(bounds, s(best)[0])
        assert (found["a"]["loss"] == pytest.approx([math.log(2), math.log(4)])
                and found["b"]["loss"] == pytest.approx([math.log(8)]))
        assert found["a"]["gap"] == pytest.approx([-least, math.log(3) - least])
        assert found["b"]["gap"] == pytest.approx([math.log(7) - least])


@pytest.fixture
def one(results, few):
    """(the runs, what the figures are given, the network of one-step, its test images, their ball)."""
    runs, given = record.read([results]), args(data_dir=few)
    of = subject.load(subject.fixed(runs, given), given)
    assert of.run["name"] == "one-step"
    return runs, given, of.net, of.test, rb.Ball(data.to_float(of.test.images, of.net.dtype), 0.02)


def test_a_data_set_that_does_not_fit_the_network_is_said(results, tmp_path):
    folder = written(tmp_path, ("test", bytes_of(9, 4, 8), np.arange(9)))
    runs, given = record.read([results]), args(data_dir=folder)
    with pytest.raises(selection.Missing,
                       match=r"expected inputs \(1, 4, 8\), as the data, got \(1, 28, 28\) \(--data-dir\)"):
        subject.load(subject.fixed(runs, given), given)


def test_a_damaged_network_is_said(results, tmp_path):
    run, given = subject.fixed(record.read([results]), args()), args()
    (tmp_path / "net.npz").write_bytes(b"PK")
    with pytest.raises(selection.Missing, match="net.npz: "):
        subject.load({**run, "network": tmp_path / "net.npz"}, given)


def test_violins_show_the_loss_of_the_bounds(one):
    runs, given, net, test, ball = one
    found = violins.numbers(runs, given)
    assert found == violins.numbers(runs, args(data_dir=given.data_dir, threads=2))
    for method in ("crown-ibp", "cap-ibp"):
        s = rb.margin_bounds(net, ball, test.labels, method)
        assert found["methods"][method]["loss"] == pytest.approx(np.log(np.exp(s).sum(1)), rel=1e-5)
    assert all(min(values["gap"]) >= 0 for values in found["methods"].values())
    assert len(found["methods"]["random"]["gap"]) == 6 * violins.DRAWS["random"]


def test_gradients_are_those_of_the_bounds_and_0_for_ibp(one):
    runs, given, net, test, ball = one
    found = gradients.numbers(runs, given)
    assert (found["y"] == test.labels[0]
            and found["m"] == np.argsort(net(ball.x)[0])[-1 - (net(ball.x)[0].argmax() == found["y"])])
    assert set(found["methods"]) == set(gradients.METHODS) and np.shape(found["image"]) == (28, 28)
    assert not np.any(found["methods"]["ibp"]["g"])
    low, high = np.clip(ball.x[0, 0] - 0.02, 0, 1), np.clip(ball.x[0, 0] + 0.02, 0, 1)
    for of in found["methods"].values():  # s̄ is the maximum of g·x′ + b over the ball
        g = np.array(of["g"])
        assert of["s"] == pytest.approx((g * np.where(g > 0, high, low)).sum() + of["b"], abs=1e-4)
    bound = rb.linear_bound(net, ball[:1], test.labels[:1], "crown-ibp")
    np.testing.assert_allclose(found["methods"]["crown-ibp"]["g"], bound.g[0, found["m"], 0], rtol=1e-6)


def test_the_sweep_shows_the_share_that_is_not_certified(one):
    runs, given, net, test, _ = one
    found = {of["run"]: of for of in sweep.numbers(runs, given)}
    assert list(found) == list(record.SHOWN)
    shown = found["one-step"]
    assert shown["eps"] == [0.005, 0.01, 0.015, 0.02, 0.025, 0.03] and shown["images"] == 6
    for k, eps in enumerate(shown["eps"]):
        ball = rb.Ball(data.to_float(test.images, net.dtype), eps)
        sure = rb.certified(rb.margin_bounds(net, ball, test.labels, "crown-ibp"), test.labels)
        assert shown["errors"]["crown-ibp"][k] == pytest.approx(100 * (1 - sure.mean()))
        assert all(errors[k] >= shown["pgd"][k] - 1e-9 for errors in shown["errors"].values())


def test_a_network_can_be_chosen_by_its_name(one):
    runs, given, *_ = one
    given.network = "ibp"
    assert subject.fixed(runs, given)["name"] == "ibp" and list(subject.networks(runs, given)) == ["ibp"]


def test_relaxations_by_hand():
    """Over [−1, 2] the chord is (2 z + 2) / 3 and the adaptive slope 1; over [−2, 1] they are (z + 2) / 3 and 0."""
    found = {(panel["method"], panel["u"]): panel for panel in relaxations.numbers([], args())}
    for u, chord, slope in ((2, (2 / 3, 2 / 3), 1), (1, (1 / 3, 2 / 3), 0)):
        assert found["crown-ibp", u]["upper"] == pytest.approx(chord) and found["crown-ibp", u]["lower"] == [[slope, 0]]
        assert found["cap-ibp", u]["lower"] == [[pytest.approx(chord[0]), 0]]
        assert found["one-step", u]["lower"] == [[0, 0], [1, 0]]
        assert found["ibp", u]["upper"] == [0, u] and found["ibp", u]["lower"] == [[0, 0]]
        assert [a for a, b in found["random", u]["lower"]] == pytest.approx(relaxations.DRAWN)


def test_jumps_are_where_a_slope_changes_and_as_worked_by_hand():
    """With a the slope of z₃ and t its bias, s̄ of crown-ibp is (−5 a z₃ + 3 z₄ + 6)/5 + 1.
    At a = 0 it is 4, the greatest z₄ being 3; at a = 1 (−2 h1 − 8 h2 − 5 t + 11)/5 ≤ (−2 z1 − 5 t + 11)/5 ≤
    (13 − 5 t)/5, 5.1 at t = −5/2. One-step has the slope 0 of z₂, too: from t = −1/2 on
    (−2 h1 − 8 h2 − 5 t + 11)/5 ≤ (−z1 − 5 t + 11)/5 ≤ (12 − 5 t)/5, by a₁ = 1/2."""
    found = jumps.numbers([], args())
    t, moves = np.array(found["t"]), {}
    for method, values in found["s"].items():
        at = np.flatnonzero(np.abs(np.diff(values)) > jumps.LEAP)
        moves[method] = [round((t[i] + t[i + 1]) / 2, 6) for i in at]
        if method in found["slope"]:
            assert [round((t[i] + t[i + 1]) / 2, 6)
                    for i in np.flatnonzero(np.abs(np.diff(found["slope"][method])) > 0.5)] == moves[method]
    assert moves == {"ibp": [], "crown-ibp": [-2.5], "cap-ibp": [], "one-step": [-0.5]}
    for method, tie, above in (("crown-ibp", -2.5, (13 - 5 * t) / 5), ("one-step", -0.5, (12 - 5 * t) / 5)):
        np.testing.assert_allclose(found["s"][method], np.where(t < tie, 4, above))


@pytest.mark.parametrize("method", planes.METHODS)
def test_planes_show_the_hand_worked_network(method):
    """Bounds as worked by hand; over the ball g·x + b is above s, and s̄ at x* alone. The greatest s is 2:
    z4 = z3 + 1 − 2 h2, so h4 ≤ h3 + 1 and s = h4 − h3 + 1 ≤ 2, which is met where h2 = 0 and z3 ≥ 0."""
    found, (net, ball, _) = planes.PLANES[f"plane-{method}"].numbers([], args()), hand()
    assert {name: value.tolist() for name, value in net.params.items()} == found["params"]
    assert found["eps"] == ball.eps[0] and found["worst"] == (found["eps"] * np.sign(found["g"])).tolist()
    assert found["s"] == pytest.approx(HAND_MARGINS[method][0])
    second = HAND_SECOND[method if method in HAND_SECOND else "ibp"]
    for end, first, then in zip("lu", ([-1, -2], [3, 2]), second):
        assert [unit[end] for unit in found["units"]] == pytest.approx([*first, *then])
    x = planes.grid(1, 201)
    true, linear = planes.margin(found["params"], x), x @ found["g"] + found["b"]
    assert (true <= linear + 1e-12).all()
    assert [true.min(), true.max()] == pytest.approx([-1, 2]) and (found["least"], found["greatest"]) == (-1, 2)
    assert linear.max() == pytest.approx(found["s"]) == found["b"] + np.dot(found["g"], found["worst"])
    if method == "ibp":
        assert not any(found["g"]) and all(unit["a_up"] == unit["a_lo"] == 0 for unit in found["units"])
    else:
        np.testing.assert_allclose(x[linear > found["s"] - 1e-9], [found["worst"]])


@pytest.mark.parametrize("method", planes.METHODS[1:])
def test_the_dots_are_the_way_of_the_worst_case_and_end_at_the_bound(method):
    found = planes.PLANES[f"plane-{method}"].numbers([], args())
    z, h = np.transpose([(unit["z"], unit["a"] * unit["z"] + unit["b"]) for unit in found["units"]])
    for unit in found["units"]:  # each on one of its lines
        assert (unit["a"], unit["b"]) in ((unit["a_up"], unit["b_up"]), (unit["a_lo"], unit["b_lo"]))
    x = found["worst"]
    assert z == pytest.approx([x[0] + x[1] + 1, x[0] - x[1], h[0] + h[1] - 1, h[0] - h[1]])
    assert h[3] - h[2] + 1 == pytest.approx(found["s"])


def test_pinched_shows_definition_1_and_the_lp():
    """As in test_lp: unit 1 puts z₂ in [−3, 1], its lines cross at (−2, −1/2); Definition 1 gives 3/4, the LP 1/2."""
    found = planes.PLANES["pinched"].numbers([], args())
    first, second = found["units"]
    assert found["s"] == 0.75 and found["crossing"] == [-2, -0.5] and (first["z"], second["z"]) == (-2, -3)
    assert first["a_lo"] * first["l"] - 1 == -3 and first["a_up"] * first["u"] + first["b_up"] - 1 == second["u"] == 1
    assert planes.margin(found["params"], np.linspace(-2, 2, 101)[:, None]).max() == 0


def test_functions_are_written_as_on_paper():
    assert planes.affine([1, -1], 0, "x") == "x₁ − x₂" and planes.affine([0, 0], 4, "x") == "4"
    assert planes.affine([-12 / 19, 12 / 19], 52 / 19, "x") == "−12/19 x₁ + 12/19 x₂ + 52/19"
    assert planes.affine([1, 11 / 20], -1, "h") == "h₁ + 11/20 h₂ − 1"


def test_runs_on_other_data_or_other_radii_are_no_study_together():
    for more in ({"data_dir": "fashion"}, {"limit": 500}, {"train_eps": 0.2}):
        runs = [made_up("a"), made_up("b", **more)]
        assert len(selection.study(runs, args(), selection.one_of(("ibp", "one-step", "crown-ibp")))) == 1


def test_the_norm_of_a_gradient_is_that_of_all_its_channels():
    assert (gradients.picture(np.array([[[1.0]], [[-1.0]]])) == [[0.0]]
            and gradients.picture(np.ones((3, 1, 1))) == [[1.0]])
