"""The sandwich: PGD ≤ s* ≤ triangle LP ≤ every method, on the first images of the test set.

    python -m verify.tightness MODEL --eps 0.1 --n 20 [--rows LP crown] [--exact] [--figure FILE] [--out FILE]

The measure is the paper's (Figure 3, right): Σ_m s̄_m(x), per image. "gap" is its distance to the sum of the least
bounds of the table, margin by margin: those of the exact optimum s* (--exact), or else of the triangle LP over the
tightest intermediate bounds. A bound below the attack, the LP or s* stops the command: it is a bug. verify/README.md
says what the rows are.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import refbound as rb
from refbound.rounding import rounding_allowance
from trainers.files import checkpoint
from trainers.files.words import progress
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.inputs.draws import stream
from trainers.plots.colours import COLOURS

from .formats.load import Given
from .programs.lp import triangle
from .programs.mixed_integer import exact_margins, scaled
from .programs.sparse import fold
from .verdicts.problem import problem, tightest

METHODS = {  # row -> (method, options)
    **{name: (name, {}) for name in ("ibp", "random", "cap-ibp", "crown-ibp", "one-step")},
    "alpha": ("alpha", {"steps": 40}), "alpha, each": ("alpha", {"steps": 40, "shared": False}),
    "cap": ("cap", {}), "crown": ("crown", {})}
BY_INTERVAL = ("random", "cap-ibp", "crown-ibp", "one-step", "alpha", "alpha, each")
ROWS = (*METHODS, "LP on interval", "LP")
CUT = {name: f"{row}, cut off" for name, row in (("exact", "MILP"), ("LP", "LP"), ("LP on interval", "LP on interval"))}
# the name of a row where an optimum was not found in time: bounds all the same, but not the least that the program has
TOLERANCE = 1e-6  # of the solver, where the largest margin of the image is 1


@dataclass
class Args(Given):
    """The sandwich PGD ≤ exact ≤ LP ≤ bounds, as a table and a figure."""

    n: int = argument(20, "test images, from the first")
    rows: tuple = argument(ROWS, "the bounds to compute, beside the attack", choices=ROWS)
    exact: bool = argument(False, "the exact optimum of every margin, by MILP")
    time_limit: float = argument(60.0, "seconds for the LP, and for the exact optimum, of a margin")
    pgd_steps: int = argument(100, "steps of the attack")
    figure: str = argument(None, "write the violin plot to this file", type=arguments.picture)
    out: str = argument(None, "write every value to this JSON file", type=arguments.results)


def main(argv=None):
    """Computes every bound, holds them against each other, prints the table; exit status 1 if images were left out."""
    args = arguments.parse(Args, "verify.tightness", argv)
    arguments.at_least(args, eps=0, n=1, time_limit=0.001, pgd_steps=0, seed=0)
    if args.figure and not set(args.rows) & set(METHODS) - {"ibp"}:
        raise ValueError(f"--figure: expected a method other than ibp among --rows, got {', '.join(args.rows)}")
    net, ball, y, _ = problem(args)
    values, seconds = bounds(net, ball, y, args)
    more, time_of, failed = optima(net, ball, y, args)
    if len(failed) == len(y):
        raise RuntimeError("HiGHS failed on every image")
    values, seconds = ({name: np.delete(s, failed, axis=0) for name, s in {**values, **more}.items()},
                       {**seconds, **time_of})
    z = net(ball.x)
    # the allowance is coarse: it is not to hide what is wrong by more than the tolerance, of the logits
    rounding = np.minimum(rounding_allowance(net, ball, y), TOLERANCE * np.abs(z).max(1, keepdims=True))
    y, predicted, numbers, rounding = (np.delete(v, failed, axis=0)
                                       for v in (y, z.argmax(1), np.arange(len(y)), rounding))
    check(values, numbers, rounding)
    rows = table(values, seconds, y)
    print(report(rows, unit(values), args, predicted, y))
    if args.out:
        checkpoint.write_json(args.out, {"arguments": vars(args), "versions": checkpoint.versions(), "table": rows,
                                         "margins": {name: v.tolist() for name, v in values.items()}})
    if args.figure:
        violins(values, args.figure)
    return int(bool(failed))


def bounds(net, ball, y, args):
    """({name: margins (N, c)}, {name: seconds}) of the attack and every method."""
    values, seconds, images = {}, {}, [ball[n:n + 1] for n in range(len(ball))]

    def timed(name, compute):
        started = time.monotonic()
        values[name] = np.array(compute())
        seconds[name] = time.monotonic() - started

    def attack():
        z = net(rb.pgd(scaled(net, ball.x), ball, y, args.pgd_steps, rng=stream("attack", args.seed)))
        return z - z[np.arange(len(y)), y][:, None]

    timed("PGD", attack)
    methods = {name: row for name, row in METHODS.items() if name in args.rows}
    for name, (method, options) in progress(methods.items(), "methods"):
        timed(name, lambda: [
            rb.margin_bounds(net, one, y[n:n + 1], method, rng=stream("bound", args.seed, n), **options)[0]
            for n, one in enumerate(images)])
    return values, seconds


def optima(net, ball, y, args):
    """The same of the LPs and the exact optimum, by HiGHS, and the images that it failed on: of no row, and said so."""
    values, seconds, failed = {}, {}, set()
    for name, methods, solve in (("LP on interval", ("ibp",), lp), ("LP", ("ibp", "cap", "crown"), lp),
                                 ("exact", ("ibp", "cap", "crown"), exact)):
        if name not in args.rows and not (name == "exact" and args.exact):
            continue
        started, found = time.monotonic(), []
        for n, label in enumerate(progress(y.tolist(), f"images, {name}")):
            one = ball[n:n + 1]
            try:
                found.append(solve(net, one, label, tightest(net, one, methods), args.time_limit))
            except RuntimeError as error:
                tqdm.write(f"image {n}: left out of every row: {error}")
                failed.add(n)
                found.append((np.full(net.classes, np.nan), True))
        name = name if all(whole for _, whole in found) else CUT[name]
        values[name], seconds[name] = np.array([s for s, _ in found]), time.monotonic() - started
    return values, seconds, sorted(failed)


def lp(net, ball, y, pre, time_limit):
    """The bounds (c,) of the triangle LP, and whether each is its optimum."""
    s, _, found = triangle(fold(net, ball, y, pre), y, seconds=time_limit)
    return s, found.all()


def exact(net, ball, y, pre, time_limit):
    """The same of the exact optimum."""
    found = exact_margins(net, ball, y, pre, time_limit)
    return [e.bound for e in found], all(e.status == "optimal" for e in found)


def check(values, numbers, rounding=0.0):
    """ValueError if the sandwich does not hold: a lower value above an upper one, by more than the solver's tolerance.

    numbers (N,): of the images; rounding (N, c): what the arithmetic of the bounds itself may be off by.
    """
    order = [("PGD", "exact"), *((low, high) for low in ("PGD", "exact") for high in ("LP", "LP on interval")),
             ("LP", "LP on interval"), *(("LP", name) for name in METHODS),
             *(("LP on interval", name) for name in ("ibp", *BY_INTERVAL)),
             *(("exact" if "exact" in values else "PGD", name) for name in METHODS)]
    for low, high in [*order, *((low, CUT[high]) for low, high in order if high in CUT)]:
        if low in values and high in values:
            excess = values[low] - values[high]
            room = TOLERANCE * np.abs([values[low], values[high]]).max((0, 2))[:, None] + rounding
            if not (excess <= room).all():
                n, m = np.unravel_index(np.nanargmax(excess - room), excess.shape)
                raise ValueError(f"image {numbers[n]}, class {m}: {low} {values[low][n, m]:.9g} is above {high} "
                                 f"{values[high][n, m]:.9g}: one of them is wrong")


def unit(values):
    """The unit that margins are printed in: the power of 1000 by which the attack's largest are between 0.2 and 200."""
    size = float(np.abs(values["PGD"]).max(1).mean())
    return 1000.0 ** math.floor(math.log10(size) / 3 + 0.25) if size else 1.0


