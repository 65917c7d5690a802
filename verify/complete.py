"""Every image of a test set decided, robust or not with a witness, by the cheapest means that can: the exact robust error.

    python -m verify.complete RUN_OR_MODEL --eps 0.1

An image goes from stage to stage until one decides it: the network itself; the run's own method, ibp, crown-ibp, one-step and
alpha; PGD of the loss, then of each margin; cap and crown; branch and bound, then the MILP, given the tightest l, u of ibp, cap
and crown. All is in float64, the bounds' own rounding not counted; how sure the MILP is, programs/mixed_integer.py says. At last
what is called robust is attacked, and what that finds stops the command, for a bound is wrong then.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import refbound as rb
from refbound.branching import branch_and_bound
from trainers.evaluate import certifiers
from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.inputs.draws import stream
from trainers.loop import parallel
from trainers.table1 import markdown

from .formats.load import Given
from .programs.mixed_integer import check_witness, margins, scaled, verdict
from .verdicts.problem import default_out, exact_error, problem, same, tightest

VERDICTS = ("misclassified", "robust", "not robust", "unknown")
TIGHT = ("ibp", "cap", "crown")
UNKNOWN = ("unknown", None)


@dataclass
class Args(Given):
    """Every image of the MNIST test set decided: the exact robust error of a network."""

    n: int = argument(0, "the first n images only (0: all)")
    time_limit: float = argument(60.0, "seconds for an image: half for branch and bound, half for the MILP")
    jobs: int = argument(0, "processes (0: one for each core)")
    out: str = argument(None, "results, a JSON file (default: runs/complete-...json)", type=arguments.file)


def main(argv=None):
    """Decides the images that the file of results does not hold yet, saved chunk by chunk; then the table and the error."""
    args = arguments.parse(Args, "verify.complete", argv)
    arguments.at_least(args, eps=0, n=0, time_limit=0.001, jobs=0, seed=0)
    if args.eps is not None and args.eps > 1:
        raise ValueError(f"--eps: expected at most 1, as wide as pixels are, got {args.eps:g}")
    net, ball, y, config = problem(args)
    methods = bounds_of(args.model)
    out, config = Path(args.out or default_out(args, "complete", ".json")), {**config, "methods": methods}
    state = resume(out, config)
    for i, x in state["witnesses"].items():
        if int(i) < len(y):
            witnessed(net, ball, y, int(i), x)
    done, size = len(state["verdicts"]), parallel.shard_size(net, *methods)
    chunks = [(i, ball[i:min(i + size, len(y))], y[i:i + size]) for i in range(done, len(y), size)]
    out.parent.mkdir(exist_ok=True)
    with (parallel.workers(args.jobs or parallel.available_cores()) as pmap,
          tqdm(initial=min(done, len(y)), total=len(y), unit="image", disable=None) as bar):
        for found in pmap(partial(decide, net, methods, args), chunks):
            for i, x in found["witnesses"].items():
                witnessed(net, ball, y, int(i), x)
            for note in found.pop("notes"):
                tqdm.write(note)
            seconds = Counter(state["seconds"])
            seconds.update(found["seconds"])
            state = {"config": config, "verdicts": state["verdicts"] + found["verdicts"], "stages": state["stages"] + found["stages"],
                     "seconds": dict(seconds), "witnesses": {**state["witnesses"], **found["witnesses"]}}
            checkpoint.write(out, json.dumps(state) + "\n")
            bar.update(len(found["verdicts"]))
    print(report(state, len(y), args), f"\nthe verdicts and the witnesses are in {out}")


def bounds_of(model):
    """The methods that may certify an image: that of the run, if it is one, then the cheap ones, the cheapest first."""
    given = checkpoint.arguments_of(model) if Path(model).is_dir() else {}
    own = certifiers(given["method"], given.get("beta", (1, 1))) if given else ()
    return list(dict.fromkeys((*own, "ibp", "crown-ibp", "one-step", "alpha")))


def resume(path, config):
    """What a file of results holds, nothing if there is none; ValueError if it is damaged or of another computation."""
    if not path.exists():
        return {"verdicts": [], "stages": [], "seconds": {}, "witnesses": {}}
    state = checkpoint.read_json(path)
    try:
        made, verdicts = dict(state["config"]), state["verdicts"]
        hit = [str(i) for i, answer in enumerate(verdicts) if answer == "not robust"]
        if set(verdicts) - set(VERDICTS) or len(state["stages"]) != len(verdicts) or list(state["witnesses"]) != hit:
            raise ValueError("expected a verdict and a stage for each image, and a witness for each that is not robust")
        Counter(state["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of verdicts ({error}); give another --out") from None
    same(path, made, config)
    return state


def witnessed(net, ball, y, i, x):
    """ValueError unless x, run through the network again, is a witness for image i."""
    try:
        check_witness(net, ball[i:i + 1], y[i], x)
    except ValueError as error:
        raise ValueError(f"image {i}: {error}") from None


def decide(net, methods, args, chunk):
    """The verdicts, stages and witnesses of some images (the number of the first, their Ball, y), seconds and notes."""
    first, ball, y = chunk
    drawn, rng, left = stream("bound", args.seed, first), stream("attack", args.seed, first), np.arange(len(y))
    verdicts, stages, witnesses, seconds, notes = ["unknown"] * len(y), [None] * len(y), {}, {}, []
    for stage, answers in {
            "the network": clean, **{method: partial(certify, method=method, rng=drawn) for method in methods},
            "pgd": partial(attack, rng=rng), "pgd, targeted": partial(attack, rng=rng, restarts=3, targeted=True),
            "cap or crown": tight, "branch and bound": partial(branch, seconds=args.time_limit / 2),
            "MILP": lambda *here: exact(*here, first + left, args.time_limit / 2, notes)}.items():
        if len(left) == 0:
            break
        started = time.monotonic()
        for i, (answer, x) in zip(left, answers(net, ball[left], y[left])):
            if answer != "unknown":
                verdicts[i], stages[i] = answer, stage
            if x is not None:
                witnesses[str(first + i)] = x.tolist()
        left = np.array([i for i in left if verdicts[i] == "unknown"], int)
        seconds[stage] = time.monotonic() - started
    started, robust = time.monotonic(), np.flatnonzero(np.array(verdicts) == "robust")
    for i, (answer, _) in zip(robust, attack(net, ball[robust], y[robust], rng, steps=20) if len(robust) else ()):
        if answer == "not robust":
            raise ValueError(f"image {first + i}: robust by {stages[i]}, yet attacked: a bound or the attack is wrong")
    seconds["attack on the robust"] = time.monotonic() - started
    witnesses = dict(sorted(witnesses.items(), key=lambda item: int(item[0])))
    return {"verdicts": verdicts, "stages": stages, "witnesses": witnesses, "seconds": seconds, "notes": notes}


# Each stage gives (verdict, witness or None) for each image.

def clean(net, ball, y):
    return [("misclassified", None) if wrong else UNKNOWN for wrong in net(ball.x).argmax(1) != y]


def certify(net, ball, y, method, rng):
    return sure(rb.margin_bounds(net, ball, y, method, rng=rng), y)


def attack(net, ball, y, rng, steps=100, **more):
    found = rb.pgd(scaled(net, ball.x), ball, y, steps, rng=rng, **more)
    return [("not robust", x) if margins(net, x, label).max() >= 0 else UNKNOWN for x, label in zip(found, y)]


def tight(net, ball, y):
    return sure(least(net, ball, y), y)


def branch(net, ball, y, seconds):
    found = []
    for i in range(len(y)):
        pre = [(l[None], u[None]) for l, u in tightest(net, ball[i:i + 1], TIGHT)]
        found += branch_and_bound(net, ball[i:i + 1], y[i:i + 1], pre, seconds=seconds)
    return [(one.answer, one.witness) for one in found]


def exact(net, ball, y, images, seconds, notes):
    found = []
    for i, image in enumerate(images):
        one = ball[i:i + 1]
        try:
            answer = verdict(net, one, y[i], tightest(net, one, TIGHT), least(net, one, y[i:i + 1])[0], seconds)
            found.append((answer.answer, answer.witness))
        except RuntimeError as error:
            notes.append(f"image {image}: unknown: {error}")
            found.append(UNKNOWN)
    return found


def sure(s, y):
    """What margin bounds (N, c) say of each image."""
    return [("robust", None) if certified else UNKNOWN for certified in rb.certified(s, y)]


def least(net, ball, y):
    """The lower of the margin bounds of cap and crown (N, c), an image at a time."""
    images = [(ball[i:i + 1], y[i:i + 1]) for i in range(len(y))]
    return np.concatenate([np.minimum(*(rb.margin_bounds(net, *one, method) for method in ("cap", "crown"))) for one in images])


def report(state, n, args):
    """How many of the first n images each stage decided and what all took, as a table; and the exact error."""
    verdicts, stages = state["verdicts"][:n], state["stages"][:n]
    count = Counter(zip(stages, verdicts))
    rows = [[stage, *(count[stage, answer] for answer in VERDICTS[:3]), f"{spent:.1f}"] for stage, spent in state["seconds"].items()]
    rows.append(["all", *(verdicts.count(answer) for answer in VERDICTS[:3]), f"{sum(state['seconds'].values()):.1f}"])
    total = f"{verdicts.count('unknown')} of {n} images unknown"
    error = exact_error(args, n - verdicts.count("robust") - verdicts.count("unknown"), n - verdicts.count("robust"), n)
    return "\n".join([markdown(["stage", *VERDICTS[:3], "seconds"], rows, (*VERDICTS[:3], "seconds")), total, error])


if __name__ == "__main__":
    arguments.run(main)
