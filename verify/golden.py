"""Reference outputs for other implementations: `write` them, and `check` an implementation's arrays against them.

    python -m verify.golden write DIR
    python -m verify.golden check [FILE ...] [--reference DIR] [--tolerance 1e-9]

golden/README.md says what a case and its arrays are. Where an array differs, it is recomputed under the conventions
that implementations are known to choose otherwise, and under their ways of presenting it; one that matches is named.
"""

import difflib
import functools
import io
import itertools
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from refbound import checks
from trainers.files.checkpoint import write as write_file
from trainers.inputs.arguments import Parser, number, run

from .formats import reason
from .reference.conventions import difference, explain, under
from .reference.cases import CASES, TRAINED, VARIANTS, golden, problem

SHIPPED = Path(__file__).with_suffix("")
SINGLE = 1e-5  # as float32 may err
JSON_COPIES = ("hand", "dead", "linear", "eps-zero")


def check(path, arrays, tolerance, quiet=False, complete=False, answers=True):
    """Prints how a file's arrays compare with these; True if it holds some and they agree; all, where complete."""
    theirs, counts = read(path), dict.fromkeys(("agree", "differ", "unknown", "missing"), 0)
    names = [name for name in arrays if name != "provenance"]
    recompute = functools.cache(functools.partial(under, arrays))

    def tell(state, text, number=1):
        counts[state] += number
        if number and not (state == "agree" and quiet):
            print(f"{state:<8} {text}")

    for name in filter(theirs.__contains__, names):
        error, where, known = compare(name, theirs[name], arrays, tolerance, recompute)
        if error <= tolerance:
            tell("agree", f"{name}  {error:.1e}")
            continue
        known = known or "as precise as float32" * (error < SINGLE)
        shown = f"{error:.1e} {where}" if answers or "shape" in where else where.partition(", expected")[0]
        tell("differ", f"{name}  {shown}{known and f'  <- {known}'}")
    for name in [name for name in theirs if name not in arrays]:
        near = difflib.get_close_matches(name, names, 1)
        tell("unknown", f"{name}  (expected {near[0]}?)" if near else name)
    absent = {of: list(members) for of, members in itertools.groupby(filter(lambda n: n not in theirs, names), group)}
    begun = absent.keys() if complete else {group(n) for n in theirs if n in arrays or group(n) != "given"}
    for of in [of for of in absent if of in begun]:
        members = absent.pop(of)
        tell("missing", f"{of}: {' '.join(name.removeprefix(f'{of}/') for name in members)}", len(members))
    rest = sum(map(len, absent.values()))
    tell("missing", f"all {rest} arrays of: {', '.join(absent)}", rest)
    print(f"{path}: {', '.join(f'{n} {state}' for state, n in counts.items())}")
    return bool(counts["agree"]) and not (counts["differ"] or counts["unknown"] or complete and counts["missing"])


def compare(name, theirs, arrays, tolerance, recompute):
    """An array's worst error, where it is, and the known convention that explains it, or ""."""
    error, where = difference(theirs, arrays[name])
    explained = error > tolerance and group(name) in (*VARIANTS, *TRAINED)
    return error, where, explain(name, theirs, arrays, tolerance, recompute) if explained else ""


def group(name):
    """What an array belongs to: a method, an objective by a method, the logits, or what is given."""
    first, *rest = name.split("/")
    return first if first == "logits" or rest and first in (*VARIANTS, *TRAINED) else "given"


def read(path):
    """The arrays of an .npz or .json file, by name; ValueError, in one line, for anything else."""
    if not path.is_file():
        raise ValueError(f"{path}: expected an .npz or .json file, "
                         f"found {'a folder' if path.is_dir() else 'no such file'}")
    try:
        if path.suffix == ".json":
            if not isinstance(entries := json.loads(path.read_text(encoding="utf-8")), dict):
                raise ValueError("expected a JSON object of arrays")
            return {name: from_json(name, entry) for name, entry in entries.items()}
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no whole zip archive")
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # json, zip and header parsers each raise their own classes on foreign bytes
        raise ValueError(f"{path}: not an .npz or .json file of arrays: {' '.join(str(error).split())}") from None


