"""Exact verdicts on single images: robust, not robust with a witness, or unknown.

    python -m verify.milp MODEL --eps 0.1 --n 100 --time-limit 120

The solver (programs/mixed_integer.py, which says how sure a verdict is) is given the tightest l, u of cap and crown. It
looks at no margin that one of them bounds below 0, in float64, their own rounding not counted, and at no image that an
attack has found misclassified.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import refbound as rb
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.inputs.draws import stream

from .formats.load import Given
from .programs.mixed_integer import ANSWERS, Verdict, is_witness, scaled, verdict
from .verdicts.problem import default_out, exact_error, least, problem, same, tightest, to_try_again, witnessed


@dataclass
class Args(Given):
    """Exact verdicts on MNIST test images: robust, not robust or unknown."""

    n: int = argument(100, "test images, from the first")
    time_limit: float = argument(120.0, "seconds for an image")
    out: str = argument(None, "results, a JSON line for each image (default: runs/verdicts-...jsonl)", type=str)


def main(argv=None):
    """Verdicts on the images that the file of results does not hold yet, saved one by one; then the counts.

    The file's unknown ones are tried again if they had less time; it names those that have not been.
    """
    args = arguments.parse(Args, "verify.milp", argv)
    arguments.at_least(args, eps=0, n=1, time_limit=0.001, seed=0)
    net, ball, y, config = problem(args)
    out = Path(args.out or default_out(args, "verdicts", ".jsonl"))
    rows, again = resume(out, config)
    out.parent.mkdir(parents=True, exist_ok=True)
    for row in rows[:args.n]:
        if row["witness"] is not None:
            witnessed(net, ball, y, row["image"], row["witness"], stored=True)
    todo = [i for i in again if i < args.n] + [*range(len(rows), args.n)]
    bar = tqdm(todo, initial=args.n - len(todo), total=args.n, unit="image", disable=None)
    for i in bar:
        rows[i:i + 1] = [one(net, ball[i:i + 1], y[i], i, args)]
        again = [j for j in again if j != i]
        lines = [{"config": config, **({"again": again} if again else {})}, *rows]
        checkpoint.write(out, "".join(json.dumps(line) + "\n" for line in lines))
        bar.set_postfix(counts(rows))
        if bar.disable:
            print(f"image {i}: {rows[i]['answer']} in {rows[i]['seconds']} s", flush=True)
    found = counts(rows[:args.n])
    print(", ".join(f"{count} {answer}" for answer, count in found.items()), f"of {args.n} images in {out}")
    print(exact_error(args, found["not robust"], args.n - found["robust"], args.n))


def one(net, ball, y, i, args):
    """Image i's row, by the tighter of `cap` and `crown`, in float64.

    Unknown, and a line says why, if HiGHS fails or a bound overflows.
    """
    start, label, bound = time.monotonic(), np.array([y]), None
    attack = rb.pgd(scaled(net, ball.x), ball, label, restarts=3, rng=stream("attack", args.seed, i))[0]
    witness = attack if is_witness(net, attack, y) else None
    try:
        pre, upper = bounds(net, ball, label)
        bound = float(np.delete(upper, y).max())
        answer = verdict(net, ball, y, pre, upper, args.time_limit, witness)
    except RuntimeError as error:
        tqdm.write(f"image {i}: unknown: {error}")
        answer = Verdict("unknown", bound, None, None)
    row = {"image": i, "label": int(y), "seconds": round(time.monotonic() - start, 2), **answer._asdict()}
    return {**row, "witness": None if answer.witness is None else answer.witness.tolist()}


def bounds(net, ball, label):
    """The tightest (l, u), and the margin bounds; RuntimeError where one overflows."""
    try:
        return tightest(net, ball, ("cap", "crown")), least(net, ball, label)
    except ValueError as error:
        raise RuntimeError(error) from None


def counts(rows):
    """How many images have each answer."""
    return {answer: sum(row["answer"] == answer for row in rows) for answer in ANSWERS}


def resume(path, config):
    """(the rows of a file of results, none if there is no such file; those to try again, which had less time).

    ValueError if it is of another computation.
    """
    if not path.exists():
        return [], []
    try:
        head, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        made, _ = dict(head["config"]), {*head.get("again", ())}
        found = [(row["image"], row["answer"], row["witness"] is None) for row in rows]
        if not all(n == i and answer in ANSWERS and none == (answer != "not robust")
                   for i, (n, answer, none) in enumerate(found)):
            raise ValueError("its images are not 0, 1, 2, …, each with an answer, "
                             "and a witness if it is not robust, else null")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of verdicts ({error}); give another --out") from None
    same(path, made, config)
    return rows, to_try_again(head, config, [row["image"] for row in rows if row["answer"] == "unknown"])


if __name__ == "__main__":
    arguments.run(main)
