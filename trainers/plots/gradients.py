"""The relaxed gradient g of one test digit, by each method on one fixed network, as images side by side.

    z_m(x′) − z_y(x′) ≤ g·x′ + b    over B(x, ε)                                                  (Definition 1)

for the first test image and m, the class of the greatest logit but y's. The lines of ibp are constant: its g is 0.
"""

import numpy as np

import refbound as rb

from ..inputs.draws import stream
from . import selection, style, subject

METHODS = ("ibp", "crown-ibp", "cap-ibp", "random", "one-step", "cap", "crown")


def numbers(runs, args):
    """The image, and each method's g, b and s̄ of the margin."""
    of = subject.load(subject.fixed(runs, args), args)
    ball, y = of.ball(slice(0, 1)), of.test.labels[:1]
    z = of.net(ball.x)[0]
    m = int(np.argmax(np.where(np.arange(len(z)) == y[0], -np.inf, z)))
    methods = {}
    for method in METHODS:
        bound, s = (f(of.net, ball, y, method, rng=stream("bound", args.seed))
                    for f in (rb.linear_bound, rb.margin_bounds))
        g = bound.g[0, m]
        methods[method] = {"g": picture(g), "norm": float(np.abs(g).sum()),
                           "b": float(bound.b[0, m]), "s": float(s[0, m])}
    return {"run": of.run["name"], "trained_by": selection.label(of.run), "eps": of.run["arguments"]["eps"],
            "y": int(y[0]), "m": m, "image": picture(ball.x[0]), "methods": methods}


def picture(v):
    """(C, H, W), or a flat square, as a list of rows: the mean over the channels."""
    if v.ndim == 1:
        v = v.reshape(1, *2 * (int(len(v) ** 0.5),)) if int(len(v) ** 0.5) ** 2 == len(v) else v[None, None]
    return v.astype(float).mean(0).tolist()


def draw(plt, numbers):
    """The digit and a panel for each method, all on one scale that is monotone in grey."""
    figure, axes = plt.subplots(2, 4, figsize=(style.WIDTH, 4.9), layout="constrained")
    figure.suptitle(f"{numbers['run']}, trained by {style.name(numbers['trained_by'])}: ε = {numbers['eps']:g}, "
                    f"margin of m = {numbers['m']} over y = {numbers['y']}", fontsize=10)
    axes.flat[0].imshow(numbers["image"], cmap="gray_r", vmin=0, vmax=1)
    axes.flat[0].set_title("input x\nwhite 0, black 1")
    limit = np.quantile(np.abs([of["g"] for of in numbers["methods"].values()]), 0.998) or 1
    for ax, (method, of) in zip(axes.flat[1:], numbers["methods"].items()):
        shown = ax.imshow(of["g"], cmap="cividis", vmin=-limit, vmax=limit)
        ax.set_title(f"{style.name(method)}\n‖g‖₁ = {style.number(of['norm'])},  s̄ = {style.number(of['s'])}")
        ax.spines[:].set(visible=True, color=style.COLOURS[method], linewidth=2.5)
    axes.flat[0].spines[:].set_visible(False)
    plt.setp(axes, xticks=(), yticks=())
    figure.colorbar(shown, ax=axes, label="relaxed gradient g", shrink=0.8, extend="both")
    return figure
