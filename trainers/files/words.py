"""A run in words: its network, the column of its method, its schedule; which runs are alike; tables in Markdown; and
how far a command has come."""

import sys
from pathlib import Path

from tqdm import tqdm

COLUMNS = {  # method, β before and after the ramp -> heading
    ("ibp", 1, 1): "IBP", ("crown-ibp", 1, 1): "CROWN-IBP (β=1), CBP 1→1", ("cap", 1, 1): "CAP",
    ("one-step", 1, 1): "OURS", ("crown-ibp", 1, 0): "CBP 1→0"}
MEASURED = ("eps", "norm", "clipped", "images", "pgd_steps", "restarts")  # how a result was measured
ALONE = ("seed", "threads", "device", "probe", "as_released")  # in which the runs of a cell may differ


def network(given):
    """What the tables of a run are headed by."""
    unclipped = ", not clipped" if given["no_clip"] and given["norm"] == "inf" else ""
    part = f", trained on {given['limit']} images" if given["limit"] else ""
    data = given["data"].upper() + (f" from {Path(given['data_dir']).name}" if given["data_dir"] else "")
    return f"{data}, {given['model']}, l{given['norm'].replace('inf', '∞')}{unclipped}{part}"


def heading(given):
    """The column of a run, or its method with the options that it has."""
    objective = given.get("objective", "robust")
    beta, kappa = (1, 1) if given["method"] == "ibp" else tuple(given["beta"]), tuple(given["kappa"])
    column = COLUMNS.get((given["method"], *beta))
    if column and kappa == (0, 0) and objective == "robust" and not start(given):
        return column
    options = [given["method"]] if objective != "robust" and given["method"] != "ibp" else []
    for symbol, key in (("α", "alpha"), ("λ", "lam"), ("p", "p"), ("q", "q")):
        options += [f"{symbol} = {given[key]:g}"] if given.get(key) is not None else []
    for symbol, weights, usual in (("β", beta, (1, 1)), ("κ", kappa, (0, 0))):
        options += [f"{symbol} {weights[0]:g}→{weights[1]:g}"] if weights != usual else []
    options += start(given)
    name = given["method"] if objective == "robust" else objective
    return f"{name} ({', '.join(options)})" if options else name


def start(given):
    """What a run's start has that is not usual, in words."""
    return [f"{key} {given[key]}" for key, usual in (("init", "uniform"), ("regularise", 0))
            if given.get(key, usual) != usual]


def schedule(given):
    """The schedule of a run in words."""
    falls = ", ".join(f"{at:g}" for at in given["milestones"])
    above = f" to ε {given['train_eps']:g}" if given["train_eps"] not in (None, given["eps"]) else ""
    moved = f" of images moved by up to {given['crop']} pixel{'s' * (given['crop'] > 1)}" if given.get("crop") else ""
    decay = "" if given.get("adam_beta2") is None else f" (β₂ = {given['adam_beta2']:g})"
    first = f", the first {given['ibp_epochs']:g} by ibp alone" if given.get("ibp_epochs") else ""
    drawn = ", weights drawn for ibp" if given.get("init", "uniform") == "ibp" else ""
    extra = f", regularised (λ = {given['regularise']:g})" if given.get("regularise") else ""
    return (f"{given['epochs']} epochs{first}, ε = 0 for {given['warmup']:g} and rising{above} for {given['ramp']:g} "
            f"({given['ramp_shape']}), {given['optimizer']}{decay} at {given['rate']:g}, times {given['factor']:g} "
            f"at {falls}, minibatches of {given['batch']}{moved}{drawn}{extra}")


def same(a, b):
    """Whether two results are of the same ball, images and attack."""
    return all(a.get(key) == b.get(key) for key in MEASURED)


def radius(eps):
    """ε as it is shorter: a decimal, or in 255ths."""
    return min(f"{eps:g}", f"{255 * eps:g}/255", key=len)


def markdown(header, rows, right=()):
    """Lines of a table in Markdown whose columns are aligned: to the right those whose headings are in `right`."""
    columns = [[str(text) for text in column] for column in zip(header, *rows)]
    for column in columns:
        align, end = (str.rjust, ":") if column[0] in right else (str.ljust, "-")
        width = max(3, *map(len, column))
        column.insert(1, "-" * (width - 1) + end)
        column[:] = [align(text, width) for text in column]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in zip(*columns))


def progress(items, what, total=None):
    """The items, one by one: with a bar on a terminal, and in a log with a line on stderr at every tenth of them."""
    bar = tqdm(items, what, len(items) if total is None else total, leave=False, disable=None)
    for done, item in enumerate(bar, 1):
        yield item
        if bar.disable and 10 * done // bar.total > 10 * (done - 1) // bar.total:
            print(f"{what}: {done} of {bar.total}", file=sys.stderr, flush=True)
