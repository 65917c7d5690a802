"""Standard, PGD and verified error of a network on the test set.

    python -m trainers.evaluate RUN_OR_MODEL --eps 0.1 [--method cap] [--no-clip] ...

An image counts as verified if it is classified correctly and one of the methods certifies it, each asked for what those
before it left: give the cheap ones first. It counts as attacked if PGD finds a point of the ball that is misclassified.
What is certified is attacked too, by fewer steps: an image that is both counts as unverified, and how many there are is
reported, for logits that round to a tie are no bug. If float64 shows bound and attack further apart than rounding can
take them, one of them is wrong, and the command stops.
"""

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

import refbound as rb
from refbound import checks
from refbound.arrays.device import device_module
from refbound.arrays.ops import as_rows, images, to_host
from refbound.attack import projection
from refbound.rounding import rounding_allowance, sound_margin_bounds

from . import data
from .files import checkpoint, words
from .inputs import arguments
from .inputs.arguments import argument
from .inputs.draws import VERSION, stream
from .loop import parallel
from .loop.minibatch import ball


@dataclass
class Args:
    """Standard, PGD and verified error of a network on the test set."""

    model: str = argument("", "a network (.npz) or a run folder, whose best network is taken", positional=True)
    eps: float = argument(None, "radius of the ball, pixels in [0, 1] (default: that of the run)", type=float)
    method: tuple = argument((), "methods that may certify an image, any of them (default: that of the run; "
                                 "of a network file crown-ibp)", type=str)
    norm: str = argument(None, "inf, 2 or 1 (default: that of the run, or inf)", choices=("inf", "2", "1"), type=str)
    no_clip: bool = argument(None, "do not intersect the l∞ ball with [0, 1] (default: as the run)", type=bool)
    sound: bool = argument(False, "count in the bounds' own rounding error (l∞, interval methods)")
    held_out: bool = argument(False, "by the training images that the run held out, not the test set: "
                                     "what choices are made by")
    n: int = argument(0, "the first n images only (0: all)")
    pgd_steps: int = argument(100, "steps of the attack; 0 for no attack")
    restarts: int = argument(1, "random starts of the attack; its step is ε/4")
    targeted: bool = argument(False, "the attack ascends each margin by itself as well")
    draws: int = argument(1, "draws of a method that draws; the errors are given with their spread")
    eta: float = argument(None, "η of equation (7) (default: that of the run, or 2)", type=float)
    p: float = argument(None, "rate of sparse where −l > u (default: that of the run, or 1/2)", type=float)
    q: float = argument(None, "rate of sparse elsewhere (default: that of the run, or 1/2)", type=float)
    projections: int = argument(0, "Cauchy projections of cap: an estimate, not a certificate (0: exact)")
    seed: int = argument(None, "of every draw (default: that of the run, or 0)", type=int)
    data: str = argument(None, "data set (default: that of the run, or mnist)", choices=tuple(data.READERS), type=str)
    data_dir: str = argument(None, "its folder (default: that of the run, or MNIST as shipped)", type=str)
    dtype: str = argument("float32", "arithmetic of the bounds", choices=("float32", "float64"))
    device: str = argument("cpu", "cpu or cuda", choices=("cpu", "cuda"))
    threads: int = argument(0, "cores, a process each where the system can fork (0: all)")
    shard: int = argument(0, "images worked on at a time; seeds the draws (default: that of the run by its own method, "
                             "else by network, methods and device)")
    out: str = argument(None, "also write the result to this JSON file", type=arguments.results)


OPTIONS = ("eta", "p", "q")  # of methods, as the run was trained with them
CHECK = 20                   # steps of the attack on a certified image: it can find nothing, unless a bound is wrong
GPU = 16                     # times a CPU's shard is a GPU's: arrays of 64 to 300 MB, one shard at a time


def main(argv=None):
    """Evaluates one network and prints the report."""
    args = arguments.parse(Args, "trainers.evaluate", argv)
    net, config = checkpoint.load_model(args.model)
    args.eps = config.get("eps") if args.eps is None else args.eps
    if args.eps is None:
        raise ValueError("--eps: a network file does not say its ε; expected --eps with a number")
    args.shard = args.shard or (0 if args.method else config.get("shard", 0))
    args.method = args.method or certifiers(config.get("method", "crown-ibp"), config.get("beta", (1, 1)),
                                            config.get("objective", "robust"))
    args.norm = args.norm or config.get("norm", "inf")
    data_given = args.data
    args.data = args.data or config.get("data", "mnist")
    if args.data == config.get("data", "mnist"):
        args.data_dir = args.data_dir or config.get("data_dir")
    check(args)
    for name, default in {**dict.fromkeys(OPTIONS), "no_clip": None, "seed": 0}.items():
        if getattr(args, name) is None:
            setattr(args, name, config.get(name, default))
    if args.held_out and data_given:
        raise ValueError(f"--data: expected none beside --held-out, which takes the run's, got {data_given}")
    images = held_out(args.model, args.data_dir) if args.held_out else data.load(args.data, "test", args.data_dir)
    if args.sound and any((v != v.astype(args.dtype)).any() for v in net.params.values()):
        raise ValueError(f"--sound: the parameters are no {args.dtype} numbers; expected --dtype {net.dtype}")
    xp = device_module(args.device)
    net = net.with_params({k: xp.asarray(v.astype(args.dtype)) for k, v in net.params.items()})
    result = evaluate(net, data.first(images, args.n, net), args)
    print(report(result))
    data.suspect(args.model, result["standard_error"])
    if args.out:
        checkpoint.write_json(args.out, {"arguments": asdict(args), "versions": checkpoint.versions(args.device),
                                         **result})


