"""A finished run as one JSON file, small enough to be committed: what tables and figures are made from.

    {"name": …, "arguments": {…}, "versions": {…}, "result": {…}, "exact": {…} or null,
     "log": {column: [a value an epoch]}, "landscape": {column: [a value a probe]}}

"result" is what the test set gave (result.json), "exact" the same by exact bounds where the run's own are an estimate, "log" and
"landscape" are log.csv and landscape.csv. Numbers have six significant digits; what is missing or not finite is null.
"""

import json
import math
from pathlib import Path

from . import checkpoint
from .landscape import read as rows_of

RESULTS = Path(__file__).parent / "results"
PARTS = ("arguments", "versions", "result", "log", "landscape")
LARGEST = 3_000_000  # bytes of a network that is kept beside its record


def gather(folder):
    """The record of a finished run, from its folder."""
    folder = Path(folder)
    if not (folder / "result.json").exists():
        raise ValueError(f"{folder}: expected the folder of a finished run, found no result.json")
    result, exact, landscape = (folder / name for name in ("result.json", "exact.json", "landscape.csv"))
    found = load(result)
    return {"name": folder.resolve().name, "arguments": settings(found["arguments"]), "versions": found["versions"],
            "result": errors(found), "exact": errors(load(exact)) if exact.exists() else None,
            "log": columns(folder / "log.csv"), "landscape": columns(landscape) if landscape.exists() else {}}


def errors(found):
    """What an evaluation found, without the arguments and versions that its file also holds."""
    return rounded({k: v for k, v in found.items() if k not in ("arguments", "versions")})


def settings(arguments):
    """A run's arguments as its record has them: without its folder, and of the data's folder the name."""
    kept = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items() if k != "run"}
    return {**kept, "data_dir": arguments["data_dir"] and Path(arguments["data_dir"]).resolve().name}


def columns(path):
    """A CSV of numbers by its columns."""
    rows = rows_of(path)
    return {name: [rounded(row[name]) for row in rows] for name in rows[0]}


def rounded(value):
    """The value, or all in it, to six significant digits; a number that is whole as an int, one that is not finite as None."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short == int(short) else short


def write(folder, results):
    """NAME.json of the finished run in `folder`, into `results`; with seed 0 its best network as well, if it is small."""
    record, results = gather(folder), Path(results)
    results.mkdir(parents=True, exist_ok=True)
    network = (Path(folder) / "best.npz").read_bytes()
    if record["arguments"]["seed"] == 0 and len(network) < LARGEST:
        checkpoint.write(results / f"{record['name']}.npz", network)
    checkpoint.write(results / f"{record['name']}.json", text(record) + "\n")


def text(value, indent=""):
    """JSON, a line for each column."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + "  "
    return "{\n" + ",\n".join(f"{inner}{json.dumps(k)}: {text(v, inner)}" for k, v in value.items()) + f"\n{indent}}}"


def read(folder=RESULTS):
    """The records of a folder, by name."""
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise ValueError(f"{folder}: expected a folder of results (NAME.json, as trainers.study writes them), found no such file")
    return [read_one(path) for path in paths]


def read_one(path):
    """The record in a file."""
    record = load(path)
    missing = [part for part in PARTS if not isinstance(record.get(part), dict)]
    if missing or record.get("name") != Path(path).stem:
        raise ValueError(f"{path}: expected the record of a run named {Path(path).stem}, found "
                         + (f"no {', '.join(missing)}" if missing else f"one named {record.get('name')}"))
    return record


def load(path):
    """The object in a JSON file."""
    try:
        value = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: expected a JSON file, found nothing there") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON file, found one that cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value
