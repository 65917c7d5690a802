"""The trainer as a command: reproducible to the bit, resumable after a kill, and clear when they cannot."""

import json
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import FILES

import refbound as rb
from trainers import data, evaluate, figures, train
from trainers.files import checkpoint, record
from trainers.inputs import arguments, draws
from trainers.loop import optim, schedule
from verify import milp, tightness
from verify.formats import load

ROOT = Path(__file__).parent.parent
SHORT = ["--model", "mlp", "--method", "ibp", "--epochs", "3", "--ibp-epochs", "0", "--warmup", "0.5", "--ramp", "1",
         "--milestones", "2", "--batch", "50", "--shard", "20", "--validation", "100"]


def command(module, *arguments, **more):
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, **more)


METHODS = [["ibp"], ["crown-ibp"], ["cap-ibp"], ["random"], ["sparse", "--p", "0", "--q", "0.5"], ["one-step"], ["cap"],
           ["cap", "--projections", "21"], ["crown"]]


@pytest.mark.parametrize("method", METHODS, ids=" ".join)
def test_training_lowers_the_loss_of_every_method(method, few, tmp_path, capsys):
    train.main(["--run", str(tmp_path / "run"), "--data-dir", few, "--method", *method, "--model", "mlp",
                "--eps", "0.01", "--epochs", "3", "--ibp-epochs", "0", "--warmup", "0", "--ramp", "0",
                "--batch", "20", "--limit", "300", "--validation", "20", "--rate", "0.005"])
    rows = (tmp_path / "run" / "log.csv").read_text().split()[1:]
    first, last = (float(row.split(",")[5]) for row in (rows[0], rows[-1]))
    assert last < 0.9 * first
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["estimate"] == ("--projections" in method)
    assert ("certifies nothing" in capsys.readouterr().out) == result["estimate"]