def held_out(run, data_dir=None):
    """The training images that a run held out."""
    if not Path(run).is_dir() or checkpoint.read_config(run).get("versions", {}).get("draws") != VERSION:
        raise ValueError("--held-out: expected the folder of a run of this version, which says what it held out, "
                         f"got {run}")
    of = checkpoint.arguments_of(run)
    if missing := [name for name in ("data", "data_dir", "validation", "split_seed") if name not in of]:
        raise ValueError(f"--held-out: expected {missing[0]} in {run}/config.json, found none")
    found = data.split_validation(data.load(of["data"], "train", data_dir or of["data_dir"]),
                                  of["validation"], of["split_seed"])[1]
    checksums = checkpoint.read_config(run).get("images")
    if isinstance(checksums, list) and checksums[1:] != [found.checksum]:
        where = data_dir or of["data_dir"] or "MNIST as shipped"
        raise ValueError(f"--held-out: {run} held out other images than those of {where}")
    return found


def certifiers(method, beta, objective="robust"):
    """By what the images of a run are verified: its method, and ibp if its training ended on a mixture with that (3).

    Of an objective other than the bound's loss the bound is not what was minimised: then by crown-ibp and alpha too.
    """
    searched = () if objective == "robust" else ("crown-ibp", "alpha")
    return tuple(dict.fromkeys((method, *("ibp",) * (beta[1] != 1), *searched)))


def check(args):
    """ValueError for a method or a number that cannot be."""
    for method in args.method:
        checks.method(method)
    arguments.at_least(args, eps=0, n=0, pgd_steps=0, restarts=1, draws=1, projections=0, seed=0, threads=0, shard=0)
    arguments.in_pixels(args)
    taken = {name for method in args.method for name in rb.METHODS[method].options}
    for name, unset in {**dict.fromkeys(OPTIONS), "projections": 0}.items():
        if (value := getattr(args, name)) != unset:
            if name not in taken:
                raise ValueError(f"--{name}: not an option of {' or '.join(args.method)}")
            checks.option_value(name, value)


def evaluate(net, dataset, args, quiet=False):
    """The three errors as a dict, with what they depend on. args: the fields of Args, but for the model."""
    dataset, started = data.first(dataset, 0, net), time.monotonic()
    size = args.shard or (parallel.shard_size(net, *args.method, projections=args.projections)
                          * (GPU if args.device == "cuda" else 1))
    parts = parallel.shards(len(dataset.labels), size)
    with parallel.workers(parallel.threads(args)) as pmap:
        results = pmap(partial(_shard, net, dataset, parts, args), range(len(parts)))
        outcomes = list(results if quiet else words.progress(results, "parts of the images evaluated", len(parts)))
    right, attacked, certified = (np.concatenate(columns, -1) for columns in zip(*outcomes))
    both, estimate = attacked & certified, is_estimate(args)
    verified = certified if estimate else certified & ~both  # (draws, N)
    errors = 100 * (~verified).mean(1)
    return {"standard_error": 100 * (1 - float(right.mean())),
            "pgd_error": 100 * float((attacked | ~right).mean()) if args.pgd_steps else None,
            "verified_error": float(errors.mean()), "verified_error_of_draws": errors.tolist(), "estimate": estimate,
            "ties": 0 if estimate else int(both.any(0).sum()), "images": len(right), "held_out": args.held_out,
            "eps": args.eps, "norm": args.norm, "clipped": args.norm == "inf" and not args.no_clip, "sound": args.sound,
            "method": list(args.method), "pgd_steps": args.pgd_steps, "restarts": args.restarts,
            "targeted": args.targeted, "seed": args.seed, "draws": args.draws,
            "dtype": str(net.dtype), "seconds": round(time.monotonic() - started, 1)}


