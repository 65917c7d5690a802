"""The loss of a minibatch, and its gradient, from its shards: the sum in fixed order of what each thread computes.

Every draw is seeded by the run's seed, the minibatch and the shard: the same minibatch has the same random slopes for any
parameters and any number of threads, unless it is asked to redraw them.
"""

from functools import reduce
from operator import add

import numpy as np

import refbound as rb
from refbound.attack import climb
from refbound.landscape import jump, loss_value, lower_slopes, tightness

from .. import data
from ..inputs.draws import stream
from . import parallel

NORMS = {"inf": np.inf, "2": 2, "1": 1}  # by their names on the command line


def over_shards(work, net, train, batch, seed, now, args, pmap, redraw=0):
    """What work(share, problem, weights, options) makes of each shard of a minibatch, on a thread each.

    Its share of the minibatch, (ball, y, method), {β, κ and what the objective takes}, {rng and the method's own options}. redraw = 1, 2, ...:
    other draws for the same images.
    """
    images = data.augment(train.images[batch], stream("crop", *seed), args.data, args.crop)
    images = data.to_float(images, np.float32)
    size = args.shard or (args.batch if args.device == "cuda" else
                          parallel.shard_size(net, args.method, projections=args.projections))
    labels, parts = train.labels[batch], parallel.shards(len(batch), size)

    def one(index):
        x, y = net.xp.asarray(images[parts[index]]), net.xp.asarray(labels[parts[index]])
        rng = stream("bound", *seed, index, redraw)
        problem = ball(x, now["eps"], args), y, args.method
        weights = {"beta": now["beta"], "kappa": now["kappa"], **attacked(net, *problem[:2], args, (*seed, index, redraw))}
        return work(len(y) / len(batch), problem, weights, {"rng": rng, **options_given(args)})

    return pmap(one, range(len(parts)))


def gradient(net, train, batch, seed, now, args, pmap, redraw=0):
    """(mean loss, its gradient, how many are misclassified, how many unverified) of a minibatch, from its shards."""
    def work(share, problem, weights, options):
        around, y, method = problem
        out = rb.objective_loss(net, around, y, args.objective, method, **weights, **options)
        wrong = int((out.logits.argmax(1) != y).sum())
        unverified = len(y) - int(((out.margins < 0).sum(1) == net.classes - 1).sum())
        return share * out.value, {k: share * g for k, g in out.grads.items()}, wrong, unverified

    losses, grads, wrong, unverified = zip(*over_shards(work, net, train, batch, seed, now, args, pmap, redraw))
    total = {name: reduce(add, (of[name] for of in grads)) for name in net.params}
    return sum(losses), total, sum(wrong), sum(unverified)


def value(net, train, batch, seed, now, args, pmap, redraw=0):
    """The mean loss of `gradient` alone."""
    def work(share, problem, weights, options):
        if args.objective == "robust":
            return share * loss_value(net, *problem, **weights, **options)
        around, y, method = problem
        return share * rb.objective_loss(net, around, y, args.objective, method, **weights, **options).value

    return sum(over_shards(work, net, train, batch, seed, now, args, pmap, redraw))


def relaxation(net, train, batch, seed, now, args, pmap=map):
    """In the first shard: the shares of the lower slopes that are 0, between, and 1, the tightness and the jump; None for what is not."""
    def work(share, problem, weights, options):
        return lower_slopes(net, *problem, **options), tightness(net, *problem[:2]), jump(net, *problem, **options)

    return next(over_shards(work, net, train, batch, seed, now, args, map))


def ball(x, eps, args):
    """B(x, ε) in the norm of a run, if that is l∞ intersected with the domain of images, unless no_clip says not to."""
    clipped = args.norm == "inf" and not args.no_clip
    return rb.Ball(x, eps, norm=NORMS[args.norm], domain=(0.0, 1.0) if clipped else None)


def attacked(net, ball, y, args, place):
    """What the objective takes: its α or λ, and the points of an attack of its own draws; nothing for robust."""
    given = {name: getattr(args, name) for name in rb.OBJECTIVES[args.objective].options}
    return given and {**given, "x_adv": climb(net, ball, y, args.attack_steps, stream("attack", *place))}


def options_given(args):
    """The method's own options that were given."""
    given = {name: getattr(args, name) for name in ("eta", "p", "q", "projections")}
    return {name: value for name, value in given.items() if value is not None}
