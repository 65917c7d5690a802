"""The sweep of `verify.peers speed --sweep` as a figure: a step's time against batch size, width, depth and classes.

Points are medians, solid for refbound and dotted for the rendering; the dashed line is the counted GFLOP (cost.py) at
the rate of refbound's last point, so that where points follow it, time grows as counted.
"""

from trainers.colours import COLOURS

from .cases import SWEEPS
from .table import method_name

LINES = {"refbound": "o-", "rendering": "s:"}


def draw(rows, path):
    """Writes the figure, in the format of the path's ending."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(4 * len(SWEEPS), 3.6), layout="constrained")
    for axis, of in zip(axes, SWEEPS):
        for method in dict.fromkeys(method_name(row) for row in rows):
            curve(axis, [row for row in rows if row["of"][0] == of and method_name(row) == method], method)
        axis.set(xscale="log", yscale="log", xlabel=of, ylabel="time of a step [ms]")
        axis.set_xticks(SWEEPS[of][0], map(str, SWEEPS[of][0]))
        axis.minorticks_off()
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def curve(axis, points, method):
    """One method in one panel."""
    x, colour = [row["of"][1] for row in points], COLOURS[points[0]["method"]]
    for name, line in LINES.items():
        if all(name in row["ms"] for row in points):
            axis.plot(x, [row["ms"][name] for row in points], line, color=colour, label=f"{method}, {name}")
    pace = points[-1]["ms"]["refbound"] / points[-1]["gflop"]
    axis.plot(x, [row["gflop"] * pace for row in points], "--", color=colour, alpha=0.5, label=f"{method}, counted")
