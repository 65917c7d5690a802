"""How every figure is drawn: fonts for a width of about 900 pixels, legends outside the data, files written whole."""

import io

from ..files import checkpoint
from .colours import COLOURS, DASHES, MARKERS

WIDTH = 9.0  # inches
SETTINGS = {
    "font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10, "legend.fontsize": 9.5, "xtick.labelsize": 9,
    "ytick.labelsize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#E4E4E4", "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    "lines.linewidth": 1.5, "lines.markersize": 5}


def save(draw, numbers, path):
    """The figure that draw(plt, numbers) returns, as a PNG."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    content = io.BytesIO()
    with plt.rc_context(SETTINGS):
        figure = draw(plt, numbers)
        figure.savefig(content, format="png", dpi=200, metadata={"Software": None})
        plt.close(figure)
    checkpoint.write(path, content.getvalue())


def line(method, points):
    """Line and marker of a method's curve of so many points."""
    size = 8 if method == "one-step" else 5
    return {"color": COLOURS[method], "linestyle": DASHES[method], "marker": MARKERS[method], "markersize": size,
            "markevery": spaced(list(COLOURS).index(method), points),
            "markeredgecolor": "black", "markeredgewidth": 0.4}


def name(label):
    """A method, or a kind of run, as legends call it."""
    return label.replace("one-step", "one-step (OURS)")


def number(value):
    """Three digits of a number, with a minus sign."""
    return f"{value:.3g}".replace("-", "−")


def spaced(index, points):
    """About eight markers on a curve of so many points, for each index elsewhere."""
    every = max(1, points // 8)
    return index % every, every


def curve(values):
    """Numbers to draw, None as a gap."""
    return [float("nan") if v is None else v for v in values]


def mark_ramp(axes, ends, text=""):
    """Dotted lines at the ends of the ramps, the text above the last."""
    for end in ends:
        axes.axvline(end, color="black", linestyle=(0, (1, 2)), linewidth=1, zorder=1)
    if text and ends:
        axes.annotate(text, (max(ends), 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                      textcoords="offset points", ha="center", va="bottom", fontsize=9)


def logarithmic(axes):
    """A logarithmic y axis with plain numbers, the more between the decades the fewer decades there are."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    between = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 100 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=between))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend(figure, axes, ncols=6, **more):
    """One legend of the axes' curves, above the panels."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=ncols, **more)


def stack(part, curves, columns, ends, text="", title=None, **more):
    """The panels of the columns {name: text}, one above the other, with every method's curve in each."""
    panels = part.subplots(len(columns), 1, sharex=True)
    for axes, (column, label) in zip(panels, columns.items()):
        for method, points in curves.items():
            look = line(method, len(points["time"]))
            axes.plot(points["time"], curve(points[column]), label=name(method), **look, **more)
        mark_ramp(axes, ends, text if axes is panels[0] else "")
        axes.set_ylabel(label)
    legend(part, panels[0], ncols=3, title=title)
    return panels
