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
    except ImportError:
        raise ValueError("device: 'cuda' needs CuPy, which is not installed (pip install 'refbound[gpu]')") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own classes, which cannot be named without it
        raise ValueError(f"device: 'cuda' needs a GPU, and CuPy finds none ({str(error).splitlines()[0]})") from None
    if count == 0:
        raise ValueError("device: 'cuda' needs a GPU, and CuPy finds none")
    return cupy
