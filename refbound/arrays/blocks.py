"""How many rows of the identity a bound layer by layer takes at a time. Not needed to understand the method."""

from .ops import namespace

BLOCK = 2**19     # entries of the largest (S, N, n) array of a block; a few of them live at once
KEPT = 5 * 2**20  # of all rows of a ReLU: up to so many entries, what their gradient needs is kept, else computed again


def largest(net, stop, region):
    """Entries of the largest array that one row of the identity makes in layers[:stop]."""
    return max(net.units[:stop + 1]) * len(region.centre)


def keeps_all(net, stop, region):
    """Whether what the gradient needs of all rows is kept."""
    return net.units[stop] * largest(net, stop, region) <= KEPT


def identity_blocks(net, stop, region):
    """(rows, E): blocks of rows of the identity on the output of layers[:stop], E (S, 1, m)."""
    xp, m = namespace(*net.params.values()), net.units[stop]
    size = max(1, BLOCK // largest(net, stop, region))
    for i in range(0, m, size):
        rows = xp.arange(i, min(i + size, m))[:, None]
        yield slice(i, i + size), (rows == xp.arange(m)).astype(region.centre.dtype)[:, None, :]
