"""A finished run as one JSON file, small enough to be committed: what tables and figures are made from.

    {"name": …, "arguments": {…}, "test_set": "…" or null, "versions": {…}, "result": {…}, "exact": {…} or null,
     "complete": {…} if there is one, "log": {column: [a value an epoch]}, "landscape": {column: [a value a probe]}}

"test_set" is a checksum of images and labels, where the run was given a folder of data;
"result" is what the test set gave (result.json; {} of a run that is not finished), "exact" the same by exact bounds
where the run's own are an estimate, "complete" the verdict on each test image (verify.complete): its first letter, but
for unknown ?. "log" and "landscape" are log.csv and landscape.csv. Numbers have six significant digits; what is missing
or not finite is null. `read` adds "network", the path of the best network, or None.
"""

import contextlib
import json
import math
from collections import Counter
from pathlib import Path

from .. import data
from . import checkpoint
from .checkpoint import NUMBER
from .words import ALONE

RESULTS = Path(__file__).parents[1] / "results"
PARTS = ("arguments", "versions", "result", "log", "landscape")
NUMBERS = {"standard_error", "pgd_error", "verified_error", "training_seconds", "images", "exact_error", "unknown"}
RESULT = ("standard_error", "pgd_error", "verified_error", "estimate", "method")
READ = {  # what tables and figures read of each part, where there is one; a record may lack later arguments
    "arguments": ("method", "model", "eps", "train_eps", "norm", "no_clip", "epochs", "warmup", "ramp", "ramp_shape",
                  "beta", "kappa", "optimizer", "rate", "milestones", "factor", "batch", "p", "q", "projections",
                  "limit", "data", "data_dir", "seed", "probe"),
    "result": (*RESULT, "training_seconds"), "exact": RESULT,
    "complete": ("images", "exact_error", "unknown", "verdicts"), "log": ("verified_error", "seconds", "probe_seconds"),
    "landscape": ("time", "loss", "least_loss", "greatest_loss", "variation", "l2_distance", "cosine_distance",
                  "zero_slopes", "fractional_slopes", "one_slopes")}
SHOWN = ("ibp", "crown-ibp", "one-step")  # methods whose networks figures look at: kept beside their records, seed 0,
LARGEST = 3_000_000  # and up to so many bytes


def gather(folder):
    """The record of a run, from its folder."""
    folder, config = Path(folder), checkpoint.read_config(folder)
    result, exact = (checkpoint.read_json(path) if path.exists() else {}
                     for path in (folder / "result.json", folder / "exact.json"))
    given = checkpoint.arguments_of(folder)
    return whole(folder, {
        "name": folder.resolve().name, "arguments": given, "test_set": checksum(given),
        "versions": (result or config).get("versions"), "result": errors(result), "exact": errors(exact) or None,
        **{name: columns(folder / f"{name}.csv") for name in ("log", "landscape")}})


def errors(found):
    """What an evaluation found, without the arguments and versions that its file also holds."""
    return rounded({k: v for k, v in found.items() if k not in ("arguments", "versions")})


def settings(arguments):
    """A run's arguments as its record has them: without its folder, and of the data's folder the name."""
    folder = arguments.get("data_dir")
    return {**arguments, "run": "", "data_dir": folder and Path(folder).resolve().name}


def checksum(arguments):
    """Of the test set of a run whose data has a folder, if that can be read; else None."""
    if arguments.get("data_dir"):
        with contextlib.suppress(OSError, ValueError):
            return data.load(arguments["data"], "test", arguments["data_dir"]).checksum
    return None


def alike(record):
    """The settings that runs have in common where they are averaged: all that are given, but the seed and the like."""
    given = {**checkpoint.known(settings(record["arguments"])), "test_set": record.get("test_set")}
    return {k: v for k, v in sorted(given.items()) if k not in ALONE and v is not None}


def columns(path):
    """A CSV of numbers by its columns; {} if there is none."""
    if not path.exists():
        return {}
    rows = checkpoint.read_log(path)
    return {name: [rounded(row[name]) for row in rows] for name in rows[0]}


def rounded(value):
    """The value, or all in it, to six significant digits; a whole number as an int, one that is not finite as None."""
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
    """NAME.json of the finished run in `folder`, into `results`; and its best network, if figures look at it."""
    record, results = finished(gather(folder)), Path(results)
    given = record["arguments"] = settings(record["arguments"])
    results.mkdir(parents=True, exist_ok=True)
    network = (Path(folder) / "best.npz").read_bytes()
    if given["method"] in SHOWN and given["seed"] == 0 and len(network) < LARGEST:
        checkpoint.write(results / f"{record['name']}.npz", network)
    checkpoint.write(results / f"{record['name']}.json", text(record) + "\n")