def test_a_run_is_the_same_to_the_last_bit_for_any_number_of_threads(few, tmp_path):
    for name, threads in (("a", "1"), ("b", "2"), ("c", "2")):
        assert command("trainers.train", *SHORT, "--method", "one-step", "--data-dir", few,
                       "--run", str(tmp_path / name), "--threads", threads).returncode == 0
    for file in ("best.npz", "model.npz", "landscape.csv"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b == c
    a = (tmp_path / "a" / "best.npz").read_bytes()
    other = tmp_path / "d"
    command("trainers.train", *SHORT, "--method", "one-step", "--data-dir", few, "--run", str(other), "--seed", "1")
    assert (other / "best.npz").read_bytes() != a


def test_a_run_killed_at_any_moment_and_resumed_ends_as_one_that_was_not(few, tmp_path):
    arguments = [*SHORT, "--probe", "5", "--data-dir", few]
    command("trainers.train", *arguments, "--run", str(tmp_path / "whole"))
    killed, left = tmp_path / "killed", []
    for moment in (0.0, 0.1, 0.2, 0.3):  # after its first line, which is there when it trains
        with subprocess.Popen([sys.executable, "-m", "trainers.train", *arguments, "--run", str(killed)], cwd=ROOT,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.readline()
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
        left.append((killed / "checkpoint.npz").exists() and not (killed / "result.json").exists())
    assert left[0] or left[1]
    assert command("trainers.train", *arguments, "--run", str(killed)).returncode == 0
    for file in ("best.npz", "model.npz", "landscape.csv"):
        assert (tmp_path / "whole" / file).read_bytes() == (killed / file).read_bytes()


def test_a_run_stopped_after_an_epoch_goes_on_from_there(few, tmp_path, interrupted_in_epoch_3, capsys):
    arguments = [*SHORT, "--data-dir", few, "--run"]
    train.main([*arguments, str(tmp_path / "whole")])
    interrupted_in_epoch_3([*arguments, str(tmp_path / "cut")])
    train.main([*arguments, str(tmp_path / "cut")])
    assert "going on after epoch 2" in capsys.readouterr().out
    for file in ("best.npz", "model.npz"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()


def test_a_run_folder_refuses_other_arguments_and_images_and_a_finished_run_only_reports(
        few, tmp_path, capsys, refused, monkeypatch):
    run = ["--data-dir", few, "--run", str(tmp_path / "run")]
    train.main([*SHORT, *run])
    before = {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    train.main([*SHORT, *run])
    assert "finished" in capsys.readouterr().out
    refused(train, [*SHORT, *run, "--eps", "0.2"], "--eps 0.1 there, 0.2 here")
    load = train.data.load
    monkeypatch.setattr(train.data, "load", lambda *given: (of := load(*given))._replace(labels=of.labels[::-1].copy()))
    refused(train, [*SHORT, *run], "holds a run on other images than --data and --data-dir have now")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}


def test_adam_beta2_reaches_the_optimiser(few, tmp_path, monkeypatch):
    given = set()

    def spy(params, grads, state, rate, beta2=None):
        given.add(beta2)
        return optim.adam(params, grads, state, rate, beta2=beta2)

    monkeypatch.setitem(train.OPTIMIZERS, "adam", spy)
    train.main([*SHORT, "--adam-beta2", "0.5", "--data-dir", few, "--run", str(tmp_path / "run")])
    assert given == {0.5}


def test_every_purpose_and_place_has_a_stream_of_its_own():
    places = [(purpose, 0, *place) for purpose in draws.PURPOSES
              for place in ((), (0,), (0, 0), (0, 0, 0), (1,), (1, 0))]
    first = {draws.stream(*place).integers(2**60) for place in places}
    assert len(first) == len(places)
    assert draws.stream("crop", 3, 1).integers(2**60) == draws.stream("crop", 3, 1).integers(2**60)


def test_a_run_of_other_draws_is_not_gone_on_with(few, tmp_path, interrupted_in_epoch_3):
    arguments = [*SHORT, "--data-dir", few, "--run", str(tmp_path / "run")]
    interrupted_in_epoch_3(arguments)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"draws": 2', '"draws": 1'))
    with pytest.raises(ValueError, match="draws are of version 2, got one of version 1"):
        train.main(arguments)


def test_a_loss_that_is_no_longer_finite_stops_the_run_and_says_where(few, tmp_path, refused):
    refused(train, [*SHORT, "--data-dir", few, "--run", tmp_path / "run", "--optimizer", "sgd", "--rate", "1e30"],
            "no longer finite", "epoch 1", "step", "no checkpoint")


@pytest.mark.parametrize("argv, words", [
    (["--eps", "-0.1"], ["--eps", "-0.1"]),
    (["--beta", "2", "1"], ["--beta"]),
    (["--epochs", "1"], ["--epochs", "--warmup"]),
    (["--method", "one-step", "--ibp-epochs", "3"], ["--epochs", "--ibp-epochs = 3", "got 3"]),
    (["--eta", "2"], ["--eta", "ibp"]),
    (["--method", "one-step", "--eta", "-1"], ["eta", "-1"]),
    (["--method", "cap", "--projections", "5", "--norm", "2"], ["--projections", "norm"]),
    (["--train-eps", "-0.1"], ["--train-eps", "-0.1"]),
    (["--crop", "-1"], ["--crop", "-1"]),
    (["--eps", "8"], ["--eps: expected at most 1", "got 8"]),
    (["--train-eps", "1.5"], ["--train-eps: expected at most 1", "got 1.5"]),
    (["--epochs", "0"], ["--epochs", "0"]),
    (["--adam-beta2", "1"], ["--adam-beta2", "[0, 1)", "1.0"]),
    (["--adam-beta2", "0.9", "--optimizer", "sgd"], ["--adam-beta2", "adam", "sgd"]),
    (["--data-dir", "no-such-folder"], ["no-such-folder"]),
    (["--device", "cuda"], ["cuda"]),
    (["--batch", "100000"], ["--batch"]),
    (["--factor", "nan"], ["--factor: expected a number in (0, 1], got nan"]),
    (["--milestones", "nan"], ["--milestones"]), (["--eps", "inf"], ["--eps: expected a finite number"]),
    (["--crop", "28"], ["--crop: expected less than the 28 pixels"]),
    (["--validation", "700"], ["--validation: expected less than the 700"]),
    (["--p", "0.5"], ["--p: not an option of ibp"]), (["--foo"], ["--foo"]), (["--rate", "fast"], ["--rate"]),
])
def test_arguments_that_cannot_be_are_refused_before_anything_is_written(argv, words, few, tmp_path, refused):
    run = tmp_path / "run"
    refused(train, [*SHORT, "--data-dir", few, "--run", run, *argv], *words)
    assert not run.exists()


def test_unknown_method_and_model_are_refused_by_name():
    for name in ("method", "model"):
        done = command("trainers.train", f"--{name}", "nonsense")
        assert done.returncode != 0 and "nonsense" in done.stderr.splitlines()[-1]


def test_a_run_folder_that_cannot_be_written_is_one_line(few, tmp_path, refused):
    (tmp_path / "file").write_text("not a folder")
    refused(train, [*SHORT, "--data-dir", few, "--run", str(tmp_path / "file" / "run")], "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    refused(train, [*SHORT, "--data-dir", few, "--run", str(tmp_path / "other")], "config.json")


def test_a_full_disk_stops_the_run_and_leaves_the_last_whole_files(few, tmp_path):
    def small_files():  # a write beyond 100 kB fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    run = tmp_path / "run"
    done = command("trainers.train", *SHORT, "--data-dir", few, "--run", str(run), preexec_fn=small_files)
    assert done.returncode == 1 and "large" in done.stderr and done.stderr.count("\n") == 1
    assert sorted(p.name for p in run.iterdir()) == ["config.json"]


@pytest.mark.parametrize("train_eps", [0.05, 0.002])
def test_validation_is_at_the_radius_of_the_test_wherever_training_ends(train_eps, few, tmp_path, capsys):
    train.main([*SHORT, "--eps", "0.01", "--train-eps", str(train_eps), "--data-dir", few,
                "--run", str(tmp_path / "run")])
    rows = checkpoint.read_log(tmp_path / "run" / "log.csv")
    _, held_out = data.split_validation(data.load("mnist", "train", few), 100, 0)
    args = evaluate.Args(eps=0.01, method=("ibp",), norm="inf", pgd_steps=0, seed=0, threads=1, shard=20)
    found = evaluate.evaluate(rb.load(tmp_path / "run" / "model.npz"), held_out, args, quiet=True)
    assert checkpoint.read_json(tmp_path / "run" / "result.json")["eps"] == 0.01
    assert rows[-1]["eps"] == train_eps and rows[-1]["validation_verified_error"] == found["verified_error"]
    assert [row["validation_eps"] for row in rows] == pytest.approx([0.005, 0.01, 0.01])  # --warmup 0.5 --ramp 1
    assert [("at ε 0.005" in line, "at ε 0.010" in line) for line in capsys.readouterr().out.splitlines()[:3]] == [
        (True, False), (False, True), (False, True)]


def test_a_run_whose_log_lacks_a_column_of_now_goes_on(few, tmp_path, interrupted_in_epoch_3, capsys):
    arguments, run = [*SHORT, "--data-dir", few, "--run", str(tmp_path / "run")], tmp_path / "run"
    interrupted_in_epoch_3(arguments)
    with np.load(run / "checkpoint.npz") as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"]))
    for row in meta["rows"]:
        del row["validation_eps"]
    np.savez(run / "checkpoint.npz", **{**arrays, "meta": json.dumps(meta)})
    train.main(arguments)
    rows = checkpoint.read_log(run / "log.csv")
    assert [row["validation_eps"] for row in rows] == [None, None, 0.1] and [row["epoch"] for row in rows] == [1, 2, 3]
    assert " at ε" not in capsys.readouterr().out


def test_the_first_epochs_are_ibp_s_alone_and_the_others_the_method_s(few, tmp_path):
    for name, more in {"ibp": ["--method", "ibp"], "start": ["--ibp-epochs", "2.5"]}.items():
        train.main([*SHORT, "--method", "crown-ibp", "--shard", "50", *more, "--data-dir", few,
                    "--run", str(tmp_path / name)])
    ibp, start = (checkpoint.read_log(tmp_path / name / "log.csv") for name in ("ibp", "start"))
    assert [row["beta"] for row in start] == [0, 0, 1]
    assert [row["loss"] for row in start[:2]] == [row["loss"] for row in ibp[:2]]
    assert start[2]["loss"] < ibp[2]["loss"]  # crown-ibp's margins are below, over half of the epoch


def test_a_ramp_of_no_length_is_a_step(few, tmp_path):
    train.main([*SHORT, "--warmup", "1", "--ramp", "0", "--eps", "0.02", "--data-dir", few,
                "--run", str(tmp_path / "run")])
    assert [row["eps"] for row in checkpoint.read_log(tmp_path / "run" / "log.csv")] == [0, 0.02, 0.02]


@pytest.mark.parametrize("file, word", [
    ("config.json", "no arguments"), ("result.json", "expected the result of a run")])
def test_a_run_folder_with_a_foreign_file_is_one_line(file, word, few, tmp_path, refused):
    run = tmp_path / "run"
    train.main([*SHORT, "--data-dir", few, "--run", str(run)])
    (run / file).write_text("{}")
    refused(train, [*SHORT, "--data-dir", few, "--run", str(run)], str(run), word)


def test_a_checkpoint_that_was_cut_is_one_line(few, tmp_path, refused):
    run = tmp_path / "run"
    train.main([*SHORT, "--data-dir", few, "--run", str(run)])
    (run / "result.json").unlink()
    (run / "checkpoint.npz").write_bytes((run / "checkpoint.npz").read_bytes()[:1000])
    refused(train, [*SHORT, "--data-dir", few, "--run", str(run)], "checkpoint.npz", "not a checkpoint")


@pytest.mark.parametrize("method", ["one-step", "cap"])
def test_an_epoch_on_the_device_is_the_epoch_on_the_host(method, few, tmp_path, device):
    arguments = [*SHORT, "--method", method, "--data-dir", few, "--epochs", "2", "--limit", "100", "--shard", "50",
                 "--eps", "0.02"]
    for place in ("cpu", "cuda"):
        train.main([*arguments, "--device", place, "--run", str(tmp_path / place)])
    host, there = ((tmp_path / place / "log.csv").read_text().splitlines()[1:] for place in ("cpu", "cuda"))
    for one, other in zip(host, there, strict=True):
        np.testing.assert_allclose(*([float(v) for v in row.split(",")[:-2]] for row in (one, other)), rtol=1e-5)


def test_a_run_folder_is_one_process_s_at_a_time(few, tmp_path, refused):
    pytest.importorskip("fcntl")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json.1.part").write_text("{")  # of a run that was killed as it began
    with checkpoint.alone(tmp_path / "run"):  # the folder is held before its config.json is looked at
        refused(train, [*SHORT, "--data-dir", few, "--run", str(tmp_path / "run")], "another process trains there")
    assert not (tmp_path / "run" / "config.json").exists()
    assert command("trainers.train", *SHORT, "--data-dir", few, "--run", str(tmp_path / "run")).returncode == 0


def test_a_missing_git_a_plain_terminal_and_a_full_memory_are_no_reason_to_fail(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert checkpoint.versions()["commit"] == "unknown"
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = command("trainers.train", *SHORT, "--epochs", "2", "--data-dir", few, "--run", str(tmp_path / "run"))
    assert done.returncode == 0 and "verified error" in done.stdout, done.stderr

    def full():
        raise MemoryError("no room for 3 GB")
    with pytest.raises(SystemExit):
        arguments.run(full)
    assert capsys.readouterr().err == "error: out of memory: no room for 3 GB\n"
    with pytest.raises(SystemExit):
        arguments.run(lambda: open(tmp_path / "none" / "net.onnx"))
    assert capsys.readouterr().err == f"error: {tmp_path / 'none' / 'net.onnx'}: no such file or directory\n"


def test_a_test_set_that_cannot_be_read_is_found_before_training(few, tmp_path):
    for file in Path(few).iterdir():
        (tmp_path / file.name).write_bytes(b"" if file.name.startswith("t10k-images") else file.read_bytes())
    with pytest.raises(ValueError, match="t10k-images"):
        train.main([*SHORT, "--data-dir", str(tmp_path), "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def written(folder, *parts):
    """A data set in MNIST's format, of (split, images, labels)."""
    for split, *arrays in parts:
        for name, a in zip(FILES[split], arrays):
            (folder / name).write_bytes(struct.pack(f">{1 + a.ndim}I", 0x800 + a.ndim, *a.shape)
                                        + a.astype(np.uint8).tobytes())
    return str(folder)


def bytes_of(n, height, width, most=256):
    return np.random.default_rng(0).integers(0, most, (n, height, width))


@pytest.mark.parametrize("test, words", [
    ((bytes_of(9, 8, 4), np.arange(9) % 4), ["(1, 4, 8) of at most 4 classes", "(1, 8, 4) of 4"]),
    ((bytes_of(9, 4, 8), np.arange(9)), ["(1, 4, 8) of at most 4 classes", "(1, 4, 8) of 9"]),
    ((bytes_of(9, 4, 8, most=2), np.arange(9) % 4),
     ["the test images: found pixels of at most 1, expected bytes from 0 to 255"])],
    ids=["size", "classes", "range"])
def test_a_test_set_that_does_not_fit_is_found_before_training(test, words, tmp_path):
    folder = written(tmp_path, ("train", bytes_of(60, 4, 8), np.arange(60) % 4), ("test", *test))
    with pytest.raises(ValueError) as caught:
        train.main([*SHORT, "--batch", "8", "--validation", "8", "--data-dir", folder, "--run", str(tmp_path / "run")])
    assert all(word in str(caught.value) for word in words) and not (tmp_path / "run").exists()


def test_epochs_that_compete_are_verified_alike(few, tmp_path, capsys):
    """After the ramp validation is by the method, in epochs by ibp alone too: the log's best is that of best.npz."""
    run = tmp_path / "run"
    train.main(["--model", "mlp", "--method", "crown-ibp", "--epochs", "4", "--ibp-epochs", "3", "--warmup", "0",
                "--ramp", "1", "--milestones", "3", "--batch", "20", "--limit", "300", "--validation", "60",
                "--probe", "0", "--data-dir", few, "--run", str(run)])
    evaluate.main([str(run), "--held-out", "--pgd-steps", "0", "--method", "crown-ibp",
                   "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["verified_error"] == min(row["validation_verified_error"]
                                          for row in checkpoint.read_log(run / "log.csv"))
    with pytest.raises(ValueError, match="--data: expected none beside --held-out"):
        evaluate.main([str(run), "--held-out", "--data", "svhn"])


def test_a_test_set_that_lacks_classes_fits(tmp_path):
    folder = written(tmp_path, ("train", bytes_of(60, 4, 8), np.arange(60) % 4),
                     ("test", bytes_of(9, 4, 8), np.arange(9) % 2))
    train.main([*SHORT, "--batch", "8", "--validation", "8", "--data-dir", folder, "--run", str(tmp_path / "run")])
    assert (tmp_path / "run" / "result.json").exists()


def test_the_data_of_a_run_are_found_from_any_folder(few, tmp_path, monkeypatch):
    """As --data-dir was given, from where the run started; where nothing is there, the error says where it looked."""
    run, relative = str(tmp_path / "run"), Path(few).name
    (tmp_path / "elsewhere" / relative).mkdir(parents=True)  # another folder of that name is not taken
    monkeypatch.chdir(Path(few).parent)
    train.main([*SHORT, "--data-dir", relative, "--run", run])
    config = checkpoint.read_json(Path(run) / "config.json")
    assert config["arguments"]["data_dir"] == relative
    shutil.copytree(few, tmp_path / "copy" / relative)
    monkeypatch.chdir(tmp_path / "copy")
    with pytest.raises(ValueError, match=f"holds a run with other arguments .--data-dir {few} there, "
                                         f"{tmp_path}/copy/{relative} here"):
        train.main([*SHORT, "--data-dir", relative, "--run", run])  # it does not go on with another folder's images
    monkeypatch.chdir(tmp_path / "elsewhere")
    evaluate.main([run, "--pgd-steps", "0", "--n", "5"])
    assert record.read([run])[0]["arguments"]["data_dir"] == few
    args = arguments.parse(milp.Args, "verify.milp", [run])
    load.as_the_run(args)
    assert args.data_dir == few
    checkpoint.write_json(Path(run) / "config.json", {**config, "started_in": "/gone"})
    for here in ("copy", "elsewhere"):  # one of the same name here may have other images
        monkeypatch.chdir(tmp_path / here)
        with pytest.raises(FileNotFoundError, match=f"/gone/{relative}: found no such folder"):
            evaluate.main([run])
    monkeypatch.chdir(tmp_path)
    checkpoint.write_json(Path(run) / "config.json", {k: v for k, v in config.items() if k != "started_in"})
    with pytest.raises(FileNotFoundError, match=f"{relative}: found no such folder in {tmp_path}"):
        evaluate.main([run])


@pytest.mark.parametrize("module", [train, evaluate, figures, milp, tightness])
def test_eps_is_a_number_or_a_fraction(module, capsys):
    model = [] if module in (train, figures) else ["net.npz"]
    for text, value in (("8/255", 8 / 255), ("1/3", 1 / 3), ("0.1", 0.1), ("1e-3", 1e-3)):
        assert arguments.parse(module.Args, "command", [*model, "--eps", text]).eps == value
    for text in ("8/", "1/0", "8/255/2", "a"):
        with pytest.raises(SystemExit):
            arguments.parse(module.Args, "command", [*model, "--eps", text])
        assert capsys.readouterr().err == (
            f"error: argument --eps: expected a number or a fraction such as 8/255, got {text!r}\n")
    assert arguments.parse(train.Args, "command", ["--beta", "1", "1/2", "--milestones", "7/2"]).milestones == (3.5,)


def test_every_epoch_has_an_order_and_every_step_a_place_and_a_time_of_its_own(few, monkeypatch):
    seen, gradient = [], train.gradient
    monkeypatch.setattr(train, "gradient", lambda net, here: seen.append(here) or gradient(net, here))
    args = train.Args(model="mlp", method="ibp", batch=40, shard=40, seed=7, warmup=0, ramp=2, ibp_epochs=0, probe=0)
    images = data.Dataset(*(column[:100] for column in data.load("mnist", "train", few)))
    net, state = train.new_network(args, np, (1, 28, 28), 10), {}
    for epoch in (1, 2):
        net, state, *_ = train.train_epoch(net, state, images, epoch, args, map, None)
    for here, (epoch, step) in zip(seen, [(1, 0), (1, 1), (2, 0), (2, 1)], strict=True):
        order = draws.stream("order", 7, epoch).permutation(100)
        assert here.seed == [7, epoch, step] and here.now == schedule.at(epoch - 1 + step / 2, args)
        assert np.array_equal(here.batch, order[40 * step:40 * step + 40])


def test_the_best_network_is_of_an_epoch_at_full_epsilon_and_a_checkpoint_remembers_its_error(
        few, tmp_path, interrupted_in_epoch_3):
    run = tmp_path / "run"
    interrupted_in_epoch_3([*SHORT, "--warmup", "1", "--ramp", "1", "--data-dir", few, "--run", str(run)])
    *_, rows, _, best = checkpoint.restore(run / "checkpoint.npz", np.zeros(1))
    at_0, at_full = (row["validation_verified_error"] for row in rows)
    assert at_0 < at_full == best and (run / "best.npz").read_bytes() == (run / "model.npz").read_bytes()


def test_a_network_is_verified_by_the_settings_of_its_run(monkeypatch):
    monkeypatch.setattr(train, "evaluate", lambda net, dataset, asked, quiet: asked)
    own = {"norm": "2", "no_clip": True, "seed": 3, "shard": 7, "threads": 1, "eta": 1.5, "p": 0.25, "q": 0.75,
           "projections": 5}
    asked = train.errors(None, None, train.Args(**own), 0.1, ("sparse",))
    assert {name: getattr(asked, name) for name in own} == own and asked.eps == 0.1 and asked.method == ("sparse",)


def test_only_its_folder_and_its_threads_are_free_in_a_run_that_goes_on():
    now = vars(train.Args(crop=1))
    there = json.loads(json.dumps(now))
    assert {name for name in now if not checkpoint.differences(there, {**now, name: "other"})} == {"run", "threads"}
