"""Definition 1 seen on networks of a few units: what is true in grey, what a method makes of it in its colour.

    plane-METHOD   the hand-worked network at (0, 0), ε = 1: s(x) ≤ g·x + b over the plane of its inputs, and its units
    pinched        one unit behind another: why the LP of the two lines may lie below Definition 1

A dot on a unit is x* on its way through the lines that g took (linear.upstream); it ends at s̄.
"""

from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import numpy as np

import refbound as rb
from refbound.checks import method_options
from refbound.linear import upstream

from . import style
from .relaxations import enclosure, key

HAND = {"0.weight": [[1, 1], [1, -1]], "0.bias": [1, 0], "2.weight": [[1, 1], [1, -1]], "2.bias": [-1, 0],
        "4.weight": [[1, 1], [0, 2]], "4.bias": [0, 1]}  # s = h₄ − h₃ + 1 for y = 0
PINCHED = {"0.weight": [[1]], "0.bias": [0], "2.weight": [[1]], "2.bias": [-1],
           "4.weight": [[1], [0]], "4.bias": [0, 0]}  # s = −h₂
METHODS = ("ibp", "crown-ibp", "cap-ibp", "one-step", "cap", "crown")
UNIT = ("l", "u", "a_up", "b_up", "a_lo", "b_lo", "z", "a", "b")  # z: where x* comes, to the line a z + b; not of ibp
GREYS = {"levels": [*np.arange(-3, 2, 0.5), 2 - 1e-6, 3], "cmap": "Greys", "vmin": -2, "vmax": 9}
DOT = {"marker": "o", "markersize": 8, "markeredgecolor": "black", "linestyle": "none", "zorder": 6, "clip_on": False}
MIDDLE, ARROW = {"ha": "center", "va": "center", "zorder": 5}, {"arrowstyle": "<->", "shrinkA": 0, "shrinkB": 0}
BOX = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}


def network(params):
    """The dense network of these parameters."""
    widths = [len(params["0.weight"][0]), *(len(value) for name, value in params.items() if "bias" in name)]
    net = rb.models.mlp(np.random.default_rng(0), widths)
    return net.with_params({name: np.array(value, float) for name, value in params.items()})


def margin(params, x):
    """s, the margin for y = 0 of two logits, at points (..., n)."""
    return np.diff(network(params)(x.reshape(-1, x.shape[-1]))).reshape(x.shape[:-1])


def grid(edge, points):
    """Points of the square around 0, (points, points, 2)."""
    return np.stack(np.meshgrid(*[np.linspace(-edge, edge, points)] * 2), -1)


def bound(params, eps, method, **options):
    """A method's bound of s over the ball around 0: g, b, x*, s̄ and the units."""
    net, y = network(params), np.array([0])
    ball = rb.Ball(np.zeros((1, *net.input_shape)), eps, domain=None)
    pre, (g, b) = rb.preactivation_bounds(net, ball, method), rb.linear_bound(net, ball, y, method, **options)
    s = rb.margin_bounds(net, ball, y, method, **options)
    found = rb.METHODS[method].bound(net, ball.region(net.dtype), y, method_options(net, ball, method, options))
    units = [(l, u, 0 * u, np.maximum(u, 0), 0 * u, np.maximum(l, 0)) for l, u in pre]
    if found.lines:  # not of ibp, whose lines are constant
        z = {i: v for i, _, v in upstream(np.ones((1, 1)), net, len(net.layers), found.relaxation, found.worst)}
        units = [(l, u, of.a_up, of.b_up, of.a_lo, 0 * u, z[i], *found.relaxation.trace[i][1:])
                 for i, (l, u), of in zip(net.relus, pre, found.lines)]
    units = [dict(zip(UNIT, unit)) for layer in units for unit in zip(*(of.ravel().tolist() for of in layer))]
    return {"method": method, "params": params, "eps": eps, "g": g[0, 1].tolist(), "b": b[0, 1].item(),
            "worst": (eps * np.sign(g[0, 1])).tolist(), "s": s[0, 1].item(), "units": units}


def plane(method, runs, args):
    """The bound on the hand-worked network, and the ends of s over the ball: its corners have coordinates k/2."""
    s, options = margin(HAND, grid(1, 5)), {"a0": [np.full((1, 2), 0.5)] * 2} if method == "one-step" else {}
    return {**bound(HAND, 1.0, method, **options), "least": s.min().item(), "greatest": s.max().item()}


def pinched(runs, args):
    """The bound with lower slopes 1 and 1/4, and where the lines of unit 2 cross."""
    found = bound(PINCHED, 2.0, "crown-ibp", slopes=[np.ones((1, 1)), np.full((1, 1), 0.25)])
    unit = found["units"][1]
    z = unit["b_up"] / (unit["a_lo"] - unit["a_up"])
    return {**found, "crossing": [z, unit["a_lo"] * z]}


