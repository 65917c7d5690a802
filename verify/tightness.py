"""The sandwich: PGD ≤ s* ≤ triangle LP ≤ every method, on the first images of the test set.

    python -m verify.tightness MODEL --eps 0.1 --n 20 [--exact] [--figure FILE] [--out FILE]

The measure is the paper's (Figure 3, right): Σ_m s̄_m(x), per image. "gap" is its distance to the least proven value: the
exact optimum s* (--exact, if every one was found in time) or the triangle LP over the tightest intermediate bounds. A bound
below the attack, the LP or s* stops the command: it is a bug. verify/README.md says what the rows are.
"""

import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import refbound as rb
from trainers import data
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.inputs.draws import stream
from trainers.plots.colours import COLOURS

from .formats.load import Given, as_the_run, load_any
from .programs.lp import triangle_lp
from .programs.mixed_integer import double, exact_margins

METHODS = {  # row -> (method, options)
    **{name: (name, {}) for name in ("ibp", "random", "cap-ibp", "crown-ibp", "one-step")},
    "alpha": ("alpha", {"steps": 40}), "alpha, each": ("alpha", {"steps": 40, "shared": False}),
    "cap": ("cap", {}), "crown": ("crown", {})}
BY_INTERVAL = ("random", "cap-ibp", "crown-ibp", "one-step", "alpha", "alpha, each")
TOLERANCE = 1e-6  # of the solver
CUT = "MILP, cut off"  # the row of `exact` where an optimum was not found in time: the solver's bounds


@dataclass
class Args(Given):
    """The sandwich PGD ≤ exact ≤ LP ≤ bounds, as a table and a figure."""

    n: int = argument(20, "test images, from the first")
    exact: bool = argument(False, "the exact optimum of every margin, by MILP")
    time_limit: float = argument(60.0, "seconds for the exact optimum of a margin")
    pgd_steps: int = argument(100, "steps of the attack")
    figure: str = argument(None, "write the violin plot to this file", type=arguments.picture)
    out: str = argument(None, "write every value to this JSON file", type=arguments.file)


def main(argv=None):
    """Computes every bound, holds them against each other, and prints the table."""
    args = arguments.parse(Args, "verify.tightness", argv)
    arguments.at_least(args, eps=0, n=1, time_limit=0.001, pgd_steps=0, seed=0)
    net = double(load_any(args.model))
    as_the_run(args)
    images, y = data.first(data.load("mnist", "test", args.data_dir), args.n, net)
    ball = rb.Ball(data.to_float(images, np.float64), args.eps, domain=None if args.no_clip else (0.0, 1.0))
    data.suspect(args.model, 100 * np.mean(net(ball.x).argmax(1) != y))
    values, seconds = bounds(net, ball, y, args)
    check(values)
    rows = table(values, seconds, y)
    print(report(rows, args, net(ball.x).argmax(1), y))
    if args.out:
        checkpoint.write_json(args.out, {"arguments": vars(args), "versions": checkpoint.versions(), "table": rows,
                                         "margins": {name: v.tolist() for name, v in values.items()}})
    if args.figure:
        violins(values, args.figure)


def bounds(net, ball, y, args):
    """({name: margins (N, c)}, {name: seconds}) of the attack, the exact optimum, the LPs and every method."""
    values, seconds, images = {}, {}, [ball[n:n + 1] for n in range(len(ball))]

    def timed(name, compute):
        started = time.time()
        values[name] = np.array(compute())
        seconds[name] = time.time() - started

    def attack():
        z = net(rb.pgd(net, ball, y, args.pgd_steps, rng=stream("attack", args.seed)))
        return z - z[np.arange(len(y)), y][:, None]

    timed("PGD", attack)
    for name, (method, options) in tqdm(METHODS.items(), "methods", leave=False, disable=None):
        timed(name, lambda: [
            rb.margin_bounds(net, one, y[n:n + 1], method, rng=stream("bound", args.seed, n), **options)[0]
            for n, one in enumerate(images)])
    interval, cap, crown = ([[(l[0], u[0]) for l, u in rb.preactivation_bounds(net, one, method)] for one in images]
                            for method in ("ibp", "cap", "crown"))
    tight = [[(np.max([l for l, _ in three], 0), np.min([u for _, u in three], 0)) for three in zip(*image)]
             for image in zip(interval, cap, crown)]  # none of the methods' is always within another's
    for name, pre in (("LP on interval", interval), ("LP", tight)):
        bar = tqdm(images, name, leave=False, disable=None)
        timed(name, lambda: [triangle_lp(net, one, int(y[n]), pre[n]) for n, one in enumerate(bar)])
    if args.exact:
        started, bar = time.time(), tqdm(images, "exact", leave=False, disable=None)
        found = [exact_margins(net, one, int(y[n]), tight[n], args.time_limit) for n, one in enumerate(bar)]
        name = "exact" if all(e.status == "optimal" for image in found for e in image) else CUT
        values[name], seconds[name] = np.array([[e.bound for e in image] for image in found]), time.time() - started
    return values, seconds


