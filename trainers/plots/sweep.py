"""Verified error against ε, by each method, on up to three networks of the study; the PGD error is the lower curve.

On the first n test images, as trainers.evaluate computes it; the radii go from 1/4 to 3/2 of the study's ε.
"""

from ..files import record, words
from ..evaluate import Args, evaluate
from . import selection, style, subject

METHODS = ("ibp", "crown-ibp", "cap-ibp", "cap", "random", "one-step")
RADII = (1 / 4, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2)  # of ε
PGD_STEPS = 40


def numbers(runs, args):
    """[{"run", "title", "trained_by", "eps_of_run", "images", "eps": […], "pgd": […], "errors": {method: […]}}, …]."""
    found = subject.networks(runs, args)
    chosen = [found[method] for method in record.SHOWN if method in found] or [subject.fixed(runs, args)]
    return [network(subject.load(run, args), args) for run in chosen]


def network(of, args):
    """The errors of one network at every radius and by every method."""
    run = of.run["arguments"]
    found = {"run": of.run["name"], "title": selection.title([of.run]), "trained_by": selection.label(of.run),
             "eps_of_run": run["eps"], "images": len(of.test.labels), "eps": [round(r * run["eps"], 6) for r in RADII],
             "pgd": [], "errors": {method: [] for method in METHODS}}
    for eps in words.progress(found["eps"], f"radii, {found['run']}"):
        for method in METHODS:
            steps = PGD_STEPS if method == METHODS[0] else 0
            asked = Args(eps=eps, method=(method,), norm=run["norm"], no_clip=run["no_clip"], pgd_steps=steps,
                         seed=args.seed, threads=args.threads)
            result = evaluate(of.net, of.test, asked, quiet=True)
            found["errors"][method].append(result["verified_error"])
            found["pgd"] += [result["pgd_error"]] if steps else []
    return found


def draw(plt, numbers):
    """A panel for each network."""
    figure, axes = plt.subplots(1, len(numbers), figsize=(style.WIDTH, 3.9), layout="constrained", sharey=True,
                                squeeze=False)
    for ax, of in zip(axes[0], numbers):
        for method, errors in of["errors"].items():
            ax.plot(of["eps"], errors, **style.line(method, 1), label=style.name(method))
        ax.plot(of["eps"], of["pgd"], color="black", linewidth=2, label="PGD error, a lower bound")
        ax.fill_between(of["eps"], 0, of["pgd"], color="black", alpha=0.12, linewidth=0)
        ax.axvline(of["eps_of_run"], color="black", linestyle=(0, (1, 2)), linewidth=1)
        ax.set(title=f"trained by {style.name(of['trained_by'])}", xlabel="radius ε (dotted: that of the run)")
        ax.set_xticks(of["eps"][1::2], [f"{eps:g}" for eps in of["eps"][1::2]])
    axes[0, 0].set(ylabel=f"verified error on {numbers[0]['images']} images [%]", ylim=(0, 104))
    style.legend(figure, axes[0, 0], ncols=4, title=numbers[0]["title"])
    return figure
