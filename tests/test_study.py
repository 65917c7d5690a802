"""Studies, their results and their tables: resumed, skipped, gathered, and put beside published numbers."""

import json
import re
import shutil
import signal
import time
import timeit
from dataclasses import fields
from functools import partial

import pytest
from conftest import FILES

from trainers import study, table1, train
from trainers.files import checkpoint, record, words
from trainers.inputs import arguments, presets
from trainers.loop import parallel

NAMES = ("ibp-mlp-0.1-0", "sparse-0-1-mlp-0.1-0")


@pytest.fixture
def tiny(few, tmp_path):
    """What to give to a study of two runs of three epochs, its results in `results`."""
    return ["--only", "ibp", "sparse-0-1", "--epochs", "3", "--runs", str(tmp_path / "runs"),
            "--results", str(tmp_path / "results"), "--", "--data-dir", few,
            "--limit", "256", "--validation", "64", "--batch", "64", "--threads", "1", "--probe", "2"]


def parsed(*argv):
    return arguments.parse(train.Args, "trainers.train", argv, presets.TRAINING)


def without_seconds(path):
    """A record without what differs from one time to another."""
    found = json.loads(path.read_text())
    for part in ("result", "log"):
        found[part] = {k: v for k, v in found[part].items() if "seconds" not in k}
    return found


def test_a_study_that_was_stopped_goes_on_and_ends_as_one_that_was_not(tiny, tmp_path, monkeypatch, capsys):
    real = train.train_epoch

    def stopped(net, state, data, epoch, args, *rest):
        if (args.method, epoch) == ("sparse", 2):
            raise KeyboardInterrupt
        return real(net, state, data, epoch, args, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_epoch", stopped)
        with pytest.raises(KeyboardInterrupt):
            study.main(tiny)
    results = tmp_path / "results"
    assert sorted(path.name for path in results.iterdir()) == [f"{NAMES[0]}.json", f"{NAMES[0]}.npz"]
    before = (results / f"{NAMES[0]}.json").stat().st_mtime_ns
    study.main(tiny)
    printed = capsys.readouterr().out
    assert "2 runs, of which 1 are finished" in printed and "going on after epoch 1" in printed
    assert (results / f"{NAMES[0]}.json").stat().st_mtime_ns == before
    with monkeypatch.context() as patch:
        patch.setattr(train, "main", None)
        study.main(tiny)
    whole = [text.replace(str(tmp_path), str(tmp_path / "whole")) for text in tiny]
    study.main(whole)
    for name in NAMES:
        assert (without_seconds(results / f"{name}.json")
                == without_seconds(tmp_path / "whole" / "results" / f"{name}.json"))
    assert [path.name for path in results.glob("*.npz")] == [f"{NAMES[0]}.npz"]  # figures look at no network of sparse
    assert (results / f"{NAMES[0]}.npz").read_bytes() == (tmp_path / "runs" / NAMES[0] / "best.npz").read_bytes()


def test_two_runs_at_a_time_end_as_one_after_the_other_and_say_whose_a_line_is(tiny, tmp_path, capsys):
    study.main(tiny)
    del tiny[tiny.index("--threads"):tiny.index("--threads") + 2]
    both = [text.replace(str(tmp_path), str(tmp_path / "both")) for text in tiny]
    capsys.readouterr()
    study.main(["--jobs", "2", *both])
    printed = capsys.readouterr().out
    for name in NAMES:
        one, two = (without_seconds(folder / "results" / f"{name}.json") for folder in (tmp_path, tmp_path / "both"))
        assert one == two
        assert (all(f"{name}: epoch   {epoch}/3" in printed for epoch in (1, 2, 3))
                and f"{name}: verified error" in printed)


def test_runs_at_a_time_share_the_cores_if_threads_are_not_asked_for(monkeypatch):
    monkeypatch.setattr(parallel, "available_cores", lambda: 6)
    for argv, expected in (([], 0), (["--jobs", "2"], 3), (["--jobs", "9"], 1),
                           (["--jobs", "2", "--", "--threads", "5"], 5)):
        args = arguments.parse(study.Args, "trainers.study", argv)
        assert study.command(NAMES[0], {"method": "ibp"}, args)[1].threads == expected


def test_of_two_runs_at_a_time_one_that_fails_leaves_the_other_its_result(tiny, tmp_path, refused):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / NAMES[0]).write_text("no folder")
    refused(study, ["--jobs", "2", *tiny], "1 of 2 runs failed", NAMES[0], "exit status 1")
    assert [path.name for path in (tmp_path / "results").iterdir()] == [f"{NAMES[1]}.json"]
    refused(study, ["--jobs", "0", *tiny], "--jobs: expected at least 1, got 0")


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize("stop, error", [
    (interrupted, KeyboardInterrupt), (partial(signal.raise_signal, signal.SIGTERM), SystemExit)])
