"""The files of a run folder. Each is written to a temporary name and renamed, so a kill leaves the last whole one."""

import contextlib
import csv
import io
import json
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import scipy

import refbound as rb
from refbound.arrays.device import device_module
from refbound.arrays.ops import to_host, to_like
from refbound.network import whole_arrays, write_whole as write

from ..inputs import draws

FREE = ("run", "threads")  # arguments that a result does not depend on
# what runs had that name no such argument
ADDED = {"ibp_epochs": 0.0, "objective": "robust", "alpha": None, "lam": None, "attack_steps": 8, "l1": 0.0,
         "init": "uniform", "regularise": 0.0}


@contextlib.contextmanager
def alone(folder):
    """Makes a run folder, and holds it while a run writes to it; ValueError if another process does, or for a file.

    Without file locks, all may.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected the folder of a run, or a new name, found a file")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ValueError(f"{folder}: another process trains there") from None
    finally:
        os.close(held)


def open_folder(folder, arguments, report, images=None):
    """Writes a new run's config.json, or finds the same run in the folder: report(result) if it is finished.

    images: the checksums of those that it trains on and holds out.
    """
    if (folder / "config.json").exists():
        config = read_config(folder)
        if other := differences(config["arguments"], arguments) or elsewhere(config, arguments):
            raise ValueError(f"{folder}: holds a run with other arguments ({other}); expected the same, "
                             "or another --run")
        if config.get("images", images) != images:
            raise ValueError(f"{folder}: holds a run on other images than --data and --data-dir have now; "
                             "expected the same, or another --run")
        if not (folder / "result.json").exists():
            if (found := config.get("versions", {}).get("draws", 1)) != draws.VERSION:
                raise ValueError(f"{folder}: expected a run whose draws are of version {draws.VERSION}, got one of "
                                 f"version {found}, which would not go on as it began; give another --run")
            return None
        result = read_json(folder / "result.json")
        try:
            return report(result)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(f"{folder}/result.json: expected the result of a run, found none") from None
    if any(path.suffix != ".part" for path in folder.iterdir()):
        raise ValueError(f"{folder}: holds files, but no config.json; expected a new folder, or that of a run")
    write_json(folder / "config.json", {"arguments": arguments, "versions": versions(arguments["device"]),
                                        "started_in": os.getcwd(), "images": images})
    return None


def known(arguments):
    """The arguments of a run of any version with those it did not name: once the data set said how far images move."""
    crop, moved = arguments.get("crop"), 0 if arguments.get("data", "mnist") == "mnist" else 4
    return {**ADDED, **arguments, "crop": moved if crop is None else crop}


def differences(found, wanted):
    """In words, where the arguments in a run's files are not those that are wanted, but for those that are free."""
    found, wanted = known(found), {k: list(v) if isinstance(v, tuple) else v
                                   for k, v in wanted.items() if k not in FREE}
    return "; ".join(f"--{k.replace('_', '-')} {found.get(k)} there, {v} here"
                     for k, v in wanted.items() if found.get(k) != v)


def elsewhere(config, wanted):
    """In words, another data folder of the same relative name; "" if it is the same, or the run has no "started_in"."""
    name, there = wanted["data_dir"], config.get("started_in")
    same = not (name and there and Path(there, name).is_dir()) or Path(there, name).resolve() == Path(name).resolve()
    return "" if same else f"--data-dir {Path(there, name)} there, {Path(name).resolve()} here"


def write_json(path, value):
    """A value as indented JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_log(path, rows):
    """A CSV of rows, dicts with the names of the last; what one that an earlier version wrote lacks is left empty."""
    lines = [",".join(rows[-1])] + [",".join(str(row.get(name, "")) for name in rows[-1]) for row in rows]
    write(path, "\n".join(lines) + "\n")


def read_log(path):
    """The rows of a CSV of numbers; an empty field is None."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{name: float(v) if v else None for name, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected a table of numbers, as a run writes: {error}") from None
    if not rows:
        raise ValueError(f"{path}: expected at least one row, got none")
    return rows


def save(path, epoch, params, state, rows, probes, best):
    """All that a run needs to go on: parameters, optimiser state, the logs so far and the best validation error."""
    arrays = {f"{part}/{k}": to_host(v) for part, of in (("param", params), ("state", state)) for k, v in of.items()}
    buffer = io.BytesIO()
    np.savez(buffer, meta=json.dumps({"epoch": epoch, "rows": rows, "probes": probes, "best": best}), **arrays)
    write(path, buffer.getvalue())