def draw_plane(plt, numbers):
    """The plane, beneath it a scale of margins, and beside it the units in the order of the network."""
    figure, inches = plt.figure(figsize=(style.WIDTH, 6)), np.array([style.WIDTH, 6] * 2)
    draw_level_lines(figure.add_axes([0.75, 1.5, 3.8, 3.8] / inches), numbers)
    draw_scale(figure.add_axes([0.75, 0.5, 3.8, 0.5] / inches), numbers)
    for k in range(4):
        ax = figure.add_axes([5.2 + k % 2 * 2, 3.2 - k // 2 * 2.7, 1.75, 1.75] / inches)
        draw_unit(ax, numbers, k)
        ax.set(xlim=(-2.4, 4.3), ylim=(-2.4, 4.3))
    linear = f"s(x) ≤ g·x + b = {affine(numbers['g'], numbers['b'], 'x')}"
    figure.text(0.025, 0.98, f"{style.name(numbers['method'])}:   {linear}\ntrue margin  s = h₄ − h₃ + 1,  in grey",
                va="top", fontsize=11, linespacing=1.5)
    figure.legend(*ax.get_legend_handles_labels(), loc="upper right", ncols=2)
    return figure


def draw_level_lines(ax, numbers):
    """The true margin in grey, and level lines of g·x + b: that of s̄ is wide, and meets the ball at x* alone."""
    x, colour, g, s = grid(1.5, 301), style.COLOURS[numbers["method"]], np.array(numbers["g"]), numbers["s"]
    true, (x1, x2) = margin(numbers["params"], x), np.moveaxis(x, -1, 0)
    ax.contourf(x1, x2, true, **GREYS)
    ax.clabel(ax.contour(x1, x2, true, [0], colors="black", linewidths=2.5), fmt="s = 0", manual=[(0.61, -0.39)])
    ax.contourf(x1, x2, abs(x).max(-1), [numbers["eps"], 9], colors="white", alpha=0.6, zorder=3)
    ax.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], color="black", linewidth=1.2, zorder=4)
    if g.any():
        edge = grid(1.25, 251)  # where the lines are labelled: above, and left or right
        edge = np.concatenate([edge[-1], edge[:, 0 if g.prod() > 0 else -1]])
        at = edge @ g + numbers["b"]
        at = {v: edge[abs(at - v).argmin()] for v in s - np.arange(8, 0, -1) / 2 if at.min() < v < at.max()}
        lines = ax.contour(x1, x2, x @ g + numbers["b"], [*at, s], colors=colour, linewidths=[2] * len(at) + [4])
        ax.clabel(lines, [*at], fmt=style.number, colors="black", manual=[*at.values()])
        ax.plot(*numbers["worst"], color=colour, **DOT)
        ax.text(*np.multiply(numbers["worst"], 1.22), f"x*\ns̄ = {style.number(s)}", **MIDDLE)
    else:
        ax.text(-0.27, -0.68, f"g = 0, no level lines:\ng·x + b = s̄ = {s:g}\nat every x", **MIDDLE, bbox=BOX)
    ax.text(0, 0.8, f"max s = {style.number(numbers['greatest'])}", **MIDDLE, bbox=BOX)
    ax.set(xlabel="input x₁  (square: the ball B, ε = 1)", ylabel="input x₂", xticks=(-1, 0, 1), yticks=(-1, 0, 1))


def draw_scale(ax, numbers):
    """The values of s and of g·x + b over the ball, and the gap between their greatest."""
    low, top, s = numbers["least"], numbers["greatest"], numbers["s"]
    least = numbers["b"] - numbers["eps"] * np.abs(numbers["g"]).sum()
    ax.contourf(*np.meshgrid([low, top], [0.1, 0.9]), [[low, top]] * 2, **GREYS)
    ax.fill_between([least, s], 1.1, 1.9, color=style.COLOURS[numbers["method"]], linewidth=2)
    ax.annotate("", (top, 0.3), (s, 0.3), arrowprops=ARROW)
    ax.text((top + s) / 2, 0.65, f"gap {style.number(s - top)}", **MIDDLE)
    ax.text(s + 0.1, 1.5, f"s̄ = {style.number(s)}", va="center")
    ax.set(xlim=(-1.2, 5.3), ylim=(0, 2), xlabel="margin over the ball")
    ax.set_yticks((0.5, 1.5), ("s(x)", "g·x + b"))


