"""As the paper's Figure 1: the loss in training, its variation along the gradient, and the measures of its landscape.

Left, a panel for each method: the loss of a minibatch, and as a band the range of that minibatch's loss over a step of
0.5 to 5 times the learning rate (refbound/landscape.py); the other methods' losses in grey. Right: that range, and the
distances of successive gradients ∇L, ∇L′. Points are means over at most 40 bins of probes (selection.means).
"""

from . import style
from .selection import Missing, by_method, clock, label, means, measured, one_of, ramp_end, study, title

PAPER = ("ibp", "crown-ibp", "cap", "one-step")  # the methods of its Figure 1
COLUMNS = ("loss", "least_loss", "greatest_loss", "variation", "l2_distance", "cosine_distance")
MEASURES = {"variation": "loss variation\nmax L − min L", "l2_distance": "l2 distance\n‖∇L′ − ∇L‖",
            "cosine_distance": "cosine distance\n1 − cos(∇L′, ∇L)"}


def numbers(runs, args):
    """The curves of each method of the study, but for sparse, which has its own figure."""
    found = study(measured(runs), args, one_of(PAPER))
    chosen = by_method(found, but=("sparse",))
    if not chosen:
        raise Missing("no run with a landscape was given but by sparse")
    axis, unit = clock(chosen.values())
    curves = {method: {"run": run["name"], "label": label(run), "ramp_end": ramp_end(run) / unit(run),
                       **means(run, COLUMNS, unit(run))} for method, run in chosen.items()}
    return {"title": title(found), "axis": axis, "curves": curves}


def draw(plt, numbers):
    """The losses with their bands, small and side by side; the measures beside them, one above the other."""
    curves, rows = numbers["curves"], (len(numbers["curves"]) + 1) // 2
    figure = plt.figure(figsize=(style.WIDTH, max(5.2, 1.6 * rows + 0.9)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05))
    figure.suptitle(numbers["title"], fontsize=10)
    panels = left.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for method, axes in zip(curves, panels.flat):
        loss(axes, curves, method)
    if len(curves) % 2:
        panels[-1, 1].set_visible(False)
        panels[max(rows - 2, 0), 1].tick_params(labelbottom=True)
    style.logarithmic(panels[0, 0])
    left.supxlabel(numbers["axis"], fontsize=10)
    left.supylabel("loss L(s̄); band: its range along −∇L, τ from ½ to 5", fontsize=10)
    ends = {points["ramp_end"] for points in curves.values()}
    for axes in style.stack(right, curves, MEASURES, ends, "end of the ramp"):
        style.logarithmic(axes)
    right.supxlabel(numbers["axis"], fontsize=10)
    return figure


def loss(axes, curves, method):
    """One method's loss and band before the losses of the others."""
    for other, points in curves.items():
        if other != method:
            axes.plot(points["time"], style.curve(points["loss"]), color="#D4D4D4", linewidth=0.8)
    points, colour = curves[method], style.COLOURS[method]
    low, high = style.curve(points["least_loss"]), style.curve(points["greatest_loss"])
    axes.fill_between(points["time"], low, high, color=colour, alpha=0.45, linewidth=0, zorder=2)
    axes.plot(points["time"], style.curve(points["loss"]), color=colour, zorder=3)
    axes.set_title(style.name(points["label"]), loc="left", pad=3)
    style.mark_ramp(axes, [points["ramp_end"]])
