"""The networks that violins, gradients and sweep look at, with the test images they were trained to classify."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

import refbound as rb

from .. import arguments, data, minibatch
from .selection import Missing, by_method, study


SHOWN = ("ibp", "crown-ibp", "one-step")  # the methods whose networks are looked at, where there are such


class Subject(NamedTuple):
    run: dict            # what it is
    net: object
    test: data.Dataset   # the first images, shaped as its input

    def ball(self, part, eps=None):
        """B(x, ε) of some of the images, at the ε of the run by default."""
        of = self.run["arguments"]
        x = data.to_float(self.test.images[part], self.net.dtype)
        return rb.Ball(x, of["eps"] if eps is None else eps, arguments.norm(of["norm"]), minibatch.domain(SimpleNamespace(**of)))


def networks(runs, args):
    """{method: run} of the study's runs that left a network; with --network, of the one run of that name."""
    named = [run for run in runs if args.network in (None, run["name"])]
    if not named:
        raise Missing("no run was given" + (f" named {args.network}" if args.network else ""))
    left = [run for run in named if run["network"]]
    if not left:
        raise Missing(f"no network was given (best.npz in a run folder, {args.network or 'NAME'}.npz beside a results file)")
    return by_method(study(left, args, lambda run: run["arguments"]["method"] if run["arguments"]["method"] in SHOWN else None))


def fixed(runs, args):
    """The one network that methods are compared on: that of one-step, or else of the first method that left one."""
    found = networks(runs, args)
    return found.get("one-step") or next(iter(found.values()))


def load(run, args, dtype=np.float32):
    """A run's Subject with the first --n test images."""
    of, net = run["arguments"], rb.load(run["network"])
    try:
        test = data.load(of["data"], "test", args.data_dir or of["data_dir"])
    except (OSError, ValueError) as error:
        raise Missing(f"{error} (--data-dir)") from None
    images = test.images[:args.n].reshape(-1, *net.input_shape)
    return Subject(run, net.with_params({name: w.astype(dtype) for name, w in net.params.items()}),
                   data.Dataset(images, test.labels[:args.n]))
