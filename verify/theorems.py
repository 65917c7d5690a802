"""The paper's Theorems 1 and 2 on small networks: both sides of (4) and (6), every quantity in them, and how loose they are.

    python -m verify.theorems [--methods ibp cap] [--steps 20] [--seeds 5] [--out FILE]

Each seed draws a network and its examples, and goes down the loss of each method through a ramp of ε_t. Every step is a trial.

**Theorem 1.** Δ = θ_{t+1} − θ_t = −τ u, with u the unit vector along ∇L^{ε_t}(θ_t), so that τ = η_t ‖∇L^{ε_t}‖. For any H with

    L^ε(θ_{t+1}) = L^ε(θ_t) − τ ‖∇L^ε‖ cos φ + τ²/2 uᵀH u,     uᵀH u > 0                                     (identity)

the loss falls by τ ‖∇L^ε‖ cos φ (1 − ω/2), where ω = τ uᵀH u / (‖∇L^ε‖ cos φ). If cos φ > 0 and ω lies in 1 ± 1/√2, that is at
least ‖∇L^ε‖² cos² φ / (4 uᵀH u). With 2 μ L^ε ≤ ‖∇L^ε‖² and uᵀH u ≤ ‖H u‖:

    L^ε(θ_{t+1}) ≤ L^ε(θ_t) (1 − μ/2 cos² φ ‖H u‖⁻¹)                                                         (4)

What the paper leaves open, and what is taken. I_t: the steps with ω in 1 ± 1/√2, for which the loss falls by 15 to 85 % of what
its gradient promises. They need cos φ > 0, which the paper does not say. μ: the greatest. H: the mean Hessian along the step,
weighted by 2 (1 − s), with which (identity) is Taylor's formula. Integrated by parts, it takes gradients alone, kinks or not:

    H Δ = 2 (mean over s in [0, 1] of ∇L^ε(θ_t + s Δ) − ∇L^ε(θ_t))  ≈  ∇L^ε(θ_{t+1}) − ∇L^ε(θ_t)             (5)

A trial counts where cos φ > 0, a step in I_t was found, and (identity) holds: where the loss does not jump on the way.

**Theorem 2.** ∇s̄ = (∇g)ᵀ x* + ∇b, and ∇L = E Σ_m p_m ∇s̄_m. By ‖x₂* − x₁*‖ ≤ 2ε, ‖x₂*‖ ≤ M, Σ p_m ≤ 1 and Assumption 1

    ‖∇L(θ₂) − ∇L(θ₁)‖ ≤ E max_m (2ε ‖∇g₁‖ + M ‖∇g₂ − ∇g₁‖ + L^(m) ‖θ₂ − θ₁‖),   L^(m) = L^{b(m)} + L^p ‖∇s̄₁‖   (6)

What is taken: on inputs, so for ε and M, the norm of the ball; for ∇g the norm of (∇g)ᵀ from there to ‖·‖₂ (with the spectral
or the Frobenius norm (6) is false for l∞); for parameters and p ‖·‖₂, and for ∇s̄ the spectral norm. M is the least on the balls
of the trial, L^b and L^p are the least for its θ₁, θ₂ and all its x.
"""

import itertools
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import refbound as rb
from refbound import landscape
from refbound.layers import Linear, ReLU
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.table1 import markdown

from .smoothness.derivatives import Case, derivatives, flat, loss, moved

METHODS = {**{name: (name, {}) for name in ("ibp", "crown-ibp", "cap-ibp", "one-step", "cap", "crown")},
           **{f"sparse {p:g}, {q:g}": ("sparse", {"p": p, "q": q}) for p, q in ((0, 0), (0, 0.5), (0.5, 1), (1, 1))}}
LAYERS = (Linear(6, 8), ReLU(), Linear(8, 7), ReLU(), Linear(7, 4))
LENGTHS = 2.0 ** np.arange(-10, 5)  # τ, until one is in I_t
SMALL = 0.01  # ‖θ₂ − θ₁‖ / ‖θ₁‖ of Theorem 2, for every method the same


