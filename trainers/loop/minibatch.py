"""The loss of a minibatch, and its gradient, from its shards: the sum in fixed order of what each core computes.

Every draw is seeded by the run's seed, the minibatch and the shard: the same minibatch has the same random slopes for any
parameters and any number of cores, unless it is asked to redraw them.
"""

from functools import partial, reduce
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
    """What work(net, share, problem, weights, options) makes of each shard of a minibatch, on a core each.

    Its share of the minibatch, (ball, y, method), {β, κ, the objective and what that takes}, {rng and the method's own options}.
    redraw = 1, 2, ...: other draws for the same images.
    """
    images = data.augment(train.images[batch], stream("crop", *seed), args.data, args.crop)
    size = args.shard or (args.batch if args.device == "cuda" else
                          parallel.shard_size(net, args.method, projections=args.projections))
    parts, examples = parallel.shards(len(batch), size), (data.to_float(images, np.float32), train.labels[batch])
    return pmap(partial(shard, work, net, examples, parts, seed, now, args, redraw), range(len(parts)))


def shard(work, net, examples, parts, seed, now, args, redraw, index):
    """What `work` makes of one shard."""
    x, y = (net.xp.asarray(of[parts[index]]) for of in examples)
    problem = ball(x, now["eps"], args), y, args.method
    weights = {"beta": now["beta"], "kappa": now["kappa"], **adversary(net, *problem[:2], args, (*seed, index, redraw))}
    options = {"rng": stream("bound", *seed, index, redraw), **options_given(args)}
    return work(net, len(y) / len(examples[1]), problem, weights, options)


def gradient(net, train, batch, seed, now, args, pmap, redraw=0):
    """(mean loss, its gradient, how many are misclassified, how many unverified) of a minibatch, from its shards."""
    losses, grads, wrong, unverified = zip(*over_shards(share_of_gradient, net, train, batch, seed, now, args, pmap, redraw))
    total = {name: reduce(add, (of[name] for of in grads)) for name in net.params}
    return sum(losses), total, sum(wrong), sum(unverified)


def share_of_gradient(net, share, problem, weights, options):
    """What `gradient` adds up."""
    around, y, method = problem
    out = rb.objective_loss(net, around, y, method=method, **weights, **options)
    wrong = int((out.logits.argmax(1) != y).sum())
    unverified = len(y) - int(((out.margins < 0).sum(1) == net.classes - 1).sum())
    return share * out.value, {k: share * g for k, g in out.grads.items()}, wrong, unverified


def value(net, train, batch, seed, now, args, pmap, redraw=0):
    """The mean loss of `gradient` alone."""
    return sum(over_shards(share_of_value, net, train, batch, seed, now, args, pmap, redraw))


def share_of_value(net, share, problem, weights, options):
    """What `value` adds up."""
    around, y, method = problem
    if weights["objective"] == "robust":
        return share * loss_value(net, *problem, weights["beta"], weights["kappa"], **options)
    return share * rb.objective_loss(net, around, y, method=method, **weights, **options).value


def relaxation(net, train, batch, seed, now, args, pmap=map):
    """In the first shard: the shares of the lower slopes that are 0, between, and 1, the tightness and the jump; None for what is not."""
    return next(over_shards(relaxation_of_shard, net, train, batch, seed, now, args, map))


def relaxation_of_shard(net, share, problem, weights, options):
    """What `relaxation` takes from the first shard."""
    return lower_slopes(net, *problem, **options), tightness(net, *problem[:2]), jump(net, *problem, **options)


def ball(x, eps, args):
    """B(x, ε) in the norm of a run, if that is l∞ intersected with the domain of images, unless no_clip says not to."""
    clipped = args.norm == "inf" and not args.no_clip
    return rb.Ball(x, eps, norm=NORMS[args.norm], domain=(0.0, 1.0) if clipped else None)


def adversary(net, ball, y, args, place):
    """The objective, with its α or λ and the points of an attack, which draws from a stream of its own; robust does without."""
    given = {name: getattr(args, name) for name in rb.OBJECTIVES[args.objective].options}
    if given:
        given["x_adv"] = climb(net, ball, y, args.attack_steps, stream("attack", *place))
    return {"objective": args.objective, **given}


def options_given(args):
    """The method's own options that were given."""
    given = {name: getattr(args, name) for name in ("eta", "p", "q", "projections")}
    return {name: value for name, value in given.items() if value is not None}