def table(values, seconds, y):
    """A row a bound, from the lowest mean down: what `report` prints."""
    least, others = least_bounds(values).sum(1), np.arange(values["PGD"].shape[1]) != y[:, None]
    best = np.min([values[name] for name in METHODS if name in values] or [values["PGD"]], axis=0)
    best = best + 1e-9 * np.abs(best).max(1, keepdims=True)  # as good as the best, to this
    rows = []
    for name, s in sorted(values.items(), key=lambda item: item[1].sum(1).mean()):
        gap = s.sum(1) - least
        rows.append({"bound": name, "sum": s.sum(1).mean(), "mean_gap": gap.mean(), "worst_gap": gap.max(),
                     "tightest": 100 * (s <= best)[others].mean() if name in METHODS else None,
                     "error": 100 * ((s >= 0) & others).any(1).mean(), "seconds": seconds[name]})
    return rows


def least_bounds(values):
    """The least bound of the table for each margin, (N, c)."""
    return np.min([s for name, s in values.items() if name != "PGD"], axis=0)


def report(rows, unit, args, predicted, y):
    """The table as lines for a person, Σ s̄ and gaps in units of `unit`."""
    clip = "not clipped" if args.no_clip else "clipped to [0, 1]"
    width = max(15, *(len(r["bound"]) for r in rows))
    lines = [f"{args.model}: {len(y)} images, l∞, ε = {args.eps:g}, {clip}, {int((predicted != y).sum())} misclassified"
             + f"; s̄ in units of {unit:g}" * (unit != 1),
             f"{'bound':{width}s} {'mean Σ s̄':>10s} {'mean gap':>10s} {'worst gap':>10s} {'tightest':>9s} "
             f"{'error':>8s} {'seconds':>8s}"]
    for r in rows:
        tightest = "" if r["tightest"] is None else f"{r['tightest']:.1f} %"
        total, mean, worst = (r[key] / unit for key in ("sum", "mean_gap", "worst_gap"))
        lines.append(f"{r['bound']:{width}s} {total:10.3f} {mean:10.3f} {worst:10.3f} "
                     f"{tightest:>9s} {r['error']:6.1f} % {r['seconds']:8.1f}")
    return "\n".join(lines)


