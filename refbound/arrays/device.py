"""The array module of a device. Not needed to understand the method."""

import importlib

import numpy


def device_module(device):
    """The array module for device "cpu" or "cuda"; ValueError, in one line, when it cannot be had."""
    if device == "cpu":
        return numpy
    if device != "cuda":
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        why = "is not installed (pip install 'refbound[gpu]')" if absent else f"does not load ({_first_line(error)})"
        raise ValueError(f"device: 'cuda' needs CuPy, which {why}") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own classes, which cannot be named without it
        raise ValueError(f"device: 'cuda' needs a GPU, and CuPy finds none ({_first_line(error)})") from None
    if count == 0:
        raise ValueError("device: 'cuda' needs a GPU, and CuPy finds none")
    try:
        cupy.ones((1, 1)) @ cupy.ones((1, 1))  # compiles a kernel, and loads cuBLAS
    except Exception as error:
        raise ValueError("device: 'cuda' needs CUDA's libraries (pip install 'refbound[gpu]'): "
                         f"{_first_line(error)}") from None
    return cupy


def _first_line(error):
    return str(error).partition("\n")[0]
