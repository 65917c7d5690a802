"""Exact arrays: Python integers times one unit, a fraction; and matrices of floating-point weights that multiply them.

    Exact(n, unit)     the numbers n_i · unit
    exact(values)      floating-point numbers are integers times a power of 2: nothing is rounded
    Matrix             a sparse affine layer: dense(W), convolution(W, ...); M @ x, M.magnitude @ r, M.adjoint(rows, g)

A product of matrices of long integers is made of products of matrices of short ones, as on paper: with N = Σ N_i 2^(iB)
and x = Σ x_j 2^(jB), N x = Σ N_i x_j 2^((i + j)B), where B is so small that no sum in N_i x_j leaves int64.
"""

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class Exact:
    """The numbers n · unit."""

    n: object        # an object array of Python integers
    unit: Fraction

    def __add__(self, other):
        a, b = self.unit.denominator, other.unit.denominator  # unit: the largest of which both are multiples
        unit = Fraction(math.gcd(self.unit.numerator * b, other.unit.numerator * a), a * b)
        return Exact(self.n * int(self.unit / unit) + other.n * int(other.unit / unit), unit)

    def __sub__(self, other):
        return self + -other

    def __neg__(self):
        return Exact(-self.n, self.unit)

    def __mul__(self, other):
        return Exact(self.n * other.n, self.unit * other.unit)

    def __le__(self, other):
        return (other - self).n >= 0

    def positive(self):
        """max(·, 0)."""
        return Exact(np.maximum(self.n, 0), self.unit)

    def half(self):
        return Exact(self.n, self.unit / 2)

    def __getitem__(self, rows):
        return Exact(self.n[rows], self.unit)

    def total(self):
        """The sum over the first axis."""
        return Exact(self.n.sum(0), self.unit)

    def greatest(self, other):
        """The larger of the two, one by one."""
        return other + (self - other).positive()


def exact(values):
    """Finite floating-point numbers of up to 64 bits as Exact, with the largest unit that takes them."""
    if np.asarray(values).dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(f"expected float16, float32 or float64, got {np.asarray(values).dtype}")
    n, d = np.frompyfunc(float.as_integer_ratio, 1, 2)(np.asarray(values, np.float64))  # each value is n / d, d = 2^k
    common = d.max(initial=1)
    n = n * (common // d)
    unit = math.gcd(*n.flat) or 1
    return Exact(n // unit, Fraction(unit, common))


class Matrix:
    """A sparse matrix of numbers N · unit, N as int64 matrices N_0, N_1, … with N = Σ N_i 2^(iB)."""

    def __init__(self, weights, places, shape):
        """weights: an Exact (k,); places: a sparse array of 1 + the index of a weight; shape: of what comes out."""
        self.shape = shape
        longest = max(np.diff(places.indptr).max(initial=1), np.bincount(places.indices).max(initial=1))
        self.bits, self.unit = (62 - int(128 * longest).bit_length()) // 2, weights.unit  # up to 128 sums of products
        sign = np.where(weights.n < 0, -1, 1)
        self.limbs = [sp.csr_array(((sign * limb)[places.data - 1], places.indices, places.indptr), places.shape)
                      for limb in split(abs(weights.n), self.bits)]

    @functools.cached_property
    def magnitude(self):
        """The matrix of the absolute values."""
        return self._with([abs(limb) for limb in self.limbs])

    @functools.cached_property
    def transposed(self):
        return self._with([limb.T.tocsr() for limb in self.limbs])

    def adjoint(self, rows, g):
        """The product of some of its rows, transposed, with g (len(rows), S), and the inputs where it is not just 0."""
        m, n = self.limbs[0].shape
        if np.array_equal(rows, np.arange(m)):
            return np.arange(n), self.transposed @ g
        limbs = [limb[rows] for limb in self.limbs]
        inputs = np.unique(limbs[0].indices)
        return inputs, self._with([limb[:, inputs].T.tocsr() for limb in limbs]) @ g

    def _with(self, limbs):
        other = object.__new__(Matrix)
        other.bits, other.unit, other.limbs = self.bits, self.unit, limbs
        return other

    def __matmul__(self, x):
        """The product with an Exact (n, S), (m, S)."""
        pieces = split(x.n, self.bits)
        columns, shape = np.concatenate(pieces, axis=1), (-1, len(pieces), x.n.shape[1])
        sums = [0] * (len(self.limbs) + len(pieces) - 1)
        for i, limb in enumerate(self.limbs):
            for j, product in enumerate((limb @ columns).reshape(shape).swapaxes(0, 1)):
                sums[i + j] = sums[i + j] + product  # int64, of at most 128 products
        n = 0
        for part in reversed(sums):
            n = (n << self.bits) + part.astype(object)
        return Exact(n, self.unit * x.unit)


def dense(W):
    """The Matrix of a dense layer, W (out, in)."""
    index = np.arange(1, W.size + 1).reshape(W.shape)
    return Matrix(exact(W.ravel()), sp.csr_array(index), W.shape[:1])


def convolution(W, inside, stride, padding):
    """The Matrix of a cross-correlation with zero padding, W (out, in, kh, kw), of images `inside` (in, H, W).

    stride and padding are a number or a pair (rows, columns):
    z[o, i, j] = Σ_{c, p, q} W[o, c, p, q] x[c, i sh + p − ph, j sw + q − pw]
    """
    (O, C, kh, kw), (_, H, Wd) = W.shape, inside
    (sh, sw), (ph, pw) = np.broadcast_to(stride, 2).tolist(), np.broadcast_to(padding, 2).tolist()
    h, w = (H + 2 * ph - kh) // sh + 1, (Wd + 2 * pw - kw) // sw + 1
    o, i, j, c, p, q = np.ogrid[:O, :h, :w, :C, :kh, :kw]
    r, s = i * sh + p - ph, j * sw + q - pw
    index = 1 + ((o * C + c) * kh + p) * kw + q
    here = np.broadcast_to((0 <= r) & (r < H) & (0 <= s) & (s < Wd), (O, h, w, C, kh, kw))
    row, column, index = (np.broadcast_to(v, here.shape)[here]
                          for v in ((o * h + i) * w + j, (c * H + r) * Wd + s, index))
    places = sp.csr_array((index, (row, column)), shape=(O * h * w, C * H * Wd))
    return Matrix(exact(W.ravel()), places, (O, h, w))


def split(n, bits):
    """[n_0, n_1, …] int64 with n = Σ n_i 2^(i bits); |n_i| ≤ 2^bits, all but the last not negative."""
    longest = int(abs(n).max(initial=0)).bit_length()
    pieces = []
    for _ in range(longest // bits):
        pieces.append((n & (1 << bits) - 1).astype(np.int64))
        n = n >> bits
    return [*pieces, n.astype(np.int64)]
