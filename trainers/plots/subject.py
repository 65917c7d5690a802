"""The networks that violins, gradients and sweep look at, with the test images they were trained to classify."""

from types import SimpleNamespace
from typing import NamedTuple

import refbound as rb

from .. import data
from ..files import record
from ..loop.minibatch import ball
from .selection import Missing, by_method, one_of, study


class Subject(NamedTuple):
    """A network and what it is looked at on."""

    run: dict            # what it is
    net: object
    test: data.Dataset   # the first images, shaped as its input

    def ball(self, part):
        """B(x, ε) of some of the images, at the ε of the run."""
        of = SimpleNamespace(**self.run["arguments"])
        return ball(data.to_float(self.test.images[part], self.net.dtype), of.eps, of)


def networks(runs, args):
    """{method: run} of the study's runs that left a network; with --network, of the one run of that name."""
    named = [run for run in runs if args.network in (None, run["name"])]
    if not named:
        raise Missing("no run was given" + (f" named {args.network}" if args.network else ""))
    left = [run for run in named if run["network"]]
    if not left:
        raise Missing("no network was given "
                      f"(best.npz in a run folder, {args.network or 'NAME'}.npz beside a results file)")
    return by_method(study(left, args, one_of(record.SHOWN)))


def fixed(runs, args):
    """The one network that methods are compared on: that of one-step, or else of the first method that left one."""
    found = networks(runs, args)
    return found.get("one-step") or next(iter(found.values()))


def load(run, args):
    """A run's Subject with the first --n test images."""
    of = run["arguments"]
    try:
        net = rb.load(run["network"])
        test = data.load(of["data"], "test", args.data_dir or of["data_dir"])
        return Subject(run, net, data.first(test, min(args.n, len(test.labels)), net))
    except (OSError, ValueError) as error:
        raise Missing(f"{error} (--data-dir)") from None
