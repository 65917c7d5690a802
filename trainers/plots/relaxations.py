"""The two lines of each method around a ReLU (Section 3.2, Appendix C), where −l < u and where −l > u.

    a̲ z + b̲ ≤ max(z, 0) ≤ ā z + b̄    for l ≤ z ≤ u

The upper line is the chord, the best there is (Appendix C.2); those of ibp are constant, h̲ = l⁺ and h̄ = u⁺. One-step
has either slope: (7) with η ≥ 1 ends at 0 or at 1 wherever the loss depends on the slope.
"""

import numpy as np

from refbound import relaxation

from . import style

INTERVALS = ((-1.0, 2.0), (-2.0, 1.0))
DRAWN = (0.15, 0.4, 0.65, 0.9)  # slopes for `random`, in place of draws
RULES = {  # method -> (its lower slope in words and symbols, l, u -> lower slopes; None: parallel)
    "crown-ibp": ("adaptive\na̲ = 1[u + l > 0]", lambda l, u: relaxation.adaptive([(l, u)])),
    "cap-ibp": ("parallel\na̲ = ā", lambda l, u: [None]),
    "random": ("uniform\na̲ ~ U[0, 1]", lambda l, u: [0 * l + a for a in DRAWN]),
    "one-step": ("one step\na̲ = 0, 1 or a₀, by (7)", lambda l, u: [0 * l, 0 * l + 1])}
RELU = {"alpha": 0.3, "linewidth": 5, "solid_capstyle": "butt"}
UPPER, LOWER = {"linewidth": 2}, {"linewidth": 2, "linestyle": (0, (3, 1.2))}
TITLES = {"crown-ibp": "crown-ibp, crown", "cap-ibp": "cap-ibp, cap"}


def numbers(runs, args):
    """[{"method", "rule", "l", "u", "upper": [ā, b̄], "lower": [[a̲, b̲], ...]}, ...], by intervals, then methods."""
    panels = []
    for low, high in INTERVALS:
        l, u = np.array([[low]]), np.array([[high]])
        panels.append({"method": "ibp", "rule": "constant\nh̲ = l⁺, h̄ = u⁺", "l": low, "u": high,
                       "upper": [0.0, max(high, 0.0)], "lower": [[0.0, max(low, 0.0)]]})
        for method, (rule, slopes) in RULES.items():
            lines = [relaxation.enclose(l, u, a) for a in slopes(l, u)]
            panels.append({"method": method, "rule": rule, "l": low, "u": high,
                           "upper": [lines[0].a_up.item(), lines[0].b_up.item()],
                           "lower": [[line.a_lo.item(), 0.0] for line in lines]})
    return panels


def draw(plt, numbers):
    """A row for each interval, a column for each method."""
    columns = len(numbers) // len(INTERVALS)
    figure, axes = plt.subplots(len(INTERVALS), columns, figsize=(style.WIDTH, 4.9), layout="constrained")
    for panel, ax in zip(numbers, axes.flat):
        enclosure(ax, panel)
    for panel, ax in zip(numbers, axes[0]):
        ax.set_title(f"{TITLES.get(panel['method']) or style.name(panel['method'])}\n{panel['rule']}", fontsize=9.5)
    plt.setp(axes[:, 0], ylabel="output h")
    plt.setp(axes[-1], xlabel="input z")
    key(axes[0, 0])
    style.legend(figure, axes[0, 0])
    return figure


def key(ax):
    """What a legend calls the lines of an enclosure."""
    for text, look in {"max(z, 0)": RELU, "upper line ā z + b̄": UPPER, "lower line a̲ z + b̲": LOWER}.items():
        ax.plot([], [], color="black", **look, label=text)


def enclosure(ax, panel):
    """The ReLU in grey and wide, the upper line solid, the lower lines dashed, and what lies between the lines."""
    colour, (l, u) = style.COLOURS[panel["method"]], (panel["l"], panel["u"])
    ends, (a, b) = np.array([l, u]), panel["upper"]
    lower = [slope * ends + intercept for slope, intercept in panel["lower"]]
    ax.plot([l, 0, u], [0, 0, u], color="black", **RELU)
    ax.plot(ends, a * ends + b, color=colour, **UPPER)
    for low in lower:
        ax.fill_between(ends, low, a * ends + b, color=colour, alpha=0.3 / len(lower), linewidth=0)
        ax.plot(ends, low, color=colour, **LOWER)
    ax.set(xlim=(l - 0.3, u + 0.3), ylim=(min(l, -1) - 0.3, max(u, 1) + 0.3), aspect="equal")
    ax.set_xticks((l, 0, u), ("$l$", "0", "$u$"))
    ax.set_yticks((0, u), ("0", "$u$"))