def draw_unit(ax, numbers, k):
    """A unit's enclosure, and x* where it comes, on the line that g took, dotted beyond [l, u]."""
    params, colour = numbers["params"], style.COLOURS[numbers["method"]]
    l, u, a_up, b_up, a_lo, b_lo, *way = numbers["units"][k].values()
    enclosure(ax, {"method": numbers["method"], "l": l, "u": u, "upper": [a_up, b_up], "lower": [[a_lo, b_lo]]})
    key(ax)
    lines = f"h̄ = {fraction(b_up)},  h̲ = {fraction(b_lo)}"
    if way:
        z, a, b = way
        ends = np.array([np.clip(z, l, u), z])
        ax.plot(ends, a * ends + b, ":", color=colour, linewidth=2)
        ax.plot(z, a * z + b, color=colour, **DOT)
        ax.plot([], [], color="white", label="x* on its way", **DOT)
        lines = f"ā = {fraction(a_up)},  a̲ = {fraction(a_lo)}"
    layer, row = divmod(k, len(params["0.bias"]))
    z = affine(params[f"{2 * layer}.weight"][row], params[f"{2 * layer}.bias"][row], "xh"[layer])
    ax.set_title(f"z{'₁₂₃₄'[k]} = {z} ∈ [{fraction(l)}, {fraction(u)}]\n{lines}", fontsize=9.5)
    ax.set(xlabel="input z", ylabel="" if row else "output h")


def draw_pinched(plt, numbers):
    """Both units; of unit 2 the lines beyond [l, u], as far as the lines of unit 1 let z₂ go."""
    figure, inches = plt.figure(figsize=(style.WIDTH, 4.5)), np.array([style.WIDTH, 4.5] * 2)
    axes = figure.add_axes([0.65, 0.6, 2.4, 2.7] / inches), figure.add_axes([3.85, 0.6, 4.95, 2.7] / inches)
    for k, ax in enumerate(axes):
        draw_unit(ax, numbers, k)
    colour, (cross, h) = style.COLOURS[numbers["method"]], numbers["crossing"]
    l, u, a_up, b_up, a_lo, _, low, *_ = numbers["units"][1].values()
    z = np.array([low, cross, l])
    upper, lower = a_up * z + b_up, a_lo * z
    ax.plot(z, upper, ":", color=colour, linewidth=2)
    ax.fill_between(z[1:], lower[1:], upper[1:], color=colour, alpha=0.15, linewidth=0)
    ax.plot(cross, h, color="white", **DOT | {"marker": "s"})
    axes[0].text(0.55, -1.5, "x* leaves with h₁ = −2,\nwhere max(z₁, 0) = 0", **MIDDLE)
    for text, to, at in (("Definition 1: the lower line alone", (low, lower[0]), (-3.2, 0.7)),
                         ("LP: where both lines cross", (cross, h), (-2.5, 0.2))):
        ax.annotate(f"{text},\n−h₂ = {fraction(-to[1])}", to, at,
                    arrowprops={"arrowstyle": "-", "shrinkB": 5, "relpos": (0.1, 0)})
    for text, left, y in (("[l, u], by intervals", l, -0.95), ("where unit 1 lets z₂ go", low, -1.25)):
        ax.annotate("", (left, y), (u, y), arrowprops=ARROW)
        ax.text((left + u) / 2, y + 0.1, text, **MIDDLE)
    ax.set(xlim=(-3.4, 1.2), ylim=(-1.4, 1.15), aspect="auto")
    ax.set_xticks((low, cross, l, 0, u), (fraction(low), fraction(cross), "$l$", "0", "$u$"))
    ax.set_yticks((lower[0], h, 0, u), (fraction(lower[0]), fraction(h), "0", "$u$"))
    figure.text(0.025, 0.975, f"greatest  s = −h₂  over  −2 ≤ x₁ ≤ 2:   0 in truth,  {fraction(-h)} by the LP of the "
                f"two lines,  {fraction(numbers['s'])} by Definition 1", va="top", fontsize=11)
    figure.legend(*ax.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0.93), ncols=4)
    return figure


def affine(coefficients, constant, name):
    """A linear function as text, in fractions."""
    terms = [*zip(coefficients, (f" {name}₁", f" {name}₂")), (constant, "")]
    text = " ".join(f"{'−' if c < 0 else '+'} {fraction(abs(c))}{of}".replace(" 1 ", " ") for c, of in terms if c)
    return text[2:] if text[0] == "+" else "−" + text[2:]


def fraction(value):
    """A number as the fraction that it is, with a minus sign."""
    return str(Fraction(value).limit_denominator(99)).replace("-", "−")


PLANES = {f"plane-{method}": SimpleNamespace(numbers=partial(plane, method), draw=draw_plane) for method in METHODS}
PLANES["pinched"] = SimpleNamespace(numbers=pinched, draw=draw_pinched)
