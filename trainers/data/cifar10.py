"""CIFAR-10 from its official files, the Python batches or the binary ones: https://www.cs.toronto.edu/~kriz/cifar.html

A Python batch is a pickled dict: "data" uint8 (N, 3072), red then green then blue, and "labels", a list. A binary batch
is N records of 1 + 3072 bytes, the label first. A pickle can run code, so in this one only the few names that an
array's pickle asks for are found; any other name is an error.
"""

import io
import pickle

import numpy as np

from .files import check_labels, existing_file, existing_folder, wrong

BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
HOLDING = ("cifar-10-batches-py/ (data_batch_1 to data_batch_5, test_batch) or cifar-10-batches-bin/ "
           "(data_batch_1.bin to data_batch_5.bin, test_batch.bin), the official CIFAR-10 files")
PIXELS = 3 * 32 * 32


def read(split, data_dir=None):
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64, the batches one after the other."""
    folder = existing_folder(data_dir, HOLDING)
    for name, ending, read_batch in LAYOUTS:
        if (folder / name).is_dir():
            paths = [existing_file(folder / name, (batch + ending,), HOLDING) for batch in BATCHES[split]]
            batches = [read_batch(path, path.read_bytes()) for path in paths]
            break
    else:
        raise FileNotFoundError(f"{folder}: found none of the batches, expected a folder holding {HOLDING}")
    for path, (pixels, labels) in zip(paths, batches):
        check_labels(path, labels, pixels)
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches))
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _read_binary(path, content):
    """Pixels (N, 3072) and labels (N,) of a binary batch."""
    if not content or len(content) % (1 + PIXELS):
        raise wrong(path, f"{len(content)} bytes (truncated, or trailing bytes)", f"records of {1 + PIXELS}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


def _read_pickle(path, content):
    """Pixels (N, 3072) and labels (N,) of a Python batch."""
    stream = io.BytesIO(content)
    try:
        batch = _Unpickler(stream, encoding="bytes").load()
        batch = {key.encode() if isinstance(key, str) else key: value for key, value in batch.items()}
        pixels, labels = (np.asarray(batch[key]) for key in (b"data", b"labels"))
    except Exception as error:  # by its documentation, damaged data can make pickle raise anything
        raise wrong(path, f"{type(error).__name__}: {error}", "a whole CIFAR-10 batch (pickle)") from error
    if left := len(content) - stream.tell():
        raise wrong(path, f"{left} trailing bytes", "none after the pickle")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS or not len(pixels):
        raise wrong(path, f"data {pixels.dtype} {pixels.shape}", f"uint8 (N, {PIXELS})")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise wrong(path, f"labels {labels.dtype} {labels.shape}", "a list of integers")
    return pixels, labels


LAYOUTS = (("cifar-10-batches-py", "", _read_pickle), ("cifar-10-batches-bin", ".bin", _read_binary))


class _Unpickler(pickle.Unpickler):
    """Knows the names that an array's pickle asks for, under NumPy 1 and 2, and no other."""

    NAMES = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): lambda name, *_: np.dtype(name),  # align, copy: NumPy 2.4 warns of the old files' own
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: np.empty(0, np.uint8),
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # bytes, as Python 3 writes them for Python 2
    }

    def find_class(self, module, name):
        known = self.NAMES.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}")
        return known
