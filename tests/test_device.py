"""The library on a device: on a stand-in for CuPy (standin.py), against the names of the real one, and on a GPU.

The tests marked gpu need CuPy and a GPU: python -m pytest -m gpu tests/test_device.py
"""

import ast
import copy
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import standin
from networks import ALL, BALLS, METHODS, batch, build, draws

import refbound as rb
from refbound.backend import device_module, is_array, namespace, to_host, to_like

ROOT = Path(__file__).parents[1]
VARIANTS = {**METHODS, "cap, projected": ("cap", {"projections": 5}),
            "crown-ibp, given slopes": ("crown-ibp", {"slopes": "(N, *shape)"}),
            "crown-ibp, given slopes for each margin": ("crown-ibp", {"slopes": "(N, S, *shape)"}),
            "one-step, given a0": ("one-step", {"a0": "(N, *shape)", "eta": 1.0})}
CASES = [(variant, ball) for variant in VARIANTS for ball in BALLS if variant != "cap, projected" or ball.startswith("inf")]


def moved(xp, net, ball, y):
    """The same, with arrays of the module xp."""
    return (net.with_params({name: xp.asarray(value) for name, value in net.params.items()}),
            rb.Ball(xp.asarray(ball.x), xp.asarray(np.array(ball.eps)), norm=ball.norm, domain=ball.domain), xp.asarray(y))


def given(options, net, ball):
    """Options of VARIANTS, with an array for each ReLU where they state a shape."""
    def arrays(shape):
        lead = (len(ball),) if "S" not in shape else (len(ball), net.classes - 1)
        return [to_like(draws().random((*lead, *net.shapes[i])).astype(net.dtype), ball.x) for i in net.relus]
    return {name: arrays(value) if isinstance(value, str) else value for name, value in options.items()}


def results(net, ball, y, variant):
    """All that the library computes by one method."""
    method, options = VARIANTS[variant]
    options = given(options, net, ball)
    s = rb.margin_bounds(net, ball, y, method, rng=draws(), **options)
    found = [rb.preactivation_bounds(net, ball, method, rng=draws(), **options), s, rb.certified(s, y), net(ball.x),
             rb.linear_bound(net, ball, y, method, rng=draws(), **options)]
    if method != "alpha":
        found.append(rb.robust_loss(net, ball, y, method, beta=0.6, kappa=0.3, rng=draws(), **options))
    return found


