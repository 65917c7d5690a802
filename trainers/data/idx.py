"""The idx format of MNIST, and of the sets that took it over (Fashion-MNIST, KMNIST, …).

A file is a big-endian header, then one byte a value, the last dimension fastest:

    magic 0x00000800 + number of dimensions | each dimension, 4 bytes | the values

Left out: value types other than unsigned byte, and more classes than ten.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from .files import check_labels, existing_file, existing_folder, wrong

SHIPPED = Path(__file__).resolve().parent / "mnist"
FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}
SHA256 = {  # of the uncompressed MNIST files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def read(split, data_dir=None):
    """Images (N, 1, H, W) uint8 and labels (N,) int64 from data_dir, or from the shipped MNIST."""
    holding = " and ".join(f"{name}[.gz]" for name in FILES[split])
    folder = existing_folder(SHIPPED if data_dir is None else data_dir, holding)
    paths = [existing_file(folder, (name, name + ".gz"), holding) for name in FILES[split]]
    shipped = folder.resolve() == SHIPPED
    images, labels = (_parse(path, _uncompressed(path, shipped), dimensions) for path, dimensions in zip(paths, (3, 1)))
    check_labels(paths[1], labels, images)
    return images[:, None], labels.astype(np.int64)


def _uncompressed(path, shipped):
    """The bytes of a file, out of their gzip; the shipped ones held against their SHA-256."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise wrong(path, f"damaged gzip data ({error})", "a whole gzip file") from error
    if shipped:
        found, expected = hashlib.sha256(content).hexdigest(), SHA256[path.name.removesuffix(".gz")]
        if found != expected:
            raise wrong(path, f"SHA-256 {found}", f"{expected}, that of MNIST")
    return content


def _parse(path, content, dimensions):
    """The array an idx file holds. Its size is compared as integers first: a header may claim anything."""
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise wrong(path, f"{len(content)} bytes (truncated)", f"a header of {start}")
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
    if magic != 0x800 + dimensions:
        raise wrong(path, f"magic number {magic:#010x}", f"{0x800 + dimensions:#010x}")
    written = " x ".join(map(str, shape))
    if 0 in shape:
        raise wrong(path, f"dimensions {written}", "none of them zero")
    size = start + math.prod(shape)
    if len(content) != size:
        reason = "truncated" if len(content) < size else "trailing bytes"
        raise wrong(path, f"{len(content)} bytes ({reason})", f"{size} for dimensions {written}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
