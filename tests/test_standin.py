"""The stand-in for CuPy (standin.py) refuses what CuPy refuses, and takes what it takes: held against the real package,
which imports without a GPU. And every name and argument that the library uses is CuPy's.
"""

import ast
import copy
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import standin

from refbound.arrays.ops import is_array, namespace

ROOT = Path(__file__).parents[1]


# ---- the stand-in refuses what CuPy refuses ----


HOST = np.ones(3)
REFUSED = [
    *("x + HOST", "HOST + x", "x * HOST", "HOST < x", "x == HOST", "x @ HOST", "HOST @ x", "x += HOST", "HOST += x"),
    *("x[0] + HOST[:1]", "x + np.array(1.0)", "np.array(1.0) * x", "x + [1, 2, 3]", "x + None", "x[0] = HOST[:1]"),
    *("np.asarray(x)", "np.array([x, x])", "np.maximum(x, 0)", "np.add(x, 1)", "np.sum(x)", "np.concatenate([x, x])"),
    *("np.sqrt(x)", "np.max(x)", "np.isfinite(x)", "HOST[x.astype(int)]", "np.add(HOST, 1, out=x)", "2 * HOST * x"),
    *("xp.maximum(x, HOST)", "xp.where(x > 0, x, HOST)", "xp.where(True, x, x)", "xp.einsum('i,i->', x, HOST)"),
    *("xp.concatenate([x, HOST])", "xp.sum(HOST)", "xp.sum([1, 2])", "xp.clip(x, HOST, 1)",
      "xp.broadcast_to(HOST, (2, 3))"),
    *("xp.maximum(x, 0, where=x > 0)", "xp.add(x)", "xp.add(x, x, x, x)", "x.sum(where=x > 0)", "x.max(initial=0)"),
    *("xp.max(x, initial=0)", "xp.einsum('i->i', x, order='C')", "xp.take_along_axis(x, x.astype(int))"),
    *("xp.where(x > 0, x, [1, 2, 3])", "xp.clip(x, [0, 0, 0], 1)",
      "x @ [1, 2, 3]", "xp.matmul(x, [1, 2, 3])", "xp.dot(x, 2.0)"),
    *("xp.outer(x, [1, 2])", "xp.tensordot(x, [1, 2, 3], 1)", "xp.partition(x, np.int64(1))",
      "xp.zeros_like(x, subok=True)"),
    *("x.item(0)", "x.astype(float, casting='safe', like=x)",
      "range(x.astype(int)[0])", "iter(x[0])", "float(x)", "hash(x)"),
]


@pytest.mark.parametrize("line", REFUSED)
def test_standin_refuses(device, line):
    with pytest.raises(TypeError):
        exec(line, {"x": device.asarray([1.0, 2.0, 3.0]), "xp": device, "np": np, "HOST": HOST})


@pytest.mark.parametrize("line, error", [
    ("xp.spacing(x)", AttributeError), ("xp.vectorize", AttributeError), ("x.searchsorted", AttributeError),
    ("xp.sort(x, kind='quicksort')", ValueError), ("xp.argsort(x, kind='mergesort')", ValueError),
    ("xp.asarray(['a'])", ValueError), ("xp.asarray(None)", ValueError), ("bool(x)", ValueError),
    ("xp.broadcast_to(x, (2, 3))[:] = 0", ValueError),
    ("xp.lib.stride_tricks.as_strided(x, (2,), (8,))[0] = 0", ValueError),
    ("x[3]", IndexError), ("xp.take_along_axis(x, xp.asarray([5]), 0)", IndexError), ("x @ 2", ValueError),
    ("x += xp.ones((2, 3))", ValueError), ("x[::2].sort()", NotImplementedError)])
def test_standin_refuses_otherwise(device, line, error):
    with pytest.raises(error):
        exec(line, {"x": device.asarray([1.0, 2.0, 3.0]), "xp": device})