def check_alike(found, expected, xp, tolerance):
    """The same numbers in the same structure, dtype and shape, and every array one of xp."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            check_alike(one, other, xp, tolerance)
    elif is_array(expected):
        assert isinstance(found, xp.ndarray) and found.dtype == expected.dtype and found.shape == expected.shape
        scale = np.abs(expected).max(initial=0)
        np.testing.assert_allclose(to_host(found), expected, rtol=tolerance, atol=tolerance * scale)
    else:
        assert type(found) is type(expected) and found == pytest.approx(expected, rel=tolerance)


def check_method(xp, variant, ball, tolerance):
    for name in ALL:
        problem = build(name), *batch(build(name), ball)
        check_alike(results(*moved(xp, *problem), variant), results(*problem, variant), xp, tolerance)


def check_attack(xp, ball, tolerance):
    for name in ALL:
        problem = build(name), *batch(build(name), ball)
        found, expected = ([rb.pgd(*p, steps=5), rb.pgd(*p, steps=3, step_size=0.05, restarts=2, rng=draws())]
                           for p in (moved(xp, *problem), problem))
        check_alike(found, expected, xp, tolerance)


def train(net, ball, y, method, steps=3):
    """The networks after some steps of gradient descent, and their losses."""
    losses = []
    for _ in range(steps):
        out = rb.robust_loss(net, ball, y, method, beta=0.7, kappa=0.2, rng=draws())
        net = net.with_params({name: value - 0.1 * out.grads[name] for name, value in net.params.items()})
        losses.append(out.value)
    return net.params, losses


# ---- on the stand-in ----


@pytest.mark.parametrize("variant, ball", CASES)
def test_every_method_gives_the_same_on_the_device(device, variant, ball):
    check_method(device, variant, ball, 1e-12)


@pytest.mark.parametrize("ball", BALLS)
def test_pgd_gives_the_same_on_the_device(device, ball):
    check_attack(device, ball, 1e-12)


@pytest.mark.parametrize("method", [m for m in rb.METHODS if m != "alpha"])
def test_training_in_float32_gives_the_same_on_the_device(device, method):
    net = build("stride 1, 2, padding 1", dtype=np.float32)
    problem = net, *batch(net)
    check_alike(train(*moved(device, *problem), method), train(*problem, method), device, 1e-6)


def test_one_radius_for_each_example_and_parts_of_a_ball(device):
    net = build("dense")
    ball, y = batch(net, eps=np.array([0.0, 0.1, 0.2]))
    other, moved_ball, labels = moved(device, net, ball, y)
    for part in (slice(1, 3), [2, 0], np.array([True, False, True])):
        expected = rb.margin_bounds(net, ball[part], y[part], "crown")
        index = device.asarray(part) if isinstance(part, np.ndarray) else part
        check_alike(rb.margin_bounds(other, moved_ball[index], labels[index], "crown"), expected, device, 1e-12)


def test_saving_and_copying_between_host_and_device(device, tmp_path):
    net = build("dense")
    other, *_ = moved(device, net, *batch(net))
    rb.save(other, tmp_path / "net.npz")
    for name, value in rb.load(tmp_path / "net.npz").params.items():
        assert np.array_equal(value, net.params[name]) and type(to_host(other.params[name])) is np.ndarray
    x = np.ones(3)
    moved_x = to_like(x, other.params["0.bias"])
    assert namespace(moved_x) is device and other.xp is device and to_like(x, x) is x and to_host(x) is x
    x[:] = 2
    assert to_host(moved_x).tolist() == [1, 1, 1]  # a copy


def test_host_and_device_do_not_mix(device):
    net = build("dense")
    ball, y = batch(net)
    other, moved_ball, labels = moved(device, net, ball, y)
    slopes = [np.zeros((3, *net.shapes[i])) for i in net.relus]
    for call, line in ((lambda: rb.margin_bounds(other, ball, y, "ibp"),
                        "x: expected an array of cupy, as the network's are, got one of numpy"),
                       (lambda: rb.margin_bounds(net, moved_ball, labels, "ibp"), "x: expected an array of numpy"),
                       (lambda: rb.margin_bounds(other, moved_ball, y, "ibp"), "y: expected an integer array of cupy"),
                       (lambda: rb.pgd(other, moved_ball, y), "y: expected an integer array of cupy"),
                       (lambda: rb.robust_loss(other, moved_ball, y, "ibp"), "y: expected an integer array of cupy"),
                       (lambda: rb.Ball(moved_ball.x, np.full(3, 0.1)), "eps: expected an array of cupy"),
                       (lambda: rb.margin_bounds(other, moved_ball, labels, "cap-ibp", slopes=slopes),
                        "slopes: expected an array of cupy")):
        with pytest.raises(ValueError, match="^" + re.escape(line)):
            call()


def test_numpy_called_on_a_device_array_is_caught(device, monkeypatch):
    """A library that forgot to ask for the array module fails above: here it is made to forget."""
    net = build("dense")
    problem = moved(device, net, *batch(net))
    for module in ("interval", "linear", "ball", "losses", "layers"):
        with monkeypatch.context() as patch, pytest.raises(TypeError, match="numpy|Unsupported|device array"):
            patch.setattr(sys.modules[f"refbound.{module}"], "namespace", lambda *arrays: np)
            rb.robust_loss(*problem, "crown-ibp")


# ---- how many operations a step launches ----


def launches(xp, method, N, projections=None):
    """The Count of one training step on `small`: N examples in one shard, as on a GPU."""
    net, rng = rb.models.small(np.random.default_rng(0)), np.random.default_rng(1)
    problem = moved(xp, net, rb.Ball(rng.random((N, 1, 28, 28), np.float32), 0.1), np.arange(N) % 10)
    with standin.count() as n:
        rb.robust_loss(*problem, method, rng=rng, **({"projections": projections} if projections else {}))
    return n


@pytest.mark.parametrize("method, projections", [("ibp", None), ("crown-ibp", None), ("one-step", None), ("cap", 5)])
def test_a_step_launches_as_few_operations_for_many_examples_as_for_few(device, method, projections):
    two, six = (launches(device, method, N, projections) for N in (2, 6))
    assert two.by_name == six.by_name and two.to_host == six.to_host
    assert six.launches < 1000


# ---- the stand-in refuses what CuPy refuses ----


HOST = np.ones(3)
REFUSED = [
    *("x + HOST", "HOST + x", "x * HOST", "HOST < x", "x == HOST", "x @ HOST", "HOST @ x", "x += HOST", "HOST += x"),
    *("x[0] + HOST[:1]", "x + np.array(1.0)", "np.array(1.0) * x", "x + [1, 2, 3]", "x + None", "x[0] = HOST[:1]"),
    *("np.asarray(x)", "np.array([x, x])", "np.maximum(x, 0)", "np.add(x, 1)", "np.sum(x)", "np.concatenate([x, x])"),
    *("np.sqrt(x)", "np.max(x)", "np.isfinite(x)", "HOST[x.astype(int)]", "np.add(HOST, 1, out=x)", "2 * HOST * x"),
    *("xp.maximum(x, HOST)", "xp.where(x > 0, x, HOST)", "xp.where(True, x, x)", "xp.einsum('i,i->', x, HOST)"),
    *("xp.concatenate([x, HOST])", "xp.sum(HOST)", "xp.sum([1, 2])", "xp.clip(x, HOST, 1)", "xp.broadcast_to(HOST, (2, 3))"),
    *("xp.maximum(x, 0, where=x > 0)", "xp.add(x)", "xp.add(x, x, x, x)", "x.sum(where=x > 0)", "x.max(initial=0)"),
    *("xp.max(x, initial=0)", "xp.einsum('i->i', x, order='C')", "xp.take_along_axis(x, x.astype(int))"),
    *("x.item(0)", "x.astype(float, casting='safe', like=x)", "range(x.astype(int)[0])", "iter(x[0])", "float(x)", "hash(x)"),
]


@pytest.mark.parametrize("line", REFUSED)
def test_standin_refuses(device, line):
    with pytest.raises(TypeError):
        exec(line, {"x": device.asarray([1.0, 2.0, 3.0]), "xp": device, "np": np, "HOST": HOST})


@pytest.mark.parametrize("line, error", [
    ("xp.spacing(x)", AttributeError), ("xp.vectorize", AttributeError), ("x.searchsorted", AttributeError),
    ("xp.sort(x, kind='quicksort')", ValueError), ("xp.argsort(x, kind='mergesort')", ValueError),
    ("xp.asarray(['a'])", ValueError), ("xp.asarray(None)", ValueError), ("bool(x)", ValueError),
    ("xp.broadcast_to(x, (2, 3))[:] = 0", ValueError), ("xp.lib.stride_tricks.as_strided(x, (2,), (8,))[0] = 0", ValueError),
    ("x[3]", IndexError), ("xp.take_along_axis(x, xp.asarray([5]), 0)", IndexError), ("x @ 2", ValueError),
    ("x += xp.ones((2, 3))", ValueError)])
def test_standin_refuses_otherwise(device, line, error):
    with pytest.raises(error):
        exec(line, {"x": device.asarray([1.0, 2.0, 3.0]), "xp": device})


@pytest.mark.parametrize("line, dtype, shape", [
    ("x.sum()", "f4", ()), ("x[0]", "f4", ()), ("x[0, ...]", "f4", ()), ("xp.max(x, axis=0)", "f4", ()), ("x @ x", "f4", ()),
    ("(x > 0).sum()", "i8", ()), ("x.mean(keepdims=True)", "f4", (1,)), ("(x > 1).all()", "?", ()), ("x.argmax()", "i8", ()),
    ("2 * x", "f4", (3,)), ("2.0 - x", "f4", (3,)), ("np.float32(2) * x", "f4", (3,)), ("np.float64(2) * x", "f8", (3,)),
    ("np.float64(2) > x", "?", (3,)), ("x * (x > 0)", "f4", (3,)), ("xp.where(x > 1, x, 1)", "f4", (3,)),
    ("x[np.array([2, 0])]", "f4", (2,)), ("x[[0, 1]]", "f4", (2,)), ("x[x > 0]", "f4", (2,)), ("xp.maximum(x, 0)", "f4", (3,)),
    ("xp.asarray([x, x])", "f4", (2, 3)), ("abs(-x).T", "f4", (3,)), ("xp.arange(3)", "i8", (3,)), ("xp.zeros(2)", "f8", (2,)),
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


@pytest.fixture
def real():
    return pytest.importorskip("cupy", reason="CuPy is not installed: pip install 'refbound[test]'")


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
        if set(names) - {"out", "dtype", "casting"} or not starred and not function.nin <= len(call.args) <= function.nargs:
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


SOURCES = sorted(str(p.relative_to(ROOT)) for folder in ("refbound", "trainers") for p in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("source", SOURCES)
def test_cupy_has_every_name_and_argument_that_is_used(real, source):
    """In trainers, arrays are mostly NumPy's own: only what is asked of `xp` counts."""
    assert misuses((ROOT / source).read_text(), real, methods=source.startswith("refbound")) == []


