"""The streams that draws come from. Each purpose has its own, so that no two share their numbers."""

import numpy as np

VERSION = 2  # of the numbers that a seed stands for: 1 named a stream by a list of seeds, without its purpose
PURPOSES = ("parameters", "validation", "order", "crop", "bound", "attack")


def stream(purpose, seed, *place):
    """The generator for one purpose of a run's seed, at one place of the run: epoch, step, shard, ...

    Zeros at the end of a place count, as in a list of seeds they do not: there [0, 1] and [0, 1, 0] are one stream.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *place)))