@pytest.mark.parametrize("line, dtype, shape", [
    ("x.sum()", "f4", ()), ("x[0]", "f4", ()), ("x[0, ...]", "f4", ()), ("xp.max(x, axis=0)", "f4", ()),
    ("x @ x", "f4", ()), ("(x > 0).sum()", "i8", ()), ("x.mean(keepdims=True)", "f4", (1,)), ("(x > 1).all()", "?", ()),
    ("x.argmax()", "i8", ()), ("2 * x", "f4", (3,)), ("2.0 - x", "f4", (3,)), ("np.float32(2) * x", "f4", (3,)),
    ("np.float64(2) * x", "f8", (3,)), ("np.float64(2) > x", "?", (3,)), ("x * (x > 0)", "f4", (3,)),
    ("xp.where(x > 1, x, 1)", "f4", (3,)), ("x[np.array([2, 0])]", "f4", (2,)), ("x[[0, 1]]", "f4", (2,)),
    ("x[x > 0]", "f4", (2,)), ("xp.maximum(x, 0)", "f4", (3,)), ("xp.asarray([x, x])", "f4", (2, 3)),
    ("abs(-x).T", "f4", (3,)), ("xp.arange(3)", "i8", (3,)), ("xp.zeros(2)", "f8", (2,)),
    ("xp.finfo(x.dtype).tiny + x", "f4", (3,)), ("copy.deepcopy(x)", "f4", (3,)), ("x / x.sum()", "f4", (3,))])
def test_standin_keeps_results_on_the_device(device, line, dtype, shape):
    found = eval(line, {"x": device.asarray(np.arange(3, dtype="f4")), "xp": device, "np": np, "copy": copy})
    assert type(found) is device.ndarray and found.dtype == dtype and found.shape == shape


def test_standin_counts_what_it_runs(device):
    x = device.asarray(np.ones((4, 3)))
    with standin.count() as n:
        for view in (x.T, x[1:, None], x.reshape(2, 6), x.swapaxes(0, 1), device.broadcast_to(x, (2, 4, 3)), x[0],
                     x.astype(float, copy=False), device.lib.stride_tricks.as_strided(x, (2, 3), (24, 8))):
            assert n.launches == 0 and isinstance(view, device.ndarray)
        y = x @ x.T + 1  # 2
        y += x.sum()  # 2
        x[:2] *= 2  # 1
        x[0] = 0  # 1
        device.where(y > 0, y, device.zeros((), float)).T.reshape(-1)  # 3; a transposed array is copied: 1
        assert (n.launches, n.to_host, n.to_device) == (10, 0, 0) and n.by_name["add"] == 2
        assert float(y.max()) > 0 and bool((y > 0).all()) and y.get().shape == (4, 4)
        assert (n.launches, n.to_host) == (13, 3)
        device.asarray(np.ones(2))
        assert (n.launches, n.to_device) == (13, 1)
    x + 1
    assert n.launches == 13


# ---- the real package, which imports without a GPU ----


def path_in_module(node):
    """["lib", "stride_tricks"] for xp.lib.stride_tricks; None for what is no attribute of an array module."""
    if isinstance(node, ast.Attribute):
        above = path_in_module(node.value)
        return [*above, node.attr] if above is not None else [] if node.attr == "xp" else None
    if isinstance(node, ast.Call):
        return [] if isinstance(node.func, ast.Name) and node.func.id in ("namespace", "device_module") else None
    return [] if isinstance(node, ast.Name) and node.id in ("xp", "cupy") else None


def method_signature(method):
    """From the first line of a compiled method's docstring: name(self, axis=None, int kind=None) -> type."""
    found = re.search(r"\.\w+\(self,? ?(.*)\)", (method.__doc__ or "").partition("\n")[0])
    if found is None:
        return None
    return inspect.signature(eval("lambda " + ", ".join(part.split(" ")[-1] for part in found[1].split(", ")) + ": 0"))