@pytest.mark.parametrize("line", ["xp.spacing(x)", "namespace(x, y).nextbefore(x)", "net.xp.lib.sliding(x)", "x.setflags()",
                                  "xp.maximum(x, 0, where=m)", "xp.maximum(x)", "x.sum(0, where=m)", "x.max(0, initial=1)",
                                  "xp.take_along_axis(x, i)", "xp.sum(x, 0, initial=0)", "x.astype(d, casts='same_kind')",
                                  "x.swapaxes(1)", "xp.full(3)", "net.xp.lib.stride_tricks.as_strided(x, s, t, u)"])
def test_the_check_of_names_finds_misuses(real, line):
    assert len(misuses(line, real)) == 1


def test_the_check_of_names_lets_pass_what_cupy_has(real):
    assert misuses("""
        namespace(x).maximum(x, 0, out=y, dtype=d) + xp.sum(x, (0, 1), keepdims=True) + x.reshape(*s, -1).T.sum(0)
        xp.where(m, x, 1) + xp.zeros((*s, 3), x.dtype) + xp.einsum("ij->j", x) + math.prod(s) + net.xp.concatenate(parts)
        """.replace("\n        ", "\n"), real) == []


def parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("name", [*standin.CREATORS, *standin.FUNCTIONS, *standin.OTHERS])
def test_standin_functions_take_what_cupy_s_take(real, name):
    """Positional parameters are the first of CuPy's, by name, order and default; those by keyword are among CuPy's."""
    ours, theirs = (parameters(inspect.signature(getattr(xp, name))) for xp in (standin.cupy, real))
    by_position = [p for p in ours if p[1] in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)]
    open_ended = any(kind == inspect.Parameter.VAR_KEYWORD for _, kind, _ in theirs)
    assert by_position == theirs[:len(by_position)]
    assert open_ended or {p[0] for p in ours} <= {p[0] for p in theirs}


