"""What the public functions check, so that the mathematics can trust. Options become rows here, and draws are drawn.
A ValueError of one line names the argument, what came and what was expected.
"""

import math
import sys
from numbers import Integral, Real

import numpy as np

from .arrays.ops import UNLIKE, as_rows, described, is_array, namespace, rows, to_like
from .ball import Ball, radius_shapes
from .methods import METHODS
from .network import Network

NO_LABELS = object()


def number(name, value, least, most=math.inf, open_below=False):
    """value as a finite float in [least, most], or above `least`: a NumPy scalar would widen a float32 network."""
    inside = (isinstance(value, Real) and not isinstance(value, bool)
              and abs(value) < math.inf and abs(int(value)) <= sys.float_info.max and least <= value <= most)
    if not inside or open_below and value == least:
        expected = ("a positive number" if open_below else f"a finite number of at least {least}" if most == math.inf
                    else f"a number in [{least}, {most}]")
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return float(value)


def whole(name, value, least):
    """value as an int of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        expected = "a positive whole number" if least == 1 else f"a whole number of at least {least}"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return int(value)


def generator(rng, why):
    """A numpy Generator, for what has to be drawn."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: {why} at random: expected a numpy Generator, got {rng!r}")


def problem(net, ball, y=NO_LABELS):
    """The ball in rows, once net, ball and labels are known to fit."""
    if not isinstance(net, Network):
        raise ValueError(f"net: expected a Network, got {type(net).__name__}")
    if not isinstance(ball, Ball):
        raise ValueError(f"ball: expected a Ball, got {type(ball).__name__}")
    if tuple(ball.x.shape[1:]) != net.input_shape:
        raise ValueError(f"x: expected shape (N, {', '.join(map(str, net.input_shape))}), got {tuple(ball.x.shape)}")
    xp, dtype = namespace(*net.params.values()), next(iter(net.params.values())).dtype
    if namespace(ball.x) is not xp:
        raise ValueError(f"x: expected an array of {xp.__name__}, as the network's are, "
                         f"got one of {namespace(ball.x).__name__}")
    if y is not NO_LABELS:
        labels(y, len(ball.x), net.classes, xp)
    return ball.region(dtype)


def labels(y, N, classes, xp):
    """Labels (N,) from 0 to classes − 1."""
    if not isinstance(y, xp.ndarray) or isinstance(y, UNLIKE) or y.shape != (N,) or y.dtype.kind not in "iu":
        raise ValueError(f"y: expected labels, an integer array of {xp.__name__} of shape ({N},), got {described(y)}")
    if N and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise ValueError(f"y: expected labels from 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}")


def margins(s, y):
    """Margin bounds (N, c) and labels (N,)."""
    if not is_array(s) or s.ndim != 2 or s.dtype.kind not in "fiu":
        raise ValueError(f"s: expected margin bounds (N, c), got {described(s)}")
    labels(y, s.shape[0], s.shape[1], namespace(s))
    if bool((namespace(s).isnan(s) | (s == -float("inf"))).any()):
        raise ValueError("s: expected margin bounds, got NaN or −∞, which is no bound of a number")


def finite(name, *bounds):
    """The first of some arrays and pairs (l, u), unless a bound in them overflowed: a ReLU makes a number of u = −∞."""
    for bound in bounds:
        for z in bound if isinstance(bound, tuple) else (bound,):
            if not bool(namespace(z).isfinite(z).all()):
                raise ValueError(f"{name}: a bound overflowed or is NaN in {z.dtype}: "
                                 "no statement is made for any example")
    return bounds[0]


def step_size(value, ball, net):
    """A step as a number, or (N, 1) or (N, n) in the network's dtype; ε/4 for None."""
    if value is None:
        return as_rows(ball.eps, net.dtype) / 4
    if isinstance(value, Real) or is_array(value) and value.ndim == 0:
        return number("step_size", float(value) if is_array(value) and value.dtype.kind in "fiu" else value, 0)
    shapes = radius_shapes(ball.x, ball.norm)
    if not is_array(value) or value.shape not in shapes or value.dtype.kind not in "fiu" \
            or not bool(((value >= 0) & namespace(value).isfinite(value)).all()):
        raise ValueError(f"step_size: expected a number or an array of shape {' or '.join(map(str, shapes))}, "
                         f"finite and at least 0, got {described(value)}")
    return as_rows(value, net.dtype)


def method(name):
    """The row of a method."""
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]