def misfit(function, call, cupy):
    """Why CuPy's function does not take the arguments of this call; None if it does."""
    names = [k.arg for k in call.keywords if k.arg]
    starred = any(isinstance(a, ast.Starred) for a in call.args) or len(names) < len(call.keywords)
    if isinstance(function, cupy.ufunc):
        if (set(names) - {"out", "dtype", "casting"}
                or not starred and not function.nin <= len(call.args) <= function.nargs):
            return f"{len(call.args)} positional arguments and {names}"
        return None
    signature = method_signature(function) if not hasattr(function, "__code__") else inspect.signature(function)
    try:
        if signature:
            args = [0 for a in call.args if not isinstance(a, ast.Starred)]
            (signature.bind_partial if starred else signature.bind)(*args, **dict.fromkeys(names))
    except TypeError as error:
        return str(error)


def misuses(source, cupy, methods=True):
    """Every use in a source text of an array module, or of an array method, that CuPy would not take."""
    nodes, found = list(ast.walk(ast.parse(source))), []
    calls = {node.func: node for node in nodes if isinstance(node, ast.Call)}
    imported = {(name.asname or name.name).partition(".")[0]
                for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for name in node.names}
    for node in nodes:
        if not isinstance(node, ast.Attribute):
            continue
        path, thing = path_in_module(node), cupy
        if path is None:
            if not methods or not hasattr(np.ndarray, node.attr) or getattr(node.value, "id", None) in imported:
                continue
            path, thing = [node.attr], cupy.ndarray
        for name in path:
            thing = getattr(thing, name, cupy)
        if thing is cupy and path:
            found.append(f"line {node.lineno}: CuPy has no {'.'.join(path)}")
        elif node in calls and path and (reason := misfit(thing, calls[node], cupy)):
            found.append(f"line {node.lineno}: {'.'.join(path)}: {reason}")
    return found