def test_standin_methods_take_what_cupy_s_take(real):
    for name, method in standin.METHODS.items():
        theirs = list(method_signature(getattr(real.ndarray, name)).parameters)
        ours = list(inspect.signature(method).parameters)[1:]
        assert [parameter for parameter in theirs if parameter in ours] == ours, name
    assert {name for name in vars(standin.cupy.ndarray) if name not in ("_host", "__copy__")} <= set(dir(real.ndarray))


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
    "x.T", "x[:, ::-1, 1:]", "x[..., None, 0]", "x[1, 2, 3]", "x[:, None][..., ::2]", "x.reshape(2, -1)", "x.reshape((6, 4))",
    "x.swapaxes(-1, -2)", "x.transpose(2, 0, 1)", "x.transpose((1, 0, 2))", "xp.broadcast_to(x[:, :1], (5, 2, 3, 4))",
    "xp.broadcast_to(x[0, 0, 0], (2,))", "x[:, 1:2].swapaxes(0, 1).reshape(1, 2, 4)", "xp.moveaxis(x, 0, -1)",
    "xp.lib.stride_tricks.as_strided(x, (2, 3, 2, 2), (*x.strides[:2], 16, 8))", "x[:0]", "x.ravel()", "xp.squeeze(x[:1])"])
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