def _shard(net, dataset, parts, args, index):
    """(right (n,), attacked (n,), certified (draws, n)) of some images; every draw is seeded by the shard's index.

    A misclassified image is neither bounded nor attacked. ValueError if bound and attack differ by more than rounding.
    """
    xp, x, y = net.xp, data.to_float(dataset.images[parts[index]], net.dtype), dataset.labels[parts[index]]
    right = to_host(net(xp.asarray(x)).argmax(1)) == y
    certified = np.zeros((args.draws, len(y)), bool)
    for draw in range(args.draws):
        for k, method in enumerate(args.method):
            left = ~certified[draw]
            asked = left & right
            if asked.any():
                draws = drawn(net, method, stream("bound", args.seed, index, draw, k), asked[left])
                here, labels = ball(xp.asarray(x[asked]), args.eps, args), xp.asarray(y[asked])
                s = bounds(args)(net, here, labels, method, **draws, **options_taken(args, method))
                certified[draw, asked] = to_host(rb.certified(s, labels))
    adversarial, rng = x.copy(), stream("attack", args.seed, index)
    proved = certified.any(0) & (not is_estimate(args))
    for chosen, steps in ((right & ~proved, args.pgd_steps), (proved, min(args.pgd_steps, CHECK))):
        if steps and chosen.any():
            adversarial[chosen] = to_host(rb.pgd(
                net, ball(xp.asarray(x[chosen]), args.eps, args), xp.asarray(y[chosen]), steps,
                restarts=args.restarts, rng=rng, targeted=args.targeted))
    attacked = to_host(net(xp.asarray(adversarial)).argmax(1)) != y
    both = np.flatnonzero(attacked & certified.any(0))
    if len(both) and not is_estimate(args):
        apart = beyond_rounding(net, x[both], adversarial[both], y[both], args)
        if apart.any():
            raise ValueError(f"image {parts[index].start + both[apart][0]}: certified, yet attacked, by more than "
                             "rounding: a bound or the attack is wrong")
    return right, attacked, certified


def bounds(args):
    """The function that gives the margin bounds."""
    return sound_margin_bounds if args.sound else rb.margin_bounds


def drawn(net, method, rng, chosen):
    """What a method draws for the chosen ones of some images (a mask), as options: the same whichever those are."""
    if "a0" not in rb.METHODS[method].options:
        return {"rng": rng}
    draws = (rng.random((len(chosen), *net.shapes[i]), net.dtype)[chosen] for i in net.relus)
    return {"a0": [net.xp.asarray(a) for a in draws]}


def beyond_rounding(net, x, at, y, args):
    """(n,) bool: by more than rounding, is the point `at` outside the ball, or in float64 a bound below its margin?"""
    net, xp = net.with_params({name: value.astype(np.float64) for name, value in net.params.items()}), net.xp
    here, rows, y = ball(xp.asarray(x), args.eps, args), as_rows(xp.asarray(at), np.float64), xp.asarray(y)
    nearest = projection(here, np.float64)(rows)
    apart = (xp.abs(nearest - rows) > net.units[0] * float(np.finfo(at.dtype).eps)).any(1)
    z = net(images(nearest, net.input_shape))
    least = z - xp.take_along_axis(z, y[:, None], 1) - rounding_allowance(net, here, y)  # (n, c)
    for method in args.method:
        s = bounds(args)(net, here, y, method, rng=stream("bound", args.seed), **options_taken(args, method))
        apart |= (s < least).any(1)
    return to_host(apart)


def is_estimate(args):
    """Whether the bounds certify nothing."""
    return bool(args.projections and "cap" in args.method)


def options_taken(args, method):
    """The options that were given, of those that the method takes."""
    given = {name: getattr(args, name) for name in OPTIONS} | {"projections": args.projections or None}
    return {name: value for name, value in given.items() if value is not None and name in rb.METHODS[method].options}


def report(result):
    """The result as lines for a person."""
    r, draws = result, result["verified_error_of_draws"]
    spread = f" (from {min(draws):.2f} to {max(draws):.2f} over draws)" if len(draws) > 1 else ""
    clipped = "clipped to [0, 1]" if r["clipped"] else "not clipped"
    ball = f"l{r['norm'].replace('inf', '∞')}, ε = {r['eps']:g}, {clipped}"
    lines = [f"standard error  {r['standard_error']:6.2f} %   on {r['images']} images"
             f"{' held out of the training set' * r.get('held_out', False)}"]
    if r["pgd_error"] is not None:
        starts = f"{r['restarts']} random start{'s' if r['restarts'] > 1 else ''}"
        starts += ", each margin by itself too" * r["targeted"]
        lines.append(f"PGD error       {r['pgd_error']:6.2f} %   {r['pgd_steps']} steps of ε/4, {starts}, "
                     f"seed {r['seed']}")
    name = "estimated error" if r["estimate"] else "verified error "
    lines.append(f"{name} {r['verified_error']:6.2f} %   by {' or '.join(r['method'])}, {ball}, "
                 f"seed {r['seed']}{spread}")
    lines += [f"{'':27}(the bounds' own rounding error is counted in)"] * r["sound"]
    if r.get("ties"):
        lines.append(f"{'':27}({r['ties']} certified, yet attacked by a rounding error: counted as unverified)")
    lines += [f"{'':27}(random projections estimate the bounds: this certifies nothing)"] * r["estimate"]
    return "\n".join(lines)


if __name__ == "__main__":
    arguments.run(main)