def violins(values, path):
    """Σ_m s̄_m per image, a violin for each method, and beside it how far each lies above the least bounds."""
    from matplotlib.figure import Figure
    names = sorted((name for name in METHODS if name in values and name != "ibp"),
                   key=lambda name: values[name].sum(1).mean())
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, base in zip(panels, (0, least_bounds(values).sum(1))):
        parts = axes.violinplot([values[name].sum(1) - base for name in names], showmeans=True, widths=0.8)
        for key in ("cmeans", "cmins", "cmaxes", "cbars"):
            parts[key].set(color="black", linewidth=0.8)
        for body, name in zip(parts["bodies"], names):
            body.set(facecolor=COLOURS[name.split(",")[0]], alpha=0.7)
        for name, style in (("LP on interval", ":"), ("LP", "--"), ("exact", "-"), ("PGD", "-.")):
            if name in values and not (axes is panels[1] and name == "PGD"):
                axes.axhline((values[name].sum(1) - base).mean(), linestyle=style, color="black", linewidth=1,
                             label=name)
        axes.set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right")
    panels[0].set_ylabel("Σ s̄, sum of the margin bounds of an image")
    panels[1].set_ylabel("Σ s̄ above the sum of the least bounds")
    panels[0].legend(fontsize=8, title="mean of", title_fontsize=8)
    if "ibp" in values:
        figure.suptitle(f"ibp is not shown: its mean is {values['ibp'].sum(1).mean():.3g}", fontsize=9)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    arguments.run(main)
