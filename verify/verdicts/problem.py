"""What the commands that decide images share: the problem that they are given, and whose results a file holds."""

import hashlib
from pathlib import Path

import numpy as np

import refbound as rb
from refbound.arrays.ops import as_rows
from refbound.rounding import margin_rounding
from trainers import data

from ..formats.load import as_the_run, load_any
from ..programs.mixed_integer import check_witness, double
from ..prover.claims import network_digest

PROGRAM = 3  # raised where the same problem may have another verdict than before: such results are not gone on with


def problem(args, images=None):
    """(network, ball, y, config) in float64 of the first args.n images (0: all) of a Dataset, by default the test set.

    config says what a verdict depends on.
    """
    net = double(load_any(args.model))
    as_the_run(args)
    whole = images or data.load("mnist", "test", args.data_dir)
    x, y = data.first(whole, args.n, net)
    ball = rb.Ball(data.to_float(x, np.float64), args.eps, domain=None if args.no_clip else (0.0, 1.0))
    data.suspect(args.model, 100 * np.mean(net(ball.x).argmax(1) != y))
    return net, ball, y, {
        "model": fingerprint(net),
        "data": sha256(whole.images, whole.labels), "eps": args.eps, "domain": ball.domain and list(ball.domain),
        "time_limit": args.time_limit, "seed": args.seed, "program": PROGRAM}


def fingerprint(net):
    """What tells a network in float64 from others."""
    return network_digest(net.spec(), net.params, net.input_shape)


def tightest(net, ball, methods):
    """[(l, u)] of an example, the tightest of several methods, unit by unit: no method's is always within another's."""
    found = zip(*(rb.preactivation_bounds(net, ball, method) for method in methods))
    return [(np.max([l[0] for l, _ in pre], 0), np.min([u[0] for _, u in pre], 0)) for pre in found]


def least(net, ball, y):
    """The margin bounds (c,) of an example, the lower of cap's and crown's."""
    return np.minimum(*(rb.margin_bounds(net, ball, y, method)[0] for method in ("cap", "crown")))


def default_out(args, kind, ending):
    """Where results go unless --out says so."""
    path = Path(args.model).resolve()
    return Path("runs") / (f"{kind}-{path.name if path.is_dir() else path.stem}-{args.eps:g}"
                           f"{'-no-clip' * args.no_clip}{ending}")


def same(path, made, config):
    """ValueError unless the results in a file were made with this config; an image may have had less time."""
    limit = made.get("time_limit")
    less = isinstance(limit, (int, float)) and limit < config["time_limit"]
    for name, value in config.items():
        if made.get(name) != value and not (name == "time_limit" and less):
            what = ("by another version, which may decide otherwise" if name == "program"
                    else f"with {name} {made.get(name)!r}, now {value!r}")
            raise ValueError(f"{path}: made {what}; give another --out")


def to_try_again(file, config, unknown):
    """Those of the unknown images of a file that had less time than config gives; "again" in it names what is left."""
    return unknown if file["config"]["time_limit"] < config["time_limit"] else sorted({*file.get("again", ())}
                                                                                      & {*unknown})


def witnessed(net, ball, y, i, x, stored=False):
    """ValueError unless x, run through the network again, is a witness for image i.

    One that is stored may come from another machine: its margin may be below 0 by the rounding of both.
    """
    def room(x):
        of_one = margin_rounding(net, abs(as_rows(x[None], net.dtype)), y[i:i + 1])[0]
        return 2 * np.where(np.isfinite(of_one), of_one, 0)
    try:
        check_witness(net, ball[i:i + 1], y[i], x, room if stored else None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"image {i}: {error}") from None


def exact_error(args, least, most, n):
    """A line: the error, from `least` to `most` of n images."""
    error = f"{100 * least / n:.2f} %" + f" to {100 * most / n:.2f} %" * (most > least)
    return f"exact error at ε = {args.eps:g}, {'not clipped' if args.no_clip else 'clipped to [0, 1]'}: {error}"


def sha256(*arrays):
    """Of dtypes, shapes and bytes: what a file of results belongs to."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(f"{a.dtype} {a.shape}".encode() + np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()
