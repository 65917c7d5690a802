"""A stand-in for the module `cupy`, backed by NumPy: what runs on it has a chance to run on a GPU.

`cupy` is the module, to be put in sys.modules["cupy"] (the fixture `device` in conftest.py does). It refuses what CuPy
refuses, and where CuPy would help itself in silence it refuses too, for each such help is a mistake here:

    host arrays        a numpy.ndarray beside a device array: arithmetic, comparisons, functions, assignment
                       (TypeError). As an index it is taken, as CuPy does, and counted as a copy
    conversion         numpy.asarray(x) raises: x.get() is the one way to the host
    NumPy functions    numpy.maximum(x, 0), numpy.sum(x) raise, where CuPy would call its own
    functions          only those of standin_functions.py and the tables below, with CuPy's arguments: test_standin.py
                       holds the tables against CuPy
    results            stay on the device; a reduction to one number is an array of shape ()
    views              by broadcast_to and as_strided cannot be written: on a GPU that is a race
    indices            out of bounds raise, where CuPy wraps around

Python numbers and NumPy scalars go along with device arrays and promote as in NumPy 2, which CuPy 14 follows.

`count()` counts what runs on the device:

    with standin.count() as n:
        rb.robust_loss(net, ball, y, "ibp")
    n.launches, n.by_name    calls that launch work: an elementwise function, reduction, product, copy or fill; no views
    n.to_device, n.to_host   copies between the two, bool(x), float(x), int(x) and x.item() among them
"""

import collections
import contextlib
import functools
import threading
import types

import numpy as np
from standin_functions import CREATORS, FUNCTIONS, METHODS, OPERANDS, PRODUCTS

# ---- counting ----

_counts, _lock = [], threading.Lock()


class Count:
    def __init__(self):
        self.by_name, self.to_device, self.to_host = collections.Counter(), 0, 0

    @property
    def launches(self):
        return sum(self.by_name.values())


@contextlib.contextmanager
def count():
    """A Count of what every thread runs on the stand-in meanwhile."""
    n = Count()
    _counts.append(n)
    try:
        yield n
    finally:
        _counts.remove(n)


def _note(name=None, to_device=0, to_host=0):
    if _counts:
        with _lock:
            for n in _counts:
                n.to_device, n.to_host = n.to_device + to_device, n.to_host + to_host
                if name:
                    n.by_name[name] += 1


# ---- between the stand-in and NumPy ----

def _device(result):
    """What NumPy returned, on the device."""
    if isinstance(result, (tuple, list)):
        return type(result)(map(_device, result))
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    array = object.__new__(ndarray)
    array._host = np.asarray(result)
    return array


def _host(value):
    """An argument as NumPy takes it; TypeError for a host array."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: a host array where a device array is expected")
    if type(value) in (tuple, list):
        return type(value)(map(_host, value))
    return value


def _is_scalar(value):
    return type(value) in (bool, int, float, complex) or isinstance(value, np.generic)


def _on_device(value):
    return isinstance(value, ndarray) or isinstance(value, (tuple, list)) and value and all(map(_on_device, value))


def _launching(name, f, creates=False):
    """f(host arrays), with CuPy's signature, as a function of device arrays; returning a view launches nothing."""

    @functools.wraps(f)
    def call(*args, **kwargs):
        first = next((x for x in (*args, *kwargs.values()) if not isinstance(x, str)), None)
        if not creates and not _on_device(first):
            raise TypeError(f"{name}: expected a device array, got {type(first)}")
        for x in args[1:OPERANDS.get(name, 0)]:
            if not isinstance(x, ndarray) and (isinstance(x, (tuple, list)) or name in PRODUCTS):
                raise TypeError(f"{name}: Unsupported type {type(x)}")
        args, kwargs = [_host(x) for x in args], {k: _host(v) for k, v in kwargs.items()}
        with np.errstate(all="ignore"):
            result = f(*args, **kwargs)
        if creates or kwargs.get("out") is not None or not _is_view(result, _host(first)):
            _note(name)
        return _device(result)

    call.__name__ = call.__qualname__ = f.__qualname__ = name
    return call


def _is_view(result, array):
    if isinstance(result, (tuple, list)) and len(result):
        result = result[0]
    return isinstance(result, np.ndarray) and isinstance(array, np.ndarray) and np.may_share_memory(result, array)


# ---- elementwise functions ----

