"""How smooth the loss is at one step of training, by the measures of refbound/landscape.py: a row of landscape.csv.

All points are on the minibatch of that step, at its ε and with its draws. Nothing in the run changes by it.
"""

import time
from itertools import count

import numpy as np

from refbound.landscape import LENGTHS, along, as_released, distances, variation

from .minibatch import gradient, relaxation, value

RELEASED = (0.0, *LENGTHS, 1.0)  # τ in the published code
SLOPES = ("zero_slopes", "fractional_slopes", "one_slopes")


def probe(net, after, grads, here):
    """The measures at one step of training, as a dict, with the seconds that they took.

    net, after  the network before and after the optimiser's step
    grads       the gradient of the loss at `net`, before any clipping of its norm
    here        the Minibatch of the step
    """
    started, rate = time.monotonic(), here.now["rate"]
    with np.errstate(over="ignore", invalid="ignore"):  # a measure that is not finite shows
        losses = along(lambda params: value(net.with_params(params), here), net.params, grads, rate)
        l2, cosine = distances(grads, gradient(after, here)[1])
        row = {"least_loss": float(np.min(losses)), "greatest_loss": float(np.max(losses)),
               "variation": variation(losses), "l2_distance": l2, "cosine_distance": cosine}
        shares, *more = relaxation(net, here)
        for name, found in zip((*SLOPES, "tightness", "jump"), (*(shares or [None] * 3), *more)):
            row[name] = "" if found is None else found
        if here.args.as_released:
            row |= as_published(net, grads, here)
    return {**row, "seconds": time.monotonic() - started}


def as_published(net, grads, here):
    """What the published code logs: new draws at each point, and of the gradient the change on the way to θ − ρ g."""
    rate, draws = here.now["rate"], count(1)
    losses = along(lambda params: value(net.with_params(params), here, redraw=next(draws)), net.params, grads, rate,
                   RELEASED)
    there = net.with_params({name: w - rate * grads[name] for name, w in net.params.items()})
    rms, similarity = as_released(grads, gradient(there, here, redraw=next(draws))[1])
    return {"released_variation": variation(losses), "released_rms": rms, "released_similarity": similarity}
