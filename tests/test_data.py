"""The data readers: what a well-formed file gives, and the one line that each kind of damage gives."""

import gzip
import os
import pickle
import struct
import warnings

import numpy as np
import pytest
from scipy.io import savemat

from trainers import data
from trainers.data import cifar10, idx

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def error_line(kind, *load_args):
    """The message of load(*load_args), which must raise exactly `kind`, with one line."""
    with pytest.raises(kind) as caught:
        data.load(*load_args)
    line = str(caught.value)
    assert type(caught.value) is kind and "\n" not in line and "found" in line and "expected" in line
    return line


# ---------------------------------------------------------------- idx


def idx_bytes(array):
    """An unsigned-byte array in idx format."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_idx(tmp_path):
    """Four 5 x 3 images and their labels under tmp_path, uncompressed."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (4, 5, 3)), np.array([0, 9, 3, 3])
    (tmp_path / IMAGES).write_bytes(idx_bytes(images))
    (tmp_path / LABELS).write_bytes(idx_bytes(labels))
    return tmp_path, images, labels


def compress(path):
    """Replace a file by its gzip."""
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def test_mnist_is_shipped_whole():
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    for split, n, counts, mean in (
        (train, 60000, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], 33.318421),
        (test, 10000, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], 33.791224),
    ):
        assert split.images.shape == (n, 1, 28, 28) and split.images.dtype == np.uint8
        assert split.labels.shape == (n,) and split.labels.dtype == np.int64
        assert np.bincount(split.labels).tolist() == counts
        assert abs(split.images.mean(dtype=np.float64) - mean) < 1e-6
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("compressed", [(), (IMAGES,), (IMAGES, LABELS)])
def test_idx_of_any_size_gzipped_or_not(small_idx, compressed):
    folder, images, labels = small_idx
    for name in compressed:
        compress(folder / name)
    for data_dir in (folder, str(folder)):
        dataset = data.load("mnist", "test", data_dir)
        assert dataset.images.dtype == np.uint8 and dataset.labels.dtype == np.int64
        assert np.array_equal(dataset.images, images[:, None]) and np.array_equal(dataset.labels, labels)


def header(magic, *dimensions):
    """A damage: the header replaced, the values kept."""
    return lambda content: (struct.pack(f">{1 + len(dimensions)}I", magic, *dimensions)
                            + content[4 + 4 * len(dimensions) :])


@pytest.mark.parametrize(
    "name, damage, words",
    [
        (IMAGES, lambda content: content[:-1], "75 bytes (truncated), expected 76 for dimensions 4 x 5 x 3"),
        (IMAGES, lambda content: content + b"\0", "77 bytes (trailing bytes), expected 76"),
        (IMAGES, lambda content: content[:10], "10 bytes (truncated), expected a header of 16"),
        (IMAGES, lambda content: b"", "0 bytes (truncated)"),
        (IMAGES, header(0x801, 4, 5, 3), "magic number 0x00000801, expected 0x00000803"),
        (IMAGES, header(0x803, 4, 0, 3), "dimensions 4 x 0 x 3"),
        (IMAGES, header(0x803, 4, 5, 4), "expected 96 for dimensions 4 x 5 x 4"),
        (IMAGES, header(0x803, *3 * [2**32 - 1]), f"expected {16 + (2**32 - 1) ** 3} for"),
        (LABELS, header(0x803, 4), "magic number 0x00000803, expected 0x00000801"),
        (LABELS, header(0x801, 2**32 - 1), "12 bytes (truncated), expected 4294967303"),
        (LABELS, lambda content: idx_bytes(np.array([0, 1, 2])), "3 labels, expected 4, one for each image"),
        (LABELS, lambda content: idx_bytes(np.array([0, 1, 2, 10])), "label 10, expected labels from 0 to 9"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_idx_is_one_line(small_idx, name, damage, words, compressed):
    path = small_idx[0] / name
    path.write_bytes(damage(path.read_bytes()))
    if compressed:
        compress(path)
    line = error_line(ValueError, "mnist", "test", small_idx[0])
    assert str(path) in line and words in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],  # EOFError
        lambda content: b"no gzip" + content,  # BadGzipFile
        lambda content: content[:-8] + bytes(8),  # BadGzipFile: the checksum
        lambda content: content[:10] + b"\xff" * 8 + content[18:],  # zlib.error
    ],
)
def test_damaged_gzip_is_one_line(small_idx, damage):
    compress(small_idx[0] / IMAGES)
    path = small_idx[0] / (IMAGES + ".gz")
    path.write_bytes(damage(path.read_bytes()))
    line = error_line(ValueError, "mnist", "test", small_idx[0])
    assert str(path) in line and "damaged gzip data" in line


