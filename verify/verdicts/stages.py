"""The stages of verify.complete: each gives (verdict, witness or None) for each image that those before it left."""

import time
from functools import partial

import numpy as np

import refbound as rb
from refbound.branching import branch_and_bound
from refbound.rounding import rounding_allowance
from trainers.evaluate import CHECK
from trainers.inputs.draws import stream

from ..programs.mixed_integer import is_witness, logits, margins, scaled, verdict
from .problem import least, tightest

TIGHT = ("ibp", "cap", "crown")
UNKNOWN = ("unknown", None)
LAST = "attack on the robust"


def decide(net, methods, seed, time_limit, chunk):
    """The verdicts, stages and witnesses of some images, each stage's seconds, and notes: what failed on unknown ones.

    net in float64; methods: {name: options}, of bounds; chunk: the number of the first image, their Ball and y.
    ValueError if what is called robust is attacked.
    """
    first, ball, y = chunk
    bound, rng, left = stream("bound", seed, first), stream("attack", seed, first), np.arange(len(y))
    verdicts, stages, witnesses, failures = np.full(len(y), "unknown", object), [None] * len(y), {}, {}
    answers = {
        "the network": clean,
        **{method: partial(certify, method=method, rng=bound, **more) for method, more in methods.items()},
        "PGD": partial(attack, rng=rng), "cap or crown": tight,
        "PGD, targeted": partial(attack, rng=rng, targeted=True),
        "branch and bound": partial(branch, seconds=time_limit / 2), "MILP": partial(exact, seconds=time_limit / 2)}
    seconds = dict.fromkeys([*answers, LAST], 0.0)
    for stage, answer in answers.items():
        started = time.monotonic()
        for i, (found, x) in zip(left, asked(answer, net, ball[left], y[left], first + left, failures)):
            if found != "unknown":
                verdicts[i], stages[i] = found, stage
            if x is not None:
                witnesses[str(first + i)] = x.tolist()
        left, seconds[stage] = np.flatnonzero(verdicts == "unknown"), time.monotonic() - started
        if len(left) == 0:
            break
    started = time.monotonic()
    for i in attacked(net, ball, y, np.flatnonzero(verdicts == "robust"), rng, first, stages):
        failures[first + i] = f"robust by {stages[i]} and attacked, both within rounding"
        verdicts[i], stages[i] = UNKNOWN
    seconds[LAST], left = time.monotonic() - started, np.flatnonzero(verdicts == "unknown")
    notes = [f"image {first + i}: unknown: {failures[first + i]}" for i in left if first + i in failures]
    return {"verdicts": verdicts.tolist(), "stages": stages, "witnesses": witnesses, "seconds": seconds, "notes": notes}


def attacked(net, ball, y, robust, rng, first, stages):
    """Those of the images called robust that an attack reaches within rounding; ValueError if it reaches further."""
    found = attack(net, ball[robust], y[robust], rng, steps=CHECK) if len(robust) else ()
    reached = [(i, x) for i, (answer, x) in zip(robust, found) if answer == "not robust"]
    for i, x in reached:
        if margins(net, x, y[i]).max() > rounding_allowance(net, ball[i:i + 1], y[i:i + 1]).max():
            raise ValueError(f"image {first + i}: robust by {stages[i]}, yet attacked: a bound or the attack is wrong")
    return [i for i, _ in reached]


def asked(answer, net, ball, y, images, failures):
    """What a stage answers; where it fails, as by a bound that overflows, image by image: unknown where it fails again.

    images: their numbers; failures: {number: the first thing that failed}.
    """
    try:
        return answer(net, ball, y)
    except (ValueError, RuntimeError) as error:
        if len(y) > 1:
            return [asked(answer, net, *one, images[i:i + 1], failures)[0] for i, one in enumerate(singly(ball, y))]
        failures.setdefault(int(images[0]), error)
        return [UNKNOWN]


def clean(net, ball, y):
    """The network itself: is x misclassified? Not if anything overflows."""
    z = logits(net, ball.x)
    return [("misclassified", None) if wrong else UNKNOWN for wrong in np.isfinite(z).all(1) & (z.argmax(1) != y)]


def certify(net, ball, y, method, **options):
    """A method's bounds, of all images at once."""
    return sure(rb.margin_bounds(net, ball, y, method, **options), y)


def attack(net, ball, y, rng, steps=100, **more):
    """PGD; not robust is an image with a margin of at least 0 at the point that it finds."""
    found = rb.pgd(scaled(net, ball.x), ball, y, steps, rng=rng, **more)
    return [("not robust", x) if is_witness(net, x, label) else UNKNOWN for x, label in zip(found, y)]


def tight(net, ball, y):
    """cap and crown, the lower bound of each margin."""
    return sure(np.stack([least(net, *one) for one in singly(ball, y)]), y)


def branch(net, ball, y, seconds):
    """Branch and bound, from the tightest l, u; so many seconds for each image.

    A witness counts if its margin is at least 0 by itself too: in a batch it may round otherwise.
    """
    found = []
    for one, label in singly(ball, y):
        pre = [(np.minimum(l, u)[None], np.maximum(l, u)[None]) for l, u in tightest(net, one, TIGHT)]  # l ≤ u rounds
        answer, _, x, _ = branch_and_bound(net, one, label, pre, seconds=seconds)[0]
        found.append((answer, x) if x is None or is_witness(net, x, label[0]) else UNKNOWN)
    return found


def exact(net, ball, y, seconds):
    """The MILP, from the same."""
    answers = (verdict(net, one, label[0], tightest(net, one, TIGHT), least(net, one, label), seconds)
               for one, label in singly(ball, y))
    return [(answer.answer, answer.witness) for answer in answers]


def singly(ball, y):
    """Each image's ball and label, as batches of one."""
    return [(ball[i:i + 1], y[i:i + 1]) for i in range(len(y))]


def sure(s, y):
    """What margin bounds (N, c) say of each image."""
    return [("robust", None) if certified else UNKNOWN for certified in rb.certified(s, y)]
