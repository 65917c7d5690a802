"""MNIST as shipped, and the readers of MNIST-like (idx), CIFAR-10 and SVHN files.

    train, validation = split_validation(load("mnist", "train"))
    x = to_float(augment(train.images[batch], rng, "mnist"), np.float32)

Images stay uint8 until a batch is used: (N, C, H, W), labels int64 (N,) from 0 to 9. A file that is not what its format
says is a ValueError (a missing one a FileNotFoundError) of one line: the file, what was found, what was expected.
"""

import math
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..inputs.draws import stream
from . import cifar10, idx, svhn
from .augment import AUGMENT, augment, random_crop, random_flip
from .files import wrong

__all__ = ["AUGMENT", "Dataset", "augment", "first", "load", "random_crop", "random_flip", "split_validation",
           "suspect", "to_float"]

READERS = {"mnist": idx.read, "cifar10": cifar10.read, "svhn": svhn.read}


class Dataset(NamedTuple):
    """Images and their labels."""

    images: np.ndarray  # (N, C, H, W) uint8
    labels: np.ndarray  # (N,) int64

    @property
    def checksum(self):
        """Of all its bytes: folders may share a name."""
        return f"{zlib.crc32(self.labels, zlib.crc32(self.images)):08x}"


def load(name, split, data_dir=None):
    """The "train" or "test" split of "mnist", "cifar10" or "svhn".

    Without data_dir: MNIST as shipped, its SHA-256 checked. With it: the files of that folder; for "mnist" any set in
    the same format under the same file names, such as Fashion-MNIST. CIFAR-10 and SVHN are not shipped and need
    data_dir. Images whose pixels are all 0 or 1 were divided by 255 already, or cut, and are refused.
    """
    for argument, value, known in (("name", name, tuple(READERS)), ("split", split, ("train", "test"))):
        if value not in known:
            raise ValueError(f"{argument}: found {value!r}, expected one of {', '.join(known)}")
    found = Dataset(*READERS[name](split, data_dir))
    if found.images.max() <= 1:
        raise wrong(f"{data_dir}: the {split} images", f"pixels of at most {found.images.max()}", "bytes from 0 to 255")
    return found


def first(dataset, n, net):
    """The first n examples (0: all) as a network takes them; ValueError if there are fewer, or they do not fit it."""
    if not 0 <= n <= len(dataset.labels):
        raise ValueError(f"--n: expected at most the {len(dataset.labels)} images of the data, got {n}")
    images, labels = (a[:n or None] for a in dataset)
    if net.input_shape not in (images.shape[1:], (math.prod(images.shape[1:]),)):
        raise ValueError(f"model: expected inputs {images.shape[1:]}, as the data, got {net.input_shape}")
    if net.classes <= (most := dataset.labels.max()):
        raise ValueError(f"model: expected {most + 1} classes, as the data, got {net.classes}")
    return Dataset(images.reshape(-1, *net.input_shape), labels)


def suspect(model, standard_error):
    """A line on stderr, what to try, if a network made elsewhere errs on more than half of the images (in %)."""
    if standard_error > 50 and Path(model).is_file():
        print(f"warning: {model}: standard error {standard_error:.0f} %: does it expect these images? Try other orders "
              "of their channels, transposed images, inverted pixels (1 − x), and its own normalisation "
              "as its first layer", file=sys.stderr)


def to_float(images, dtype):
    """Bytes 0 … 255 to numbers in [0, 1], each k / 255 rounded once to dtype."""
    return np.divide(images, 255, dtype=dtype)


def split_validation(dataset, size=5000, seed=0):
    """(train, validation): a seeded permutation cut in two, `size` examples held out."""
    n = len(dataset.labels)
    if not 0 <= size < n:
        raise ValueError(f"size: found {size}, expected 0 to {n - 1} of the {n} examples")
    order = stream("validation", seed).permutation(n)
    return tuple(Dataset(dataset.images[part], dataset.labels[part]) for part in (order[size:], order[:size]))