def test_shipped_files_are_held_against_their_sha256(small_idx, monkeypatch):
    monkeypatch.setattr(idx, "SHIPPED", small_idx[0].resolve())
    line = error_line(ValueError, "mnist", "test")
    assert IMAGES in line and "SHA-256" in line and idx.SHA256[IMAGES] in line


def test_missing_idx_files_are_named(small_idx):
    folder = small_idx[0]
    assert "no such folder" in error_line(FileNotFoundError, "mnist", "test", folder / "nowhere")
    assert "train-images-idx3-ubyte" in error_line(FileNotFoundError, "mnist", "train", folder)
    (folder / LABELS).unlink()
    assert f"no file {LABELS} or {LABELS}.gz" in error_line(FileNotFoundError, "mnist", "test", folder)


def test_unknown_name_or_split():
    assert "cifar10" in error_line(ValueError, "cifar", "train")
    assert "validation" in error_line(ValueError, "mnist", "validation")


# ---------------------------------------------------------------- CIFAR-10


def python2_batch(pixels, labels):
    """A batch as Python 2 pickled it: protocol 2, byte strings, numpy.core, integer flags in the dtype."""

    def text(string):
        return b"U" + bytes([len(string)]) + string

    shape = b"M" + struct.pack("<H", len(pixels)) + b"M\x00\x0c\x86"
    flags = b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + flags
    content = b"T" + struct.pack("<I", pixels.size) + pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def python3_batch(protocol):
    """A writer of batches as Python 3 pickles them."""
    return lambda pixels, labels: pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol)


def binary_batch(pixels, labels):
    """A binary batch: records of label and pixels."""
    return np.column_stack([labels.astype(np.uint8), pixels]).tobytes()


def write_cifar10(root, layout, write):
    """Five batches of three images and a test batch; returns the folder, all pixels and labels, the test batch last."""
    rng = np.random.default_rng(1)
    folder = root / f"cifar-10-batches-{layout}"
    folder.mkdir()
    pixels, labels = rng.integers(0, 256, (6, 3, 3072), dtype=np.uint8), rng.integers(0, 10, (6, 3))
    for k, name in enumerate(cifar10.BATCHES["train"] + cifar10.BATCHES["test"]):
        (folder / (name + (".bin" if layout == "bin" else ""))).write_bytes(write(pixels[k], labels[k]))
    return folder, pixels.reshape(-1, 3, 32, 32), labels.ravel()


@pytest.mark.parametrize(
    "layout, write",
    [("py", python2_batch), ("py", python3_batch(2)), ("py", python3_batch(4)), ("bin", binary_batch)],
)
def test_cifar10_batches(tmp_path, layout, write):
    _, images, labels = write_cifar10(tmp_path, layout, write)
    for split, part in (("train", slice(0, 15)), ("test", slice(15, 18))):
        dataset = data.load("cifar10", split, tmp_path)
        assert dataset.images.dtype == np.uint8 and dataset.labels.dtype == np.int64
        assert np.array_equal(dataset.images, images[part]) and np.array_equal(dataset.labels, labels[part])


def test_the_python2_batch_above_is_a_pickle_of_numpy():
    pixels = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2.4.0 to 2.4.4 warn of the integer flags
        batch = pickle.loads(python2_batch(pixels, [3, 4]), encoding="bytes")
    assert np.array_equal(batch[b"data"], pixels) and batch[b"labels"] == [3, 4]


class Mkdir:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_no_code(tmp_path):
    folder, _, _ = write_cifar10(tmp_path, "py", python2_batch)
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Mkdir(tmp_path / "ran"), b"labels": []}))
    line = error_line(ValueError, "cifar10", "test", tmp_path)
    assert "test_batch" in line and "asks for" in line and "mkdir" in line
    assert not (tmp_path / "ran").exists()


def fresh(**fields):
    """A damage: another batch altogether."""
    return lambda content: pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]} | fields, 4)


