"""How arrays lie: the units of a layer in a row, an image pixel by pixel with its channels last."""

from .backend import namespace


def rows(x, shape):
    """(..., *shape), images (C, H, W), -> (..., n), their units in a row, channels last."""
    lead = x.shape[:x.ndim - len(shape)]
    if len(shape) == 3:
        x = namespace(x).moveaxis(x, -3, -1)
    return x.reshape(*lead, -1)


def images(z, shape):
    """The inverse of `rows`: (..., n) -> (..., *shape)."""
    if len(shape) != 3:
        return z.reshape(*z.shape[:-1], *shape)
    return namespace(z).moveaxis(z.reshape(*z.shape[:-1], *shape[1:], shape[0]), -1, -3)


def flat(x):
    """(..., n) -> (B, n)."""
    return x.reshape(-1, x.shape[-1])


def paired(g, X, axis):
    """g and X = P(x), whose examples lie along `axis`, for `outer`: X summed over them if they all share one g."""
    return g, X if g.shape[-2] == X.shape[axis] else X.sum(axis, keepdims=True)
