"""Worker processes that share arrays with the one they serve; what they compute is the same for any number of them.

Threads of one process take turns at Python's lock; processes do not. A worker is a fork: it has all that was imported,
and starts in milliseconds. What it is to compute comes through a pipe, pickled, but for the arrays in it (parameters,
images, gradients): these go through shared memory, which has no name and so ends with the last process that holds it.

A worker ends when its pipe does: with the block of `processes`, or with the process that it serves, however that ended.
"""

import contextlib
import mmap
import multiprocessing
import pickle
import signal
import sys
from multiprocessing.connection import wait

import numpy as np

AREA = 2**26  # bytes for the arrays of one message: an address range, of which only what is written takes memory
ALIGNED = 64  # bytes: arrays begin where a cache line does


def available():
    """Whether this system can fork, and may: macOS's own libraries do not survive it."""
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


@contextlib.contextmanager
def processes(count):
    """A function map(f, items) that runs f in `count` processes and yields the results in order of the items.

    f and the items must be picklable. An exception of f is raised here; RuntimeError if a worker ends before its work.
    """
    fork, tasks = multiprocessing.get_context("fork"), mmap.mmap(-1, AREA)
    workers = {}  # pipe -> (process, the memory of its results)
    try:
        for _ in range(count):
            (ours, theirs), results = fork.Pipe(), mmap.mmap(-1, AREA)
            process = fork.Process(target=serve, args=(theirs, tasks, results, [*workers, ours]), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process, results
        yield lambda f, items: run(f, list(items), workers, tasks)
    finally:
        for ours, (process, _) in workers.items():
            ours.close()
            process.terminate()
            process.join()


def run(f, items, workers, tasks):
    """The results of f in order of the items, what it raises too; a worker takes the next item when done with one."""
    message, found, busy, idle, begun = pack(f, tasks), {}, {}, list(workers), 0
    for wanted in range(len(items)):
        while wanted not in found:
            while idle and begun < len(items):
                pipe = idle.pop()
                with contextlib.suppress(ConnectionError):  # its end shows below
                    pipe.send((message, items[begun]))
                busy[pipe], begun = begun, begun + 1
            for pipe in wait(list(busy)):
                found[busy.pop(pipe)] = answer(pipe, *workers[pipe])
                idle.append(pipe)
        raised, value = found.pop(wanted)
        if raised:
            raise value
        yield value


def answer(pipe, process, results):
    """(False, the result) or (True, the exception), as a worker sends it."""
    try:
        raised, message = pipe.recv()
    except (EOFError, ConnectionError):
        process.join()
        raise RuntimeError(f"a worker process ended before its work, with exit code {process.exitcode}"
                           + " (killed, perhaps for memory)" * (process.exitcode == -signal.SIGKILL)) from None
    return raised, message if raised else unpack(*message, results, copy=True)


def serve(pipe, tasks, results, others):
    """A worker: it answers until its pipe ends. An interrupt is for the process that it serves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:  # held, they would keep the pipes of other workers open
        other.close()
    with contextlib.suppress(EOFError, ConnectionError), np.errstate(over="ignore", invalid="ignore"):
        while True:
            message, item = pipe.recv()
            try:
                sent = False, pack(unpack(*message, tasks)(item), results)
            except Exception as error:
                sent = True, error
            pipe.send(sent)


def pack(value, area):
    """(pickle, [(start, end), ...]): the bytes of its arrays are written to `area`, of those that have room there."""
    spans = []

    def placed(buffer):
        raw = buffer.raw()
        start = -(-spans[-1][1] // ALIGNED) * ALIGNED if spans else 0
        if start + raw.nbytes > len(area):
            return True  # pickled as all else
        area[start:start + raw.nbytes] = raw
        spans.append((start, start + raw.nbytes))
        return False

    return pickle.dumps(value, 5, buffer_callback=placed), spans


def unpack(message, spans, area, copy=False):
    """The value that `pack` wrote. Without `copy` its arrays lie in `area`, not to be written to."""
    whole = memoryview(area)
    arrays = [bytearray(whole[a:b]) if copy else whole[a:b].toreadonly() for a, b in spans]
    return pickle.loads(message, buffers=arrays)