def test_a_study_that_is_interrupted_or_ended_takes_its_processes_with_it(stop, error):
    started = time.monotonic()
    with pytest.raises(error), study.side_by_side(2) as (pmap, call):
        pmap(lambda name: call(name, timeit, ["-n", "1", "import time; time.sleep(600)"]), ("one", "two", "three"))
        time.sleep(1)
        stop()
    assert time.monotonic() - started < 60


def test_a_result_has_what_the_run_folder_has_in_columns_of_numbers(tiny, few, tmp_path):
    study.main(tiny)
    records = record.read([tmp_path / "results"])
    assert [one["name"] for one in records] == sorted(NAMES)
    for one in records:
        folder = tmp_path / "runs" / one["name"]
        for part in ("log", "landscape"):
            header, *rows = (folder / f"{part}.csv").read_text().split()
            assert len(rows) == (3 if part == "log" else 6) and list(one[part]) == header.split(",")
            for values, written in zip(one[part].values(), zip(*(row.split(",") for row in rows))):
                assert [v is None for v in values] == [not w for w in written]
                assert [v for v in values if v is not None] == pytest.approx([float(w) for w in written if w], rel=1e-5)
        result = json.loads((folder / "result.json").read_text())
        assert one["result"]["verified_error"] == pytest.approx(result["verified_error"])
        assert one["arguments"]["limit"] == 256 and one["versions"]["numpy"] and one["exact"] is None
    for path in (tmp_path / "results").glob("*.json"):
        assert str(tmp_path) not in path.read_text() and few not in path.read_text() and path.stat().st_size < 10_000


def test_a_network_of_projections_is_verified_by_exact_bounds(tiny, tmp_path):
    tiny[1:3] = ["cap"]
    study.main(tiny)
    (one,) = record.read([tmp_path / "results"])
    assert one["result"]["estimate"] and not one["exact"]["estimate"]
    assert f"{one['exact']['verified_error']:.2f} (1)" in table1.cell([one])
    assert f"≈{one['result']['verified_error']:.2f} (1)" in table1.cell([{**one, "exact": None}])


def test_a_network_trained_on_a_mixture_that_ends_with_ibp_is_verified_by_either(tiny, tmp_path):
    tiny[1:3] = ["cbp-1-0"]
    study.main(tiny)
    (one,) = record.read([tmp_path / "results"])
    assert one["result"]["method"] == ["crown-ibp", "ibp"] and words.heading(one["arguments"]) == "CBP 1→0"


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, RuntimeError])
def test_a_run_that_fails_does_not_stop_the_others(error, tiny, tmp_path, monkeypatch, refused):
    real = train.main

    def failing(argv):
        if NAMES[0] in argv[1]:
            raise error("the loss is no longer finite")
        real(argv)

    monkeypatch.setattr(train, "main", failing)
    refused(study, tiny, "1 of 2 runs failed", NAMES[0], "no longer finite")
    assert (tmp_path / "results" / f"{NAMES[1]}.json").exists()


