"""All that is asked of a machine with a GPU, in one command of at most eight minutes.

    python -m verify.gpu [--out FOLDER] [--cpu RUN_OR_RESULT]

Four parts, each a command in a process of its own (PARTS):

    tests   the tests marked gpu: each method gives there what it gives on the CPU
    speed   a step of every method that trains, and of the PyTorch rendering, in turn: times, memory, launches
    train   the main job: its errors beside those of a CPU
    epoch   the first epoch of the paper's network on MNIST

A part has a time limit. One that fails, or is late, is a line of the table, with what it found until then, and the next
begins; the exit status is 1 then. After each, gpu.json and gpu.md are written; what the commands print is beside them.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import refbound as rb
from trainers.files import checkpoint
from trainers.files.words import markdown
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .speed import benchmark
from .speed.report import report

ROOT = Path(__file__).parents[1]
ERRORS = {"standard_error": "standard", "pgd_error": "PGD", "verified_error": "verified"}  # as the main job prints them
TRAINING = [name for name, method in rb.METHODS.items() if method.trains]


@dataclass
class Args:
    """Test, time and train on a GPU; writes gpu.json and gpu.md."""

    out: str = argument("runs/gpu", "folder of what is written")
    cpu: str = argument(
        None, "the main job on a CPU, a run folder or its result.json (default: as README.md shows it)", type=str)
    seconds: tuple = argument((90, 150, 110, 120), "limits of the parts; one may also take what those before it left")


class Part(NamedTuple):
    """One command: FOLDER in it stands for a temporary folder."""

    command: tuple      # what follows `python -m`
    found: object       # (the folder, the lines that it printed) -> what it found, with a line that "says" it
    enough: str = ""    # a file of the folder with which it has done enough


def tests(folder, lines):
    """The last line of pytest."""
    if not re.search(r"\d passed", lines[-1]):
        raise ValueError(f"expected tests that pass, got {lines[-1]}")
    return {"says": lines[-1]}


def speed(folder, lines):
    """The rows timed, and how many times as long PyTorch takes, or why it was not timed."""
    timed = checkpoint.read_json(folder / "speed.json")
    ratios = [row["ratio"] for row in timed["rows"] if row["ratio"]]
    beside = (f"PyTorch's time {min(ratios):.2f} to {max(ratios):.2f} times refbound's" if ratios else
              "PyTorch not timed")
    says = f"{len(timed['rows'])} steps, {beside}"
    return {"says": "; ".join([says, *(line for line in lines if line.startswith("not timed: rendering"))]), **timed}


def train(folder, lines):
    """The errors on the test set."""
    result = checkpoint.read_json(folder / "run" / "result.json")
    return {"says": f"{in_words(result)}, trained in {result['training_seconds']:.0f} s", **result}


def epoch(folder, lines):
    """The first row of the run's log."""
    row, *_ = checkpoint.read_log(folder / "run" / "log.csv")
    epochs = checkpoint.read_config(folder / "run")["arguments"]["epochs"]
    return {"says": f"{row['seconds']:.0f} s, so {epochs} epochs would take {epochs * row['seconds'] / 3600:.1f} h",
            **row}


PARTS = {
    "tests": Part(("pytest", "-q", "-m", "gpu", "tests/test_device.py"), tests),
    "speed": Part(("verify.peers", "speed", "--device", "cuda", "--models", "small", "--against", "rendering",
                   "--methods", *TRAINING, "cap-50", "--repeats", "3", "--out", "FOLDER/speed.json"), speed),
    "train": Part(("trainers.train", "--device", "cuda", "--run", "FOLDER/run"), train),
    "epoch": Part(("trainers.train", "--preset", "paper-mnist", "--device", "cuda", "--run", "FOLDER/run"), epoch,
                  "run/log.csv"),
}


