"""The loss of a minibatch, and its gradient, from its shards: the sum in fixed order of what each core computes.

Every draw is seeded by the run's seed, the minibatch and the shard: the same minibatch has the same random slopes for
any parameters and any number of cores, unless it is asked to redraw them.
"""

from functools import partial, reduce
from operator import add
from typing import NamedTuple

import numpy as np

import refbound as rb
from refbound.arrays.ops import namespace
from refbound.attack import climb
from refbound.landscape import jump, loss_value, lower_slopes, tightness
from refbound.regularisers import regularise

from .. import data
from ..inputs.draws import stream
from . import parallel

LEAST = 1e-6  # the least ε of the regularisers: at 0 there is no ratio of radii, and this is as good as its limit
NORMS = {"inf": np.inf, "2": 2, "1": 1}  # by their names on the command line


class Minibatch(NamedTuple):
    """The images of one step of training, and what is done with them."""

    train: data.Dataset
    batch: object  # (N,) which of its examples
    seed: list     # the run's, the epoch, the step
    now: dict      # ε, β, κ, the rate and the regularisers' weight at this step (schedule.at)
    args: object   # of trainers.train
    pmap: object   # map, or one over the cores


def over_shards(work, net, of, redraw=0):
    """What work(net, share, problem, weights, options) makes of each shard of a Minibatch, on a core each.

    Its share of the minibatch, (ball, y, method), {β, κ, the objective and what that takes}, {rng and the method's own
    options}. redraw = 1, 2, ...: other draws for the same images.
    """
    train, batch, seed, now, args, pmap = of
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


def gradient(net, of, redraw=0):
    """(mean loss, its gradient, how many are misclassified, how many unverified) of a Minibatch, from its shards.

    And, as a fifth, the gradient of the regularisers times their weight at the step, {} for none.
    """
    work = partial(share_of_gradient, of.now.get("regularise", 0.0))
    losses, grads, wrong, unverified, more = zip(*over_shards(work, net, of, redraw))
    total, more = ({name: reduce(add, (one[name] for one in parts)) for name in parts[0]} for parts in (grads, more))
    return sum(losses), total, sum(wrong), sum(unverified), more


def share_of_gradient(weight, net, share, problem, weights, options):
    """What `gradient` adds up. weight: that of the regularisers."""
    around, y, method = problem
    out = rb.objective_loss(net, around, y, method=method, **weights, **options)
    wrong = int((out.logits.argmax(1) != y).sum())
    unverified = len(y) - int(((out.margins < 0).sum(1) == net.classes - 1).sum())
    more = regularise(net, widened(around))[1] if weight else {}
    return (share * out.value, {k: share * g for k, g in out.grads.items()}, wrong, unverified,
            {k: share * weight * g for k, g in more.items()})


def value(net, of, redraw=0):
    """The mean loss of `gradient` alone."""
    return sum(over_shards(share_of_value, net, of, redraw))


def share_of_value(net, share, problem, weights, options):
    """What `value` adds up."""
    around, y, method = problem
    if weights["objective"] == "robust":
        return share * loss_value(net, *problem, weights["beta"], weights["kappa"], **options)
    return share * rb.objective_loss(net, around, y, method=method, **weights, **options).value


def relaxation(net, of):
    """The first shard's shares of lower slopes that are 0, between, and 1, tightness and jump; None for what is not."""
    return next(over_shards(relaxation_of_shard, net, of._replace(pmap=map)))


def relaxation_of_shard(net, share, problem, weights, options):
    """What `relaxation` takes from the first shard."""
    return lower_slopes(net, *problem, **options), tightness(net, *problem[:2]), jump(net, *problem, **options)


def ball(x, eps, args):
    """B(x, ε) in the norm of a run, if that is l∞ intersected with the domain of images, unless no_clip says not to."""
    clipped = args.norm == "inf" and not args.no_clip
    return rb.Ball(x, eps, norm=NORMS[args.norm], domain=(0.0, 1.0) if clipped else None)


def widened(ball):
    """The ball, of a radius of at least LEAST."""
    return rb.Ball(ball.x, namespace(ball.eps).maximum(ball.eps, LEAST), norm=ball.norm, domain=ball.domain)


def adversary(net, ball, y, args, place):
    """The objective, with its α or λ and the points of an attack that draws from its own stream; robust has neither."""
    given = {name: getattr(args, name) for name in rb.OBJECTIVES[args.objective].options}
    if given:
        given["x_adv"] = climb(net, ball, y, args.attack_steps, stream("attack", *place))
    return {"objective": args.objective, **given}


def options_given(args):
    """The method's own options that were given."""
    given = {name: getattr(args, name) for name in ("eta", "p", "q", "projections")}
    return {name: value for name, value in given.items() if value is not None}