def _elementwise(ufunc):
    """A ufunc of CuPy: it takes device arrays and numbers, and of NumPy's keywords only these."""

    def call(*args, out=None, dtype=None, casting="same_kind"):
        if not ufunc.nin <= len(args) <= ufunc.nargs:
            raise TypeError(f"Wrong number of arguments for {ufunc.__name__}: {len(args)}")
        for x in (*args, out):
            if not (isinstance(x, ndarray) or _is_scalar(x) or x is None and x is out):
                raise TypeError(f"Unsupported type {type(x)}")
        given = {"casting": casting} if out is None else {"casting": casting, "out": _host(out)}
        with np.errstate(all="ignore"):
            result = ufunc(*map(_host, args), dtype=dtype, **given)
        _note(ufunc.__name__)
        return _device(result) if out is None else out

    call.__name__ = call.__qualname__ = ufunc.__name__
    call.nin, call.nargs = ufunc.nin, ufunc.nargs
    return call


UFUNCS = {name: _elementwise(getattr(np, name)) for name in """
    add subtract multiply divide true_divide floor_divide power remainder mod negative positive reciprocal
    maximum minimum fmax fmin absolute abs sign sqrt square cbrt exp expm1 exp2 log log1p log2 tanh hypot
    floor ceil rint trunc copysign signbit nextafter ldexp frexp isnan isfinite isinf
    greater greater_equal less less_equal equal not_equal logical_and logical_or logical_not logical_xor
    bitwise_and bitwise_or bitwise_xor invert left_shift right_shift""".split()}

OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
             "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
             "lshift": "left_shift", "rshift": "right_shift"}
COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
               "eq": "equal", "ne": "not_equal"}
_OPERATOR_NAMES = {getattr(np, name).__name__ for name in (*OPERATORS.values(), *COMPARISONS.values())}


# ---- the array ----

