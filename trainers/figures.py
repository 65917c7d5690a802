"""The paper's figures and tables, from the results of training.

    python -m trainers.figures                            all, from the results in trainers/results, into figures/
    python -m trainers.figures RUN... --only learning     from run folders

What a figure shows stands at the head of its module in plots/; `tables` are Tables 1 and 2 (trainers/table1.py) and the
means of the landscape (trainers/landscape.py), as tables.md.

A figure shows one study: the runs of one network and ε. By default that which has most of what the figure is about,
among equals that of the larger network and the least ε; --model and --eps choose another. Each is written as NAME.png,
and the numbers in it as NAME.json. What has inputs missing is left out, with a line that says what is missing.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import refbound as rb

from . import landscape, table1
from .files import checkpoint, record
from .inputs import arguments
from .inputs.arguments import argument
from .plots import gradients, jumps, learning, relaxations, sparsity, style, sweep, violins
from .plots.planes import PLANES
from .plots.selection import Missing

FIGURES = {"learning": learning, "sparsity": sparsity, "violins": violins, "relaxations": relaxations, "jumps": jumps,
           "gradients": gradients, "sweep": sweep, **PLANES}


@dataclass
class Args:
    """The paper's figures and tables, from the results of training."""

    runs: tuple = argument((), "run folders, results (NAME.json) or folders of them (default: trainers/results)",
                           positional=True, type=str)
    out: str = argument("figures", "folder of the figures")
    only: tuple = argument((), "these only, after the runs", choices=(*FIGURES, "tables"), type=str)
    model: str = argument(None, "the runs of this network only", choices=tuple(rb.models.MODELS), type=str)
    eps: float = argument(None, "the runs of this ε only", type=float)
    network: str = argument(None, "run whose network violins, gradients and sweep show (default: by study)", type=str)
    n: int = argument(100, "test images of violins and sweep, from the first")
    seed: int = argument(0, "of every draw")
    data_dir: str = argument(None, "folder of the data set (default: that of the run)", type=str)
    threads: int = argument(0, "cores, a process each where the system can fork (0: all)")


def main(argv=None):
    """Draws the figures and writes the tables; 1 if one that was asked for by name is left out."""
    args = arguments.parse(Args, "trainers.figures", argv)
    arguments.at_least(args, n=1, eps=0, seed=0, threads=0)
    runs = record.read(args.runs or [record.RESULTS] * record.RESULTS.is_dir())
    out, left = Path(args.out), 0
    out.mkdir(parents=True, exist_ok=True)
    for name in args.only or (*FIGURES, "tables"):
        try:
            path = tables(runs, out) if name == "tables" else figure(name, runs, args, out)
            print(f"{name}: {path}")
        except Missing as reason:
            print(f"{name}: left out: {reason}", file=sys.stderr if args.only else sys.stdout)
            left += 1
    return int(bool(args.only and left))


def figure(name, runs, args, out):
    """Draws one figure, its numbers beside it."""
    numbers = FIGURES[name].numbers(runs, args)
    checkpoint.write(out / f"{name}.json", json.dumps(numbers, ensure_ascii=False) + "\n")
    style.save(FIGURES[name].draw, numbers, out / f"{name}.png")
    return out / f"{name}.png"


def tables(runs, out):
    """Writes all tables, of the runs that are finished."""
    finished = [run for run in runs if run["result"]]
    if not finished:
        raise Missing("no finished run was given")
    try:
        text = [*table1.tables(finished)]
    except ValueError as error:  # runs that do not belong in one cell
        raise Missing(error) from None
    if means := [landscape.summary(run) for run in finished if run["landscape"]]:
        text += ["The loss landscape in the ramp, means over its probes, and over the seeds with their range; "
                 "errors in %:", landscape.by_seeds(means),
                 "The same of every run and phase:", f"```\n{landscape.table(means)}\n```"]
    checkpoint.write(out / "tables.md", "\n\n".join(text) + "\n")
    return out / "tables.md"


if __name__ == "__main__":
    arguments.run(main)
