"""Which runs a figure shows: those of one study (of one data set, network, norm and ε) that differ in the method."""

from collections import defaultdict

import numpy as np

import refbound as rb

from ..files import words

METHODS = ("ibp", "crown-ibp", "cap-ibp", "cap", "crown", "random", "sparse", "one-step")  # in the figures' order
KEYS = ("data", "data_dir", "limit", "model", "norm", "no_clip", "eps", "train_eps")
VARIANTS = ((0, 0), (0, 0.5), (0, 1), (0.5, 1), (1, 1))  # (p, q) of the paper's Figure 2


class Missing(ValueError):
    """What a figure would need and was not given: it is left out, and this says why."""


def study(runs, args, wanted):
    """The runs of the study with the most kinds wanted(run), None aside; among equals the larger network, the least ε.

    args.model and args.eps, where they are not None, say what it has to be of.
    """
    groups = defaultdict(list)
    for run in runs:
        of = run["arguments"]
        if (of.get("objective", "robust") == "robust" and args.model in (None, of["model"])
                and args.eps in (None, of["eps"])):
            groups[tuple(of.get(key) for key in KEYS)].append(run)
    if not groups:
        asked = [f"of {args.model}"] * bool(args.model) + [f"at ε = {args.eps}"] * (args.eps is not None)
        raise Missing(" ".join(["no run was given", *asked]))
    size = {model: number for number, model in enumerate(rb.models.MODELS)}
    return max(groups.values(), key=lambda group: (
        len({wanted(run) for run in group} - {None}), size.get(group[0]["arguments"]["model"], -1),
        -group[0]["arguments"]["eps"]))


def one_of(methods):
    """The kinds that a study is chosen by: these methods."""
    return lambda run: run["arguments"]["method"] if run["arguments"]["method"] in methods else None


def measured(runs):
    """Those that have a landscape."""
    found = [run for run in runs if run["landscape"].get("time")]
    if not found:
        raise Missing("no run with a landscape was given (trainers.train with --probe above 0)")
    return found


def title(runs):
    """A study in words."""
    of = runs[0]["arguments"]
    return f"{words.network(of)}, ε = {of['eps']:g}"


def label(run):
    """A run in short: its method, the rates of sparse, β and κ where not 1 and 0 throughout, cap's projections."""
    of = run["arguments"]
    parts = ["sparse ({:g}, {:g})".format(*rates(run)) if rates(run) else of["method"]]
    for name, symbol, usual in (("beta", "β", 1), ("kappa", "κ", 0)):
        first, last = of[name]
        if (first, last) != (usual, usual):
            parts.append(f"{symbol} {first:g}→{last:g}" if first != last else f"{symbol} = {first:g}")
    if of["projections"]:
        parts.append(f"{of['projections']} projections")
    return ", ".join(parts + words.start(of))


def rates(run):
    """(p, q) of a run by sparse; None for another."""
    of = run["arguments"]
    return tuple(0.5 if of[name] is None else of[name] for name in "pq") if of["method"] == "sparse" else None


def by_method(runs, but=()):
    """{method: run}, in the figures' order: the plainest of each method's runs."""
    return plainest(runs, lambda run: run["arguments"]["method"], [method for method in METHODS if method not in but])


def plainest(runs, kind, kinds):
    """{kind: run}: of each kind that there is, the run with the usual start, β = 1, κ = 0, most epochs, least seed."""
    def order(run):
        of = run["arguments"]
        return (bool(words.start(of)), tuple(of["beta"]) != (1, 1), tuple(of["kappa"]) != (0, 0),
                -of["epochs"], of["seed"])

    return {k: min(own, key=order) for k in kinds if (own := [run for run in runs if kind(run) == k])}


def clock(runs):
    """(the name of the time axis, its unit in epochs for a run): epochs; where lengths differ, each run's length."""
    if len({run["arguments"]["epochs"] for run in runs}) == 1:
        return "time t [epochs]", lambda run: 1
    return "time t [share of the run]", lambda run: run["arguments"]["epochs"]


def ramp_end(run):
    """The time, in epochs, at which a run's ε has risen."""
    return run["arguments"]["warmup"] + run["arguments"]["ramp"]


def means(run, columns, unit=1, bins=40):
    """{column: values} of a run's landscape, and "time" in units of so many epochs: means over bins of probes in order.

    A bin holds as many successive probes as make at most `bins` of them; of a run with no more probes, one. What is
    empty or not finite is left out of its bin's mean; a bin of none is None.
    """
    table = {name: np.array(run["landscape"][name], float) for name in ("time", *columns)}
    table["time"] = table["time"] / unit
    size = -(-len(table["time"]) // bins)
    return {name: [_mean(values[i:i + size]) for i in range(0, len(values), size)] for name, values in table.items()}


def _mean(values):
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None
