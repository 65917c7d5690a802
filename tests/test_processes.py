"""Worker processes: results in order and as alone, an exception where it belongs, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trainers.loop import processes

pytestmark = pytest.mark.skipif(not processes.available(), reason="no fork on this system")


def scaled(arrays, item):
    time.sleep(0.002 * (item % 3))
    return item, {name: item * a for name, a in arrays.items()}, os.getpid()


@pytest.mark.parametrize("area", [processes.AREA, 1000, 0])  # all arrays are shared, some, none
@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_order_and_as_one_process_would_give_them(count, area, monkeypatch):
    monkeypatch.setattr(processes, "AREA", max(area, 1))
    arrays = {"a": np.arange(100.0), "b": np.arange(50, dtype=np.float32).reshape(5, 10).T, "c": np.zeros(0)}
    with processes.processes(count) as pmap:
        for _ in range(3):
            found = list(pmap(partial(scaled, arrays), range(11)))
            for item, (index, of, pid) in enumerate(found):
                assert index == item and pid != os.getpid()
                for name, a in arrays.items():
                    np.testing.assert_array_equal(of[name], item * a)
                    assert of[name].dtype == a.dtype and of[name].flags.writeable
    assert len({pid for *_, pid in found}) <= count


def fails(item):
    if item == 3:
        time.sleep(0.2)
        raise ValueError("the third")
    if item == 4:  # the first to fail, but not in order
        raise ValueError("the fourth")
    return item


def dies(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_an_exception_is_raised_here_and_a_death_said():
    with processes.processes(2) as pmap, pytest.raises(ValueError, match="the third"):
        list(pmap(fails, range(5)))
    with processes.processes(2) as pmap, pytest.raises(RuntimeError, match="ended before its work, with exit code -9"):
        list(pmap(dies, range(5)))


RUN = """
import os, sys, time
from trainers.loop import processes
def work(item):
    os.write(1, f"{{os.getpid()}}\\n".encode())
    time.sleep({seconds})
with processes.processes(3) as pmap:
    list(pmap(work, range(3)))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_behind_however_the_process_ends(how):
    command = [sys.executable, "-c", RUN.format(seconds=0.5)]
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, start_new_session=True) as process:
        workers = {int(process.stdout.readline()) for _ in range(3)}
        process.send_signal(how)
        process.wait()
    for _ in range(100):  # a worker notices when its work is done
        if not any(map(runs, workers)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{workers} still run")


def runs(pid):
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_are_there_within_a_second():
    started = time.monotonic()
    with processes.processes(2) as pmap:
        assert list(pmap(fails, range(2))) == [0, 1]
    assert time.monotonic() - started < 1
