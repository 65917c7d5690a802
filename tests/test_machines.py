"""The main job, with few images, on machines that are not ours, as far as this one plays them: the same digits on each.

Other cores and less memory are set by what the system has for that; another system by taking away what it lacks.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOB = ("--limit", "128", "--validation", "40", "--epochs", "1", "--ibp-epochs", "0",
       "--warmup", "0", "--ramp", "1", "--milestones", "--probe", "0")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="set by system calls of Linux")
TRAIN = """
from trainers import train
from trainers.inputs import arguments
arguments.run(train.main)
"""
ABSENT = """
import os, signal, sys
from trainers.loop import parallel
def remove(*names):
    for module, name in names:
        if hasattr(module, name):
            delattr(module, name)
class ctypes:
    def CDLL(name):
        raise {error}
parallel.ctypes = ctypes
"""
MACOS = ABSENT.format(error="AttributeError('no mallopt')") + (
    "remove((os, 'sched_getaffinity')); parallel.processes.sys = type('mac', (), {'platform': 'darwin'})")
WITHOUT_FORK = ABSENT.format(error="TypeError") + """
import multiprocessing
multiprocessing.get_all_start_methods = lambda: ["spawn"]
sys.modules["fcntl"] = sys.modules["resource"] = None
remove((os, "sched_getaffinity"), (os, "fork"), (os, "getloadavg"), (os, "killpg"), (signal, "SIGKILL"))
"""
MACHINES = [
    pytest.param("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", 0, marks=LINUX, id="one core"),
    pytest.param("", 4, id="4 cores"), pytest.param("", 16, id="16 cores"),
    pytest.param("import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))", 2,
                 marks=LINUX, id="2 GB"),
    pytest.param(MACOS, 2, id="macOS"), pytest.param(WITHOUT_FORK, 2, id="no fork")]


def trained(preamble, threads, data, folder):
    """The bytes of the network that the job ends with."""
    command = [sys.executable, "-c", preamble + TRAIN]
    options = ("--threads", str(threads), "--data-dir", data, "--run", str(folder))
    done = subprocess.run([*command, *JOB, *options], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return (folder / "model.npz").read_bytes()


@pytest.fixture(scope="module")
def by_one(few, tmp_path_factory):
    return trained("", 1, few, tmp_path_factory.mktemp("one") / "run")


@pytest.mark.parametrize("preamble, threads", MACHINES)
def test_the_main_job_ends_alike_on_every_machine(preamble, threads, few, by_one, tmp_path):
    assert trained(preamble, threads, few, tmp_path / "run") == by_one


def test_every_text_file_is_opened_in_an_encoding_that_is_said():
    """The system's own is not the same everywhere."""
    for path in (path for room in ("refbound", "trainers", "verify") for path in (ROOT / room).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            name = isinstance(node, ast.Call) and (getattr(node.func, "attr", "") or getattr(node.func, "id", ""))
            if name in ("read_text", "write_text") or name == "open" and isinstance(node.func, ast.Name):
                call = ast.get_source_segment(source, node)
                assert "encoding=" in call or 'b")' in call or "/proc/" in call, f"{path}: {call}"
