"""As the paper's Figure 2: left the (p, q) variants of sparse (Section 5), right the lower slopes on unstable units.

Left: a minibatch's loss in training (the paper: measures of its smoothness, which our tables have). A slope is 1 with
probability p where −l > u, with q elsewhere, else 0: (0, 0) has all slopes 0, (0, 1) those of crown-ibp, (1, 1) all 1.
Right: the shares of the slopes that are 0, between, and 1; ibp has no lower slopes. Points are means as in learning.py.
"""

from . import style
from .selection import Missing, VARIANTS, by_method, clock, means, measured, plainest, ramp_end, rates, study, title

SHARES = {"zero_slopes": "share of\na̲ = 0", "fractional_slopes": "share of\n0 < a̲ < 1",
          "one_slopes": "share of\na̲ = 1"}
SHADES = {  # of sparse's colour
    (0, 0): "#3D3A00", (0, 0.5): "#6E6800", (0, 1): "#A39A00", (0.5, 1): "#CFC420", (1, 1): "#F0E442"}
DASHES = {(0, 0): (0, ()), (0, 0.5): (0, (5, 2)), (0, 1): (0, (6, 2, 1, 2)), (0.5, 1): (0, (2, 1.5)), (1, 1): (0, ())}
SIGNS = {(0, 0): "d", (0, 0.5): "o", (0, 1): style.MARKERS["crown-ibp"], (0.5, 1): "^", (1, 1): "X"}


def numbers(runs, args):
    """The loss of each variant of the study that there is, and the shares of each method."""
    found = study(measured(runs), args, rates)
    variants, methods = plainest(found, rates, VARIANTS), by_method(found, but=("ibp", "sparse"))
    shown = [*variants.values(), *methods.values()]
    if not shown:
        raise Missing("no run with a landscape was given but by ibp")
    axis, unit = clock(shown)
    return {"title": title(found), "axis": axis, "ramp_ends": sorted({ramp_end(run) / unit(run) for run in shown}),
            "variants": [{"p": p, "q": q, "run": run["name"], **means(run, ("loss",), unit(run))}
                         for (p, q), run in variants.items()],
            "shares": {method: {"run": run["name"], **means(run, SHARES, unit(run))}
                       for method, run in methods.items()}}


def draw(plt, numbers):
    """The variants' loss, large; the three shares beside it; one of them alone where there is nothing else."""
    figure = plt.figure(figsize=(style.WIDTH, 5.4), layout="constrained")
    halves = [half for half, there in ((losses, numbers["variants"]), (shares, numbers["shares"])) if there]
    for half, part in zip(halves, figure.subfigures(1, len(halves), squeeze=False)[0]):
        half(part, numbers)
    figure.suptitle(numbers["title"], fontsize=10)
    return figure


def losses(part, numbers):
    """The left half."""
    axes = part.subplots()
    for k, variant in enumerate(numbers["variants"]):
        pair = variant["p"], variant["q"]
        axes.plot(variant["time"], style.curve(variant["loss"]), color=SHADES[pair], linestyle=DASHES[pair],
                  linewidth=1.8, marker=SIGNS[pair], markevery=style.spaced(k, len(variant["time"])),
                  markeredgecolor="black", markeredgewidth=0.4, label=f"({pair[0]:g}, {pair[1]:g})")
    style.mark_ramp(axes, numbers["ramp_ends"], "end of the ramp")
    axes.set(xlabel=numbers["axis"], ylabel="loss L(s̄) of sparse")
    style.logarithmic(axes)
    style.legend(part, axes, title="sparse, (p, q)", ncols=3)


def shares(part, numbers):
    """The right half."""
    title = "lower slopes on unstable units"
    panels = style.stack(part, numbers["shares"], SHARES, numbers["ramp_ends"], title=title, clip_on=False)
    for axes in panels:
        axes.set(ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
    panels[2].set_xlabel(numbers["axis"])