@dataclass
class Args:
    """The paper's Theorems 1 and 2, evaluated on small networks in training."""

    methods: tuple = argument(tuple(METHODS), "of these", choices=tuple(METHODS))
    eps: float = argument(0.1, "target radius ε of an l∞ ball, for inputs in [0, 1]")
    steps: int = argument(20, "gradient steps of the ramp: the trials of a network")
    seeds: int = argument(5, "networks of each method, from seed 0")
    batch: int = argument(4, "examples of each network")
    out: str = argument(None, "write the quantities of every trial to this JSON file", type=arguments.file)


class Descent(NamedTuple):
    """The quantities of Theorem 1 at one step."""

    before: float     # L^ε(θ_t)
    after: float      # L^ε(θ_{t+1})
    cos: float        # cos φ_t
    mu: float         # μ
    length: float     # τ
    curvature: float  # uᵀH u, by (identity)
    u: object         # (P,)
    Hu: object        # (P,), by (5)

    @property
    def promised(self):
        """What the loss falls by at least, by (4)."""
        return self.before * self.mu / 2 * self.cos ** 2 / norm(self.Hu)

    @property
    def counts(self):
        """Whether H is what (identity) asks for."""
        return abs(self.u @ self.Hu - self.curvature) <= 1e-3 * self.curvature


class Change(NamedTuple):
    """The two sides of Theorem 2, with the three terms of each margin, (N, c)."""

    left: float
    zeroth: object
    first: object
    last: object

    @property
    def right(self):
        return (self.zeroth + self.first + self.last).max(1).mean()

    def terms(self):
        """The three terms at the m of the maximum, their means over the examples."""
        m = (self.zeroth + self.first + self.last).argmax(1)[:, None]
        return [float(np.take_along_axis(term, m, 1).mean()) for term in self[1:]]


def main(argv=None):
    """Prints both tables; the exit status, 1 if an inequality does not hold."""
    args = arguments.parse(Args, "verify.theorems", argv)
    arguments.at_least(args, eps=0, steps=1, seeds=1, batch=1)
    bar = tqdm([(name, seed) for name in args.methods for seed in range(args.seeds)], "networks", leave=False, disable=None)
    trials = [trial for name, seed in bar for trial in run(name, seed, args)]
    one, two, wrong = [], [], [t for t in trials if t["counts"] and t["fall"] < t["promised"] or t["right"] < t["left"]]
    for name in args.methods:
        own = [t for t in trials if t["method"] == name]
        held = [t for t in own if t["counts"]]
        one.append([name, f"{len(held)} of {len(own)}", *(median(held, key) for key in ("cos", "mu", "Hu")),
                    median([{"ratio": t["fall"] / t["promised"]} for t in held], "ratio")])
        two.append([name, *(median(own, key) for key in ("zeroth", "first", "last")),
                    *(median([{"ratio": t[high] / t["left"]} for t in own], "ratio") for high in ("right", "HΔ"))])
    for header, rows in ((("Theorem 1", "counts", "cos φ", "μ", "‖H u‖", "fall / (4)"), one),
                         (("Theorem 2", "2ε ‖∇g‖", "M ‖∇g₂ − ∇g₁‖", "L^(m) ‖θ₂ − θ₁‖", "(6) / left", "(5) / left"), two)):
        print(markdown(header, rows, header[1:]), end="\n\n")
    print(f"medians over {args.steps * args.seeds} trials of each method; {len(wrong)} in which (4) or (6) does not hold")
    if args.out:
        checkpoint.write_json(args.out, {"arguments": asdict(args), "versions": checkpoint.versions(), "trials": trials})
    return int(bool(wrong))


def median(trials, key):
    return f"{np.median([t[key] for t in trials]):.3g}" if trials else "–"


def run(name, seed, args):
    """The quantities of each step of one network, as numbers."""
    method, options = METHODS[name]
    rng = np.random.default_rng(seed)
    net = rb.models.initialise(rng, list(LAYERS), (6,), np.float64)
    x, teacher = rng.random((args.batch, 6)), rng.normal(size=(6, 4))
    a0 = [rng.random((args.batch, *net.shapes[i])) for i in net.relus]
    options = {**options, "a0": a0} if "a0" in rb.METHODS[method].options else options
    case, ball = Case(((x - 0.5) @ teacher).argmax(1), method, options), rb.Ball(x, args.eps)
    for t in range(args.steps):
        near = rb.Ball(x, args.eps * t / args.steps)
        theta, u = flat(net, net.params), direction(net, near, case)
        small, step = -SMALL * norm(theta) * u, descent(net, near, ball, case)
        two = change(net, moved(net, small), ball, case)
        found = {"cos": step.cos, "mu": step.mu, "Hu": norm(step.Hu), "fall": step.before - step.after, "promised": step.promised,
                 "loss": step.before, "length": step.length} if step else {}
        yield {"method": name, "seed": seed, "step": t, "counts": bool(step and step.counts), **found, "left": two.left,
               "right": two.right, **dict(zip(("zeroth", "first", "last"), two.terms())), "HΔ": norm(product(net, small, ball, case))}
        net = moved(net, -step.length * step.u if step else small)


