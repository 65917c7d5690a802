"""How smooth the loss is where training passes, and how sparse the lower slopes are: the paper's Figures 1 and 2.

    python -m trainers.landscape        the means over warm-up, ramp and the time after it, of each of trainers/results
    python -m trainers.landscape RUN... RESULT.json... FOLDER...

The measures are taken in training, every --probe steps (loop/probe.py), and stand in landscape.csv of the run folder.
"""

import math
import sys
from dataclasses import asdict, dataclass

import numpy as np

from .files import checkpoint, record, words
from .inputs import arguments
from .inputs.arguments import argument

MEASURES = {  # column -> heading
    "variation": "variation", "l2_distance": "l2", "cosine_distance": "cosine", "zero_slopes": "a̲ = 0",
    "fractional_slopes": "between", "one_slopes": "a̲ = 1", "released_variation": "rel. var.",
    "released_rms": "rel. RMS", "released_similarity": "rel. cos", "tightness": "tightness", "jump": "jump"}
PHASES = ("warm-up", "ramp", "after")


@dataclass
class Args:
    """Mean measures of the loss landscape over warm-up, ramp and the time after; those of the ramp over the seeds."""

    runs: tuple = argument((), "run folders, results (NAME.json) or folders of them (default: trainers/results)",
                           positional=True, type=str)
    out: str = argument(None, "also write the means to this JSON file", type=arguments.results)


def main(argv=None):
    """Prints the means of each run."""
    args = arguments.parse(Args, "trainers.landscape", argv)
    found = record.read(args.runs or (record.RESULTS,))
    measured = [run for run in found if run["landscape"]] or found
    if len(measured) < len(found):
        print("left out, for want of probes:", ", ".join(run["name"] for run in found if not run["landscape"]),
              file=sys.stderr)
    runs = [summary(run) for run in measured]
    print(table(runs), by_seeds(runs), sep="\n\n")
    if args.out:
        checkpoint.write_json(args.out, {"arguments": asdict(args), "versions": checkpoint.versions(), "runs": runs})


def summary(run):
    """The means of a run's measures in each phase, and the share of its time that its probes took."""
    given, measured, log = run["arguments"], run["landscape"], run["log"]
    if not measured:
        raise ValueError(f"{run['name']}: expected a landscape.csv or its record, found none; "
                         "a run writes it with --probe above 0")
    names = [name for name in MEASURES if name in measured]
    place = np.digitize(measured["time"], [given["warmup"], given["warmup"] + given["ramp"]])  # in PHASES
    inside = {phase: np.flatnonzero(place == k) for k, phase in enumerate(PHASES)}
    phases = {phase: {"probes": len(probes), **{name: mean(measured[name][i] for i in probes) for name in names}}
              for phase, probes in inside.items() if len(probes)}
    verified = (run["exact"] or run["result"]).get("verified_error")
    return {"run": run["name"], "method": given["method"], "heading": words.heading(given), "verified_error": verified,
            "model": given["model"], "eps": given["eps"], "probe": given["probe"], "phases": phases,
            "alike": record.alike(run), "seed": given["seed"],
            "probe_seconds": sum(log["probe_seconds"]), "seconds": sum(log["seconds"])}


def by_seeds(runs):
    """Of the ramp, for each network, ε and method: mean and range over the seeds, in order of the verified error, in %.

    Runs that differ in more than their seeds, as in the data set or the epochs, have rows of their own.
    """
    groups = {}
    for run in runs:
        if "ramp" in run["phases"]:
            groups.setdefault((run["model"], run["eps"], run["heading"], str(run["alike"])), []).append(run)
    rows = []
    for (model, eps, name, _), of in groups.items():
        if len({run["seed"] for run in of}) < len(of):
            raise ValueError(f"{', '.join(run['run'] for run in of)}: expected runs of different seeds")
        measured = [ranged([run["phases"]["ramp"].get(measure) for run in of]) for measure in tuple(MEASURES)[:3]]
        error = mean(run["verified_error"] for run in of)
        rows.append(((model, eps, math.inf if error is None else error),
                     [model, f"{eps:g}", name, len(of), *measured,
                      ranged([run["verified_error"] for run in of], ".2f")]))
    header = ("network", "ε", "method", "seeds", "variation", "l2 distance", "cosine distance", "verified error")
    return words.markdown(header, [row for _, row in sorted(rows, key=lambda row: row[0])])


def ranged(values, form=".3g"):
    """The mean of some values, with their range if they differ; – for none."""
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    middle, least, most = (f"{value:{form}}" for value in (mean(found), min(found), max(found)))
    return middle if least == most else f"{middle} ({least} to {most})"


def mean(values):
    """The mean of those that are not None; None of none."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def table(runs):
    """The means for a person."""
    names = [name for name in MEASURES if any(name in means for run in runs for means in run["phases"].values())]
    width = max(len("run"), *(len(run["run"]) for run in runs))
    lines = [f"{'run':{width}}  {'phase':8}{'probes':>7}" + "".join(f"{MEASURES[name]:>11}" for name in names)]
    for run in runs:
        for phase, means in run["phases"].items():
            cells = ("–" if means.get(name) is None else f"{means[name]:.4g}" for name in names)
            lines.append(f"{run['run']:{width}}  {phase:8}{means['probes']:7}"
                         + "".join(f"{cell:>11}" for cell in cells))
    lines += [f"{run['run']}: the probes, every {run['probe']} steps, took {run['probe_seconds']:.1f} s of "
              f"{run['seconds']:.1f} s, {100 * run['probe_seconds'] / max(run['seconds'], 1e-9):.1f} %" for run in runs]
    return "\n".join(lines)


if __name__ == "__main__":
    arguments.run(main)
