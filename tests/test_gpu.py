"""The command for a machine with a GPU, on the stand-in for CuPy, also in the processes that it starts."""

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import standin
from test_processes import runs

from verify import gpu
from verify.speed import benchmark, cases, worker

ROOT = Path(__file__).parents[1]
FEW = ("--model", "mlp", "--method", "ibp", "--epochs", "2", "--warmup", "0", "--ramp", "1", "--milestones",
       "--batch", "50", "--validation", "100", "--probe", "0")
SMALLER = {"tests": ("-k", "stays_in_float32"),
           "speed": ("--models", "mlp", "--methods", "ibp", "--repeats", "1", "--batch", "8"),
           "train": FEW, "epoch": (*FEW[:3], "one-step", *FEW[4:])}


def cupy_is(source, folder, monkeypatch):
    """Makes `import cupy` run this source in every process started."""
    (folder / "cupy.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parent)]))


def test_without_cupy_or_a_gpu_it_is_one_line(tmp_path, monkeypatch):
    for source, words in (("raise ImportError('libcublas.so.12: cannot open')",
                           "CuPy, which does not load (libcublas.so.12: cannot open)"),
                          ("import sys, standin\nsys.modules['cupy'] = standin.cupy\n"
                           "standin.cupy.cuda.runtime.getDeviceCount = lambda: 0", "a GPU, and CuPy finds none")):
        cupy_is(source, tmp_path, monkeypatch)
        done = subprocess.run([sys.executable, "-m", "verify.gpu", "--out", tmp_path / "out"],
                              cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "") and not (tmp_path / "out").exists()
        assert done.stderr == f"error: device: 'cuda' needs {words}\n"


def test_every_part_runs_on_the_stand_in(device, few, tmp_path, monkeypatch, capsys):
    cupy_is("import sys, standin\nsys.modules['cupy'] = standin.cupy", tmp_path, monkeypatch)
    data = {"train": ("--data-dir", few), "epoch": ("--data-dir", few)}
    for name, part in gpu.PARTS.items():
        monkeypatch.setitem(gpu.PARTS, name,
                            part._replace(command=(*part.command, *SMALLER[name], *data.get(name, ()))))
    assert gpu.main(["--out", str(tmp_path), "--seconds", "300", "0", "0", "0"]) == 0, (tmp_path / "gpu.md").read_text()
    result = json.loads((tmp_path / "gpu.json").read_text())
    parts = result["parts"]
    assert list(parts) == list(gpu.PARTS) and result["device"] == "the stand-in"
    assert "1 passed" in parts["tests"]["says"]
    (row,) = parts["speed"]["rows"]
    assert row["device"] == "cuda" and row["ms"]["refbound"] > 0 and row["mb"] == {"refbound": 1}
    assert (parts["train"]["versions"]["gpu"] == "the stand-in" and parts["train"]["arguments"]["device"] == "cuda"
            and 0 <= parts["train"]["verified_error"] <= 100)
    assert parts["epoch"]["epoch"] == 1 and parts["epoch"]["seconds"] > 0
    page = (tmp_path / "gpu.md").read_text()
    assert page in capsys.readouterr().out and "FAILED" not in page and "\n| mlp   | ibp    |     8 |" in page
    assert "launches" in page and gpu.in_words(parts["train"]) in page and gpu.in_words(result["cpu"]) in page


def test_a_part_that_fails_or_is_late_is_a_line_and_not_the_end(device, tmp_path, monkeypatch):
    for name, command in {"tests": ("trainers.train", "--eps", "-1"), "speed": ("this_module_is_nowhere",),
                          "train": ("json.tool",), "epoch": ("timeit", "-s", "import time; time.sleep(60)")}.items():
        monkeypatch.setitem(gpu.PARTS, name, gpu.PARTS[name]._replace(command=command))
    assert gpu.main(["--out", str(tmp_path), "--seconds", "8", "0", "0", "0"]) == 1
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts["tests"]["failed"] == "error: --eps: expected at least 0, got -1.0"
    assert "No module named this_module_is_nowhere" in parts["speed"]["failed"]
    assert all(part["failed"] for part in parts.values())
    page = (tmp_path / "gpu.md").read_text()
    assert page.count("FAILED") == 4 and len([line for line in page.splitlines() if line.startswith("|")]) == 6


STARTS = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import os, time; open('PIDS', 'a').write(str(os.getpid())); time.sleep(60)"])
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc tells whether a process runs")
def test_a_part_that_is_late_or_has_done_enough_is_stopped_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pids, log = tmp_path / "pids", tmp_path / "log.txt"
    (tmp_path / "starts.py").write_text(STARTS.replace("PIDS", str(pids)))
    assert gpu.run(["starts"], log, math.inf, pids) is None
    assert gpu.run(["starts"], log, time.monotonic(), None) == "not done in its time"
    for _ in range(100):
        if not runs(pids.read_text()):
            return
        time.sleep(0.05)
    raise AssertionError("what a part started still runs")


def test_the_errors_on_a_cpu_are_those_of_the_front_page_or_of_a_result(tmp_path):
    shown = [line for line in (ROOT / "README.md").read_text().splitlines() if " error " in line and "%" in line]
    assert [f"{value:.2f}" for value in gpu.on_cpu(None).values()] == [line.split()[2] for line in shown[:3]]
    errors = {"standard_error": 1.0, "pgd_error": 2.0, "verified_error": 3.0}
    (tmp_path / "result.json").write_text(json.dumps({**errors, "n": 4}))
    (tmp_path / "record.json").write_text(json.dumps({"name": "record", "result": errors}))
    assert gpu.on_cpu(tmp_path) == gpu.on_cpu(tmp_path / "record.json") == errors
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(ValueError, match="found no standard_error, pgd_error, verified_error"):
        gpu.on_cpu(tmp_path / "record.json")


def test_limits_are_one_for_each_part(device):
    with pytest.raises(ValueError, match="^--seconds: expected 4 numbers"):
        gpu.main(["--seconds", "10", "20"])


@pytest.mark.parametrize("load", [worker.refbound_step, worker.sgemm_step])
def test_a_step_of_ours_runs_on_the_device(device, load):
    case = cases.case_of(benchmark.Args(batch=2, threads=1, device="cuda"), "mlp", {}, "ibp")
    with load(case) as step, standin.count() as n:
        step()
    assert n.launches > 0 and n.by_name["matmul"] > 0


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_launches_are_what_the_profiler_records_on_the_gpu(monkeypatch):
    profiler = pytest.importorskip("torch.profiler", reason="torch is not installed (pip install 'refbound[peers]')")
    assert worker.launches(lambda: None) is None  # no GPU, nothing recorded
    kinds, steps = (SimpleNamespace(name="CPU"), SimpleNamespace(name="CUDA")), []
    seen = SimpleNamespace(events=lambda: [SimpleNamespace(device_type=kinds[i % 2]) for i in range(7)])
    monkeypatch.setattr(profiler, "profile", lambda activities: contextlib.nullcontext(seen))
    assert worker.launches(lambda: steps.append(1)) == 3 and steps == [1]