SOURCES = sorted(str(p.relative_to(ROOT)) for folder in ("refbound", "trainers") for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("source", SOURCES)
def test_cupy_has_every_name_and_argument_that_is_used(real, source):
    """In trainers, arrays are mostly NumPy's own: only what is asked of `xp` counts."""
    assert misuses((ROOT / source).read_text(), real, methods=source.startswith("refbound")) == []


@pytest.mark.parametrize("line", [
    "xp.spacing(x)", "namespace(x, y).nextbefore(x)", "net.xp.lib.sliding(x)", "x.setflags()",
    "xp.maximum(x, 0, where=m)", "xp.maximum(x)", "x.sum(0, where=m)", "x.max(0, initial=1)",
    "xp.take_along_axis(x, i)", "xp.sum(x, 0, initial=0)", "x.astype(d, casts='same_kind')",
    "x.swapaxes(1)", "xp.full(3)", "net.xp.lib.stride_tricks.as_strided(x, s, t, u)"])
def test_the_check_of_names_finds_misuses(real, line):
    assert len(misuses(line, real)) == 1


def test_the_check_of_names_lets_pass_what_cupy_has(real):
    assert misuses("""
        namespace(x).maximum(x, 0, out=y, dtype=d) + xp.sum(x, (0, 1), keepdims=True) + x.reshape(*s, -1).T.sum(0)
        xp.where(m, x, 1) + xp.zeros((*s, 3), x.dtype) + xp.einsum("ij->j", x) + math.prod(s) + """
                   """net.xp.concatenate(parts)
        """.replace("\n        ", "\n"), real) == []


def parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("name", [*standin.CREATORS, *standin.FUNCTIONS, *standin.OTHERS])
def test_standin_functions_take_what_cupy_s_take(real, name):
    """Positional parameters are the first of CuPy's, by name, order and default; those by keyword are among CuPy's."""
    ours, theirs = (parameters(inspect.signature(getattr(xp, name))) for xp in (standin.cupy, real))
    by_position = [p for p in ours if p[1] in (inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                               inspect.Parameter.VAR_POSITIONAL)]
    open_ended = any(kind == inspect.Parameter.VAR_KEYWORD for _, kind, _ in theirs)
    assert by_position == theirs[:len(by_position)]
    assert open_ended or {p[0] for p in ours} <= {p[0] for p in theirs}


def test_standin_methods_take_what_cupy_s_take(real):
    for name, method in standin.METHODS.items():
        theirs = list(method_signature(getattr(real.ndarray, name)).parameters)
        ours = list(inspect.signature(method).parameters)[1:]
        assert [parameter for parameter in theirs if parameter in ours] == ours, name
    class Plain:
        """What Python itself puts in a class."""

    ours = vars(standin.cupy.ndarray).keys() - vars(Plain).keys() - {"_host", "__copy__"}
    assert ours <= set(dir(real.ndarray))


def test_standin_elementwise_functions_are_cupy_s(real):
    for name, function in standin.UFUNCS.items():
        theirs = getattr(real, name)
        assert isinstance(theirs, real.ufunc) and (theirs.nin, theirs.nargs) == (function.nin, function.nargs), name


def test_standin_names_are_cupy_s(real):
    def check(ours, theirs):
        for name, value in vars(ours).items():
            if not name.startswith("__"):
                assert hasattr(theirs, name), name
                if inspect.ismodule(value):
                    check(value, getattr(theirs, name))
    check(standin.cupy, real)


def unread(real, shape, dtype="f8"):
    """An array of the real CuPy without a GPU: its memory must never be touched, so only views can be taken."""
    memory = real.cuda.UnownedMemory(2**20, 2**20, None, 0)
    return real.ndarray(shape, dtype, real.cuda.MemoryPointer(memory, 0))


@pytest.mark.parametrize("line", [
    "x.T", "x[:, ::-1, 1:]", "x[..., None, 0]", "x[1, 2, 3]", "x[:, None][..., ::2]",
    "x.reshape(2, -1)", "x.reshape((6, 4))", "x.swapaxes(-1, -2)", "x.transpose(2, 0, 1)", "x.transpose((1, 0, 2))",
    "xp.broadcast_to(x[:, :1], (5, 2, 3, 4))", "xp.broadcast_to(x[0, 0, 0], (2,))",
    "x[:, 1:2].swapaxes(0, 1).reshape(1, 2, 4)", "xp.moveaxis(x, 0, -1)",
    "xp.lib.stride_tricks.as_strided(x, (2, 3, 2, 2), (*x.strides[:2], 16, 8))",
    "x[:0]", "x.ravel()", "xp.squeeze(x[:1])"])
def test_views_of_the_standin_are_those_of_cupy(real, line):
    ours = eval(line, {"x": standin.cupy.zeros((2, 3, 4)), "xp": standin.cupy})
    theirs = eval(line, {"x": unread(real, (2, 3, 4)), "xp": real})
    steps, their_steps = ([step for step, n in zip(x.strides, x.shape) if n > 1] for x in (ours, theirs))
    assert ours.shape == theirs.shape and (steps == their_steps or ours.size == 0)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?"])
def test_the_standin_promotes_as_cupy_does(real, dtype):
    ours, theirs = standin.cupy.zeros(3, dtype), unread(real, 3, dtype)
    for other in (1, 1.0, True, np.float32(1), np.float64(1), np.int64(1), np.dtype("f4"), np.dtype("i8")):
        assert standin.cupy.result_type(ours, other) == real.result_type(theirs, other)
    for number in (1, 1.0, np.float32(1), np.float64(1)):
        assert (ours * number).dtype == real.result_type(theirs, number)


def test_cupy_converts_nothing_implicitly(real):
    x = unread(real, 3)
    assert is_array(x) and namespace(x) is real
    with pytest.raises(TypeError, match="Implicit conversion") as theirs:
        np.asarray(x)
    with pytest.raises(TypeError) as ours:
        np.asarray(standin.cupy.zeros(3))
    assert str(ours.value) == str(theirs.value)
