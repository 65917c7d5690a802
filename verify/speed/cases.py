"""What is timed: each case is a network, a method and a batch; a sweep lets one of their sizes grow."""

from typing import NamedTuple

import numpy as np

import refbound as rb
from trainers import data

from .cost import multiply_adds

SWEEPS = {  # what grows -> (its values, the widths of a dense network with such a value)
    "batch size": ((16, 32, 64, 128, 256, 512), lambda n: (784, 100, 100, 10)),
    "width": ((50, 100, 200, 400), lambda n: (784, n, n, 10)),
    "depth": ((1, 2, 4, 8), lambda n: (784, *(100,) * n, 10)),
    "classes": ((5, 10, 20, 40, 80), lambda n: (784, 100, 100, n)),
}


class Case(NamedTuple):
    """What a worker needs to know."""

    implementation: str      # refbound, sgemm or a name of PEERS
    model: str               # a name of refbound.models.MODELS
    make: dict               # what to make it with
    method: str
    projections: int         # of cap, or None
    objective: str           # a name of refbound.OBJECTIVES
    batch: int
    eps: float
    threads: int
    seed: int
    memory: float            # GB that it may have, or 0
    device: str              # cpu or cuda

    def network(self):
        make = {"input_shape": (1, 28, 28), **self.make}
        return rb.models.MODELS[self.model](np.random.default_rng(self.seed), **make)

    def dataset(self, net):
        rng = np.random.default_rng(self.seed)
        images = rng.integers(0, 256, (self.batch, *net.input_shape), dtype=np.uint8)
        return data.Dataset(images, rng.integers(0, net.classes, self.batch))

    def gflop(self):
        """A step's floating-point operations in units of 10⁹: two for each multiply-add."""
        return 2e-9 * self.batch * multiply_adds(self.network(), self.method, self.projections, self.objective)


def all_cases(args):
    """(Case, what is varied in a sweep and its value) of every row."""
    for text in args.methods:
        if not args.sweep:
            for model in args.models:
                yield within(args.limit, case_of(args, model, {}, text)), None
            continue
        for of, (values, widths) in SWEEPS.items():
            for n in values:
                case = case_of(args, "mlp", {"widths": widths(n)}, text)
                yield case._replace(batch=n) if of == "batch size" else case, (of, n)


def case_of(args, model, make, text):
    """The Case of refbound with a method by its name here: "cap-50" is cap with 50 projections, "sabr" is by ibp."""
    name, _, number = text.rpartition("-")
    projections = int(number) if name == "cap" and number.isdigit() else None
    later = text in rb.OBJECTIVES and text != "robust"
    method = name if projections else "ibp" if later else text
    if method not in rb.METHODS or method == "alpha":
        raise ValueError("--methods: expected a method that trains, cap-K for K projections, or an objective, "
                         f"got {text!r}")
    return Case("refbound", model, make, method, projections, text if later else "robust",
                *(getattr(args, name) for name in Case._fields[6:]))


def within(limit, case):
    """The case with as many examples as stay below the limit, if it bounds layer by layer."""
    if case.method in ("cap", "crown") and not case.projections:
        while case.batch > case.threads and case.gflop() > limit:
            case = case._replace(batch=max(case.threads, 2 ** int(np.log2(case.batch - 1))))
    return case
