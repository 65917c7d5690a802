"""The floor of each pass of a training step, from what the machine can do at best, beside the time that the pass takes.

    floor = 2 multiply-adds / the rate of sgemm + bytes / the rate of a copy

Multiply-adds are those of cost.py, pass by pass. Bytes are what has to be moved if nothing is moved twice: a product
reads its input and writes its output, an outer product reads both, and a ReLU reads and writes each vector that passes
it. Weights, windows and what lies between two operations on one array are not in the floor.

Every core at once times the passes, refbound's own functions one by one, on a shard of the trainer's size and one BLAS
thread, and the two rates: sgemm (1024³), and copying an array as large as the shard's largest. The least times count.
"""

import itertools
import statistics
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

import refbound as rb
from refbound.layers import forward, margin_matrix
from refbound.losses import cross_entropy_vjp
from trainers.files.words import markdown
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.loop import parallel

from .cost import layer_costs
from .report import number

SGEMM, COPIES = 1024, 10  # copies one after another: the array is where a pass leaves it, in the cache if it fits there
COLUMNS = "10⁶ multiply-adds", "MB", "ms by sgemm", "ms by copy", "ms"


@dataclass
class Args:
    """Print each pass of a training step with its multiply-adds, bytes, floor by the machine's rates, and time."""

    models: tuple = argument(("small", "dm_small"), "networks", choices=tuple(rb.models.MODELS))
    methods: tuple = argument(
        ("ibp", "crown-ibp", "one-step"), "methods", choices=("ibp", "crown-ibp", "cap-ibp", "one-step"))
    batch: int = argument(128, "examples in a step")
    repeats: int = argument(25, "times that everything is timed; the least is printed")
    threads: int = argument(0, "cores (0: all)")


def floors(args):
    """Prints the table, and the rates."""
    arguments.at_least(args, batch=1, repeats=1, threads=0)
    cores, rows, rates = args.threads or parallel.available_cores(), [], []
    with parallel.workers(cores) as pmap:
        for model, method in itertools.product(args.models, args.methods):
            net = rb.models.MODELS[model](np.random.default_rng(0), input_shape=(1, 28, 28))
            shard = min(parallel.shard_size(net, method), args.batch)
            examples = -(-args.batch // (shard * cores)) * shard  # of one core
            found = list(pmap(partial(measure, net, method, shard, args.repeats), range(cores)))
            of = {name: statistics.mean(core[name] for core in found) for name in found[0]}
            rates.append((of["sgemm"], of["copy"]))
            for name, (work, numbers) in counted(net, method).items():
                of_pass = (1e-6 * work, 4e-6 * numbers, 2e3 * work / of["sgemm"], 4e3 * numbers / of["copy"],
                           1e3 * of[name] / shard)
                rows.append((f"{model}, {method}: {name}", *(number(examples * value) for value in of_pass)))
    sgemm, copy = (statistics.median(rate) for rate in zip(*rates))
    print(markdown(("pass", *COLUMNS), rows, right=COLUMNS))
    print(f"\nOne core's share of a batch of {args.batch}, {cores} at work; the least of {args.repeats} times. "
          f"Its rates meanwhile: sgemm {1e-9 * sgemm:.0f} GFLOP/s, copy {1e-9 * copy:.0f} GB/s.")
    return 0


def counted(net, method):
    """{pass: (multiply-adds, numbers read and written)} for one example."""
    cost, S = layer_costs(net), net.classes - 1
    inner = [i for i in cost if i < net.relus[-1]]  # where bounds go through; the last layer is merged with C(y)

    def of(vectors, layers, relus):  # a product, or a crossing, for each time that one is named
        numbers = sum(net.units[i] + net.units[i + 1] for i in layers) + 2 * sum(net.units[i] for i in relus)
        return vectors * sum(cost[i] for i in layers), vectors * numbers

    passes = {"logits": of(1, cost, net.relus), "intervals": of(2, inner, net.relus[:-1])}
    if method == "one-step":
        passes["slopes"] = of(S, 2 * inner, 2 * net.relus)  # back, and forward
    box = of(2, [], net.relus[-1:])
    passes["margins"] = box if method == "ibp" else of(S, inner, net.relus)
    passes["margins, gradient"] = box if method == "ibp" else of(S, 2 * inner, net.relus)  # forward, and outer
    passes["intervals, gradient"] = of(2, inner + inner[1:], net.relus[:-1])  # outer, and adjoint
    return {**passes, "whole": tuple(map(sum, zip(*passes.values())))}


def passes_of(net, method, region, y, a0):
    """Takes a step; says the name of each pass of `counted` when it is done."""
    row, C, options = rb.METHODS[method], margin_matrix(y, net.classes, net.dtype), {}
    forward(net, region.centre)
    yield "logits"
    found = row.preactivation(net, region, options)
    yield "intervals"
    if method == "one-step":
        options["slopes"] = row.slopes(net, region, C, found.pre, a0)
        yield "slopes"
    margins = row.margins(net, region, C, found.pre, options)
    yield "margins"
    _, dpre = row.margins_vjp(cross_entropy_vjp(1 / len(y), margins.s), net, margins)
    yield "margins, gradient"
    row.preactivation_vjp(dpre, net, found)
    yield "intervals, gradient"


def measure(net, method, shard, repeats, core):
    """The least of a core: {pass: seconds, "whole": robust_loss's}, "sgemm" in operations, "copy" in bytes a second."""
    rng, seen = np.random.default_rng(core), {}
    ball, y = rb.Ball(rng.random((shard, *net.input_shape), dtype=net.dtype), 0.1), rng.integers(0, net.classes, shard)
    a0 = [rng.random((shard, net.units[i]), dtype=net.dtype) for i in net.relus]
    a, b = rng.random((2, SGEMM, SGEMM), dtype=np.float32)
    entries, region = (2 if method == "ibp" else net.classes - 1) * shard * max(net.units), ball.region(net.dtype)
    largest, other = np.ones((2, entries), np.float32)

    def work():  # all that is timed, in turn
        a @ b
        yield "sgemm"
        [np.copyto(other, largest) for _ in range(COPIES)]
        yield "copy"
        rb.robust_loss(net, ball, y, method, rng=rng)
        yield "whole"
        yield from passes_of(net, method, region, y, a0)

    for _ in range(repeats):
        started = time.perf_counter()
        for name in work():
            seen.setdefault(name, []).append(time.perf_counter() - started)
            started = time.perf_counter()
    of = {name: min(seconds) for name, seconds in seen.items()}
    return {**of, "sgemm": 2 * SGEMM**3 / of["sgemm"], "copy": 2 * COPIES * largest.nbytes / of["copy"]}