class ndarray:
    """cupy.ndarray; its numbers are in the NumPy array _host."""

    __slots__ = ("_host",)
    __hash__ = None
    __array_priority__ = 100

    shape, dtype, ndim, size, strides, nbytes, itemsize, flags = (
        property(lambda self, name=name: getattr(self._host, name))
        for name in ("shape", "dtype", "ndim", "size", "strides", "nbytes", "itemsize", "flags"))
    T = property(lambda self: _device(self._host.T))

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. "
                        "Please use `.get()` to construct a NumPy array explicitly.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        """NumPy comes here for `scalar + x`, which CuPy takes, and for numpy.maximum(x, y), which is a mistake."""
        left, name = inputs[0], ufunc.__name__
        if name in COMPARISONS.values() and isinstance(left, np.ndarray) and left.ndim == 0:
            left = left[()]  # NumPy has made an array of `scalar < x`
        if method == "__call__" and not kwargs and isinstance(left, np.generic) and name in _OPERATOR_NAMES:
            return UFUNCS[name](left, *inputs[1:])
        raise TypeError(f"numpy.{ufunc.__name__} with a device array: the function of its own module is meant, "
                        "or a host array is beside it")

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} with a device array: the function of its own module is meant, "
                        "or a host array is beside it")

    def get(self, stream=None, order="C", out=None, blocking=True):
        _note(to_host=1)
        if out is None:
            return self._host.copy(order)
        out[...] = self._host
        return out

    def item(self):
        _note(to_host=1)
        return self._host.item()

    def tolist(self):
        _note(to_host=1)
        return self._host.tolist()

    def __bool__(self):
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __repr__(self):
        return repr(self.get())

    def __format__(self, spec):
        return format(self.get(), spec)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        index, masks = _index(index)
        result = self._host[index]
        if not _is_view(result, self._host):
            _note("getitem", to_host=masks)  # CuPy waits for the number of True in a mask
        return _device(result)

    def __setitem__(self, index, value):
        index, _ = _index(index)
        if not (isinstance(value, ndarray) or _is_scalar(value)):
            raise TypeError(f"Unsupported type {type(value)}: only device arrays and numbers are assigned")
        value, target = _host(value), self._host[index]
        if isinstance(value, np.ndarray) and value.__array_interface__ == target.__array_interface__:
            return  # x[i] += y assigns the view that it has added to
        self._host[index] = value
        _note("setitem")


def _index(index):
    """An index as NumPy takes it, with an Ellipsis so that one element is still an array; and how many masks it has."""
    parts, masks = [], 0
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, (np.ndarray, list)):
            part = cupy.asarray(part, int if isinstance(part, list) and not part else None)  # CuPy copies it as well
        masks += isinstance(part, ndarray) and part.dtype == bool
        parts.append(_host(part))
    return (*parts, *(() if any(part is Ellipsis for part in parts) else (Ellipsis,))), masks


def _operators(name, f):
    def left(self, other):
        if isinstance(other, (ndarray, np.ndarray)) or _is_scalar(other):
            return f(self, other)
        return NotImplemented

    def right(self, other):
        return f(other, self) if _is_scalar(other) else NotImplemented

    def in_place(self, other):
        return f(self, other, out=self)

    return {f"__{name}__": left, f"__r{name}__": right, f"__i{name}__": in_place}


_matmul = _launching("matmul", FUNCTIONS["matmul"])
_members = {
    **{name: _launching(name, f) for name, f in METHODS.items()},
    **{name: f for op, ufunc in OPERATORS.items() for name, f in _operators(op, UFUNCS[ufunc]).items()},
    **{f"__{op}__": _operators(op, UFUNCS[ufunc])[f"__{op}__"] for op, ufunc in COMPARISONS.items()},
    "__matmul__": lambda self, other: _matmul(self, other),
    "__rmatmul__": lambda self, other: NotImplemented,
    "__neg__": lambda self: UFUNCS["negative"](self),
    "__pos__": lambda self: self,
    "__abs__": lambda self: UFUNCS["absolute"](self),
    "__invert__": lambda self: UFUNCS["invert"](self),
}
for _name, _member in _members.items():
    setattr(ndarray, _name, _member)
ndarray.__module__ = "cupy"


# ---- the module ----

def _array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0):
    if isinstance(obj, (list, tuple)) and _on_device(obj):
        obj = cupy.stack([cupy.asarray(x) for x in obj])
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype, order=order or "K", copy=copy)
    host = np.array(obj, dtype, order=order or "K", ndmin=ndmin)
    if host.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    _note(to_device=1)
    return _device(host)


def _asarray(a, dtype=None, order=None):
    if isinstance(a, ndarray) and dtype in (None, a.dtype) and order is None:
        return a
    return _array(a, dtype, False, order)


def _asnumpy(a, stream=None, order="C", out=None):
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a, order=order)


def _empty(shape, dtype=float, order="C"):
    array = np.zeros(shape, dtype, order)
    if array.dtype.kind == "f":
        array.fill(np.nan)  # whoever reads before writing shall notice
    return _device(array)


def _as_strided(x, shape=None, strides=None):
    return _device(np.lib.stride_tricks.as_strided(_host(x), shape, strides, writeable=False))


def _norm(x, ord=None, axis=None, keepdims=False):
    return np.linalg.norm(x, ord, axis, keepdims)


def _module(name, members):
    module = types.ModuleType(name)
    vars(module).update(members)

    def missing(attribute):
        raise AttributeError(f"tests/standin.py has no {name}.{attribute}; if CuPy has it, add it there")

    module.__getattr__ = missing
    return module


class _Device:
    """The one device; nothing is ever pending."""

    def __init__(self, device=0):
        self.id = device

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def use(self):
        pass

    synchronize = use


OTHERS = {"array": _array, "asarray": _asarray, "asnumpy": _asnumpy, "empty": _empty,
          "finfo": lambda dtype: np.finfo(dtype), "iinfo": lambda int_type: np.iinfo(int_type)}

cupy = _module("cupy", {
    **UFUNCS, **OTHERS, "ndarray": ndarray, "newaxis": None, "inf": np.inf, "nan": np.nan, "pi": np.pi, "e": np.e,
    **{name: _launching(name, f, creates=True) for name, f in CREATORS.items()},
    **{name: _launching(name, f) for name, f in FUNCTIONS.items()},
    **{name: getattr(np, name) for name in """bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32
                                              float64 dtype promote_types can_cast issubdtype floating integer"""
       .split()},
    "result_type": lambda *arrays_and_dtypes: np.result_type(*map(_host, arrays_and_dtypes)),
    "lib": _module("cupy.lib", {"stride_tricks": _module("cupy.lib.stride_tricks", {"as_strided": _as_strided})}),
    "linalg": _module("cupy.linalg", {"norm": _launching("norm", _norm)}),
    "cuda": _module("cupy.cuda", {
        "Device": _Device, "Stream": types.SimpleNamespace(null=_Device()), "get_current_stream": _Device,
        "runtime": _module("cupy.cuda.runtime", {
            "getDeviceCount": lambda: 1, "deviceSynchronize": lambda: None,
            "getDeviceProperties": lambda device: {"name": b"the stand-in"}})}),
    "__version__": "0 (tests/standin.py)",
    "get_default_memory_pool": lambda: types.SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 2**20),
})
