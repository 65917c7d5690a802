"""Fixtures for every test."""

import re
import struct
import sys

import numpy as np
import pytest
import standin

from refbound.arrays.device import device_module
from trainers import data, train
from trainers.inputs import arguments
from verify.programs import mixed_integer

FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}


@pytest.fixture
def device(monkeypatch):
    """The stand-in for CuPy, in its place: `--device cuda` and device_module("cuda") find it (standin.py)."""
    monkeypatch.setitem(sys.modules, "cupy", standin.cupy)
    return standin.cupy


@pytest.fixture
def refused(capsys):
    """A function that holds a command to end with one line on stderr, after its progress, with the words in it."""
    def check(module, argv, *words):
        with pytest.raises(SystemExit) as stopped:
            arguments.run(lambda: module.main([*map(str, argv)]))
        lines = [line for line in capsys.readouterr().err.strip().splitlines() if not re.search(r": \d+ of \d+$", line)]
        assert stopped.value.code and len(lines) == 1, lines
        for word in words:
            assert word in lines[0], lines[0]
    return check


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """A folder with the first 700 training and 100 test images of MNIST, in its format."""
    folder = tmp_path_factory.mktemp("few")
    for split, n in (("train", 700), ("test", 100)):
        images, labels = (a[:n] for a in data.load("mnist", split))
        (folder / FILES[split][0]).write_bytes(struct.pack(">4I", 0x803, n, 28, 28) + images.tobytes())
        (folder / FILES[split][1]).write_bytes(struct.pack(">2I", 0x801, n) + labels.astype(np.uint8).tobytes())
    return str(folder)


@pytest.fixture
def interrupted_in_epoch_3(monkeypatch):
    """A function that trains with these arguments until it is interrupted as epoch 3 begins."""
    def interrupt(arguments):
        real = train.train_epoch

        def until_epoch_3(net, state, data, epoch, *rest):
            if epoch == 3:
                raise KeyboardInterrupt
            return real(net, state, data, epoch, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(train, "train_epoch", until_epoch_3)
            with pytest.raises(KeyboardInterrupt):
                train.main(arguments)

    return interrupt


@pytest.fixture
def failing_milp(monkeypatch):
    """A function after which HiGHS fails on every mixed-integer program."""
    real = mixed_integer.milp

    def fail(*given, **more):
        result = real(*given, **more)
        result.status, result.message = 4, "numerical difficulties"
        return result

    return lambda: monkeypatch.setattr(mixed_integer, "milp", fail)


@pytest.fixture(scope="session")
def onnx():
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'refbound[onnx]')")
    pytest.importorskip("onnx.reference")
    return onnx


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed (pip install 'refbound[peers]')")


@pytest.fixture
def real():
    """The real CuPy, which imports without a GPU."""
    return pytest.importorskip("cupy", reason="CuPy is not installed: pip install 'refbound[test]'")


@pytest.fixture
def gpu(real):
    """The real CuPy, where there is a GPU."""
    try:
        return device_module("cuda")
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["the stand-in", pytest.param("a GPU", marks=pytest.mark.gpu)])
def either(request):
    """The stand-in for CuPy; by -m gpu the real one, on a GPU."""
    return request.getfixturevalue("gpu" if request.param == "a GPU" else "device")
