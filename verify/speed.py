"""The time of one training step, refbound's and others', in one interleaved run.

    python -m verify.peers speed [--models mlp small dm_small wide] [--methods ibp ... cap cap-50] [--out FILE]
    python -m verify.peers speed --sweep [--figure FILE]

A step is clean logits, bound, loss and gradients in float32, without an optimiser; refbound's is the trainer's own.
Every implementation has a process of its own (worker.py) and waits there for its turn, A B C A B C, so that no two ever
run at once; among them a 2048³ sgemm by NumPy, the rate of the machine itself at that time. Anything else that runs on
the machine slows PyTorch most: run it alone. Printed: the median ms of each; the ratio of the fastest other's to
refbound's; the GFLOP that the step needs (cost.py) and the share of the sgemm rate at which refbound does them; and the
peak memory of a process above its own after the imports. `cap-K` is cap by K random projections. Exact cap takes as
many examples of the batch (a power of two, at least one for each thread) as stay below --limit GFLOP; in a sweep, all.
"""

import importlib.metadata
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import refbound as rb
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.loop import parallel

from .cost import gflop
from .published import PEERS
from .tables import table
from .worker import SGEMM, Case

PAUSE = 0.2  # seconds between turns, for threads that spin for a while after their work
SWEEPS = {  # what grows -> (its values, the widths of a dense network with such a value)
    "batch size": ((16, 32, 64, 128, 256, 512), lambda n: (784, 100, 100, 10)),
    "width": ((50, 100, 200, 400), lambda n: (784, n, n, 10)),
    "depth": ((1, 2, 4, 8), lambda n: (784, *(100,) * n, 10)),
    "classes": ((5, 10, 20, 40, 80), lambda n: (784, 100, 100, n)),
}


@dataclass
class Args:
    """Time a training step of refbound against the PyTorch rendering and the installed implementations."""

    models: tuple = argument(("mlp", "small", "dm_small", "wide"), "networks", choices=tuple(rb.models.MODELS))
    methods: tuple = argument(("ibp", "crown-ibp", "cap-ibp", "one-step", "cap", "cap-50"), "cap-K has K projections")
    against: tuple = argument(tuple(PEERS), "other implementations, of those that are installed", choices=tuple(PEERS), nargs="*")
    batch: int = argument(128, "examples in a step")
    eps: float = argument(0.1, "radius of the l∞ ball, clipped to [0, 1]")
    limit: float = argument(20.0, "GFLOP of a step of exact cap: it takes as many examples as stay below")
    memory: float = argument(12.0, "GB that a process may have (0: any); what needs more is not timed")
    repeats: int = argument(5, "turns of each implementation")
    threads: int = argument(0, "threads of each (0: one for each core)")
    seed: int = argument(0, "of parameters, images and labels")
    sweep: bool = argument(False, "the time against batch size, width, depth and number of classes instead")
    out: str = argument(None, "also save every time to this JSON file", type=arguments.file)
    figure: str = argument(None, "also draw the sweep to this file", type=arguments.picture)