def belongs(path, model, eps, no_clip, wrong):
    """ValueError if the record in a file is not that of this run, its ball and images.

    model: a network or a run folder; wrong (N,): whether it misclassifies each image, as the record's verdicts say too.
    """
    found = read_one(path)
    run = checkpoint.known(settings(checkpoint.arguments_of(model))) if Path(model).is_dir() else {}
    given = {**run, "eps": eps, "no_clip": bool(no_clip), "norm": "inf"}
    if other := checkpoint.differences(found["arguments"], given):
        raise ValueError(f"{path}: expected the record of this run, found another ({other})")
    if (images := found["result"].get("images")) != len(wrong):
        raise ValueError(f"{path}: expected the record of a run with {len(wrong)} test images, found {images}")
    error, verdicts = 100 * sum(wrong) / len(wrong), (found.get("complete") or {}).get("verdicts", "")
    if abs(found["result"]["standard_error"] - error) > 0.02:
        raise ValueError(f"{path}: expected the record of this network, of standard error {error:.2f} %, found that "
                         f"of another, of {found['result']['standard_error']} %")
    if other := [i for i, (verdict, w) in enumerate(zip(verdicts, wrong)) if (verdict == "m") != w]:
        raise ValueError(f"{path}: expected the record of this network, found that of another, which says "
                         f"{verdicts[other[0]]!r} of image {other[0]}")


def add_verdicts(path, verdicts, config):
    """Adds to the record in a file what was decided of its network, as verify.complete has it."""
    n, count = len(verdicts), Counter(verdicts)
    found = {"images": n, "exact_error": 100 * (count["misclassified"] + count["not robust"]) / n,
             "unknown": count["unknown"], **{name: config[name] for name in ("time_limit", "seed", "seconds")},
             "verdicts": "".join("?" if verdict == "unknown" else verdict[0] for verdict in verdicts)}
    checkpoint.write(path, text({**checkpoint.read_json(path), "complete": rounded(found)}) + "\n")


def text(value, indent=""):
    """JSON, a line for each column."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + "  "
    return "{\n" + ",\n".join(f"{inner}{json.dumps(k)}: {text(v, inner)}" for k, v in value.items()) + f"\n{indent}}}"


def finished(record):
    """The record, if its run is finished; ValueError if not."""
    if not record["result"]:
        raise ValueError(f"{record['name']}: expected the folder of a finished run, found no result.json")
    return record


def read(paths=(RESULTS,)):
    """The records of run folders, of results files, and of folders of results files, in the order of the paths."""
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path}: expected a run folder, a result (NAME.json) or a folder of results, "
                             "found nothing there")
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if path / "config.json" in files:
            found.append((gather(path), path / "best.npz"))
        elif files:
            found += [(read_one(file), file.with_suffix(".npz")) for file in files]
        else:
            raise ValueError(f"{path}: expected a run folder or a folder of results (NAME.json, as trainers.study "
                             "writes them), found neither")
    return [{**record, "network": str(network) if network.exists() else None} for record, network in found]


def read_one(path):
    """The record in a file."""
    record = checkpoint.read_json(path)
    if record.get("name") != Path(path).stem:
        raise ValueError(f"{path}: expected the record of a run named {Path(path).stem}, "
                         f"found one named {record.get('name')}")
    return whole(path, record)


def whole(path, record):
    """The record, if it has all that tables and figures read."""
    missing = [part for part in PARTS if not isinstance(record.get(part), dict)]
    missing += [part for part in ("exact", "complete") if not isinstance(record.get(part) or {}, dict)]
    for part, names in () if missing else READ.items():
        found = record.get(part) or {}
        if found or part == "arguments" or part == "log" and record["landscape"]:
            missing += [f"{part}: {name}" for name in names if name not in found]
        if part in ("log", "landscape"):
            fits = are_columns(found, found if part == "log" else ("time",))
            missing += [] if fits else [f"{part}: columns of numbers, of one length"]
        elif part == "arguments":
            wrong = checkpoint.misfit(found)
            missing += [f"arguments of a run ({wrong})"] if wrong else []
        else:
            wrong = [name for name in NUMBERS & found.keys() if not isinstance(found[name], NUMBER)
                     and (found[name] is not None or name != "pgd_error")]
            missing += [f"{part}: {name} that is a number" for name in wrong]
            missing += [f"{part}: method that is a list"] * (not isinstance(found.get("method", []), list))
            verdicts = str(found.get("verdicts") or "")
            if part == "complete" and found and not found.get("images") == len(verdicts) > 0:
                missing.append("complete: a verdict on each image")
    if missing:
        raise ValueError(f"{path}: expected the record of a run, found no {', '.join(missing)}")
    return {"exact": None, **record}


def are_columns(found, full):
    """Whether these are columns of numbers, of one length; None may stand in those that are not named by `full`."""
    return (all(isinstance(column, list) for column in found.values()) and len({*map(len, found.values())}) <= 1
            and all(isinstance(value, NUMBER) or value is None and name not in full
                    for name, column in found.items() for value in column))
