"""Studies and their presets: runs resumed, skipped and gathered; settings as listed."""

import json
import shutil
import signal
import time
import timeit
from dataclasses import fields
from functools import partial

import pytest
from conftest import FILES

from trainers import study, table1, train
from trainers.files import record, words
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


def test_a_file_in_the_place_of_the_results_is_refused_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for option in ("--results", "--runs"):
        with pytest.raises(SystemExit):
            study.main([option, str(tmp_path / "file")])
        assert f"argument {option}: {tmp_path}/file: expected the name of a folder" in capsys.readouterr().err


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
    least = {"longer": {"IBP", "OURS", "CBP 1→0", "mtl-ibp (α = 0.3)", "mtl-ibp (α = 0.5)", "exp-ibp (α = 0.3)"},
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


def test_a_torn_result_does_not_stop_the_other_runs(tiny, tmp_path, refused):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / f"{NAMES[0]}.json").write_text("{")
    refused(study, tiny, "1 of 2 runs failed", NAMES[0])
    assert (tmp_path / "results" / f"{NAMES[1]}.json").exists()