def test_a_study_refuses_unknown_runs_options_that_name_them_and_results_of_others(tiny, tmp_path, refused):
    refused(study, ["--only", "nonsense"], "--only nonsense", "one-step")
    refused(study, [*tiny, "--eps", "0.2"], "--eps", "0.1", "0.2")
    refused(study, [*tiny, "--init", "ibp"], "--init", "uniform", "ibp")
    refused(study, ["--preset", "search", "--only", "ibp-0.004-2.75", "--", "--rate", "1e-3"], "--rate", "0.004")
    study.main(tiny)
    refused(study, [*tiny, "--rate", "0.1"], f"{NAMES[0]}.json", "--rate 0.002 there, 0.1 here", "--results")


def test_data_sets_in_folders_of_one_name_are_two(tiny, few, tmp_path, capsys, refused):
    for name in ("fashion", "kmnist"):
        shutil.copytree(few, tmp_path / name / "raw")
    labels = tmp_path / "kmnist" / "raw" / FILES["test"][1]
    labels.write_bytes(labels.read_bytes()[:-1] + (b"\0" if labels.read_bytes()[-1] else b"\1"))
    here = [text if text != few else str(tmp_path / "fashion" / "raw") for text in tiny]
    study.main(here)
    refused(study, [text.replace("fashion", "kmnist") for text in here], NAMES[0], "has other images or labels")
    one, other = record.read([tmp_path / "results" / f"{NAMES[0]}.json"] * 2)
    other["arguments"]["seed"] = 1
    for test_set in (one["test_set"], None, "another"):  # None: noted by no earlier version
        other["test_set"] = test_set
        if test_set != "another":
            assert "(2)" in "".join(table1.tables([one, other]))
    with pytest.raises(ValueError, match="differ in test_set"):
        list(table1.tables([one, other]))
    shutil.rmtree(tmp_path / "fashion")
    capsys.readouterr()
    study.main(here)
    assert "2 runs, of which 2 are finished" in capsys.readouterr().out


@pytest.mark.parametrize("name", presets.TRAINING)
def test_a_preset_gives_every_setting_that_it_lists_and_options_override_it(name):
    given = parsed("--preset", name)
    train.check(given)
    assert {key: getattr(given, key) for key in presets.TRAINING[name]} == presets.TRAINING[name]
    unlisted = [field.name for field in fields(train.Args) if field.name not in presets.TRAINING[name]]
    assert all(getattr(given, key) == getattr(parsed(), key) for key in unlisted)
    mine = parsed("--preset", name, "--eps", "0.05", "--model", "mlp", "--milestones", "7", "--clip", "--batch", "128")
    assert (mine.eps, mine.model, mine.milestones, mine.no_clip, mine.batch) == (0.05, "mlp", (7.0,), False, 128)
    assert mine.epochs == given.epochs


@pytest.mark.parametrize("name", presets.STUDIES)
def test_the_runs_of_a_study_can_be_trained_and_each_has_a_column(name):
    args = arguments.parse(study.Args, "trainers.study", ["--preset", name])
    given = [study.command(run, options, args)[1] for run, options in presets.runs(presets.STUDIES[name]).items()]
    assert len({one.run for one in given}) == len(given)
    columns = {words.heading(record.settings(vars(one))) for one in given}
    least = {"longer": {"IBP", "OURS", "CBP 1→0", "mtl-ibp (α = 0.3)", "mtl-ibp (α = 0.5)"},
             **dict.fromkeys(("search", "search-small"), {"IBP", "CROWN-IBP (β=1), CBP 1→1", "OURS", "CBP 1→0"}),
             "objectives": {"IBP", "sabr (λ = 0.5)", "cc-ibp (α = 0.7)", "mtl-ibp (one-step, α = 0.3)"},
             **{f"start-{model}": {"IBP", "ibp (init ibp)", "ibp (init ibp, regularise 0.5)"}
                for model in ("mlp", "small", "wide")}}
    assert least.get(name, {"IBP", "CAP", "OURS", "CBP 1→0"}) <= columns
    assert name != "longer" or least[name] == columns


