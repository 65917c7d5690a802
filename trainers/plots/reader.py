"""What training left: run folders, and results files (NAME.json, with NAME.npz beside it for some), as the same dicts.

    name         of the folder or file
    arguments    of trainers.train.Args
    versions     of what the result may depend on
    result       the errors on the test set, {} for a run that is not finished
    log          {column: [a value an epoch]}
    landscape    {column: [a value a probe]}; {} where none was measured
    network      the path of the best network, or None
"""

import json
from pathlib import Path

from .. import checkpoint, landscape


def read(paths):
    """[dict, ...] of run folders, results files and folders of results files, in the order of the paths."""
    found = []
    for path in map(Path, paths):
        if (path / "config.json").exists():
            found.append(run(path))
        elif path.is_dir():
            found += [results(file) for file in sorted(path.glob("*.json"))]
        else:
            found.append(results(path))
    return found


def run(folder):
    """A run folder."""
    config = checkpoint.read_config(folder)
    done, tables = folder / "result.json", {}
    for table in ("log", "landscape"):
        file = folder / f"{table}.csv"
        rows = landscape.read(file) if file.exists() else []
        tables[table] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    result = json.loads(done.read_text()) if done.exists() else {}
    return {"name": folder.name, "arguments": config["arguments"], "versions": config["versions"], "result": result,
            **tables, "network": existing(folder / "best.npz")}


def results(file):
    """A results file."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: expected a run folder or a results file: {error}") from None
    missing = [key for key in ("name", "arguments", "result", "log", "landscape") if key not in found]
    if missing:
        raise ValueError(f"{file}: expected a results file, found no {', '.join(missing)} in it")
    return {**found, "network": existing(file.with_suffix(".npz"))}


def existing(path):
    """The path as text, or None where there is no such file."""
    return str(path) if path.exists() else None
