"""A minibatch in shards of fixed size, each on one core with one BLAS thread, and their sum in fixed order.

A shard's temporaries stay in cache, and what a shard computes does not depend on the process or thread that runs it:
the result is the same to the last bit for any number of them.
"""

import contextlib
import ctypes
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from . import processes

ALLOCATOR = {-3: 2**30, -1: 2**31 - 1, -8: 1}  # glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX


def available_cores():
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(args):
    """As many cores as asked for; on a GPU one, for it works on one shard after another, and holds what they hold."""
    return 1 if args.device == "cuda" else args.threads or available_cores()


@contextlib.contextmanager
def workers(threads):
    """A function map(f, items) that runs f on `threads` cores and yields the results in order of the items.

    Each core has a process, so that f and the items must be picklable, or, where a system cannot fork, a thread. An
    overflow raises no warning there: who gets the result checks it.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        for option, value in ALLOCATOR.items():  # glibc alone: reusing freed arrays saves a page fault per 4 KiB
            ctypes.CDLL(None).mallopt(option, value)
    with threadpool_limits(1):
        if threads > 1 and processes.available():
            with processes.processes(threads) as pmap:
                yield pmap
            return
        with ThreadPoolExecutor(threads) as pool:
            run = pool.map if threads > 1 else map
            yield lambda f, items: run(np.errstate(over="ignore", invalid="ignore")(f), items)


def shards(n, size):
    """[slice, ...] of `size` examples each, the last perhaps less."""
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def shard_size(net, *methods, projections=0):
    """Examples in a shard: so many that the largest (S, N, n) array of a bound has about a million entries, 8 to 64.

    For ibp S = 2, centre and radius; 128 where its arrays are so small that a core would mostly wait for Python.
    With random projections of cap there is an array of each for the input and each ReLU but the last.
    """
    S = 2 if set(methods) == {"ibp"} else max(net.classes - 1, (projections or 0) * len(net.relus))
    entries = S * max(net.units)
    return max(8, min(128 if entries <= 2**11 else 64, 1 << round(math.log2(max(2**20 // entries, 1)))))
