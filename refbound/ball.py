"""B(x, ε): the inputs that an adversary may choose (Section 3.1), and the maximum of a linear function over them.

    max over B of g·x′ = g·x*,    x* = centre + radius furthest(radius g)                   (2)

furthest(g) is the point of the unit ball furthest along g:

    l∞  sign(g)        l2  g / ‖g‖₂        l1  sign(g_i) e_i at the largest |g_i|

so that furthest(g)·g is the dual norm of g. For l2 and l1, the centre is x and the radius ε. For l∞, B is the box of
the x′ with |x′ − x| ≤ ε that also lie in the input domain, and centre and radius are the box's, one for each input: ε
may differ from pixel to pixel.

The maximum's gradient in g is its maximiser x* (Danskin's theorem): no other derivative is needed.
"""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from .arrays.ops import as_rows, contract, described, is_array, is_float, namespace, to_like

ULPS = 4  # how far outside of its domain a pixel may be rounded, in units of eps(dtype) times the larger end


class Region(NamedTuple):
    """A ball or a box as the bounds see it, a row an example."""

    centre: object  # (N, n)
    radius: object  # (N, n) of a box; of an l2 or l1 ball (N, 1), or (N, n) where some inputs are fixed
    norm: float     # inf, 2 or 1

    def reach(self, g):
        """x* − centre for the g of many linear functions: (S, N, n) -> (S, N, n)."""
        if self.norm == np.inf:
            return self.radius * namespace(g).sign(g)  # sign(radius g), wherever the radius is not 0
        return self.radius * furthest(self.radius * g, self.norm)

    def width(self, g):
        """max over the region of g·(x − centre), the dual norm of radius g: (S, N, n) or (S, 1, n) -> (S, N)."""
        xp = namespace(g, self.centre)
        if self.norm == np.inf:
            return contract("sNn,Nn->sN", xp.broadcast_to(xp.abs(g), (*g.shape[:-2], *self.radius.shape)), self.radius)
        return (g * self.reach(g)).sum(-1)


class Ball:
    """B(x, ε) = {x′ : ‖x′ − x‖ ≤ ε}, intersected with the input domain.

    x       (N, *input_shape), float32 or float64, finite, within the domain
    eps     ε ≥ 0 in the units of x (pixels in [0, 1]): a number, or (N,) one for each example; for l∞ also shaped as x,
            one for each pixel. ball.eps is (N,) or shaped as x
    norm    np.inf, 2 or 1
    domain  (low, high), in the dtype of x, or None for no clipping. The default is (0, 1) for l∞. For l2 and l1 only
            None is offered: the maximum (2) over their intersection with a box has no such formula. A pixel left
            outside by rounding, by at most 4 eps(dtype) max(|low|, |high|), is moved onto the end in ball.x

    Bounds take the box in the network's dtype: there an ε below the rounding of x is lost, as all rounding is that
    `rounding.sound_margin_bounds` alone counts.

    Raises ValueError naming the argument, what came and what was expected.
    """

    def __init__(self, x, eps, norm=np.inf, domain="default"):
        if not is_float(x) or x.ndim < 2:
            raise ValueError(f"x: expected a float32 or float64 array (N, ...) of pixels in [0, 1], got {described(x)}")
        if len(x) == 0:
            raise ValueError(f"x: expected at least one example, got shape {x.shape}")
        if not isinstance(norm, Real) or isinstance(norm, bool) or norm not in (np.inf, 2, 1):
            raise ValueError(f"norm: expected np.inf, 2 or 1, got {norm!r}")
        xp = namespace(x)
        if not bool(xp.isfinite(x).all()):
            raise ValueError("x: expected finite pixels, got a NaN or an infinity")
        self.norm, self.eps = norm, _check_eps(eps, x, norm)
        self.domain = _check_domain(domain, x, norm)
        self.x = xp.clip(x, *(self.domain or (-np.inf, np.inf)))  # a copy: what was checked stays as it is

    def __repr__(self):
        least, most = float(self.eps.min()), float(self.eps.max())
        radius = f"{least:g}" if least == most else f"{least:g} to {most:g}"
        return (f"<Ball of {len(self)} inputs {tuple(self.x.shape[1:])}, norm {self.norm}, ε {radius}, "
                f"domain {self.domain}>")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, examples):
        """The ball of some of the examples (a slice or an index array)."""
        axes = examples.ndim if is_array(examples) else np.ndim(examples)
        if isinstance(examples, tuple) or not isinstance(examples, slice) and axes != 1:
            one = f": ball[{examples}:{examples + 1}] has one example" if isinstance(examples, Integral) else ""
            raise ValueError(f"ball: expected a slice or an index array, got {examples!r}{one}")
        part = object.__new__(Ball)
        if len(self.x[examples]) == 0:
            raise ValueError(f"ball: expected at least one of {len(self)} examples, got none by {examples!r}")
        part.x, part.eps, part.norm, part.domain = self.x[examples], self.eps[examples], self.norm, self.domain
        return part

    def box(self, dtype):
        """The least and greatest value of every input, (N, n) each."""
        x, eps = as_rows(self.x, dtype), as_rows(self.eps, dtype)  # (N, n), (N, 1) or (N, n)
        if self.domain is None:
            return x - eps, x + eps
        xp = namespace(x)
        return xp.maximum(x - eps, self.domain[0]), xp.minimum(x + eps, self.domain[1])

    def region(self, dtype):
        """The ball in rows, in the dtype of a network."""
        if self.norm != np.inf:
            return Region(as_rows(self.x, dtype), as_rows(self.eps, dtype), self.norm)
        low, high = self.box(dtype)
        return Region((high + low) / 2, (high - low) / 2, self.norm)


