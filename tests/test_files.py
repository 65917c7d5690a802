"""Networks in files: they come back exactly, nothing else is let in, and nothing is left half written."""

import copy
import json
import os
import pickle
from functools import partial

import numpy as np
import pytest
from networks import ALL, batch, build

import refbound as rb
from trainers.files import checkpoint


@pytest.fixture
def saved(tmp_path):
    """A network's file and the arrays in it."""
    rb.save(build("dense"), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        return tmp_path / "net.npz", dict(file)


def refuses(path, *words):
    with pytest.raises(ValueError) as caught:
        rb.load(path)
    line = str(caught.value)
    assert type(caught.value) is ValueError and line.startswith(f"{path}: ") and "\n" not in line
    assert all(word in line for word in words), line


# ---- there and back ----

def test_a_network_is_copied_and_pickled_and_follows_its_parameters():
    net = build("dense", dtype=np.float32)
    ball, y = batch(net)
    s = rb.margin_bounds(net, ball, y, "crown-ibp")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)),
                  rb.Network(net.layers, net.params.items(), (6,))):
        np.testing.assert_array_equal(rb.margin_bounds(other, ball, y, "crown-ibp"), s)
    for name, value in net.params.items():
        net.params[name] = value.astype(np.float64)
    assert net.dtype == np.float64 and rb.margin_bounds(net, ball, y, "crown-ibp").dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL)
def test_a_network_comes_back_exactly(name, dtype, tmp_path):
    net = build(name, dtype=dtype)
    rb.save(net, tmp_path / "net.npz")
    again = rb.load(tmp_path / "net.npz")
    assert again.spec() == net.spec() and again.input_shape == net.input_shape and again.layers == net.layers
    assert list(again.params) == list(net.params) and again.dtype == dtype
    for key, value in net.params.items():
        np.testing.assert_array_equal(again.params[key], value)
    x = batch(net)[0].x
    np.testing.assert_array_equal(again(x), net(x))
    assert os.listdir(tmp_path) == ["net.npz"]


def test_the_file_is_the_documented_one(saved):
    _, arrays = saved
    assert json.loads(str(arrays["architecture"])) == [
        {"type": "linear", "in_features": 6, "out_features": 8}, {"type": "relu"},
        {"type": "linear", "in_features": 8, "out_features": 7}, {"type": "relu"},
        {"type": "linear", "in_features": 7, "out_features": 4}]
    assert arrays["input_shape"].tolist() == [6]
    assert arrays["0.weight"].shape == (8, 6) and arrays["4.bias"].shape == (4,)
    kinds = [layer["type"] for layer in build("rectangular").spec()]
    assert kinds == ["conv2d", "relu", "conv2d", "relu", "flatten", "linear"]
    assert build("rectangular").spec()[0] == {"type": "conv2d", "in_channels": 1, "out_channels": 3,
                                              "kernel_size": [2, 3], "stride": [1, 2], "padding": [0, 1]}


def test_a_file_written_by_numpy_alone_is_a_network(tmp_path):
    architecture = '[{"type": "linear", "in_features": 2, "out_features": 2}]'
    np.savez_compressed(tmp_path / "net.npz", architecture=architecture, input_shape=[2],
                        **{"0.weight": np.eye(2), "0.bias": np.zeros(2)})
    np.testing.assert_array_equal(rb.load(tmp_path / "net.npz")(np.array([[3.0, 4.0]])), [[3, 4]])


def test_a_file_of_the_other_byte_order_has_the_same_draws(saved):
    path, arrays = saved
    net = rb.load(path)
    np.savez(path, **{name: a.astype(a.dtype.newbyteorder("S")) if a.dtype.kind == "f" else a
                      for name, a in arrays.items()})
    ball, y = rb.Ball(np.full((1, *net.input_shape), 0.5, net.dtype), 0.1), np.zeros(1, int)
    one, other = (rb.margin_bounds(of, ball, y, "random", rng=np.random.default_rng(0)) for of in (net, rb.load(path)))
    assert (one == other).all()