def method_options(net, ball, name, given, drawn=True):
    """{option: value} in rows, from a method's keyword arguments; with the draws of its slopes, where it needs them."""
    rng, allowed = given.get("rng"), method(name).options
    for key in given:
        if key not in (*allowed, "rng"):
            raise ValueError(f"{key}: not an option of {name!r}, which takes {', '.join(allowed) or 'none'}")
    wanted = {key: value for key, value in given.items() if key != "rng" and value is not None}
    if "slopes" in wanted and (idle := [key for key in wanted if key not in ("slopes", "projections")]):
        raise ValueError(f"{idle[0]}: expected it or slopes, which stand in the place of the rule, got both")
    for key, value in wanted.items():
        wanted[key] = (option_value(key, value) if key in _PLAIN
                       else _unit_arrays(net, ball, key, value, key == "slopes"))
    if "projections" in wanted:
        wanted["projections"] = draw_projections(net, ball, wanted["projections"], rng)
    if drawn and "a0" in allowed and not {"a0", "slopes"} & set(wanted):
        generator(rng, f"{name!r} draws its slopes")
        xp, dtype = namespace(ball.x), next(iter(net.params.values())).dtype
        draws = (rng.random((len(ball.x), *net.shapes[i]), dtype) for i in net.relus)  # on the host, for every device
        wanted["a0"] = [xp.asarray(as_rows(a, dtype)) for a in draws]
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: expected a numpy Generator or None, got {rng!r}")
    return wanted


def option_value(name, value):
    """The value of a method's option that is a number or a truth value, checked."""
    return _PLAIN[name](name, value)


def truth(name, value):
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


_PLAIN = {
    "eta": lambda name, value: number(name, value, 0, open_below=True),
    "p": lambda name, value: number(name, value, 0, 1),
    "q": lambda name, value: number(name, value, 0, 1),
    "steps": lambda name, value: whole(name, value, 0),
    "projections": lambda name, value: whole(name, value, 1),
    "shared": truth,
}


def draw_projections(net, ball, count, rng):
    """Cauchy draws (count, 1, n) for the input and each ReLU but the last, drawn on the host."""
    if ball.norm != np.inf:
        raise ValueError(f"projections: expected a ball of norm inf, got norm {ball.norm!r}")
    generator(rng, "projections are drawn")
    return [to_like(as_rows(rng.standard_cauchy((count, *net.shapes[i])), net.dtype), ball.x)[:, None, :]
            for i in (0, *net.relus[:-1])]


def bounds(net, ball, pre):
    """[(l, u)] of each ReLU, (N, *shape), as rows; ValueError if they do not fit."""
    shapes = [(len(ball), *net.shapes[i]) for i in net.relus]
    given = type(pre).__name__
    if isinstance(pre, (list, tuple)) and all(isinstance(pair, (list, tuple)) for pair in pre):
        given = [tuple(getattr(z, "shape", type(z).__name__) for z in pair) for pair in pre]
    if given != [(shape, shape) for shape in shapes]:
        raise ValueError(f"pre: expected (l, u) for each ReLU, of shapes {shapes}, got {given}")
    for l, u in pre:
        if (not all(is_array(z) and namespace(z) is net.xp and z.dtype.kind in "fiu" for z in (l, u))
                or bool((l > u).any())):
            raise ValueError(f"pre: expected numbers l <= u in arrays of {net.xp.__name__}, got others")
    return [tuple(as_rows(z, net.dtype) for z in pair) for pair in pre]


def _unit_arrays(net, ball, name, arrays, each_margin):
    """Per-unit arrays (N, *shape), or (N, S, *shape) with each_margin, as rows; ValueError if they do not fit."""
    if not isinstance(arrays, (list, tuple)) or len(arrays) != len(net.relus):
        raise ValueError(f"{name}: expected {len(net.relus)} arrays, one for each ReLU, "
                         f"got {len(arrays) if isinstance(arrays, (list, tuple)) else type(arrays).__name__}")
    result = []
    for i, a in zip(net.relus, arrays):
        one = (len(ball), *net.shapes[i])
        each = (len(ball), net.classes - 1, *net.shapes[i])
        if not is_array(a) or namespace(a) is not net.xp or a.dtype.kind not in "fiub" \
                or a.shape != one and not (each_margin and a.shape == each):
            raise ValueError(f"{name}: expected an array of {net.xp.__name__} of shape {one}"
                             f"{f' or {each}' if each_margin else ''}, got {described(a)}")
        if not bool(((a >= 0) & (a <= 1)).all()):
            raise ValueError(f"{name}: expected numbers in [0, 1], got others at the ReLU of layer {i}")
        a = rows(a.astype(net.dtype), net.shapes[i])
        result.append(a if a.ndim == 2 else a.swapaxes(0, 1))
    return result
