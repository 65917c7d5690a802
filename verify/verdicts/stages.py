"""The stages of verify.complete: each gives (verdict, witness or None) for each image that those before it left."""

import time
from functools import partial

import numpy as np

import refbound as rb
from refbound.branching import branch_and_bound
from trainers.inputs.draws import stream

from ..programs.mixed_integer import margins, scaled, verdict
from .problem import tightest

TIGHT = ("ibp", "cap", "crown")
UNKNOWN = ("unknown", None)
LAST = "attack on the robust"


def decide(net, methods, seed, time_limit, chunk):
    """The verdicts, stages and witnesses of some images, the seconds of each stage, and notes: what a solver failed on.

    net in float64; chunk: the number of the first image, their Ball and y. ValueError if what is called robust is attacked.
    """
    first, ball, y = chunk
    bound, rng, left = stream("bound", seed, first), stream("attack", seed, first), np.arange(len(y))
    verdicts, stages, witnesses, notes = ["unknown"] * len(y), [None] * len(y), {}, []
    answers = {
        "the network": clean, **{method: partial(certify, method=method, rng=bound) for method in methods},
        "PGD": partial(attack, rng=rng), "cap or crown": tight, "PGD, targeted": partial(attack, rng=rng, targeted=True),
        "branch and bound": partial(branch, seconds=time_limit / 2),
        "MILP": lambda *here: exact(*here, first + left, time_limit / 2, notes)}
    seconds = dict.fromkeys([*answers, LAST], 0.0)
    for stage, answer in answers.items():
        started = time.monotonic()
        for i, (found, x) in zip(left, answer(net, ball[left], y[left])):
            if found != "unknown":
                verdicts[i], stages[i] = found, stage
            if x is not None:
                witnesses[str(first + i)] = x.tolist()
        left, seconds[stage] = np.flatnonzero(np.array(verdicts) == "unknown"), time.monotonic() - started
        if len(left) == 0:
            break
    started, robust = time.monotonic(), np.flatnonzero(np.array(verdicts) == "robust")
    for i, (found, _) in zip(robust, attack(net, ball[robust], y[robust], rng, steps=20) if len(robust) else ()):
        if found == "not robust":
            raise ValueError(f"image {first + i}: robust by {stages[i]}, yet attacked: a bound or the attack is wrong")
    seconds[LAST] = time.monotonic() - started
    return {"verdicts": verdicts, "stages": stages, "witnesses": witnesses, "seconds": seconds, "notes": notes}


def clean(net, ball, y):
    """The network itself: is x misclassified?"""
    return [("misclassified", None) if wrong else UNKNOWN for wrong in net(ball.x).argmax(1) != y]


def certify(net, ball, y, method, rng):
    """A method's bounds, of all images at once."""
    return sure(rb.margin_bounds(net, ball, y, method, rng=rng), y)


def attack(net, ball, y, rng, steps=100, **more):
    """PGD; not robust is an image with a margin of at least 0 at the point that it finds."""
    found = rb.pgd(scaled(net, ball.x), ball, y, steps, rng=rng, **more)
    return [("not robust", x) if margins(net, x, label).max() >= 0 else UNKNOWN for x, label in zip(found, y)]


def tight(net, ball, y):
    """cap and crown, the lower bound of each margin."""
    return sure(np.stack([least(net, *one) for one in singly(ball, y)]), y)


def branch(net, ball, y, seconds):
    """Branch and bound, from the tightest l, u; so many seconds for each image."""
    found = []
    for one, label in singly(ball, y):
        pre = [(l[None], u[None]) for l, u in tightest(net, one, TIGHT)]
        found += branch_and_bound(net, one, label, pre, seconds=seconds)
    return [(decision.answer, decision.witness) for decision in found]


def exact(net, ball, y, images, seconds, notes):
    """The MILP, from the same; unknown, with a note that says why, where HiGHS fails. images: their numbers."""
    found = []
    for (one, label), image in zip(singly(ball, y), images):
        try:
            answer = verdict(net, one, label[0], tightest(net, one, TIGHT), least(net, one, label), seconds)
            found.append((answer.answer, answer.witness))
        except RuntimeError as error:
            notes.append(f"image {image}: unknown: {error}")
            found.append(UNKNOWN)
    return found


def singly(ball, y):
    """Each image's ball and label, as batches of one."""
    return [(ball[i:i + 1], y[i:i + 1]) for i in range(len(y))]


def least(net, ball, y):
    """The margin bounds (c,) of one image, the lower of cap's and crown's."""
    return np.minimum(*(rb.margin_bounds(net, ball, y, method)[0] for method in ("cap", "crown")))


def sure(s, y):
    """What margin bounds (N, c) say of each image."""
    return [("robust", None) if certified else UNKNOWN for certified in rb.certified(s, y)]