def furthest(g, norm):
    """The point of the unit ball furthest along g, on the last axis; 0 where g is 0."""
    xp = namespace(g)
    if norm == np.inf:
        return xp.sign(g)
    if norm == 2:
        h, _ = unit_largest(g)
        length = xp.sqrt((h * h).sum(-1, keepdims=True))
        return h / xp.where(length > 0, length, 1)
    largest = xp.abs(g) == xp.max(xp.abs(g), axis=-1, keepdims=True)
    return xp.sign(g) * largest / largest.sum(-1, keepdims=True).astype(g.dtype)  # ties share the ball


def unit_largest(g):
    """h and the largest |g_i| of the last axis, g = h largest: no square overflows, nor does the largest vanish."""
    xp = namespace(g)
    largest = xp.max(xp.abs(g), axis=-1, keepdims=True)
    return g / xp.where(largest > 0, largest, 1), largest


def length(v):
    """‖v‖₂ on the last axis, which is kept."""
    h, largest = unit_largest(v)
    return namespace(v).sqrt((h * h).sum(-1, keepdims=True)) * largest


def radius_shapes(x, norm):
    """The shapes of an array of radii: one for each example, of a box also one for each pixel."""
    return ((len(x),), x.shape) if norm == np.inf else ((len(x),),)


def _check_eps(eps, x, norm):
    """ε as an array (N,), or shaped as x, where x lives."""
    xp, shapes = namespace(x), radius_shapes(x, norm)
    expected = f"eps: expected a number or an array of shape {' or '.join(map(str, shapes))} with norm {norm}"
    if not is_array(eps) and not isinstance(eps, np.ndarray):
        try:
            plain = np.asarray(float(eps) if isinstance(eps, Real) and not isinstance(eps, bool) else eps)
            if plain.dtype.kind not in "fiu":
                raise TypeError
            eps = to_like(plain.astype(x.dtype), x)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{expected}, got {eps!r}") from None
    elif namespace(eps) is not xp:
        raise ValueError(f"eps: expected an array of {xp.__name__}, as x is, got one of {namespace(eps).__name__}")
    if not is_array(eps) or eps.shape not in ((), *shapes) or eps.dtype.kind not in "fiu":
        raise ValueError(f"{expected}, got {described(eps)}")
    if not bool((eps >= 0).all()) or not bool(xp.isfinite(eps).all()):
        raise ValueError(f"eps: expected finite numbers of at least 0, got {float(eps.min())}")
    return xp.broadcast_to(eps.astype(eps.dtype if is_float(eps) else x.dtype), eps.shape or (len(x),))  # a copy


def _check_domain(domain, x, norm):
    if isinstance(domain, str) and domain == "default":
        domain = (0.0, 1.0) if norm == np.inf else None
    if domain is None:
        return None
    if norm != np.inf:
        raise ValueError(f"domain: expected None with norm {norm!r}, got {domain!r} (only l∞ balls are clipped)")
    if not isinstance(domain, (tuple, list)) or len(domain) != 2 or not all(isinstance(v, Real) for v in domain) \
            or not domain[0] < domain[1] or max(map(abs, domain)) > float(np.finfo(x.dtype).max):
        raise ValueError(f"domain: expected None or (low, high), finite with low < high, got {domain!r}")
    low, high = (float(x.dtype.type(v)) for v in domain)  # as x is rounded; a plain number widens nothing
    room = ULPS * float(np.finfo(x.dtype).eps) * max(abs(low), abs(high))
    if bool((x < low - room).any()) or bool((x > high + room).any()):
        raise ValueError(f"x: expected pixels in the domain [{low}, {high}], got [{float(x.min())}, {float(x.max())}]")
    return (low, high)
