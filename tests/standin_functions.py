"""CuPy's functions and methods in NumPy, for the stand-in: of CuPy's parameters those that versions 13 and 14 share.

test_standin.py holds their signatures against CuPy. They take and give host arrays; standin.py puts them on the device.
"""

import numpy as np

PRODUCTS = ("dot", "outer", "tensordot")                               # not even a number may stand for an array
OPERANDS = {"where": 3, "clip": 3, "matmul": 2, **dict.fromkeys(PRODUCTS, 2)}  # as many arguments are no lists


def _usual(subok):
    if subok not in (None, False):
        raise TypeError("subok is not supported yet")
    return False


def _whole(kth):
    if type(kth) is not int:
        raise TypeError(f"an integer is required, got {type(kth)}")
    return kth


def _sort_in_place(a, axis):
    if not a.flags.c_contiguous:
        raise NotImplementedError("Sorting non-contiguous array is not supported.")
    a.sort(axis, "stable")


def _stable(kind):
    if kind not in (None, "stable"):
        raise ValueError(f"kind can only be None or 'stable', got {kind!r}")
    return "stable"


CREATORS = {
    "zeros": lambda shape, dtype=float, order="C": np.zeros(shape, dtype, order),
    "ones": lambda shape, dtype=float, order="C": np.ones(shape, dtype, order),
    "full": lambda shape, fill_value, dtype=None, order="C": np.full(shape, fill_value, dtype, order),
    "eye": lambda N, M=None, k=0, dtype=float, order="C": np.eye(N, M, k, dtype, order),
    "arange": lambda start, stop=None, step=1, dtype=None:
        np.arange(start, step=step, dtype=dtype) if stop is None else np.arange(start, stop, step, dtype),
    "linspace": lambda start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0:
        np.linspace(start, stop, num, endpoint, retstep, dtype, axis),
}

