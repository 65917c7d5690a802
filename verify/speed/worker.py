"""One implementation's training step, timed in a process of its own so that two never share threads or memory.

    python -m verify.speed.worker '["refbound", "small", {}, "crown-ibp", null, "robust", 128, 0.1, 2, 0, 12.0, "cpu"]'

It loads this cases.Case, takes a first step and writes {"ready": its ms}. Then it waits: for each line "run" on
standard input it takes steps for about BURST seconds, at least one, and writes {"ms": [...]}; for a line "memory" it
writes {"mb": the peak since the imports}; on a GPU this is what the memory pool of its array module holds, and for a
line "launches" it writes {"launches": the kernels, copies and fills of one step}. It ends with its input. Images and
labels are random, the ball l∞, clipped.
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

from refbound.arrays.device import device_module
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
    net, xp = case.network(), device_module(case.device)
    net = net.with_params({name: xp.asarray(value) for name, value in net.params.items()})
    shard = parallel.shard_size(net, case.method, projections=case.projections) if case.device == "cpu" else case.batch
    if case.batch < train.Args().batch:
        shard = min(shard, -(-case.batch // case.threads))
    args = train.Args(method=case.method, batch=case.batch, shard=shard, projections=case.projections,
                      objective=case.objective, device=case.device)
    images, batch, now = case.dataset(net), np.arange(case.batch), {"eps": case.eps, "beta": 1.0, "kappa": 0.0}
    with parallel.workers(case.threads) as pmap:
        yield lambda: train.gradient(net, train.Minibatch(images, batch, [case.seed], now, args, pmap))


@contextlib.contextmanager
def torch_step(case):
    """A step of the rendering or of a published implementation, on all threads at once; in float32, not in TF32."""
    import torch

    from ..pytorch.rendering import cross_entropy, sequential
    torch.set_num_threads(case.threads)
    torch.backends.cudnn.allow_tf32 = False
    net = case.network()
    model, (images, labels) = sequential(net).to(case.device), case.dataset(net)
    x, y = (torch.from_numpy(of).to(case.device) for of in (data.to_float(images, np.float32), labels))
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
    """The machine's own rate: a product of two square float32 matrices by NumPy's BLAS or CuPy's."""
    a, b = device_module(case.device).asarray(np.random.default_rng(0).random((2, SGEMM, SGEMM), dtype=np.float32))
    with threadpool_limits(case.threads):
        yield lambda: a @ b


def timed(step, wait):
    """Milliseconds of one step, from when the device is idle until it is again."""
    wait()
    started = time.perf_counter()
    step()
    wait()
    return 1e3 * (time.perf_counter() - started)


def on_gpu(case):
    """(a function that waits for the GPU, one that gives the MB the implementation's memory pool has there at most)."""
    if case.implementation in ("refbound", "sgemm"):
        cupy = device_module("cuda")
        return cupy.cuda.Device().synchronize, lambda: cupy.get_default_memory_pool().total_bytes() / 2**20
    import torch
    return torch.cuda.synchronize, lambda: torch.cuda.max_memory_reserved() / 2**20


def launches(step):
    """What PyTorch's profiler records on the GPU in a step: kernels, copies, fills, CuPy's too. None if it cannot."""
    with contextlib.suppress(ImportError, RuntimeError):
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            step()
        return sum(event.device_type.name == "CUDA" for event in seen.events()) or None


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
    if case.memory and case.device == "cpu":
        sgemm = np.ones((256, 256), np.float32)
        sgemm @ sgemm  # OpenBLAS takes its memory at a first product: some versions try for ever where there is none
        limit_memory(case.memory)

    def answer(**value):
        print(json.dumps(value), file=answers, flush=True)

    def held():
        running = ["self", *(child.pid for child in multiprocessing.active_children())]
        return sum(peak(process) - before for process in running)

    before = reset_peak()
    wait, held = (lambda: None, held) if case.device == "cpu" else on_gpu(case)
    with load(case) as step:
        first = timed(step, wait)
        if first < 2000 or case.device == "cuda":
            first = timed(step, wait)  # the very first also makes threads and plans, and compiles a GPU's kernels
        answer(ready=first)
        steps = int(min(20, max(1, 1e3 * BURST / first)))
        for word in map(str.strip, sys.stdin):
            if word == "memory":
                answer(mb=held())
            elif word == "launches":
                answer(launches=launches(lambda: timed(step, wait)))
            else:
                answer(ms=[timed(step, wait) for _ in range(steps)])


if __name__ == "__main__":
    arguments.run(main)
