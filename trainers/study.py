"""Studies: the runs of trainers/inputs/presets.py, each gathered into trainers/results when it is finished.

    python -m trainers.study --preset small --results mine --only ibp 'one-step-*-0.1-*' --epochs 60 -- --device cuda

What stands after -- goes to every run (options of trainers.train). A study that was stopped goes on when the same
command is given again; a run whose result is there is skipped. A run that fails does not stop the others. Results do
not depend on --jobs, and two runs on a core each are done sooner than one on both and then the other.

CAP is trained with random projections, which estimate its bounds: the network is evaluated once more, by exact bounds.
"""

import contextlib
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from . import evaluate, train
from .files import checkpoint, record, words
from .inputs import arguments, presets
from .inputs.arguments import argument
from .loop import parallel


@dataclass
class Args:
    """Train the runs of a study, and gather their results."""

    options: tuple = argument((), "after --: options of trainers.train for every run", positional=True, type=str)
    preset: str = argument("reduced", "the study", choices=tuple(presets.STUDIES))
    only: tuple = argument((), "only these: methods, or patterns of names such as 'ibp-*-0.1-*'", type=str)
    epochs: int = argument(0, "epochs of each run, its schedule stretched alike (0: those of the study)")
    jobs: int = argument(1, "runs at a time, each a process of its own with its share of the cores")
    runs: str = argument(None, "where the run folders are (default: runs/PRESET)", type=arguments.folder)
    results: str = argument(None, "where the results go (default: trainers/results)", type=arguments.folder)


def main(argv=None):
    """The study, from its first run or from where it stopped."""
    args = arguments.parse(Args, "trainers.study", argv)
    arguments.at_least(args, jobs=1)
    results = Path(args.results or record.RESULTS)
    study = {name: command(name, options, args) for name, options in
             presets.runs(presets.STUDIES[args.preset], args.only, args.epochs).items()}
    left, failed = [], []
    for name, (_, given) in study.items():
        try:
            left += [] if finished(results / f"{name}.json", given) else [name]
        except ValueError as error:
            failed.append(f"{name}: {error}")
    print(f"{args.preset}: {len(study)} runs, of which {len(study) - len(left) - len(failed)} are finished")
    with side_by_side(args.jobs) as (pmap, call):
        def attempt(number, name):
            print(f"\n{name} ({number} of {len(left)})")
            try:
                gather(*study[name], results, lambda *command: call(name, *command))
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                print(f"{name}: failed: {error}")
                return f"{name}: {error}"

        failed += filter(None, pmap(attempt, range(1, len(left) + 1), left))
    if failed:
        raise ValueError(f"{len(failed)} of {len(study)} runs failed: {'; '.join(failed)}")


IDENTITY = ("run", "objective", "method", "model", "eps", "seed", "beta", "p", "q", "projections", "init",
            "regularise")  # what a run's name stands for


def command(name, options, args):
    """(what to give to trainers.train, what it makes of that) for a run of the study."""
    argv = ["--run", f"{args.runs or f'runs/{args.preset}'}/{name}"]
    for key, value in options.items():
        argv += [f"--{key.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    if args.jobs > 1:
        argv += ["--threads", str(max(1, parallel.available_cores() // args.jobs))]
    whole = [*argv, *args.options]
    wanted, given = (arguments.parse(train.Args, "trainers.train", some, presets.TRAINING) for some in (argv, whole))
    train.check(given)
    for key in IDENTITY + ("rate", "ramp") * args.preset.startswith("search"):
        if getattr(given, key) != getattr(wanted, key):
            raise ValueError(f"--{key}: {name} has {getattr(wanted, key)}, got {getattr(given, key)}; "
                             "expected after -- what all runs may share")
    return whole, given


def finished(path, given):
    """Whether the run's result is there; ValueError if another run's is."""
    if not path.exists():
        return False
    found, wanted = record.finished(record.read_one(path)), asdict(given)
    other = checkpoint.differences(found["arguments"], record.settings(wanted))
    known = found.get("test_set"), record.checksum(wanted)
    if None not in known and len({*known}) > 1:
        other += "; " * bool(other) + f"--data-dir {wanted['data_dir']} has other images or labels"
    if other:
        raise ValueError(f"{path}: holds the result of another run ({other}); expected the same, or another --results")
    return True


@contextlib.contextmanager
def side_by_side(jobs):
    """(map, call): map takes so many runs at a time; call(name, module, argv) is module.main(argv) for the run `name`.

    If they are more than one, it is called in a process of its own, which ends with the study, and the run's name
    stands before each of its lines. RuntimeError, with the last line, if the process fails.
    """
    if jobs == 1:
        yield map, lambda name, module, argv: module.main(argv)
        return
    running, usual = [], signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an error, as an interrupt is

    def call(name, module, argv):
        line = "no output"
        with subprocess.Popen([sys.executable, "-m", module.__name__, *argv], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            running.append(process)
            for line in process.stdout:
                print(f"{name}: {line}", end="")
        if process.returncode:
            raise RuntimeError(f"exit status {process.returncode}, after the line: {line.strip()}")

    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool.map, call
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:  # does nothing to those that have ended
                process.terminate()
            raise
        finally:
            signal.signal(signal.SIGTERM, usual)


def gather(argv, given, results, call):
    """Trains a run, or what is left of it, and writes its result; call(module, argv) is module.main(argv)."""
    call(train, argv)
    folder = Path(given.run)
    result, exact = checkpoint.read_json(folder / "result.json"), folder / "exact.json"
    if result["estimate"] and not (exact.exists() and words.same(result, checkpoint.read_json(exact))):
        print(f"{folder.name} by exact bounds:")
        call(evaluate, [str(folder), "--out", str(exact), "--method", given.method, "--device", given.device,
                        "--threads", str(given.threads)])  # all else as in training, but for the projections
    record.write(folder, results)


if __name__ == "__main__":
    arguments.run(main)
