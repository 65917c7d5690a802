"""Exact verdicts on single images: robust, not robust with a witness, or unknown.

    python -m verify.milp MODEL --eps 0.1 --n 100 --time-limit 120

The solver (programs/mixed_integer.py, which says how sure a verdict is) is given the tightest l, u of cap and crown. It
looks at no margin that one of them bounds below 0, in float64, their own rounding not counted, and at no image that an
attack has found misclassified.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import refbound as rb
from trainers import data
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.inputs.draws import stream

from .formats.load import Given, as_the_run, load_any
from .programs.mixed_integer import ANSWERS, Verdict, check_witness, double, margins, scaled, verdict


@dataclass
class Args(Given):
    """Exact verdicts on MNIST test images: robust, not robust or unknown."""

    n: int = argument(100, "test images, from the first")
    time_limit: float = argument(120.0, "seconds for an image")
    out: str = argument(None, "results, a JSON line for each image (default: runs/verdicts-...jsonl)", type=str)


def main(argv=None):
    """Verdicts on the images that the file of results does not hold yet, saved one by one; then the counts."""
    args = arguments.parse(Args, "verify.milp", argv)
    arguments.at_least(args, eps=0, n=1, time_limit=0.001, seed=0)
    net = double(load_any(args.model))
    as_the_run(args)
    test = data.load("mnist", "test", args.data_dir)
    images, y = data.first(test, args.n, net)
    ball = rb.Ball(data.to_float(images, np.float64), args.eps, domain=None if args.no_clip else (0.0, 1.0))
    data.suspect(args.model, 100 * np.mean(net(ball.x).argmax(1) != y))
    config = {"model": sha256(*net.params.values()), "architecture": [net.spec(), list(net.input_shape)],
              "data": sha256(test.images, test.labels), "eps": args.eps, "domain": ball.domain and list(ball.domain),
              "time_limit": args.time_limit, "seed": args.seed}
    path = Path(args.model).resolve()
    name = f"verdicts-{path.name if path.is_dir() else path.stem}-{args.eps:g}{'-no-clip' * args.no_clip}.jsonl"
    out = Path(args.out or Path("runs") / name)
    rows = resume(out, config)
    for row in rows[:args.n]:
        if row["witness"] is not None:
            check_witness(net, ball[row["image"]:row["image"] + 1], y[row["image"]], row["witness"])
    bar = tqdm(range(len(rows), args.n), initial=min(len(rows), args.n), total=args.n, unit="image", disable=None)
    for i in bar:
        rows.append(one(net, ball[i:i + 1], y[i], i, args))
        out.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(out, "".join(json.dumps(line) + "\n" for line in [{"config": config}, *rows]))
        bar.set_postfix(counts(rows))
        if bar.disable:
            print(f"image {i}: {rows[-1]['answer']} in {rows[-1]['seconds']} s", flush=True)
    found = counts(rows[:args.n])
    least, most = found["not robust"], args.n - found["robust"]
    print(", ".join(f"{count} {answer}" for answer, count in found.items()), f"of {args.n} images in {out}")
    error = f"{100 * least / args.n:.2f} %" + f" to {100 * most / args.n:.2f} %" * (most > least)
    print(f"exact error at ε = {args.eps:g}, {'not clipped' if args.no_clip else 'clipped to [0, 1]'}: {error}")


def one(net, ball, y, i, args):
    """The row of image i; unknown, with a line that says why, where HiGHS fails. Bounds are the tightest of `cap` and `crown`, in float64."""
    start, label = time.monotonic(), np.array([y])
    attack = rb.pgd(scaled(net, ball.x), ball, label, restarts=3, rng=stream("attack", args.seed, i))[0]
    witness = attack if margins(net, attack, y).max() >= 0 else None
    found = [rb.preactivation_bounds(net, ball, method) for method in ("cap", "crown")]
    pre = [(np.maximum(a[0], b[0])[0], np.minimum(a[1], b[1])[0]) for a, b in zip(*found)]
    upper = np.minimum(*(rb.margin_bounds(net, ball, label, method)[0] for method in ("cap", "crown")))
    try:
        answer = verdict(net, ball, y, pre, upper, args.time_limit, witness)
    except RuntimeError as error:
        tqdm.write(f"image {i}: unknown: {error}")
        answer = Verdict("unknown", float(np.delete(upper, y).max()), None, None)
    row = {"image": i, "label": int(y), "seconds": round(time.monotonic() - start, 2), **answer._asdict()}
    return {**row, "witness": None if answer.witness is None else answer.witness.tolist()}


def counts(rows):
    """How many images have each answer."""
    return {answer: sum(row["answer"] == answer for row in rows) for answer in ANSWERS}


def sha256(*arrays):
    """Of dtypes, shapes and bytes: what a file of results belongs to."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(f"{a.dtype} {a.shape}".encode() + np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()


def resume(path, config):
    """The rows of a file of results, none if there is no such file; ValueError if it is of another computation."""
    if not path.exists():
        return []
    try:
        head, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        made, order = dict(head["config"]), [(row["image"], row["answer"] in ANSWERS and "witness" in row) for row in rows]
        if order != [(i, True) for i in range(len(rows))]:
            raise ValueError("its images are not 0, 1, 2, …, each with an answer and its witness or null")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of verdicts ({error}); give another --out") from None
    for name, value in config.items():
        if made.get(name) != value:
            raise ValueError(f"{path}: made with {name} {made.get(name)!r}, now {value!r}; give another --out")
    return rows


if __name__ == "__main__":
    arguments.run(main)