# ---- asking for a device that cannot be had ----


def error_line():
    with pytest.raises(ValueError) as caught:
        device_module("cuda")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("device: 'cuda' needs ")
    return str(caught.value)


def test_cuda_without_cupy_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # the import fails
    assert error_line() == "device: 'cuda' needs CuPy, which is not installed (pip install 'refbound[gpu]')"


def test_cuda_without_a_gpu_is_one_line(device, monkeypatch):
    assert device_module("cuda") is device
    monkeypatch.setattr(device.cuda.runtime, "getDeviceCount", lambda: 0)
    assert error_line() == "device: 'cuda' needs a GPU, and CuPy finds none"

    def no_driver():
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nand more")
    monkeypatch.setattr(device.cuda.runtime, "getDeviceCount", no_driver)
    assert error_line() == ("device: 'cuda' needs a GPU, and CuPy finds none "
                            "(cudaErrorNoDevice: no CUDA-capable device is detected)")


def test_cuda_with_the_real_cupy_and_no_gpu_is_one_line(real):
    try:
        present = real.cuda.runtime.getDeviceCount() > 0
    except real.cuda.runtime.CUDARuntimeError:
        present = False
    if present:
        pytest.skip("this machine has a GPU")
    assert "CuPy finds none" in error_line()


def test_devices_have_names():
    assert device_module("cpu") is np
    for name in ("gpu", "cuda:0", None):
        with pytest.raises(ValueError, match=f"^device: expected 'cpu' or 'cuda', got {re.escape(repr(name))}$"):
            device_module(name)


# ---- on a GPU ----


@pytest.fixture
def gpu(real):
    try:
        return device_module("cuda")
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("variant, ball", CASES)
def test_every_method_gives_the_same_on_a_gpu(gpu, variant, ball):
    check_method(gpu, variant, ball, 1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("ball", BALLS)
def test_pgd_gives_the_same_on_a_gpu(gpu, ball):
    check_attack(gpu, ball, 1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("method", [m for m in rb.METHODS if m != "alpha"])
def test_training_gives_the_same_on_a_gpu(gpu, method):
    problem = build("stride 1, 2, padding 1"), *batch(build("stride 1, 2, padding 1"))
    check_alike(train(*moved(gpu, *problem), method), train(*problem, method), gpu, 1e-9)


@pytest.mark.gpu
def test_training_in_float32_stays_in_float32_on_a_gpu(gpu):
    net = rb.models.small(np.random.default_rng(0))
    problem = net, rb.Ball(np.random.default_rng(1).random((32, 1, 28, 28), np.float32), 0.1), np.arange(32) % 10
    check_alike(train(*moved(gpu, *problem), "crown-ibp")[0], train(*problem, "crown-ibp")[0], gpu, 1e-2)


if __name__ == "__main__":
    sys.modules["cupy"] = standin.cupy
    print("operations launched by a training step on `small`, and numbers or small arrays copied to the host and to the device:")
    for method, projections in (("ibp", None), ("crown-ibp", None), ("cap-ibp", None), ("one-step", None), ("cap", 50)):
        n = launches(standin.cupy, method, 2, projections)
        common = ", ".join(f"{count} {name}" for name, count in n.by_name.most_common(4))
        print(f"{method + (f', {projections} projections' if projections else ''):20} {n.launches:5}  ({common}, …)  "
              f"{n.to_host} and {n.to_device} copies")