def restore(path, like):
    """(epoch, params, state, rows, probes, best) as `save` wrote them, the arrays where `like` lives."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = whole_arrays(file)
        meta = json.loads(str(arrays.pop("meta")))
        epoch, *kept = (meta[name] for name in ("epoch", "rows", "probes", "best"))
        if not isinstance(epoch, int) or len(kept[0]) != epoch:
            raise ValueError(f"expected a row for each of {epoch} epochs, found {len(kept[0])}")
    except Exception as error:  # as in refbound.load
        raise ValueError(f"{path}: not a checkpoint: {' '.join(str(error).split()) or type(error).__name__}") from None
    params = {k[6:]: to_like(v, like) for k, v in arrays.items() if k.startswith("param/")}
    state = {k[6:]: to_like(v, like) if v.ndim else v.item() for k, v in arrays.items() if k.startswith("state/")}
    return epoch, params, state, *kept


def load_model(path):
    """(network, config): a network file, or a run folder's best.npz with the arguments of its run ({} else)."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; expected a network (.npz) or a run folder")
    if path.suffix in (".onnx", ".pt", ".pth"):
        raise ValueError(f"{path}: expected a network (.npz) or a run folder; "
                         f"python -m verify.exchange {path} FILE.npz makes one")
    if not path.is_dir():
        return rb.load(path), {}
    if not (path / "best.npz").exists():
        raise ValueError(f"{path}: expected a run folder with best.npz, found none (is the run finished?)")
    return rb.load(path / "best.npz"), arguments_of(path)


NUMBER, NONE = (int, float), type(None)
KINDS = {  # of a run's arguments, and of what config.json has beside them
    **dict.fromkeys(("method", "model", "norm", "data", "objective", "init", "optimizer", "ramp_shape"), str),
    **dict.fromkeys(("eps", "epochs", "ibp_epochs", "warmup", "ramp", "rate", "factor", "regularise"), NUMBER),
    **dict.fromkeys(("train_eps", "alpha", "lam", "adam_beta2", "eta", "p", "q"), (*NUMBER, NONE)),
    **dict.fromkeys(("batch", "shard", "limit", "seed", "split_seed", "validation", "probe"), int),
    **dict.fromkeys(("projections", "crop"), (int, NONE)), **dict.fromkeys(("beta", "kappa", "milestones"), list),
    "no_clip": bool, "data_dir": (str, NONE), "versions": dict, "started_in": str}


def misfit(found):
    """In words, the first of these settings that no run has; "" if there is none."""
    for name, value in found.items():
        kind = KINDS.get(name, object)
        fits = isinstance(value, kind) and (kind is not list or all(isinstance(one, NUMBER) for one in value))
        pair, norm = name in ("beta", "kappa"), name == "norm"
        if not fits or pair and len(value) != 2 or norm and value not in ("inf", "2", "1"):
            return f"{name} {value!r:.60}"
    return ""


def read_config(folder):
    """config.json of a run folder, with the run's arguments."""
    config = read_json(Path(folder) / "config.json")
    if not isinstance(config.get("arguments"), dict):
        raise ValueError(f"{folder}: expected the folder of a run, found no arguments in its config.json")
    if wrong := misfit({"method": None, **config, **config["arguments"]}):
        raise ValueError(f"{folder}: expected the folder of a run, found {wrong} in its config.json")
    return config


def arguments_of(folder):
    """The arguments of a run. A data_dir is as it is found from here: a relative one from where the run was started."""
    config = read_config(folder)
    given = config["arguments"]
    if not given.get("data_dir"):
        return given
    return {**given, "data_dir": str(Path(config.get("started_in", ""), given["data_dir"]))}


def no_constant(name):
    """ValueError for NaN and infinities, which are no JSON; what is not finite is written as null."""
    raise ValueError(f"{name} is no number of JSON")


def read_json(path):
    """The object in a JSON file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=no_constant)
    except FileNotFoundError:
        raise ValueError(f"{path}: expected a JSON file, found nothing there") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON file, found one that cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def versions(device="cpu"):
    """What a result may depend on besides its arguments."""
    gpu = device_module(device) if device != "cpu" else None
    commit = ""
    with contextlib.suppress(OSError):  # no git there
        commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40"], capture_output=True,
                                encoding="utf-8", cwd=Path(__file__).parent).stdout.strip()
    return {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
            "machine": platform.machine(), "commit": commit or "unknown", "draws": draws.VERSION,
            **({"cupy": gpu.__version__,
                "gpu": gpu.cuda.runtime.getDeviceProperties(0)["name"].decode()} if gpu else {})}
