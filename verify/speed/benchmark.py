"""The time of one training step, refbound's and others', in one interleaved run.

A step is clean logits, bound, loss and gradients in float32, without an optimiser. Every implementation waits in a
process of its own (worker.py) for its turn, A B C A B C; among them a 2048³ sgemm by NumPy, the rate of the machine
itself at that time. Anything else that runs there slows PyTorch most: run it alone. On a GPU a step begins and ends
with the device idle. The GFLOP of a step are counted (cost.py). Exact cap takes as many examples (a power of two, at
least one for each thread) as stay below --limit GFLOP; in a sweep, all.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import refbound as rb
from refbound.arrays.device import device_module
from trainers.files import checkpoint
from trainers.files.words import progress
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.loop import parallel

from ..pytorch.published import PEERS
from .cases import all_cases, case_of
from .report import draw, report
from .worker import SGEMM

PAUSE = 0.2  # seconds between turns, for threads that spin for a while after their work


@dataclass
class Args:
    """Time a training step of refbound against the PyTorch rendering and the installed implementations."""

    models: tuple = argument(("mlp", "small", "dm_small", "wide"), "networks", choices=tuple(rb.models.MODELS))
    methods: tuple = argument(("ibp", "crown-ibp", "cap-ibp", "one-step", "cap", "cap-50"), "cap-K has K projections; "
                             "an objective is ibp's, with its attack")
    against: tuple = argument(
        tuple(PEERS), "other implementations, of those that are installed", choices=tuple(PEERS), nargs="*")
    batch: int = argument(128, "examples in a step")
    eps: float = argument(0.1, "radius of the l∞ ball, clipped to [0, 1]")
    limit: float = argument(20.0, "GFLOP of a step of exact cap: it takes as many examples as stay below")
    memory: float = argument(12.0, "GB that a process may have on the CPU (0: any); what needs more is not timed")
    repeats: int = argument(5, "turns of each implementation")
    threads: int = argument(0, "threads of each (0: one for each core)")
    seed: int = argument(0, "of parameters, images and labels")
    device: str = argument("cpu", "cpu or cuda", choices=("cpu", "cuda"))
    sweep: bool = argument(False, "the time against batch size, width, depth and number of classes instead")
    out: str = argument(None, "also save every time to this JSON file", type=arguments.results)
    figure: str = argument(None, "also draw the sweep to this file", type=arguments.picture)


class Worker(subprocess.Popen):
    """A process that holds one implementation ready."""

    def __init__(self, case):
        self.name, self.said = case.implementation, tempfile.TemporaryFile("w+")
        super().__init__([sys.executable, "-W", "ignore", "-m", "verify.speed.worker", json.dumps(case)], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, cwd=Path(__file__).parents[2])

    def __exit__(self, *_):
        self.kill()
        self.communicate()
        self.said.close()

    def hear(self):
        """Its next answer; ValueError with its last words if it has ended instead."""
        if line := self.stdout.readline():
            return json.loads(line)
        code = self.wait()
        self.said.seek(0)
        words = re.findall(r"^[\w.]*(?:Error|Exception|error).*", self.said.read(), re.MULTILINE)
        raise ValueError(f"{self.name}: {words[-1] if words else f'ended with status {code}'}")

    def ask(self, word):
        with suppress(BrokenPipeError):  # hear() says why
            print(word, file=self.stdin, flush=True)
        return self.hear()


def speed(args):
    """Times every case, and prints the table; saves what it has after each."""
    if args.figure and not args.sweep:
        raise ValueError("--figure: draws the sweep; expected --sweep with it")
    arguments.at_least(args, batch=1, repeats=1, eps=0, limit=0, memory=0, threads=0, seed=0)
    args.threads = parallel.threads(args)
    device_module(args.device)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    cases, rows, others = list(all_cases(args)), [], usable(args)
    versions = checkpoint.versions() | {PEERS[name].package: version(PEERS[name].package) for name in others}
    head = {"arguments": asdict(args), "versions": versions, "load": load}
    with Worker(case_of(args, "mlp", {}, "ibp")._replace(implementation="sgemm", memory=0)) as sgemm:
        sgemm.hear()
        for case, of in progress(cases, "cases timed"):
            rows.append(measure(case, args, others, sgemm) | {"of": of})
            if args.out:
                checkpoint.write_json(args.out, head | {"rows": rows})
    print(report(rows, args, load))
    if args.figure:
        draw(rows, args.figure)
    return 0


def usable(args):
    """The other implementations that load here; of an installed one that does not, a line says why."""
    names = []
    for name in (name for name in args.against if PEERS[name].installed()):
        case = case_of(args, "mlp", {}, next(iter(PEERS[name].differs)))
        try:
            with Worker(case._replace(implementation=name, batch=2)) as probe:
                probe.hear()
            names.append(name)
        except ValueError as error:
            print(f"not timed: {error}")
    return names


def measure(case, args, others, sgemm):
    """A row of the result: times and memory of every implementation that can take the case, in turn."""
    net, failed, running = case.network(), {}, []
    names = ["refbound", *(name for name in others if case.objective == "robust"
                           and PEERS[name].takes(net, case.method, case.projections))]
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
        times = {one.name: [] for one in (*running, sgemm)}
        for _ in range(args.repeats):
            for one in (sgemm, *running):
                time.sleep(PAUSE)
                times[one.name] += one.ask("run")["ms"]
        memory = {one.name: one.ask("memory")["mb"] for one in running}
        launches = {one.name: one.ask("launches")["launches"] for one in running} if case.device == "cuda" else {}
    return summary(case, times, memory, failed) | {"launches": launches}


def summary(case, times, memory, failed):
    """The row: medians, ratio, rates."""
    median = {name: statistics.median(ms) for name, ms in times.items()}
    rate = 2e-9 * SGEMM**3 / (median.pop("sgemm") / 1e3)  # GFLOP/s
    ours, fastest = median["refbound"], min((n for n in median if n != "refbound"), key=median.get, default=None)
    return {**case._asdict(), "ms": median, "fastest": fastest, "ratio": median[fastest] / ours if fastest else None,
            "gflop": case.gflop(), "sgemm": rate, "share": case.gflop() / (ours / 1e3) / rate, "mb": memory,
            "failed": failed, "times": times}