def reference(path):
    """The arrays of a reference file; ValueError unless they are numbers, and its case can be computed."""
    arrays = read(path)
    try:
        if other := [name for name, a in arrays.items() if a.dtype.kind not in "fiuU"]:
            raise ValueError(f"{other[0]}: expected numbers, got {arrays[other[0]].dtype}")
        net, ball, y, _ = problem(arrays)
        checks.problem(net, ball, y)
        float(arrays["beta"]), float(arrays["kappa"])
    except Exception as wrong:  # arrays of a foreign reference may be missing, or wrong in any way
        why = f"it lacks {wrong}" if isinstance(wrong, KeyError) else reason(wrong)
        raise ValueError(f"{path}: expected a reference as `verify.golden write` writes it; "
                         f"of this one: {why}") from None
    return arrays


def from_json(name, entry):
    """An array from {"shape": [...], "data": [row-major]}, or from lists in lists, or a number alone."""
    try:
        return np.array(entry["data"]).reshape(entry["shape"]) if isinstance(entry, dict) else np.array(entry)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{name}: expected a number, lists of equal lengths, or a shape and as many numbers") from None


def as_json(arrays):
    """{name: {"shape": [...], "data": [row-major]}}; numbers in digits that give them back exactly, "inf" a string."""
    def entry(a):
        data = [str(v) if isinstance(v, float) and not np.isfinite(v) else v for v in a.ravel().tolist()]
        return json.dumps({"shape": a.shape, "data": data})
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {entry(a)}" for name, a in arrays.items()) + "\n}\n"


def write(folder):
    """Every case into the folder, and the JSON copies."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        buffer = io.BytesIO()
        np.savez(buffer, **golden(name))  # its zip entries carry no time
        write_file(folder / f"{name}.npz", buffer.getvalue())
        if name in JSON_COPIES:
            write_file(folder / f"{name}.json", as_json(golden(name)))
        print(f"{folder / name}.npz  {len(golden(name))} arrays, {len(buffer.getvalue()) / 1000:.0f} kB")


def references(files, folder):
    """(path, the arrays to compare it with) of each file; if none, of each in the folder, with what the code gives."""
    for name in () if files else CASES:
        yield folder / f"{name}.npz", golden(name)
        if name in JSON_COPIES:
            yield folder / f"{name}.json", golden(name)
    for path in files:
        if not (folder / f"{path.stem}.npz").exists():
            raise ValueError(f"{path}: no reference of that name in {folder}; expected one of "
                             f"{', '.join(sorted(p.stem for p in folder.glob('*.npz'))) or 'none'}")
        yield path, reference(folder / f"{path.stem}.npz")


def parser():
    """The command line."""
    top = Parser(prog="python -m verify.golden", description="Reference outputs: write them, or check "
                                  "another implementation's arrays against them.")
    commands = top.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="write every case")
    writing.add_argument("folder", metavar="DIR", type=Path, help="the folder to write to")
    checking = commands.add_parser("check", help="compare files with the reference files of the same names")
    add_option = checking.add_argument
    add_option("files", metavar="FILE", nargs="*", type=Path,
               help=".npz or .json files; none: the reference files themselves, against what this code computes now")
    add_option("--reference", metavar="DIR", type=Path, default=Path(os.path.relpath(SHIPPED)),
               help="the folder of the reference files (default: %(default)s)")
    add_option("--tolerance", type=number, default=1e-9,
               help="share of an array's largest entry by which an entry may differ (default: %(default)s)")
    add_option("--complete", action="store_true", help="a missing array is a failure (always so without FILE)")
    add_option("--no-answers", dest="answers", action="store_false",
               help="of what differs, do not tell the right number")
    add_option("--quiet", action="store_true", help="say nothing of arrays that agree")
    return top


def main(argv=None):
    """Exit status 0 if all agrees, or all is written."""
    args = parser().parse_args(argv)
    if args.command == "write":
        return write(args.folder)
    if not 0 <= args.tolerance < np.inf:
        raise ValueError(f"--tolerance: expected a number of at least 0, got {args.tolerance}")
    complete = args.complete or not args.files
    good = [check(path, arrays, args.tolerance, args.quiet, complete, args.answers)
            for path, arrays in references(args.files, args.reference)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    run(main)