FUNCTIONS = {
    "zeros_like": lambda a, dtype=None, order="K", subok=None, shape=None:
        np.zeros_like(a, dtype, order, _usual(subok), shape),
    "ones_like": lambda a, dtype=None, order="K", subok=None, shape=None:
        np.ones_like(a, dtype, order, _usual(subok), shape),
    "full_like": lambda a, fill_value, dtype=None, order="K", subok=None, shape=None:
        np.full_like(a, fill_value, dtype, order, _usual(subok), shape),
    "copy": lambda a, order="K": np.copy(a, order),
    "ascontiguousarray": lambda a, dtype=None: np.asarray(a, dtype, order="C"),
    # views
    "reshape": lambda a, newshape, order="C": np.reshape(a, newshape, order),
    "ravel": lambda a, order="C": np.ravel(a, order),
    "transpose": lambda a, axes=None: np.transpose(a, axes),
    "swapaxes": lambda a, axis1, axis2: np.swapaxes(a, axis1, axis2),
    "moveaxis": lambda a, source, destination: np.moveaxis(a, source, destination),
    "squeeze": lambda a, axis=None: np.squeeze(a, axis),
    "expand_dims": lambda a, axis: np.expand_dims(a, axis),
    "broadcast_to": lambda array, shape: np.broadcast_to(array, shape),
    "flip": lambda a, axis=None: np.flip(a, axis),
    "split": lambda ary, indices_or_sections, axis=0: np.split(ary, indices_or_sections, axis),
    # copies
    "concatenate": lambda tup, axis=0, out=None, *, dtype=None, casting="same_kind":
        np.concatenate(tup, axis, out, dtype=dtype, casting=casting),
    "stack": lambda tup, axis=0, out=None, *, dtype=None, casting="same_kind":
        np.stack(tup, axis, out, dtype=dtype, casting=casting),
    "tile": lambda A, reps: np.tile(A, reps),
    "repeat": lambda a, repeats, axis=None: np.repeat(a, repeats, axis),
    "roll": lambda a, shift, axis=None: np.roll(a, shift, axis),
    "pad": lambda array, pad_width, mode="constant", **kwargs: np.pad(array, pad_width, mode, **kwargs),
    "take": lambda a, indices, axis=None, out=None: np.take(a, indices, axis, out),
    "take_along_axis": lambda a, indices, axis: np.take_along_axis(a, indices, axis),
    "where": lambda condition, x=None, y=None: np.where(condition, x, y),
    "clip": lambda a, a_min, a_max, out=None: np.clip(a, a_min, a_max, out),
    "round": lambda a, decimals=0, out=None: np.round(a, decimals, out),
    "sort": lambda a, axis=-1, kind=None: np.sort(a, axis, _stable(kind)),
    "argsort": lambda a, axis=-1, kind=None: np.argsort(a, axis, _stable(kind)),
    "partition": lambda a, kth, axis=-1: np.partition(a, _whole(kth), axis),
    # reductions and scans
    "sum": lambda a, axis=None, dtype=None, out=None, keepdims=False: np.sum(a, axis, dtype, out, keepdims),
    "prod": lambda a, axis=None, dtype=None, out=None, keepdims=False: np.prod(a, axis, dtype, out, keepdims),
    "mean": lambda a, axis=None, dtype=None, out=None, keepdims=False: np.mean(a, axis, dtype, out, keepdims),
    "var": lambda a, axis=None, dtype=None, out=None, ddof=0, keepdims=False:
        np.var(a, axis, dtype, out, ddof, keepdims),
    "std": lambda a, axis=None, dtype=None, out=None, ddof=0, keepdims=False:
        np.std(a, axis, dtype, out, ddof, keepdims),
    "max": lambda a, axis=None, out=None, keepdims=False: np.max(a, axis, out, keepdims),
    "min": lambda a, axis=None, out=None, keepdims=False: np.min(a, axis, out, keepdims),
    "all": lambda a, axis=None, out=None, keepdims=False: np.all(a, axis, out, keepdims),
    "any": lambda a, axis=None, out=None, keepdims=False: np.any(a, axis, out, keepdims),
    "argmax": lambda a, axis=None, dtype=None, out=None, keepdims=False: np.argmax(a, axis, out, keepdims=keepdims),
    "argmin": lambda a, axis=None, dtype=None, out=None, keepdims=False: np.argmin(a, axis, out, keepdims=keepdims),
    "count_nonzero": lambda a, axis=None: np.count_nonzero(a, axis),
    "cumsum": lambda a, axis=None, dtype=None, out=None: np.cumsum(a, axis, dtype, out),
    # products
    "dot": lambda a, b, out=None: np.dot(a, b, out),
    "outer": lambda a, b, out=None: np.outer(a, b, out),
    "tensordot": lambda a, b, axes=2: np.tensordot(a, b, axes),
    "einsum": lambda *operands, dtype=None, optimize=False: np.einsum(*operands, dtype=dtype, optimize=optimize),
    "matmul": lambda *args, casting="same_kind", dtype=None, order="K", out=None:
        np.matmul(*args, casting=casting, dtype=dtype, order=order, out=out),
}

METHODS = {
    **{name: FUNCTIONS[name] for name in """all any sum prod mean var std max min cumsum take repeat round ravel
                                            swapaxes squeeze dot""".split()},
    "argmax": lambda a, axis=None, out=None, dtype=None, keepdims=False: np.argmax(a, axis, out, keepdims=keepdims),
    "argmin": lambda a, axis=None, out=None, dtype=None, keepdims=False: np.argmin(a, axis, out, keepdims=keepdims),
    "clip": lambda a, min=None, max=None, out=None: np.clip(a, min, max, out),
    "reshape": lambda a, *shape, order="C": a.reshape(*shape, order=order),
    "transpose": lambda a, *axes: a.transpose(*axes),
    "astype": lambda a, dtype, order="K", casting=None, subok=None, copy=True: a.astype(dtype, order=order, copy=copy),
    "copy": lambda a, order="C": a.copy(order),
    "flatten": lambda a, order="C": a.flatten(order),
    "fill": lambda a, value: a.fill(value),
    "argsort": lambda a, axis=-1: np.argsort(a, axis, "stable"),
    "sort": lambda a, axis=-1: _sort_in_place(a, axis),
}
