"""The jump of a relaxation (Jovanović et al. 2022): the bias of a unit of the hand-worked network moves its l past −u.

Above, the lower slope of unit z₃, whose bias t makes [l, u] = [t, t + 5]; below, the margin bound s̄ for label 0.
Where l = −u, at t = −5/2, the slope of crown-ibp goes from 0 to 1, and its bound jumps. Those of ibp and cap-ibp are
continuous. One-step, from a₀ = 1/2, does not jump there, but where the gradient in its slope changes sign, at t = −1/2.
"""

import numpy as np

from . import style
from .planes import HAND, bound

METHODS = ("ibp", "crown-ibp", "cap-ibp", "one-step")
BIASES = np.arange(-3.995, -0.1, 0.01)  # t, on both sides of each jump and never on it
HALF = {"a0": [np.full((1, 2), 0.5)] * 2}
LEAP = 0.2  # between neighbours on a curve: a jump, at which it is broken


def numbers(runs, args):
    """{"t": [...], "slope": {method: [...]}, "s": {method: [...]}}; ibp has no slopes."""
    found = {"t": BIASES.tolist(), "slope": {}, "s": {}}
    for method in METHODS:
        at = [bound({**HAND, "2.bias": [t, 0]}, 1.0, method, **(HALF if method == "one-step" else {}))
              for t in BIASES.tolist()]
        found["s"][method] = [one["s"] for one in at]
        if method != "ibp":
            found["slope"][method] = [one["units"][2]["a_lo"] for one in at]
    return found


def draw(plt, numbers):
    """Two panels, one above the other."""
    figure, panels = plt.subplots(2, 1, figsize=(style.WIDTH, 5.6), sharex=True, layout="constrained",
                                  height_ratios=(1, 2))
    for ax, curves in zip(panels, (numbers["slope"], numbers["s"])):
        for method, values in curves.items():
            ax.plot(numbers["t"], broken(values), label=style.name(method), **style.line(method, len(values)))
    for t, text in ((-2.5, "$l = -u$"), (-0.5, "∂L/∂a̲ = 0")):
        style.mark_ramp(panels[0], [t], text)
        style.mark_ramp(panels[1], [t])
    panels[0].set(ylabel="lower slope a̲", ylim=(-0.08, 1.08))
    panels[1].set(ylabel="bound s̄ of the margin", xlabel="bias t of the unit, $[l, u] = [t, t + 5]$")
    style.legend(figure, panels[1])
    return figure


def broken(values):
    """The values, with a gap where a curve jumps."""
    values = np.array(values)
    return np.where(np.abs(np.diff(values, prepend=values[0])) > LEAP, np.nan, values)
