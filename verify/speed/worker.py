"""One implementation's training step, timed in a process of its own so that two never share threads or memory.

    python -m verify.speed.worker '["refbound", "small", {}, "crown-ibp", null, 128, 0.1, 2, 0, 12.0]'  (a cases.Case)

It loads, takes a first step and writes {"ready": its ms}. Then it waits: for each line "run" on standard input it takes
steps for about BURST seconds, at least one, and writes {"ms": [...]}; for a line "memory" it writes {"mb": the peak
since the imports}. It ends with its input. Images and labels are random, the ball l∞, clipped.
"""

import contextlib
import importlib
import json
import multiprocessing
import re
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from trainers import data, train
from trainers.inputs import arguments
from trainers.loop import parallel

from ..pytorch.published import PEERS, Region
from .cases import Case

BURST = 0.3  # seconds
SGEMM = 2048


@contextlib.contextmanager
def refbound_step(case):
    """The trainer's own step, in its shards; of a few examples, as those of exact cap, each thread has some."""
    net = case.network()
    shard = parallel.shard_size(net, case.method, projections=case.projections)
    if case.batch < train.Args().batch:
        shard = min(shard, -(-case.batch // case.threads))
    args = train.Args(method=case.method, batch=case.batch, shard=shard, projections=case.projections)
    images, batch, now = case.dataset(net), np.arange(case.batch), {"eps": case.eps, "beta": 1.0, "kappa": 0.0}
    with parallel.workers(case.threads) as pmap:
        yield lambda: train.gradient(net, images, batch, [case.seed], now, args, pmap)


@contextlib.contextmanager
def torch_step(case):
    """A step of the rendering or of a published implementation, on all threads at once."""
    import torch

    from ..pytorch.rendering import cross_entropy, sequential
    torch.set_num_threads(case.threads)
    net = case.network()
    model, (images, labels) = sequential(net), case.dataset(net)
    x, y = torch.from_numpy(data.to_float(images, np.float32)), torch.from_numpy(labels)
    compute = PEERS[case.implementation].prepare(model, x, case.method, case.projections)
    region = Region(x, case.eps, domain=(0.0, 1.0))

    def step():
        with torch.no_grad():
            model(x)
        cross_entropy(compute(region, y).s).mean().backward()
        model.zero_grad(set_to_none=True)

    yield step


@contextlib.contextmanager
def sgemm_step(case):
    """The machine's own rate: a product of two square float32 matrices by NumPy's BLAS."""
    a, b = np.random.default_rng(0).random((2, SGEMM, SGEMM), dtype=np.float32)
    with threadpool_limits(case.threads):
        yield lambda: a @ b


def timed(step):
    """Milliseconds of one step."""
    started = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - started)


def limit_memory(gigabytes):
    """An allocation above it fails, in this process and in each that it forks, where the system can do that."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource
        resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30),) * 2)


def reset_peak():
    """Forgets this process's peak memory so far, where Linux can; gives its present memory in MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak(process="self"):
    """A process's peak memory in MB; where /proc does not tell it, this one's."""
    with contextlib.suppress(OSError, TypeError):  # no such file, or no such line
        return int(re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main():
    """Answers the lines of standard input until it ends."""
    case = Case(*json.loads(sys.argv[1]))
    answers, sys.stdout = sys.stdout, sys.stderr  # what a package prints is no answer
    load = {"refbound": refbound_step, "sgemm": sgemm_step}.get(case.implementation, torch_step)
    if load is torch_step:
        importlib.import_module("verify.pytorch.rendering")
        importlib.import_module(PEERS[case.implementation].package)
    if case.memory:
        limit_memory(case.memory)

    def answer(**value):
        print(json.dumps(value), file=answers, flush=True)

    before = reset_peak()
    with load(case) as step:
        first = timed(step)
        if first < 2000:
            first = timed(step)  # the very first also makes threads and plans
        answer(ready=first)
        steps = int(min(20, max(1, 1e3 * BURST / first)))
        for word in map(str.strip, sys.stdin):
            if word == "memory":
                running = ["self", *(child.pid for child in multiprocessing.active_children())]
                answer(mb=sum(peak(process) - before for process in running))
            else:
                answer(ms=[timed(step) for _ in range(steps)])


if __name__ == "__main__":
    arguments.run(main)