@pytest.mark.parametrize(
    "layout, damage, words",
    [
        ("py", lambda content: content[:-1], "expected a whole CIFAR-10 batch"),
        ("py", lambda content: content[:500], "expected a whole CIFAR-10 batch"),
        ("py", lambda content: b"", "EOFError"),
        ("py", lambda content: b"not a pickle\n", "expected a whole CIFAR-10 batch"),
        ("py", lambda content: pickle.dumps([1, 2]), "expected a whole CIFAR-10 batch"),
        ("py", lambda content: pickle.dumps({b"data": 1}), "KeyError: b'labels'"),
        ("py", lambda content: content + b"more", "4 trailing bytes"),
        ("py", fresh(data=np.zeros((2, 3071), np.uint8)), "data uint8 (2, 3071), expected uint8 (N, 3072)"),
        ("py", fresh(data=np.zeros((2, 3072))), "data float64"),
        ("py", fresh(data=np.array([None, {}])), "data object (2,), expected uint8 (N, 3072)"),
        ("py", fresh(data=np.zeros((0, 3072), np.uint8), labels=[]), "data uint8 (0, 3072)"),
        ("py", fresh(labels=[0.5, 1]), "labels float64 (2,), expected a list of integers"),
        ("py", fresh(labels=[[0], [1]]), "labels int64 (2, 1)"),
        ("py", fresh(labels=[0]), "1 labels, expected 2, one for each image"),
        ("py", fresh(labels=[0, -1]), "label -1, expected labels from 0 to 9"),
        ("bin", lambda content: content[:-1], "9218 bytes (truncated, or trailing bytes), expected records of 3073"),
        ("bin", lambda content: b"", "0 bytes"),
        ("bin", lambda content: b"\x0a" + content[1:], "label 10, expected labels from 0 to 9"),
    ],
)
def test_damaged_cifar10_is_one_line(tmp_path, layout, damage, words):
    folder, _, _ = write_cifar10(tmp_path, layout, python2_batch if layout == "py" else binary_batch)
    path = next(folder.glob("data_batch_3*"))
    path.write_bytes(damage(path.read_bytes()))
    line = error_line(ValueError, "cifar10", "train", tmp_path)
    assert str(path) in line and words in line


def test_missing_cifar10_files_are_named(tmp_path):
    assert "data_batch_1" in error_line(ValueError, "cifar10", "train")
    assert "no such folder" in error_line(FileNotFoundError, "cifar10", "train", tmp_path / "nowhere")
    assert "cifar-10-batches-bin" in error_line(FileNotFoundError, "cifar10", "train", tmp_path)
    folder, _, _ = write_cifar10(tmp_path, "bin", binary_batch)
    (folder / "data_batch_5.bin").unlink()
    assert "no file data_batch_5.bin" in error_line(FileNotFoundError, "cifar10", "train", tmp_path)


# ---------------------------------------------------------------- SVHN


def svhn_fields(n=5):
    """X and y of a small SVHN file; the labels are 10 (the digit 0), 1, 2, …"""
    x = np.random.default_rng(2).integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
    return {"X": x, "y": np.array([[10], *[[k] for k in range(1, n)]], np.uint8)}


@pytest.mark.parametrize("compressed", [False, True])
def test_svhn_label_10_is_the_digit_0(tmp_path, compressed):
    fields = svhn_fields()
    savemat(tmp_path / "test_32x32.mat", fields, do_compression=compressed)
    dataset = data.load("svhn", "test", tmp_path)
    assert dataset.images.shape == (5, 3, 32, 32) and dataset.images.dtype == np.uint8
    assert dataset.labels.tolist() == [0, 1, 2, 3, 4] and dataset.labels.dtype == np.int64
    assert all(np.array_equal(dataset.images[i], np.moveaxis(fields["X"][..., i], 2, 0)) for i in range(5))


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"X": np.zeros((28, 28, 3, 5), np.uint8)}, "X uint8 (28, 28, 3, 5), expected uint8 (32, 32, 3, N)"),
        ({"X": np.zeros((32, 32, 3, 5))}, "X float64"),
        ({"y": np.ones((4, 1), np.uint8)}, "4 labels, expected 5"),
        ({"y": np.full((5, 1), 11, np.uint8)}, "label 11, expected labels from 1 to 10"),
        ({"y": np.zeros((5, 1), np.uint8)}, "label 0, expected labels from 1 to 10"),
        ({"y": np.full((5, 1), 0.5)}, "y float64 (5, 1), expected integers (N, 1)"),
    ],
)
def test_wrong_svhn_is_one_line(tmp_path, fields, words):
    path = tmp_path / "train_32x32.mat"
    savemat(path, svhn_fields() | fields)
    line = error_line(ValueError, "svhn", "train", tmp_path)
    assert str(path) in line and words in line


