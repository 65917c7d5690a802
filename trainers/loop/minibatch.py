"""The loss of a minibatch, and its gradient, from its shards: the sum in fixed order of what each core computes.

Every draw is seeded by the run's seed, the minibatch and the shard: the same minibatch has the same random slopes for any
parameters and any number of cores, unless it is asked to redraw them.
"""

from functools import partial, reduce
from operator import add

import numpy as np

import refbound as rb
from refbound.landscape import loss_value, lower_slopes

from .. import data
from ..inputs.draws import stream
from . import parallel

NORMS = {"inf": np.inf, "2": 2, "1": 1}  # by their names on the command line


def over_shards(work, net, train, batch, seed, now, args, pmap, redraw=0):
    """What work(net, share, problem, weights, options) makes of each shard of a minibatch, on a core each.

    Its share of the minibatch, (ball, y, method), {β and κ}, {rng and the method's own options}. redraw = 1, 2, ...:
    other draws for the same images.
    """
    images = data.augment(train.images[batch], stream("crop", *seed), args.data, args.crop)
    size = args.shard or (args.batch if args.device == "cuda" else
                          parallel.shard_size(net, args.method, projections=args.projections))
    parts, examples = parallel.shards(len(batch), size), (data.to_float(images, np.float32), train.labels[batch])
    return pmap(partial(shard, work, net, examples, parts, seed, now, args, redraw), range(len(parts)))


def shard(work, net, examples, parts, seed, now, args, redraw, index):
    """What `work` makes of one shard."""
    x, y = (net.xp.asarray(of[parts[index]]) for of in examples)
    weights, problem = {"beta": now["beta"], "kappa": now["kappa"]}, (ball(x, now["eps"], args), y, args.method)
    options = {"rng": stream("bound", *seed, index, redraw), **options_given(args)}
    return work(net, len(y) / len(examples[1]), problem, weights, options)


def gradient(net, train, batch, seed, now, args, pmap, redraw=0):
    """(mean loss, its gradient, how many are misclassified, how many unverified) of a minibatch, from its shards."""
    losses, grads, wrong, unverified = zip(*over_shards(share_of_gradient, net, train, batch, seed, now, args, pmap, redraw))
    total = {name: reduce(add, (of[name] for of in grads)) for name in net.params}
    return sum(losses), total, sum(wrong), sum(unverified)


def share_of_gradient(net, share, problem, weights, options):
    """What `gradient` adds up."""
    out, y = rb.robust_loss(net, *problem, **weights, **options), problem[1]
    wrong = int((out.logits.argmax(1) != y).sum())
    unverified = len(y) - int(((out.margins < 0).sum(1) == net.classes - 1).sum())
    return share * out.value, {k: share * g for k, g in out.grads.items()}, wrong, unverified


def value(net, train, batch, seed, now, args, pmap, redraw=0):
    """The mean loss of `gradient` alone."""
    return sum(over_shards(share_of_value, net, train, batch, seed, now, args, pmap, redraw))


def share_of_value(net, share, problem, weights, options):
    """What `value` adds up."""
    return share * loss_value(net, *problem, **weights, **options)


def slopes(net, train, batch, seed, now, args, pmap=map):
    """The shares of the lower slopes that are 0, between, and 1, in the first shard; None where no unit is unstable."""
    return next(over_shards(shares_of_slopes, net, train, batch, seed, now, args, map))


def shares_of_slopes(net, share, problem, weights, options):
    """What `slopes` takes from the first shard."""
    return lower_slopes(net, *problem, **options)


def ball(x, eps, args):
    """B(x, ε) in the norm of a run, if that is l∞ intersected with the domain of images, unless no_clip says not to."""
    clipped = args.norm == "inf" and not args.no_clip
    return rb.Ball(x, eps, norm=NORMS[args.norm], domain=(0.0, 1.0) if clipped else None)


def options_given(args):
    """The method's own options that were given."""
    given = {name: getattr(args, name) for name in ("eta", "p", "q", "projections")}
    return {name: value for name, value in given.items() if value is not None}
