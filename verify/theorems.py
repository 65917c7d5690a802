"""The paper's Theorems 1 and 2 on small networks: both sides of (4) and (6), each quantity in them, how loose they are.

    python -m verify.theorems [--eps 0.1] [--along one-step] [--methods ibp cap] [--out FILE]

Each seed draws a network and its examples, and goes down the loss of --along through a ramp of ε_t. At each θ_t on the
way every method takes steps of its own: a trial. For Theorem 1 the shortest power of two in I_t; for Theorem 2, and for
how near (5) is, one of a hundredth of ‖θ_t‖. What is taken where the paper leaves a norm or a constant open:
smoothness/theorem1.py and theorem2.py.

A trial counts for Theorem 1 where cos φ > 0, a step in I_t was found, and the loss does not jump on the way.
"""

from dataclasses import asdict, dataclass

import numpy as np

import refbound as rb
from refbound.layers import Linear, ReLU
from trainers.files import checkpoint
from trainers.files.words import markdown, progress
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .smoothness.derivatives import Case, flat, moved, norm
from .smoothness.theorem1 import descent, direction, product
from .smoothness.theorem2 import change

METHODS = {**{name: (name, {}) for name in ("ibp", "crown-ibp", "cap-ibp", "one-step", "cap", "crown")},
           **{f"sparse {p:g}, {q:g}": ("sparse", {"p": p, "q": q}) for p, q in ((0, 0), (0, 0.5), (0.5, 1), (1, 1))}}
LAYERS = (Linear(6, 8), ReLU(), Linear(8, 7), ReLU(), Linear(7, 4))
SMALL = 0.01  # ‖θ₂ − θ₁‖ / ‖θ₁‖ of Theorem 2


@dataclass
class Args:
    """The paper's Theorems 1 and 2, evaluated on small networks in training."""

    methods: tuple = argument(tuple(METHODS), "of these", choices=tuple(METHODS))
    along: str = argument("one-step", "the method that the networks are trained by meanwhile", choices=tuple(METHODS))
    eps: float = argument(0.1, "target radius ε of an l∞ ball, for inputs in [0, 1]")
    steps: int = argument(10, "gradient steps of the ramp: the trials of each method on a network")
    seeds: int = argument(6, "networks, from seed 0")
    batch: int = argument(4, "examples of each network")
    out: str = argument(None, "write the quantities of every trial to this JSON file", type=arguments.results)


def main(argv=None):
    """Prints a table for each theorem; the exit status, 1 if an inequality does not hold."""
    args = arguments.parse(Args, "verify.theorems", argv)
    arguments.at_least(args, eps=0, steps=1, seeds=1, batch=1)
    trials = [trial for seed in progress(range(args.seeds), "networks")
              for trial in run(seed, args)]
    wrong = [t for t in trials if t["counts"] and t["fall"] < t["promised"] or t["left"] > t["right"]]
    one, two = [], []
    for name in args.methods:
        own = [t for t in trials if t["method"] == name]
        held = [t for t in own if t["counts"]]
        one.append([name, f"{len(held)} of {len(own)}", *(median(held, key) for key in ("cos", "mu", "Hu")),
                    median(held, "fall", "promised")])
        two.append([name, *(median(own, key) for key in ("zeroth", "first", "last")),
                    *(median(own, key, "left") for key in ("right", "HΔ"))])
    for header, rows in (
            (("Theorem 1", "counts", "cos φ", "μ", "‖H u‖", "fall / (4)"), one),
            (("Theorem 2", "2ε ‖∇g‖", "M ‖∇g₂ − ∇g₁‖", "L^(m) ‖θ₂ − θ₁‖", "(6) / left", "(5) / left"), two)):
        print(markdown(header, rows, header[1:]), end="\n\n")
    print(f"medians over {args.steps * args.seeds} trials of each method; "
          f"{len(wrong)} in which (4) or (6) does not hold")
    if args.out:
        checkpoint.write_json(
            args.out, {"arguments": asdict(args), "versions": checkpoint.versions(), "trials": trials})
    return int(bool(wrong))


def median(trials, key, below=None):
    """The median of a quantity, or of its ratio to another, as text."""
    return f"{np.median([t[key] / (t[below] if below else 1) for t in trials]):.3g}" if trials else "–"


def run(seed, args):
    """The quantities of every trial on one network, as numbers."""
    rng = np.random.default_rng(seed)
    net = rb.models.initialise(rng, list(LAYERS), (6,), np.float64)
    x, teacher = rng.random((args.batch, 6)), rng.normal(size=(6, 4))
    y, a0 = ((x - 0.5) @ teacher).argmax(1), [rng.random((args.batch, *net.shapes[i])) for i in net.relus]
    cases = {name: Case(y, method, {**options, "a0": a0} if "a0" in rb.METHODS[method].options else options)
             for name, (method, options) in METHODS.items()}
    ball = rb.Ball(x, args.eps)
    for t in range(args.steps):
        near = rb.Ball(x, args.eps * t / args.steps)
        for name in args.methods:
            yield {"method": name, "seed": seed, "step": t, **trial(net, near, ball, cases[name])}
        step = descent(net, near, ball, cases[args.along])
        net = moved(net, -step.length * step.u if step else short(net, near, cases[args.along]))


def trial(net, near, ball, case):
    """Both theorems from the parameters of net."""
    step, small = descent(net, near, ball, case), short(net, near, case)
    two = change(net, moved(net, small), ball, case)
    found = {"L": step.before, "fall": step.before - step.after, "promised": step.promised, "cos": step.cos,
             "mu": step.mu, "length": step.length, "curvature": step.curvature, "Hu": norm(step.Hu)} if step else {}
    return {"counts": bool(step and step.counts), **found, "left": two.left, "right": float(two.right),
            **dict(zip(two._fields[1:], two.terms())), "HΔ": norm(product(net, small, ball, case))}


def short(net, near, case):
    """The step of Theorem 2."""
    return -SMALL * norm(flat(net, net.params)) * direction(net, near, case)


if __name__ == "__main__":
    arguments.run(main)
