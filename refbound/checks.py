"""What the public functions check, so that the mathematics can trust: a ValueError of one line that names the argument,
what came and what was expected. Options are turned into rows here, and what is to be drawn is drawn.
"""

import math
from numbers import Integral, Real

import numpy as np

from .backend import is_array, namespace, to_like
from .ball import Ball
from .layout import rows
from .methods import METHODS, Options
from .network import Network, as_rows


def method(name):
    """The name of a method."""
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
    return name


def number(name, value, least, most=math.inf, open_below=False):
    """value as a finite float in [least, most], or above `least`: a NumPy scalar would widen a float32 network."""
    inside = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and least <= value <= most
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


def generator(name, rng, why):
    """A numpy Generator, for what has to be drawn."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"{name}: {why} at random: expected rng, a numpy Generator, got rng={rng!r}")
    return rng


def region(net, ball):
    """The ball in rows, once net and ball are known to fit."""
    if not isinstance(net, Network):
        raise ValueError(f"net: expected a Network, got {type(net).__name__}")
    if not isinstance(ball, Ball):
        raise ValueError(f"ball: expected a Ball, got {type(ball).__name__}")
    if tuple(ball.x.shape[1:]) != net.input_shape:
        raise ValueError(f"x: expected shape (N, {', '.join(map(str, net.input_shape))}), got {tuple(ball.x.shape)}")
    if namespace(ball.x) is not net.xp:
        raise ValueError(f"x: expected an array of {net.xp.__name__}, as the network's are, "
                         f"got one of {namespace(ball.x).__name__}")
    return ball.region(net.dtype)


def labels(y, N, classes, xp):
    """Labels (N,) from 0 to classes − 1."""
    if not is_array(y) or namespace(y) is not xp or y.shape != (N,) or y.dtype.kind not in "iu":
        raise ValueError(f"y: expected an integer array of {xp.__name__} of shape ({N},), "
                         f"got {getattr(y, 'dtype', type(y).__name__)} {getattr(y, 'shape', '')}")
    if N and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise ValueError(f"y: expected labels from 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}")


def finite(s, name):
    """s, unless a bound overflowed."""
    if not bool(namespace(s).isfinite(s).all()):
        raise ValueError(f"{name}: a bound overflowed or is NaN in {s.dtype}: no statement is made for any example")
    return s


def step_size(value, ball, net):
    """A step as a number, or (N, 1) in the network's dtype; ε/4 for None."""
    if value is None:
        return ball.eps[:, None].astype(net.dtype) / 4
    if not is_array(value) or value.ndim == 0:
        return number("step_size", value if not is_array(value) else float(value), 0)
    if value.shape != (len(ball),) or value.dtype.kind not in "fiu" \
            or not bool(((value >= 0) & namespace(value).isfinite(value)).all()):
        raise ValueError(f"step_size: expected a number or one of at least 0 for each example, ({len(ball)},), "
                         f"got {value.dtype} of shape {value.shape}")
    return value[:, None].astype(net.dtype)


def drawn_options(net, ball, name, given):
    """Options in rows, with the slopes' draws if the method needs them."""
    checked = options(net, ball, name, given)
    if "a0" not in METHODS[name].options or checked.a0 is not None or checked.slopes is not None:
        return checked
    rng = generator("a0", given.get("rng"), f"{name!r} draws its slopes")
    return checked._replace(a0=draw_slopes(net, ball, rng))


def options(net, ball, name, given):
    """Options in rows, from the keyword arguments of a method."""
    rng = given.get("rng")
    wanted, allowed = {k: v for k, v in given.items() if k != "rng"}, METHODS[name].options
    for key in wanted:
        if key not in allowed:
            raise ValueError(f"{key}: not an option of {name!r}, which takes {', '.join(allowed) or 'none'}")
    wanted = {k: v for k, v in wanted.items() if v is not None}
    for name in _CHECKS:
        if name in wanted:
            wanted[name] = option(name, wanted[name])
    for name in ("slopes", "a0"):
        if name in wanted:
            wanted[name] = _unit_arrays(net, ball, name, wanted[name], spread=name == "slopes")
    if "projections" in wanted:
        if ball.norm != np.inf:
            raise ValueError(f"projections: expected a ball of norm inf, got norm {ball.norm!r}")
        generator("projections", rng, "they are drawn")
        wanted["cauchy"] = [to_like(as_rows(rng.standard_cauchy((wanted["projections"], *net.shapes[i])), net.dtype),
                                    ball.x)[:, None, :] for i in (0, *net.relus[:-1])]
        del wanted["projections"]
    return Options(**wanted)


def option(name, value):
    """The value of a method's option that is a number or a truth value, checked."""
    return _CHECKS[name](name, value)


def _truth(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


_CHECKS = {
    "eta": lambda name, value: number(name, value, 0, open_below=True),
    "p": lambda name, value: number(name, value, 0, 1),
    "q": lambda name, value: number(name, value, 0, 1),
    "steps": lambda name, value: whole(name, value, 0),
    "projections": lambda name, value: whole(name, value, 1),
    "shared": _truth,
}


def draw_slopes(net, ball, rng):
    """U[0, 1] for each example and unit of each ReLU, (N, n), drawn on the host so that every device sees the same."""
    kind = np.float32 if net.dtype == np.float32 else np.float64
    return [to_like(as_rows(rng.random((len(ball), *net.shapes[i]), kind), net.dtype), ball.x) for i in net.relus]


def _unit_arrays(net, ball, name, arrays, spread):
    """Per-unit arrays (N, *shape), or (N, S, *shape) where spread, as rows; ValueError if they do not fit."""
    if not isinstance(arrays, (list, tuple)) or len(arrays) != len(net.relus):
        raise ValueError(f"{name}: expected {len(net.relus)} arrays, one for each ReLU, "
                         f"got {len(arrays) if isinstance(arrays, (list, tuple)) else type(arrays).__name__}")
    result = []
    for i, a in zip(net.relus, arrays):
        one = (len(ball), *net.shapes[i])
        each = (len(ball), net.classes - 1, *net.shapes[i])
        if not is_array(a) or namespace(a) is not net.xp or a.dtype.kind not in "fiub" \
                or a.shape != one and not (spread and a.shape == each):
            raise ValueError(f"{name}: expected an array of {net.xp.__name__} of shape {one}"
                             f"{f' or {each}' if spread else ''}, got {getattr(a, 'dtype', type(a).__name__)} "
                             f"{getattr(a, 'shape', '')}")
        if not bool(((a >= 0) & (a <= 1)).all()):
            raise ValueError(f"{name}: expected numbers in [0, 1], got others at the ReLU of layer {i}")
        a = rows(a.astype(net.dtype), net.shapes[i])
        result.append(a if a.ndim == 2 else a.swapaxes(0, 1))
    return result
