"""As the paper's Figure 3: the loss and the tightness of four methods on one fixed network.

For the first n test images, each method's margin bounds s̄, by five draws where it draws (random, one-step).

    loss  L(s̄) = log Σ_m exp s̄_m                                                               (1), s̄_y = 0
    gap   mean over m ≠ y of s̄_m − least_m,  never negative

where least_m is the least bound of that image's margin by any of the methods and draws, or by `alpha` with its own
slopes for each margin: the tightest known from the same interval bounds. (The paper measures Σ_m s̄_m.) A violin is
over images and draws.
"""

from functools import partial

import numpy as np

import refbound as rb

from ..inputs.draws import stream
from ..loop import parallel
from . import selection, style, subject

METHODS = ("one-step", "crown-ibp", "cap-ibp", "random")
DRAWS = {"one-step": 5, "random": 5}  # 1 for the others


def numbers(runs, args):
    """{method: {"loss": (draws × n,), "gap": (draws × n,)}}, by draws, then images."""
    of = subject.load(subject.fixed(runs, args), args)
    parts = parallel.shards(len(of.test.labels), parallel.shard_size(of.net))
    with parallel.workers(args.threads or parallel.available_cores()) as pmap:
        shards, best = zip(*pmap(partial(shard, of, parts, args.seed), range(len(parts))))
    bounds = {method: np.concatenate([s[method] for s in shards], 1) for method in METHODS}
    return {"run": of.run["name"], "trained_by": selection.label(of.run), "eps": of.run["arguments"]["eps"],
            "images": len(of.test.labels), "seed": args.seed, "methods": measures(bounds, np.concatenate(best))}


def shard(of, parts, seed, index):
    """({method: s̄ (draws, N, c)}, s̄ by `alpha` (N, c)) of some images."""
    ball, y = of.ball(parts[index]), of.test.labels[parts[index]]

    def s(method, draw=0, **options):
        return rb.margin_bounds(of.net, ball, y, method, rng=stream("bound", seed, index, draw),
                                **options).astype(float)

    bounds = {method: np.array([s(method, draw) for draw in range(DRAWS.get(method, 1))]) for method in METHODS}
    return bounds, s("alpha", shared=False)


def measures(bounds, best):
    """Loss and gap from the bounds, {method: (draws, N, c)}, and those of `alpha`, (N, c); both 0 in column y."""
    least = np.minimum(best, np.min([s.min(0) for s in bounds.values()], 0))  # (N, c)
    return {method: {"loss": np.logaddexp.reduce(s, 2).ravel().tolist(),  # (1)
                     "gap": ((s - least).sum(2) / (s.shape[2] - 1)).ravel().tolist()} for method, s in bounds.items()}


def draw(plt, numbers):
    """The loss on a logarithmic axis, and the gap."""
    figure, panels = plt.subplots(1, 2, figsize=(style.WIDTH, 4), layout="constrained")
    figure.suptitle(f"{numbers['run']}, trained by {style.name(numbers['trained_by'])}: first {numbers['images']} "
                    f"test images, ε = {numbers['eps']:g}", fontsize=10)
    violins(panels[0], numbers["methods"], "loss", np.log10)
    violins(panels[1], numbers["methods"], "gap", np.asarray)
    panels[0].yaxis.set_major_locator(plt.MultipleLocator(1))
    panels[0].yaxis.set_major_formatter("$10^{{{x:.0f}}}$")
    panels[0].set_ylabel("loss L(s̄)")
    panels[1].set(ylabel="tightness, mean over m of s̄ₘ − leastₘ", ylim=(0, None))
    return figure


def violins(axes, methods, measure, shown):
    """A violin for each method, its quartiles as a bar and its median as a dot; the mean beneath its name."""
    places, values = range(1, len(methods) + 1), [shown(of[measure]) for of in methods.values()]
    parts = axes.violinplot(values, places, widths=0.85, showextrema=False, points=200)
    for body, method, v, x in zip(parts["bodies"], methods, values, places):
        body.set(facecolor=style.COLOURS[method], edgecolor="black", linewidth=0.8, alpha=0.85)
        low, median, high = np.quantile(v, (0.25, 0.5, 0.75))
        axes.vlines(x, low, high, color="black", linewidth=4)
        axes.plot(x, median, "o", color="white", markeredgecolor="black", markersize=5)
    axes.set_xlabel("method (dot: median, bar: quartiles)")
    axes.set_xticks(places, [f"{style.name(name)}\nmean {np.mean(of[measure]):#.3g}" for name, of in methods.items()])
    axes.tick_params(axis="x", labelsize=8.5)
    axes.grid(False, axis="x")