def check(values):
    """ValueError where the sandwich does not hold: a lower value above an upper one, by more than the solver's tolerance."""
    order = [("PGD", "exact"), ("PGD", CUT), ("PGD", "LP"), ("exact", "LP"), ("LP", "LP on interval"), ("LP", "cap"),
             ("LP", "crown"), *(("LP on interval", name) for name in ("ibp", *BY_INTERVAL)),
             *(("exact" if "exact" in values else "PGD", name) for name in METHODS)]
    for low, high in order:
        if low in values and high in values:
            excess = values[low] - values[high]
            if not (excess <= TOLERANCE).all():
                n, m = np.unravel_index(np.nanargmax(excess), excess.shape)
                raise ValueError(f"image {n}, class {m}: {low} {values[low][n, m]:.9g} is above {high} "
                                 f"{values[high][n, m]:.9g}: one of them is wrong")


def table(values, seconds, y):
    """A row a bound, from the lowest mean down: what `report` prints."""
    least = values.get("exact", values["LP"]).sum(1)
    others = np.arange(values["LP"].shape[1]) != y[:, None]
    best = np.min([values[name] for name in METHODS], axis=0)
    rows = []
    for name, s in sorted(values.items(), key=lambda item: item[1].sum(1).mean()):
        gap = s.sum(1) - least
        rows.append({"bound": name, "sum": s.sum(1).mean(), "mean_gap": gap.mean(), "worst_gap": gap.max(),
                     "tightest": 100 * (s <= best + 1e-9)[others].mean() if name in METHODS else None,
                     "error": 100 * ((s >= 0) & others).any(1).mean(), "seconds": seconds[name]})
    return rows


def report(rows, args, predicted, y):
    """The table as lines for a person."""
    clip = "not clipped" if args.no_clip else "clipped to [0, 1]"
    lines = [f"{args.model}: {len(y)} images, l∞, ε = {args.eps:g}, {clip}, {int((predicted != y).sum())} misclassified",
             f"{'bound':15s} {'mean Σ s̄':>10s} {'mean gap':>10s} {'worst gap':>10s} {'tightest':>9s} {'error':>8s} {'seconds':>8s}"]
    for r in rows:
        tightest = "" if r["tightest"] is None else f"{r['tightest']:.1f} %"
        lines.append(f"{r['bound']:15s} {r['sum']:10.3f} {r['mean_gap']:10.3f} {r['worst_gap']:10.3f} "
                     f"{tightest:>9s} {r['error']:6.1f} % {r['seconds']:8.1f}")
    return "\n".join(lines)


def violins(values, path):
    """Σ_m s̄_m per image, a violin for each method, and beside it how far each lies above the least proven value."""
    from matplotlib.figure import Figure
    names = sorted((name for name in METHODS if name != "ibp"), key=lambda name: values[name].sum(1).mean())
    least = "exact" if "exact" in values else "LP"
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, base in zip(panels, (0, values[least].sum(1))):
        parts = axes.violinplot([values[name].sum(1) - base for name in names], showmeans=True, widths=0.8)
        for key in ("cmeans", "cmins", "cmaxes", "cbars"):
            parts[key].set(color="black", linewidth=0.8)
        for body, name in zip(parts["bodies"], names):
            body.set(facecolor=COLOURS[name.split(",")[0]], alpha=0.7)
        for name, style in (("LP on interval", ":"), ("LP", "--"), ("exact", "-"), ("PGD", "-.")):
            if name in values and not (axes is panels[1] and name == "PGD"):
                axes.axhline((values[name].sum(1) - base).mean(), linestyle=style, color="black", linewidth=1, label=name)
        axes.set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right")
    panels[0].set_ylabel("Σ s̄, sum of the margin bounds of an image")
    panels[1].set_ylabel(f"Σ s̄ above its {'exact value' if least == 'exact' else 'LP'}")
    panels[0].legend(fontsize=8, title="mean of", title_fontsize=8)
    figure.suptitle(f"ibp is not shown: its mean is {values['ibp'].sum(1).mean():.3g}", fontsize=9)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    arguments.run(main)