@pytest.mark.parametrize("fails", ["np.savez", "os.replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_part(fails, saved, monkeypatch):
    path, arrays = saved
    before = path.read_bytes()

    def full_disk(file, *args, **kwargs):
        if fails == "np.savez":
            file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr({"np.savez": np, "os.replace": os}[fails], fails.split(".")[1], full_disk)
    with pytest.raises(OSError, match="No space left"):
        rb.save(build("rectangular"), path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["net.npz"]


# ---- what is no network ----

def test_a_missing_file_and_what_is_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        rb.load(tmp_path / "nothing.npz")
    refuses(tmp_path, "directory")
    for content in (b"", b"hello\nworld\n", b"PK\x03\x04 and no more", b"\x80\x04K\x03."):
        (tmp_path / "file.npz").write_bytes(content)
        refuses(tmp_path / "file.npz", "not a network file")


def test_truncated_files(saved):
    path, _ = saved
    whole = path.read_bytes()
    for size in range(0, len(whole), 23):
        path.write_bytes(whole[:size])
        refuses(path, "not a network file")


@pytest.mark.parametrize("words, change", [
    ("architecture", {"architecture": None}), ("input_shape", {"input_shape": None}), ("0.weight", {"0.weight": None}),
    ("extra", {"extra": np.zeros(2)}),
    ("0.bias (8,) (7,)", {"0.bias": np.zeros(7)}), ("0.bias int64", {"0.bias": np.zeros(8, int)}),
    ("0.bias NaN", {"0.bias": np.full(8, np.nan)}), ("0.bias infinity", {"0.bias": np.full(8, -np.inf)}),
    ("float32 float64", {"0.bias": np.zeros(8, np.float32)}),
    ("Expecting value", {"architecture": "no JSON"}), ("architecture: list", {"architecture": "3"}),
    ("architecture: text |S4", {"architecture": b"[{}]"}),
    ("tanh", {"architecture": '[{"type": "tanh"}]'}), ("type linear", {"architecture": '[{"no": 1}]'}),
    ("in_features", {"architecture": '[{"type": "linear"}]'}),
    ("kernel_size", {"architecture": '[{"type": "conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 0}]'}),
    ("layer 0 (6,) (7,)", {"input_shape": np.array([7])}), ("iterable", {"input_shape": np.array(6)})])
def test_foreign_archives(words, change, saved):
    path, arrays = saved
    np.savez(path, **{key: value for key, value in {**arrays, **change}.items() if value is not None})
    refuses(path, *words.split())


class Trap:
    """Touches a file if it is ever unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["extra", "architecture", "input_shape", "0.weight"])
def test_a_pickle_in_an_archive_is_never_opened(name, saved):
    path, arrays = saved
    trap = path.parent / "sprung"
    np.savez(path, **{**arrays, name: np.array([Trap(trap)], dtype=object)})
    refuses(path, "allow_pickle=False")
    assert not trap.exists()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_changed_byte_is_refused_or_changes_nothing(write, saved):
    path, arrays = saved
    write(path, **arrays)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(len(whole), size=150):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.integers(8)]) + whole[at + 1:])
        try:
            net = rb.load(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert all((value == arrays[key]).all() for key, value in net.params.items())


def test_the_checksum_of_an_array_is_looked_at(tmp_path):
    """Of a large array NumPy reads as much as its header says: with a longer header the weights would be shifted."""
    net, path = rb.models.small(np.random.default_rng(0)), tmp_path / "net.npz"
    rb.save(net, path)
    checkpoint.save(tmp_path / "checkpoint.npz", 0, net.params, {}, [], [], 0.0)
    for file, load in ((path, rb.load), (tmp_path / "checkpoint.npz", partial(checkpoint.restore, like=np.zeros(1)))):
        whole = bytearray(file.read_bytes())
        at = whole.index(b"\x93NUMPY", whole.index(b"5.weight.npy")) + 8  # the length of its header
        whole[at] ^= 16
        file.write_bytes(whole)
        with pytest.raises(ValueError, match="5.weight.npy is not what was written"):
            load(file)


def test_a_single_array_is_refused_as_one(tmp_path):
    np.save(tmp_path / "net.npy", np.zeros(3))
    refuses(tmp_path / "net.npy", "a single array")


def test_two_processes_that_write_one_file_have_temporary_names_of_their_own(tmp_path, monkeypatch):
    names, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda part, path: (names.append(part), replace(part, path)))
    for pid in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        rb.save(build("dense"), tmp_path / "net.npz")
    assert len(set(names)) == 2 and os.listdir(tmp_path) == ["net.npz"]


def test_a_write_that_fails_names_the_file(tmp_path):
    with pytest.raises(OSError, match="net.npz"):
        rb.save(build("dense"), tmp_path / "none" / "net.npz")
