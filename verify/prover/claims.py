"""What a certificate claims, its file and its digests; exact.py proves it.

What is rejected by what. An l or u tighter than what is proved from the box before, and a lower slope outside [0, 1]:
by the mathematics. A looser l or u, or another slope, leaves true whatever is then proved, and an altered weight is
another network: these, and damage of every kind, by the SHA-256 of the network and of the whole certificate. Who
recomputes the digests makes another certificate; no one makes a false one that is proved.
"""

import hashlib
import json
import re
import zipfile
from fractions import Fraction
from typing import NamedTuple

import numpy as np

FLOATS = (np.float32, np.float64)


class Rejected(ValueError):
    """A certificate that is not what it says, and why, in one line."""


class Certificate(NamedTuple):
    """Of one image. Arrays are flat: n units of a ReLU, S = c − 1 margins, those of the classes m ≠ y in order."""

    network: str      # SHA-256 of the network
    image: object     # (n,) uint8
    label: int        # y
    eps: object       # ε, a decimal fraction (str), or a list of n of them, one for each pixel
    clipped: bool
    l: list           # (n,) for each ReLU
    u: list           # (n,)
    s: list           # (n,) slopes of the upper lines
    a: list           # (n,) or (S, n) slopes of the lower lines
    digest: str = ""  # SHA-256 of all of the above

    def sealed(self):
        """The same with the digest that belongs to it."""
        return self._replace(digest=_sha(*self[:-1]))


def network_digest(architecture, params, input_shape):
    """The SHA-256 that a certificate knows its network by."""
    return _sha(architecture, {name: np.asarray(params[name]) for name in sorted(params)}, list(input_shape))


def save(certificate, file):
    """A Certificate as an .npz file (an open file or a path)."""
    fields = certificate._asdict()
    arrays = {f"{name}{k}": v for name in "lusa" for k, v in enumerate(fields.pop(name))}
    np.savez_compressed(file, **fields, **arrays)


def read(path):
    """The Certificate of an .npz file; Rejected if it is none."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no whole zip archive")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        lists = {name: [arrays[f"{name}{k}"] for k in range(len(arrays)) if f"{name}{k}" in arrays] for name in "lusa"}
        plain = {name: arrays[name].tolist() for name in ("network", "label", "eps", "clipped", "digest")}
        return Certificate(image=arrays["image"], **lists, **plain)
    except Exception as error:  # zip, zlib and header parsers each raise their own classes on foreign bytes
        raise Rejected(f"{path}: not a certificate: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def check(certificate, network):
    """What the mathematics takes for granted, and the digests: its own last, when each field is known to have one."""
    if certificate.network != network.digest:
        raise Rejected("it is of another network, or a weight has changed: the digests of the network differ")
    for name, kind in (("label", int), ("clipped", bool)):
        if type(getattr(certificate, name)) is not kind:
            raise Rejected(f"{name}: expected {kind.__name__}, got {getattr(certificate, name)!r:.60}")
    c, sizes = certificate, [n for n, layer in zip(network.units, network.layers) if layer is None]
    for name in "lusa":
        arrays = getattr(c, name)
        shapes = {n: [(n,), (network.classes - 1, n)][:1 + (name == "a")] for n in sizes}
        if len(arrays) != len(sizes) or any(
                v.shape not in shapes[n] or v.dtype not in FLOATS for v, n in zip(arrays, sizes)):
            raise Rejected(f"{name}: expected a float array for each ReLU, of {sizes} units, "
                           f"got {[v.shape for v in arrays]}")
        if not all(np.isfinite(v).all() for v in arrays):
            raise Rejected(f"{name}: a NaN or an infinity")
    if not all(((v >= 0) & (v <= 1)).all() for v in c.a):
        raise Rejected("a: a lower slope outside [0, 1]")
    if c.image.dtype != np.uint8 or c.image.shape != (network.units[0],) or c.label not in range(network.classes):
        raise Rejected(f"image, label: expected {network.units[0]} bytes and a class, "
                       f"got {c.image.shape} and {c.label}")
    radii(c)
    if c.digest != c.sealed().digest:
        raise Rejected("it has changed since it was made: its digest differs")


HUGE = re.compile(r"[eE][+-]?[\d_]{5,}")  # an exponent that would take all memory


def rational(text):
    """A decimal fraction, exactly; ValueError for any other text."""
    if HUGE.search(text):
        raise ValueError(f"expected an exponent of at most four digits, got {text!r:.60}")
    return Fraction(text)


def radii(certificate):
    """ε of every pixel, [Fraction] (n,); Rejected where it is none."""
    n, eps = len(certificate.image), certificate.eps
    each = eps if type(eps) is list else [eps]
    try:
        found = [rational(e) for e in each if type(e) is str]
    except (ValueError, ZeroDivisionError):
        found = []
    if len(found) != len(each) or len(each) not in (1, n) or min(found) < 0:
        raise Rejected(f"eps: expected a decimal fraction of at least 0, or {n} of them, got {eps!r:.60}")
    return found * (n // len(found))


def _sha(*parts):
    """SHA-256 of numbers, strings, arrays, and lists and dicts of them."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = part.astype(part.dtype.newbyteorder("<"))
            text = json.dumps([part.dtype.str, part.shape, hashlib.sha256(part.tobytes()).hexdigest()])
        elif isinstance(part, dict):
            text = json.dumps(["dict", *((key, _sha(value)) for key, value in part.items())])
        elif isinstance(part, list):
            text = json.dumps(["list", *map(_sha, part)])
        else:
            text = json.dumps(part)
        sha.update(f"{len(text)} {text}".encode())
    return sha.hexdigest()
