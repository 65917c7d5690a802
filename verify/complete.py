"""Every test image decided, robust or not with a witness, by the cheapest means that can: the exact robust error.

    python -m verify.complete RUN_OR_MODEL --eps 0.1

An image goes from stage to stage until one decides it: the network itself; the run's own method, ibp, crown-ibp,
one-step and alpha; PGD of the loss; cap and crown; PGD of each margin; branch and bound, then the MILP, given the
tightest l, u of ibp, cap and crown. All is in float64, the bounds' own rounding not counted; how sure the MILP is,
programs/mixed_integer.py says. At last what is called robust is attacked, and what that finds stops the command, for a
bound is wrong then.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

import refbound as rb
from trainers.evaluate import OPTIONS, certifiers, held_out
from trainers.files import checkpoint, record
from trainers.files.words import markdown
from trainers.inputs import arguments
from trainers.inputs.arguments import argument
from trainers.loop import parallel

from .formats.load import Given
from .programs.mixed_integer import double
from .verdicts.problem import default_out, exact_error, fingerprint, problem, same, to_try_again, witnessed
from .verdicts.stages import clean, decide

VERDICTS = ("misclassified", "robust", "not robust", "unknown")


@dataclass
class Args(Given):
    """Every image of the MNIST test set decided: the exact robust error of a network."""

    n: int = argument(0, "the first n images only (0: all)")
    held_out: bool = argument(
        False, "the training images that the run held out, not the test set: what choices are made by")
    time_limit: float = argument(60.0, "seconds for an image: half for branch and bound, half for the MILP")
    jobs: int = argument(0, "processes (0: one for each core)")
    out: str = argument(None, "results, a JSON file (default: runs/complete-...json)", type=arguments.results)
    record: str = argument(
        None, "also add the verdicts to this record of the run (trainers/results/NAME.json)", type=str)


def main(argv=None):
    """Decides the images that the file of results still lacks, saved chunk by chunk; then the table and the error."""
    args = arguments.parse(Args, "verify.complete", argv)
    arguments.at_least(args, eps=0, n=0, time_limit=0.001, jobs=0, seed=0)
    if args.record and args.held_out:
        raise ValueError("--record: expected the verdicts on the test set, got --held-out")
    net, ball, y, config = problem(args, held_out(args.model, args.data_dir) if args.held_out else None)
    wrong = [answer == "misclassified" for answer, _ in clean(net, ball, y)]
    if args.record:
        belongs(args, config["model"], wrong)
    out = Path(args.out or default_out(args, "held-out" if args.held_out else "complete", ".json"))
    config["methods"] = bounds_of(args.model)
    state, again = resume(out, config, wrong)
    for i, x in state["witnesses"].items():
        if int(i) < len(y):
            witnessed(net, ball, y, int(i), x, stored=True)
    state = decided(net, ball, y, state, again, out, config, args)
    print(report(state, len(y), args), f"verdicts and witnesses: {out}", sep="\n")
    if args.record:
        record.add_verdicts(args.record, state["verdicts"][:len(y)],
                            {**config, "seconds": sum(state["seconds"].values())})


def belongs(args, model, wrong):
    """ValueError if --record is not the record of this network; model: its fingerprint; wrong (N,)."""
    record.belongs(args.record, args.model, args.eps, args.no_clip, wrong)
    beside = Path(args.record).with_suffix(".npz")
    if beside.exists() and fingerprint(double(rb.load(beside))) != model:
        raise ValueError(f"{args.record}: expected the record of {args.model}, found that of another, {beside}")


def decided(net, ball, y, state, again, out, config, args):
    """What the file of results holds when every image is decided; it is written after each chunk of images.

    again: the images to try again, each a chunk; the file names those that have not been.
    """
    size, left = parallel.shard_size(net, *config["methods"]), [*again]
    spans = [(i, i + 1) for i in again if i < len(y)]
    spans += [(i, min(i + size, len(y))) for i in range(len(state["verdicts"]), len(y), size)]
    chunks, done = [(i, ball[i:stop], y[i:stop]) for i, stop in spans], len(y) - sum(stop - i for i, stop in spans)
    out.parent.mkdir(exist_ok=True)
    with (parallel.workers(args.jobs or parallel.available_cores()) as pmap,
          tqdm(initial=done, total=len(y), unit="image", disable=None) as bar):
        decisions = pmap(partial(decide, net, config["methods"], args.seed, args.time_limit), chunks)
        for (first, *_), found in zip(chunks, decisions):
            for i, x in found["witnesses"].items():
                witnessed(net, ball, y, int(i), x)
            for note in found.pop("notes"):
                tqdm.write(note)
            left = [i for i in left if i != first]
            state = {"config": config, **joined(state, first, found), **({"again": left} if left else {})}
            checkpoint.write(out, json.dumps(state) + "\n")
            done += len(found["verdicts"])
            bar.update(len(found["verdicts"]))
            if bar.disable:
                print(f"{done} of {len(y)} images", flush=True)
    return state


def bounds_of(model):
    """{method: its options} of what may certify an image: the method of the run, if it is one, then the cheap ones."""
    given = checkpoint.arguments_of(model) if Path(model).is_dir() else {}
    own = certifiers(given["method"], given.get("beta", (1, 1))) if given else ()
    taken = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    return {method: {name: value for name, value in taken.items()
                     if method in own and name in rb.METHODS[method].options}
            for method in dict.fromkeys((*own, "ibp", "crown-ibp", "one-step", "alpha"))}


def resume(path, config, wrong):
    """(what a file of results holds, nothing if there is none; its unknown images that had less time than now).

    wrong: whether the network misclassifies each image. ValueError if the file is damaged or of another computation.
    """
    if not path.exists():
        return {"verdicts": [], "stages": [], "seconds": {}, "witnesses": {}}, []
    state = checkpoint.read_json(path)
    try:
        made, verdicts, stages = dict(state["config"]), list(state["verdicts"]), list(state["stages"])
        hit = [str(i) for i, answer in enumerate(verdicts) if answer == "not robust"]
        if set(verdicts) - set(VERDICTS) or len(stages) != len(verdicts) or {*dict(state["witnesses"])} != {*hit}:
            raise ValueError("expected a verdict and a stage for each image, and a witness for each that is not robust")
        if not all(stage is None or isinstance(stage, str) for stage in stages):
            raise ValueError("expected the name of a stage, or null")
        sum(dict(state["seconds"]).values()), {*state.get("again", ())}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of verdicts ({error}); give another --out") from None
    same(path, made, config)
    if other := [i for i, (answer, w) in enumerate(zip(verdicts, wrong)) if (answer == "misclassified") != w]:
        raise ValueError(f"{path}: says {verdicts[other[0]]} of image {other[0]}, against the network; "
                         "give another --out")
    unknown = [i for i, answer in enumerate(verdicts) if answer == "unknown"]
    return {**state, "verdicts": verdicts, "stages": stages}, to_try_again(state, config, unknown)


def joined(state, first, found):
    """What a file holds with the images of one chunk, from the first, in their places."""
    last = first + len(found["verdicts"])
    seconds = {stage: state["seconds"].get(stage, 0) + spent for stage, spent in found["seconds"].items()}
    return {**{name: [*state[name][:first], *found[name], *state[name][last:]] for name in ("verdicts", "stages")},
            "seconds": seconds, "witnesses": {**state["witnesses"], **found["witnesses"]}}


def report(state, n, args):
    """What each stage decided of the first n images, its seconds in all processes; what is unknown; the exact error."""
    verdicts, seconds = state["verdicts"][:n], state["seconds"]
    count, found = Counter(zip(state["stages"], verdicts)), [verdicts.count(answer) for answer in VERDICTS]
    rows = [[stage, *(count[stage, answer] for answer in VERDICTS[:3]), f"{s:.1f}"] for stage, s in seconds.items()]
    rows.append(["all", *found[:3], f"{sum(seconds.values()):.1f}"])
    header = ["stage", *VERDICTS[:3], "seconds"]
    return "\n".join([markdown(header, rows, header[1:]),
                      f"{found[3]} of {n} images{' held out' * args.held_out} unknown",
                      exact_error(args, found[0] + found[2], n - found[1], n)])


if __name__ == "__main__":
    arguments.run(main)