def direction(net, near, case):
    """u (P,)."""
    gradient = loss(net, near, case)[1]
    return gradient / norm(gradient)


def descent(net, near, ball, case):
    """The Descent of the shortest step in I_t against the gradient in the smaller ball; None if cos φ ≤ 0, or if none was found."""
    (before, gradient), u = loss(net, ball, case), direction(net, near, case)
    slope = gradient @ u  # ‖∇L^ε‖ cos φ
    for length in LENGTHS if slope > 0 else ():
        after = landscape.loss_value(moved(net, -length * u), ball, case.y, case.method, **case.options)
        curvature = 2 * (after - before + length * slope) / length ** 2  # (identity)
        if abs(length * curvature / slope - 1) <= np.sqrt(0.5):
            return Descent(before, after, slope / norm(gradient), gradient @ gradient / (2 * before), length, curvature, u,
                           -product(net, -length * u, ball, case) / length)


def product(net, step, ball, case):
    """H Δ (P,) by (5): Simpson's rule, on halves of an interval as long as that changes anything, for gradients jump."""
    def at(s):
        return loss(moved(net, s * step), ball, case)[1]

    def integral(a, b, fa, fm, fb):
        m, fl, fr = (a + b) / 2, at((3 * a + b) / 4), at((a + 3 * b) / 4)
        halves = (b - a) / 12 * (fa + 4 * fl + 2 * fm + 4 * fr + fb)
        if norm(halves - (b - a) / 6 * (fa + 4 * fm + fb)) < 1e-4 * norm(first) or b - a < 1e-4:
            return halves
        return integral(a, m, fa, fl, fm) + integral(m, b, fm, fr, fb)

    first = at(0)
    return 2 * (integral(0, 1, first, at(0.5), at(1)) - first)


def change(net, there, ball, case):
    """The Change from the θ₁ of net to the θ₂ of there."""
    one, two = derivatives(net, ball, case), derivatives(there, ball, case)
    step = norm(flat(there, there.params) - flat(net, net.params))
    Lb = np.linalg.norm(two.b - one.b, axis=2).max(0) / step  # (c,), Assumption 1 (i)
    Lp = np.linalg.norm(two.p - one.p, axis=1).max() / step   # (ii)
    L = Lb + Lp * np.linalg.norm(one.s, 2, axis=(1, 2))[:, None]
    left = loss(there, ball, case)[1] - loss(net, ball, case)[1]
    return Change(norm(left), 2 * ball.eps[:, None] * operator_norm(one.g, ball.norm),
                  furthest(ball) * operator_norm(two.g - one.g, ball.norm), L * step)  # (6)


def furthest(ball):
    """M: the greatest ‖x′‖ in the balls, in their own norm."""
    centre, radius, kind = ball.region(np.float64)
    return float((abs(centre) + radius).max() if kind == np.inf else (np.linalg.norm(centre, kind, axis=1) + radius[:, 0]).max())


def operator_norm(J, kind):
    """The greatest ‖Jᵀ v‖₂ with ‖v‖ ≤ 1 in the norm of a ball, J (..., n, P): by signs for l∞, by unit vectors for l1."""
    gram = J @ J.swapaxes(-1, -2)
    if kind == 2:
        return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., -1], 0))
    v = np.array(list(itertools.product((1, -1), repeat=J.shape[-2]))) if kind == np.inf else np.eye(J.shape[-2])
    return np.sqrt(np.einsum("vn,...nk,vk->...v", v, gram, v).max(-1))


def norm(v):
    return float(np.linalg.norm(v))


if __name__ == "__main__":
    arguments.run(main)