@pytest.mark.parametrize(("folder", "names"), (
    (".", ("reduced", "reduced-0.3", "small")), ("longer", ("longer",)), ("objectives", ("objectives",)),
    ("start", ("start-mlp", "start-small", "start-wide")), ("search", ("search", "search-small"))))
def test_the_committed_results_are_of_runs_that_the_studies_list(folder, names):
    listed = {}
    for name in names:
        args = arguments.parse(study.Args, "trainers.study", ["--preset", name])
        listed |= {run: study.command(run, options, args)[1]
                   for run, options in presets.runs(presets.STUDIES[name]).items()}
    found = sorted((record.RESULTS / folder).glob("*.json"))
    assert found and all(study.finished(path, listed[path.stem]) for path in found)


def test_the_longer_runs_have_more_epochs_than_those_of_the_study():
    usual, longer = ({options["epochs"] for options in presets.runs(presets.STUDIES[name]).values()}
                     for name in ("small", "longer"))
    assert min(longer) > max(usual)


def test_all_methods_of_the_study_but_cap_are_trained_alike():
    alike = {}
    for name, options in presets.runs(presets.STUDIES["small"]).items():
        if options["method"] != "cap":
            alike.setdefault(options["eps"], []).append(
                {k: v for k, v in options.items() if k not in ("seed", "method", "beta")})
    assert ([len(runs) for runs in alike.values()] == [12, 12, 13, 13]
            and all(run == runs[0] for runs in alike.values() for run in runs))


def made(name, seed, verified, **changed):
    """A record as trainers.study writes it."""
    given = record.settings(vars(train.Args(method="ibp", seed=seed, **changed)))
    result = {"standard_error": 1.5, "pgd_error": 2.5, "verified_error": verified, "estimate": False,
              "method": ["ibp"], "training_seconds": 90.0}
    return {"name": name, "arguments": given, "versions": {}, "result": result,
            "exact": None, "log": {"verified_error": [9.0, verified + 1], "seconds": [45, 45], "probe_seconds": [0, 0]},
            "landscape": {}}


def test_the_tables_show_mean_and_spread_beside_published_errors(tmp_path, capsys):
    for seed, verified in enumerate((4.0, 5.0, 6.0)):
        one = made(f"ibp-small-0.1-{seed}", seed, verified)
        (tmp_path / f"{one['name']}.json").write_text(record.text(one))
    table1.main([str(tmp_path)])
    printed = capsys.readouterr().out
    ours, paper = cells(printed)[1:3]
    assert ours[:3] == ["0.1", "ours", "1.50 ± 0.00 / 2.50 ± 0.00 / 5.00 ± 1.00 (3)"] and set(ours[3:]) == {"–"}
    assert paper == ["", "published", "1.18 / 2.16 / 3.52", "1.07 / 1.69 / 2.10", "0.80 / 1.73 / 3.19",
                     "1.09 / 1.77 / 2.36", "–"]
    for text in ("errors, of dm_large", "IBP (Gowal et al. 2018)",
                 "7 epochs, the first 5 by ibp alone, ε = 0 for 0.5 and rising for 5",
                 "IBP: ε 0.1 (6.0 %); 3 runs, 1.5 minutes each"):
        assert text in printed