def main(argv=None):
    """All parts; the exit status, 1 if one failed."""
    args = arguments.parse(Args, "verify.gpu", argv)
    if len(args.seconds) != len(PARTS) or min(args.seconds) < 0:
        raise ValueError(f"--seconds: expected {len(PARTS)} numbers that are at least 0, got {args.seconds}")
    versions, out = {**checkpoint.versions("cuda"), "torch": torch_version()}, Path(args.out)
    result = {"device": versions.pop("gpu"), "cpu": on_cpu(args.cpu), "versions": versions, "parts": {}}
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic()
    for (name, part), seconds in zip(PARTS.items(), args.seconds):
        deadline += seconds
        print(f"{name}, at most {deadline - time.monotonic():.0f} s: python -m {' '.join(part.command)}")
        result["parts"][name] = measure(part, out / f"{name}.txt", deadline)
        checkpoint.write_json(out / "gpu.json", result)
        checkpoint.write(out / "gpu.md", page(result))
    print(f"\n{page(result)}\nsaved in {out}")
    return int(any(row["failed"] for row in result["parts"].values()))


def measure(part, log, deadline):
    """What a part found, why it "failed" or None, and its seconds."""
    started, found, failed = time.monotonic(), {"says": ""}, None
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        command = [text.replace("FOLDER", str(folder)) for text in part.command]
        try:
            failed = run(command, log, deadline, folder / part.enough if part.enough else None)
            found = part.found(folder, log.read_text(encoding="utf-8").splitlines() or [""])
        except Exception as error:  # whatever it is, it is this part's, and the next one has its turn
            failed = failed or f"{type(error).__name__}: {' '.join(str(error).split())}"
    return {**found, "failed": failed, "seconds": round(time.monotonic() - started, 1)}


def run(command, log, deadline, enough):
    """Runs a command, output to the file `log`, until it ends or the file `enough` is there; why it failed, or None."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with open(log, "w", encoding="utf-8") as file, subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            while process.poll() is None and not (enough and enough.exists()):
                if time.monotonic() > deadline:
                    return "not done in its time"
                time.sleep(0.1)
            status = process.poll()
        finally:
            stop(process)
    if not status:
        return None
    lines = log.read_text(encoding="utf-8").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"ended with status {status}")


def stop(process):
    """Ends a process and those that it has started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def on_cpu(path):
    """The main job's errors on a CPU, from its result; without one, from the lines that README.md shows."""
    if path is None:
        shown = (ROOT / "README.md").read_text(encoding="utf-8")
        return {name: float(re.search(rf"^{word} error +([\d.]+) %", shown, re.MULTILINE)[1])
                for name, word in ERRORS.items()}
    path = Path(path)
    found = checkpoint.read_json(path / "result.json" if path.is_dir() else path)
    found = found.get("result", found)  # a record, as trainers.study keeps it, holds the result of its run
    if missing := [name for name in ERRORS if not isinstance(found.get(name), (int, float))]:
        raise ValueError(f"--cpu {path}: expected the result of a run, found no {', '.join(missing)}")
    return {name: found[name] for name in ERRORS}


def torch_version():
    """Of the PyTorch that is installed, or None."""
    with contextlib.suppress(PackageNotFoundError):
        return version("torch")


def in_words(errors):
    """The three errors in one line."""
    return ", ".join(f"{word} {errors[name]:.2f} %" for name, word in ERRORS.items())


def page(result):
    """The result for a person, in Markdown."""
    rows = [(name, f"{row['seconds']:.0f}",
             "; ".join(filter(None, (row["failed"] and f"FAILED: {row['failed']}",
                                     row["says"] != row["failed"] and row["says"]))))
            for name, row in result["parts"].items()]
    versions = ", ".join(f"{name} {text}" for name, text in result["versions"].items() if text)
    text = f"# refbound on {result['device']}\n\n{markdown(('part', 's', 'result'), rows, right=['s'])}\n\n"
    text += f"The main job on a CPU: {in_words(result['cpu'])}. Versions: {versions}.\n"
    if timed := result["parts"].get("speed", {}).get("rows"):
        text += "\n" + report(timed, benchmark.Args(**result["parts"]["speed"]["arguments"]),
                              result["parts"]["speed"]["load"]) + "\n"
    return text


if __name__ == "__main__":
    arguments.run(main)
