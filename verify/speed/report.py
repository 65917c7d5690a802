"""What was timed, for a person: tables as plain text that is also Markdown, and the sweep as a figure.

Points are medians, solid for refbound and dotted for the rendering; the dashed line is the counted GFLOP (cost.py) at
the rate of refbound's last point, so that where points follow it, time grows as counted.
"""

import itertools
import statistics

from trainers.files.words import markdown
from trainers.plots.colours import COLOURS

from .cases import SWEEPS

HEADINGS = {"mb": "MB", "launches": "launches"}


def report(rows, args, load):
    """Two tables of the rows, the times and what decides them, and what could not be timed."""
    of = [(row["model"] if row["of"] is None else "{} {}".format(*row["of"]), method_name(row)) for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row["ms"]))
    ours_and_fastest = ("mb", "launches") if args.device == "cuda" else ("mb",)
    times = [(*case, *(number(row["ms"].get(name)) for name in names), f"{row['ratio']:.2f}" if row["ratio"] else "–")
             for case, row in zip(of, rows)]
    work = [(*case, row["batch"], number(row["gflop"]), f"{100 * row['share']:.0f} %",
             *(" / ".join(number(row[what].get(name)) for name in ("refbound", row["fastest"]))
               for what in ours_and_fastest))
            for case, row in zip(of, rows)]
    measured = ["batch", "GFLOP", "of sgemm", *map(HEADINGS.get, ours_and_fastest)]
    where, more = ((f"{args.threads} threads", "MB: peak above the imports") if args.device == "cpu" else
                   ("a GPU", "MB: what the memory pool took; launches: kernels, copies and fills of a step"))
    rate = statistics.median(row["sgemm"] for row in rows)
    notes = (f"Median ms of a step in {args.repeats} turns on {where}; ratio: the fastest other's to "
             f"refbound's; sgemm: {rate:.0f} GFLOP/s (2048³, median of this run); {more}, "
             f"refbound's / the fastest other's. Load of the machine before the run: {load}.")
    failed = [f"not timed: {method_name(row)} on {row['model']}: {text}"
              for row in rows for text in row["failed"].values()]
    return "\n".join([markdown(["model", "method", *names, "ratio"], times, right=[*names, "ratio"]), "",
                      markdown(["model", "method", *measured], work, right=measured), "", notes, *failed])


def method_name(row):
    """The method of a row, with its projections; an objective by its name."""
    method = row["method"] if row["objective"] == "robust" else row["objective"]
    return method + (f", {row['projections']} projections" if row["projections"] else "")


def number(value):
    """Three digits that matter, or – for nothing."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def draw(rows, path):
    """Writes the figure, in the format of the path's ending."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(4 * len(SWEEPS), 3.6), layout="constrained")
    axes = figure.subplots(1, len(SWEEPS))
    names = dict.fromkeys(method_name(row) for row in rows)
    taken = {name: COLOURS[name.split(",")[0]] for name in names if name.split(",")[0] in COLOURS}
    free = itertools.cycle(colour for colour in COLOURS.values() if colour not in taken.values())  # for objectives
    colours = {name: taken.get(name) or next(free) for name in names}
    for axis, of in zip(axes, SWEEPS):
        for method in names:
            points = [row for row in rows if row["of"][0] == of and method_name(row) == method]
            x, colour = [row["of"][1] for row in points], colours[method]
            for name, line in (("refbound", "o-"), ("rendering", "s:")):
                if all(name in row["ms"] for row in points):
                    axis.plot(x, [row["ms"][name] for row in points], line, color=colour, label=f"{method}, {name}")
            pace = points[-1]["ms"]["refbound"] / points[-1]["gflop"]
            counted = [row["gflop"] * pace for row in points]
            axis.plot(x, counted, "--", color=colour, alpha=0.5, label=f"{method}, counted")
        axis.set(xscale="log", yscale="log", xlabel=of, ylabel="time of a step [ms]")
        axis.set_xticks(SWEEPS[of][0], map(str, SWEEPS[of][0]))
        axis.minorticks_off()
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=150)