def cells(text):
    """The rows of the tables in a text, each a list of its cells; the lines beneath headings are left out."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


# The rows of the paper's Table 1, from top to bottom: ε, then IBP, CROWN-IBP (β=1), CAP, OURS; ** where the paper
# prints bold, the least verified error of a row, and __ where it underlines, the second
TABLE_1 = {
    ("mnist", "published"): """
        0.1    1.18 / 2.16 / 3.52       1.07 / 1.69 / 2.10**     0.80 / 1.73 / 3.19       1.09 / 1.77 / 2.36__
        0.2    2.00 / 3.29 / 6.31__     2.99 / 5.50 / 7.97       3.22 / 6.72 / 11.06      1.70 / 3.44 / 4.34**
        0.3    3.50 / 5.85 / 10.45__    5.73 / 10.76 / 16.28     19.19 / 35.84 / 47.85    3.49 / 5.59 / 9.79**
        0.4    3.50 / 7.30 / 17.96__    5.73 / 14.63 / 23.80     –                        3.49 / 6.77 / 15.42**""",
    ("cifar10", "published, shallow"): """
        2/255  37.98 / 49.40 / 55.39    32.48 / 42.77 / 50.15    28.80 / 38.95 / 48.50**  31.49 / 42.73 / 49.42__
        4/255  46.42 / 57.42 / 62.80    45.56 / 58.24 / 64.47    40.78 / 52.62 / 61.88__  42.53 / 55.55 / 61.52**
        6/255  52.84 / 63.92 / 68.79__  54.72 / 65.28 / 71.04    49.20 / 60.85 / 69.03    50.19 / 61.88 / 66.90**
        8/255  55.71 / 66.79 / 70.95__  61.37 / 70.66 / 75.37    56.77 / 66.78 / 73.02    56.01 / 66.17 / 69.70**
        16/255 67.10 / 75.12 / 78.26__  76.65 / 81.90 / 84.42    75.11 / 80.67 / 82.07    65.93 / 75.39 / 77.87**""",
    ("cifar10", "published, deep"): """
        2/255  39.17 / 48.80 / 55.48    29.02 / 40.17 / 46.22**  –                        31.48 / 42.52 / 47.89__
        8/255  59.53 / 65.98 / 70.86__  59.43 / 65.79 / 73.34    –                        50.78 / 62.58 / 68.44**""",
    ("svhn", "published"): """
        0.01   19.91 / 34.12 / 43.83    17.25 / 30.84 / 39.88    16.88 / 30.16 / 37.09**  16.41 / 30.43 / 39.44__""",
}
SECTION_7 = {  # CBP 1→0
    ("published, deep", "8/255"): "54.02 / 65.42 / 66.94", ("published, deep", "2/255"): "35.83 / 46.21 / 52.26"}
TABLE_2 = {  # ε of the columns, then the rows: standard / verified
    "mnist": """         0.1            0.3
        RS               1.32 / 4.87    2.67 / 19.32
        DiffAI           1.3 / 4.2      3.4 / 10.7
        COLT             0.8 / 2.9      2.7 / 14.3
        OURS             1.09 / 2.28    2.42 / 7.84""",
    "cifar10": """       2/255          8/255
        RS               38.88 / 54.07  59.55 / 79.72
        DiffAI           37.7 / 54.5    53.8 / 72.8
        COLT             21.6 / 39.5    48.3 / 72.5
        OURS             31.48 / 47.89  50.78 / 68.44""",
}


def split(text):
    """Lines of cells that two spaces or more divide; the ε of a row may be one space off."""
    return [re.split(r"\s{2,}|(?<=255)\s", line.strip()) for line in text.strip().splitlines()]


@pytest.mark.parametrize(("data", "part"), TABLE_1)
def test_table_1_of_the_paper_is_printed_as_it_stands_there(data, part):
    text = next(table1.tables([made("a", 0, 4.0, data=data, data_dir=None if data == "mnist" else "folder")]))
    eps, found = None, []
    for first, name, *row in cells(text)[1:]:
        eps = first or eps
        if name == part:
            found.append([eps, *row])
    rows = split(TABLE_1[data, part])
    assert found == [[eps, *(entry.strip("*_") for entry in row), SECTION_7.get((part, eps), "–")]
                     for eps, *row in rows]
    for _, *row in rows:
        first, second, *_ = sorted((entry for entry in row if entry != "–"),
                                   key=lambda entry: float(entry.strip("*_").split(" / ")[2]))
        assert first.endswith("**") and second.endswith("__")


@pytest.mark.parametrize("data", TABLE_2)
def test_table_2_of_the_paper_is_printed_as_it_stands_there(data):
    text = list(table1.tables([made("a", 0, 4.0, data=data, data_dir=None if data == "mnist" else "folder")]))[1]
    header, *found = cells(text)
    eps, *rows = split(TABLE_2[data])
    for name, *row in rows:
        of = next(line for line in found if line[0].startswith(name))
        printed = [of[header.index(f"ε = {e}")].split(" / ") for e in eps]
        assert ([[float(standard), float(verified)] for standard, _, verified in printed]
                == [[*map(float, e.split(" / "))] for e in row])
        assert {pgd for _, pgd, _ in printed} == {"–"} and of[2] == "a"


def test_a_run_by_the_released_settings_stands_beside_the_papers_row():
    """They have 0.0313725 for 8/255."""
    text = next(table1.tables([made("a", 0, 4.0, data="cifar10", data_dir="folder",
                                    eps=presets.TRAINING["paper-cifar10-shallow"]["eps"])]))
    assert ["8/255", "ours"] in [row[:2] for row in cells(text) if row[2].endswith("(1)")]


def test_runs_that_the_paper_has_none_of_are_not_beside_its_numbers():
    for other in ({"norm": "2"}, {"data_dir": "fashion"}):
        assert "published" not in "".join(table1.tables([made("a", 0, 4.0, **other)]))


def test_runs_that_differ_in_more_than_their_seeds_share_no_cell():
    longer = made("longer", 1, 5.0, epochs=9)
    other_data = made("other", 1, 5.0, data_dir="fashion")
    assert list(table1.tables([other_data]))[0].startswith("Table 1. MNIST from fashion, small")
    for pair, what in (([made("a", 0, 4.0), longer], "epochs"), ([made("a", 0, 4.0), made("b", 0, 4.0)], "seeds")):
        with pytest.raises(ValueError, match=f"a.*{what}"):
            list(table1.tables(pair))
    older, moved = made("a", 0, 4.0), made("b", 1, 5.0, crop=1)
    del older["arguments"]["crop"]  # a record from before there was such an option
    assert (checkpoint.known(older["arguments"])["crop"] == 0
            and checkpoint.known({"data": "svhn", "crop": None})["crop"] == 4)
    for pair in ([older, moved], [moved, older]):
        with pytest.raises(ValueError, match="crop"):
            list(table1.tables(pair))
    headed = list(table1.tables([made("a", 0, 4.0), made("b", 0, 4.0, model="mlp")]))
    assert "small" in headed[0] and "mlp" in headed[3]
    assert "minibatches of 64 of images moved by up to 2 pixels" in list(table1.tables([made("a", 0, 4.0, crop=2)]))[2]


@pytest.mark.parametrize("content, words", [
    (None, "nothing there"), ("not JSON", "cannot be read"), ("[1, 2]", "list"), ('{"name": "ibp"}', "no arguments"),
    (record.text({"name": "ibp", **dict.fromkeys(record.PARTS, {})}), "no arguments: method"),
    (record.text(made("another", 0, 1.0)), "another"),
], ids=["missing", "text", "list", "foreign", "bare", "renamed"])
def test_a_missing_or_foreign_result_is_one_line(content, words, tmp_path, refused):
    path = tmp_path / "ibp.json"
    if content is not None:
        path.write_text(content)
    refused(table1, [str(path)], "ibp.json", words)
    if content is None:
        refused(table1, [str(tmp_path)], "or a folder of results")
        (tmp_path / "config.json").write_text("{}")
        refused(table1, [str(tmp_path)], "no arguments")


def test_more_epochs_stretch_every_time_of_a_schedule_and_change_nothing_else():
    options = presets.runs(presets.STUDIES["longer"], ["ibp-small-0.3-0"])["ibp-small-0.3-0"]
    twice = presets.runs(presets.STUDIES["longer"], ["ibp-small-0.3-0"], 2 * options["epochs"])["ibp-small-0.3-0"]
    times = {"epochs", "warmup", "ramp"}
    assert all(twice[name] == 2 * options[name] for name in times)
    assert twice["milestones"] == tuple(2 * time for time in options["milestones"])
    assert (options["adam_beta2"] == 0.99
            and all(twice[k] == v for k, v in options.items() if k not in {*times, "milestones"}))
    (half,) = presets.runs(presets.STUDIES["objectives"], ["mtl-ibp-one-step-small-0.3-0"], 12).values()
    assert (half["ibp_epochs"], half["milestones"]) == (10, (11, 11.65))


def test_cells_hold_what_was_measured_alike():
    one, other = made("a", 0, 4.0), made("b", 1, 5.0)
    other["result"]["pgd_steps"] = 5
    with pytest.raises(ValueError, match="a and b were evaluated differently"):
        list(table1.tables([one, other]))


@pytest.mark.parametrize("part, name", [("arguments", "train_eps"), ("result", "pgd_error"), ("log", "verified_error"),
                                        ("landscape", "zero_slopes"), ("landscape", None)])
def test_a_record_that_lacks_what_is_read_is_one_line(part, name, tmp_path, refused):
    [path] = record.RESULTS.glob("ibp-mlp-0.1-0.json")
    found = json.loads(path.read_text())
    if name:
        del found[part][name]
    else:
        found[part]["time"].pop()
    (tmp_path / path.name).write_text(json.dumps(found))
    refused(table1, [str(tmp_path)], path.name, part, name or "one length")


@pytest.mark.parametrize("part, change", [
    ("exact", 5), ("complete", 3), ("arguments", {"eps": None}), ("arguments", {"milestones": None}),
    ("arguments", {"kappa": [0]}), ("result", {"verified_error": "x"}), ("landscape", {"time": [None] * 26}),
    ("complete", {"images": 2, "exact_error": 1, "unknown": 0, "verdicts": "r"}), ("log", {}),
    ("complete", {"images": None, "exact_error": 1, "unknown": 0, "verdicts": "r"}), ("result", {"method": 5}),
    ("complete", {"verdicts": "r"}), ("complete", {"images": 1, "exact_error": 1, "unknown": 0, "verdicts": None}),
    ("result", {"training_seconds": [1]}), ("log", {"seconds": 3}),
    ("log", {"verified_error": ["x"] * 6}), ("log", {"verified_error": [None] * 6})])
def test_a_record_of_other_types_is_one_line(part, change, tmp_path, refused):
    [path] = record.RESULTS.glob("ibp-mlp-0.1-0.json")
    found = json.loads(path.read_text())
    found[part] = {**found.get(part, {}), **change} if change and isinstance(change, dict) else change
    (tmp_path / path.name).write_text(json.dumps(found))
    refused(table1, [str(tmp_path)], path.name, part)


def test_a_torn_result_does_not_stop_the_other_runs(tiny, tmp_path, refused):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / f"{NAMES[0]}.json").write_text("{")
    refused(study, tiny, "1 of 2 runs failed", NAMES[0])
    assert (tmp_path / "results" / f"{NAMES[1]}.json").exists()


@pytest.mark.parametrize("key, value", [("eps", 0.2), ("norm", "2"), ("clipped", False), ("images", 100),
                                        ("pgd_steps", 5), ("restarts", 2)])
def test_results_are_measured_alike_only_where_ball_images_and_attack_are(key, value):
    one = {"eps": 0.1, "norm": "inf", "clipped": True, "images": 10000, "pgd_steps": 100, "restarts": 1}
    assert words.same(one, dict(one)) and not words.same(one, {**one, key: value})