class Worker:
    """A process that holds one implementation ready."""

    def __init__(self, case):
        self.name, self.errors = case.implementation, tempfile.TemporaryFile("w+")
        command = [sys.executable, "-W", "ignore", "-m", "verify.worker", json.dumps(case)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, cwd=Path(__file__).parent.parent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def hear(self):
        """Its next answer; ValueError with its last words if it has ended instead."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        words = re.findall(r"^[\w.]*(?:Error|Exception|error).*", self.errors.read(), re.MULTILINE)
        raise ValueError(f"{self.name}: {words[-1] if words else f'ended with status {code}'}")

    def ask(self, word):
        try:
            print(word, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # hear() says why
        return self.hear()


def speed(args):
    """Times every case, and prints the table; saves what it has after each."""
    if args.figure and not args.sweep:
        raise ValueError("--figure: draws the sweep; expected --sweep with it")
    arguments.at_least(args, batch=1, repeats=1, eps=0, limit=0, memory=0, threads=0, seed=0)
    args.threads = args.threads or parallel.available_cores()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    cases, rows, others = list(all_cases(args)), [], usable(args)
    with Worker(case_of(args, "mlp", {}, "ibp")._replace(implementation="sgemm", memory=0)) as sgemm:
        sgemm.hear()
        for case, of in tqdm(cases, "speed", disable=None, leave=False):
            rows.append(measure(case, args, others, sgemm) | {"of": of})
            if args.out:
                checkpoint.write_json(args.out, {"arguments": asdict(args), "versions": versions(others), "load": load,
                                                 "rows": rows})
    print(report(rows, args, load))
    if args.figure:
        from .speed_figure import draw
        draw(rows, args.figure)
    return 0


# ---- what is timed ----

def all_cases(args):
    """(Case, what is varied in a sweep and its value) of every row."""
    for text in args.methods:
        if not args.sweep:
            for model in args.models:
                yield within(args.limit, case_of(args, model, {}, text)), None
            continue
        for of, (values, widths) in SWEEPS.items():
            for n in values:
                case = case_of(args, "mlp", {"widths": widths(n)}, text)
                yield case._replace(batch=n) if of == "batch size" else case, (of, n)


def case_of(args, model, make, text):
    """The Case of refbound with a method by its name here: "cap-50" is cap with 50 projections."""
    name, _, number = text.rpartition("-")
    projections = int(number) if name == "cap" and number.isdigit() else None
    method = name if projections else text
    if method not in rb.METHODS or method == "alpha":
        raise ValueError(f"--methods: expected a method that trains, or cap-K for K projections, got {text!r}")
    return Case("refbound", model, make, method, projections, *(getattr(args, name) for name in Case._fields[5:]))


def work(case):
    """GFLOP of a step of a case."""
    return gflop(case.network(), case.method, case.batch, case.projections)


def within(limit, case):
    """The case with as many examples as stay below the limit, if it bounds layer by layer."""
    while case.method in ("cap", "crown") and not case.projections and case.batch > case.threads and work(case) > limit:
        case = case._replace(batch=max(case.threads, 2 ** int(np.log2(case.batch - 1))))
    return case


def usable(args):
    """The other implementations that load here; of an installed one that does not, a line says why."""
    names = []
    for name in args.against:
        peer = PEERS[name]
        if peer.installed():
            case = case_of(args, "mlp", {}, next(iter(peer.differs)))
            try:
                with Worker(case._replace(implementation=name, batch=2)) as probe:
                    probe.hear()
                names.append(name)
            except ValueError as error:
                print(f"not timed: {error}")
    return names


def versions(others):
    """Of what is timed, for the record."""
    packages = {PEERS[name].package for name in others}
    return checkpoint.versions() | {package: importlib.metadata.version(package) for package in packages}


# ---- timing ----

def measure(case, args, others, sgemm):
    """A row of the result: times and memory of every implementation that can take the case, in turn."""
    net, failed, running = case.network(), {}, [sgemm]
    names = ["refbound", *(name for name in others if PEERS[name].takes(net, case.method, case.projections))]
    times = {name: [] for name in (*names, "sgemm")}
    with ExitStack() as stack:
        for name in names:
            one = stack.enter_context(Worker(case._replace(implementation=name)))
            try:
                one.hear()
                running.append(one)
            except ValueError as error:
                if name == "refbound":
                    raise
                failed[name] = str(error)
        for _ in range(args.repeats):
            for one in running:
                time.sleep(PAUSE)
                times[one.name] += one.ask("run")["ms"]
        memory = {one.name: one.ask("memory")["mb"] for one in running if one is not sgemm}
    return summary(case, {name: ms for name, ms in times.items() if ms}, memory, failed)


def summary(case, times, memory, failed):
    """The row: medians, ratio, rates."""
    median = {name: statistics.median(ms) for name, ms in times.items()}
    rate = 2e-9 * SGEMM**3 / (median.pop("sgemm") / 1e3)  # GFLOP/s
    ours, fastest = median["refbound"], min((n for n in median if n != "refbound"), key=median.get, default=None)
    return {**case._asdict(), "ms": median, "fastest": fastest, "ratio": median[fastest] / ours if fastest else None,
            "gflop": work(case), "sgemm": rate, "share": work(case) / (ours / 1e3) / rate, "mb": memory,
            "failed": failed, "times": times}


# ---- for a person ----

def report(rows, args, load):
    """The rows as a table, and what could not be timed."""
    names = list(dict.fromkeys(name for row in rows for name in row["ms"]))
    header = ["model", "method", "batch", "GFLOP", *names, "ratio", "of sgemm", "MB", "fastest's MB"]
    body = [[row["model"] if row["of"] is None else "{} {}".format(*row["of"]), method_name(row), row["batch"],
             number(row["gflop"]), *(number(row["ms"].get(name)) for name in names),
             f"{row['ratio']:.2f}" if row["ratio"] else "–", f"{100 * row['share']:.0f} %",
             number(row["mb"]["refbound"]), number(row["mb"].get(row["fastest"]))] for row in rows]
    rate = statistics.median(row["sgemm"] for row in rows)
    notes = (f"Median ms of a step in {args.repeats} turns on {args.threads} threads; ratio: the fastest other's to "
             f"refbound's; sgemm: {rate:.0f} GFLOP/s (2048³, median of this run); MB: peak above the imports. "
             f"Load of the machine before the run: {load}.")
    failed = [f"not timed: {method_name(row)} on {row['model']}: {text}"
              for row in rows for text in row["failed"].values()]
    return "\n".join([table(header, body), "", notes, *failed])


def method_name(row):
    """The method of a row, with its projections."""
    return row["method"] + (f", {row['projections']} projections" if row["projections"] else "")


def number(value):
    """Three digits that matter, or – for nothing."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