@pytest.mark.parametrize("keep", [0, 50, 200, -40])
def test_truncated_svhn_is_one_line(tmp_path, keep):
    path = tmp_path / "train_32x32.mat"
    savemat(path, svhn_fields(), do_compression=True)
    path.write_bytes(path.read_bytes()[:keep])
    line = error_line(ValueError, "svhn", "train", tmp_path)
    assert str(path) in line and "expected a whole .mat file with X and y" in line


def test_missing_svhn_files_are_named(tmp_path):
    savemat(tmp_path / "train_32x32.mat", {"X": 1})
    assert "test_32x32.mat" in error_line(ValueError, "svhn", "test")
    assert "no file test_32x32.mat" in error_line(FileNotFoundError, "svhn", "test", tmp_path)
    assert "KeyError: 'y'" in error_line(ValueError, "svhn", "train", tmp_path)


# ---------------------------------------------------------------- what is done with the images


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_to_float_is_the_nearest_number_to_each_fraction(dtype):
    x = data.to_float(np.arange(256, dtype=np.uint8), dtype)
    assert x.dtype == dtype and x[0] == 0 and x[255] == 1
    assert all(x[k] == dtype(np.longdouble(k) / 255) for k in range(256))


def test_validation_is_seeded_and_disjoint():
    whole = data.Dataset(np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1), np.arange(40) % 10)
    train, validation = data.split_validation(whole, size=7, seed=3)
    assert len(train.labels) == 33 and len(validation.labels) == 7
    assert sorted(np.concatenate([train.images, validation.images]).ravel()) == list(range(40))
    for part in (train, validation):
        assert np.array_equal(part.images.ravel() % 10, part.labels)
    again, other = data.split_validation(whole, 7, 3), data.split_validation(whole, 7, 4)
    assert np.array_equal(again[1].images, validation.images) and np.array_equal(again[0].images, train.images)
    assert not np.array_equal(other[1].images, validation.images)
    for size in (-1, 40):
        with pytest.raises(ValueError, match="expected 0 to 39"):
            data.split_validation(whole, size)


def batch(n=300, height=5, width=4):
    """Random images (n, 3, height, width) without a zero pixel, so that padding shows."""
    return np.random.default_rng(4).integers(1, 256, (n, 3, height, width), dtype=np.uint8)


def test_random_flip_is_a_loop_over_images():
    images = batch()
    flip = np.random.default_rng(5).random(len(images)) < 0.5
    expected = [image[:, :, ::-1] if mirrored else image for image, mirrored in zip(images, flip)]
    flipped = data.random_flip(images, np.random.default_rng(5))
    assert flipped.dtype == np.uint8 and np.array_equal(flipped, expected) and 0 < flip.sum() < len(images)


@pytest.mark.parametrize("pad", [0, 1, 4])
def test_random_crop_is_a_loop_over_images(pad):
    images, before = batch(), batch()
    tops, lefts = np.random.default_rng(6).integers(0, 2 * pad + 1, (2, len(images)))
    expected = np.zeros_like(images)
    for i, (top, left) in enumerate(zip(tops, lefts)):
        for row in range(5):
            for column in range(4):
                r, c = row + top - pad, column + left - pad
                if 0 <= r < 5 and 0 <= c < 4:
                    expected[i, :, row, column] = images[i, :, r, c]
    cropped = data.random_crop(images, np.random.default_rng(6), pad)
    assert cropped.dtype == np.uint8 and np.array_equal(cropped, expected) and np.array_equal(images, before)
    assert set(tops) == set(lefts) == set(range(2 * pad + 1))  # every place is drawn


def test_augment_follows_the_table():
    images = batch()
    assert data.augment(images, np.random.default_rng(7), "mnist", 0) is images
    rng = np.random.default_rng(7)
    both = data.random_crop(data.random_flip(images, rng), rng)
    assert np.array_equal(data.augment(images, np.random.default_rng(7), "cifar10"), both)
    crop = data.random_crop(images, np.random.default_rng(7))
    assert np.array_equal(data.augment(images, np.random.default_rng(7), "svhn"), crop)
    moved = data.random_crop(images, np.random.default_rng(7), 1)
    assert np.array_equal(data.augment(images, np.random.default_rng(7), "mnist"), moved)
    assert data.augment(images, np.random.default_rng(7), "svhn", 0) is images
