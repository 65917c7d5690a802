"""The library on a device: on a stand-in for CuPy (standin.py, test_standin.py), and on a GPU.

Tests marked gpu need CuPy and a GPU: python -m pytest -m gpu tests/test_device.py. Most are the stand-in's (`either`).
"""

import re
import sys

import numpy as np
import pytest
import standin
from networks import ALL, BALLS, METHODS, batch, build, draws

import refbound as rb
from refbound.arrays.device import device_module
from refbound.arrays.ops import is_array, namespace, to_host, to_like
from refbound.branching import branch_and_bound
from refbound.landscape import jump, tightness
from refbound.regularisers import regularise
from refbound.rounding import sound_margin_bounds

VARIANTS = {**METHODS, "cap, projected": ("cap", {"projections": 5}),
            "crown-ibp, given slopes": ("crown-ibp", {"slopes": "(N, *shape)"}),
            "crown-ibp, given slopes for each margin": ("crown-ibp", {"slopes": "(N, S, *shape)"}),
            "one-step, given a0": ("one-step", {"a0": "(N, *shape)", "eta": 1.0})}
IN_BOTH = (("rectangular", np.float64, 1e-12), ("stride 1, 2, padding 1", np.float32, 1e-5))  # net, dtype, tolerance
CASES = [(variant, ball) for variant in VARIANTS for ball in BALLS
         if variant != "cap, projected" or ball.startswith("inf")]


def moved(xp, net, ball, y):
    """The same, with arrays of the module xp."""
    return (net.with_params({name: xp.asarray(value) for name, value in net.params.items()}),
            rb.Ball(xp.asarray(ball.x), xp.asarray(np.array(ball.eps)), norm=ball.norm, domain=ball.domain),
            xp.asarray(y))


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
    """The same numbers, structure, dtypes and shapes, every array one of xp; a GPU sums in an order of its own."""
    tolerance = tolerance if xp is standin.cupy else max(1e-9, 1000 * tolerance)
    alike(found, expected, xp, tolerance)


def alike(found, expected, xp, tolerance):
    """What check_alike does, to this tolerance."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            alike(one, other, xp, tolerance)
    elif is_array(expected):
        assert isinstance(found, xp.ndarray) and found.dtype == expected.dtype and found.shape == expected.shape
        scale = np.abs(expected).max(initial=0)
        np.testing.assert_allclose(to_host(found), expected, rtol=tolerance, atol=tolerance * scale)
    else:
        assert type(found) is type(expected) and found == pytest.approx(expected, rel=tolerance)


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
def test_every_method_gives_the_same_on_the_device(either, variant, ball):
    for name in ALL:
        problem = build(name), *batch(build(name), ball)
        check_alike(results(*moved(either, *problem), variant), results(*problem, variant), either, 1e-12)


@pytest.mark.parametrize("ball", BALLS)
def test_pgd_gives_the_same_on_the_device(either, ball):
    for name in ALL:
        problem = build(name), *batch(build(name), ball)
        found, expected = ([rb.pgd(*p, steps=5), rb.pgd(*p, steps=3, step_size=0.05, restarts=2, rng=draws()),
                            rb.pgd(*p, steps=3, rng=draws(), targeted=True)]
                           for p in (moved(either, *problem), problem))
        check_alike(found, expected, either, 1e-12)


@pytest.mark.parametrize("ball", BALLS)
def test_branch_and_bound_gives_the_same_on_the_device(either, ball):
    problem = build("dense"), *batch(build("dense"), ball)
    for one, other in zip(*(branch_and_bound(*p, limit=20) for p in (moved(either, *problem), problem))):
        assert (one.answer == other.answer and one.parts == other.parts
                and (one.witness is None) == (other.witness is None))
        check_alike(one.bound, other.bound, either, 1e-9)
        if other.witness is not None:
            check_alike(one.witness, other.witness, either, 1e-9)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "one-step", "alpha"])
def test_bounds_with_rounding_give_the_same_on_the_device(either, method):
    for name in ALL:
        problem = build(name), *batch(build(name))
        found, expected = (sound_margin_bounds(*p, method, rng=draws()) for p in (moved(either, *problem), problem))
        check_alike(found, expected, either, 1e-9)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "one-step"])
@pytest.mark.parametrize("objective", rb.OBJECTIVES)
def test_an_objective_gives_the_same_on_the_device_and_keeps_float32(either, objective, method):
    for name, dtype, tolerance in IN_BOTH:
        problem = build(name, dtype=dtype), *batch(build(name, dtype=dtype))
        found, expected = (rb.objective_loss(*p, objective, method, rng=draws(), kappa=0.2)
                           for p in (moved(either, *problem), problem))
        assert all(grad.dtype == dtype for grad in expected.grads.values()) and expected.margins.dtype == dtype
        check_alike(found, expected, either, tolerance)


@pytest.mark.parametrize("ball", BALLS)
def test_the_regularisers_give_the_same_on_the_device_and_keep_float32(either, ball):
    for name, dtype, tolerance in IN_BOTH:
        problem = build(name, dtype=dtype), *batch(build(name, dtype=dtype), ball)
        found, expected = (regularise(*p[:2]) for p in (moved(either, *problem), problem))
        assert all(grad.dtype == dtype for grad in expected[1].values())
        check_alike(found, expected, either, tolerance)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "one-step", "crown"])
def test_tightness_and_jump_are_the_same_on_the_device(either, method):
    problem = build("rectangular"), *batch(build("rectangular"))
    found, expected = ((tightness(*p), jump(*p, method, rng=draws())) for p in (moved(either, *problem), problem))
    check_alike(found, expected, either, 1e-9)


@pytest.mark.parametrize("method", [m for m in rb.METHODS if m != "alpha"])
def test_training_in_float32_gives_the_same_on_the_device(device, method):
    net = build("stride 1, 2, padding 1", dtype=np.float32)
    problem = net, *batch(net)
    check_alike(train(*moved(device, *problem), method), train(*problem, method), device, 1e-6)


@pytest.mark.parametrize("eps", [np.array([0.0, 0.1, 0.2]), np.arange(18).reshape(3, 6) / 60], ids=["example", "pixel"])
def test_one_radius_for_each_example_or_pixel_and_parts_of_a_ball(device, eps):
    net = build("dense")
    ball, y = batch(net, eps=eps)
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
                       (lambda: rb.margin_bounds(other, moved_ball, y, "ibp"),
                        "y: expected labels, an integer array of cupy"),
                       (lambda: rb.pgd(other, moved_ball, y), "y: expected labels, an integer array of cupy"),
                       (lambda: rb.robust_loss(other, moved_ball, y, "ibp"),
                        "y: expected labels, an integer array of cupy"),
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


def test_cuda_without_its_libraries_is_one_line(device, monkeypatch):
    def no_compiler(shape):
        raise RuntimeError("libnvrtc.so: not found\nand more")
    monkeypatch.setattr(device, "ones", no_compiler)
    assert error_line() == "device: 'cuda' needs CUDA's libraries (pip install 'refbound[gpu]'): libnvrtc.so: not found"


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


@pytest.mark.gpu
@pytest.mark.parametrize("method", [m for m in rb.METHODS if m != "alpha"])
def test_training_gives_the_same_on_a_gpu(gpu, method):
    problem = build("stride 1, 2, padding 1"), *batch(build("stride 1, 2, padding 1"))
    check_alike(train(*moved(gpu, *problem), method), train(*problem, method), gpu, 1e-12)


@pytest.mark.gpu
def test_training_in_float32_stays_in_float32_on_a_gpu(gpu):
    net = rb.models.small(np.random.default_rng(0))
    problem = net, rb.Ball(np.random.default_rng(1).random((32, 1, 28, 28), np.float32), 0.1), np.arange(32) % 10
    check_alike(train(*moved(gpu, *problem), "crown-ibp")[0], train(*problem, "crown-ibp")[0], gpu, 1e-5)


if __name__ == "__main__":
    sys.modules["cupy"] = standin.cupy
    print("operations launched by a training step on `small`, "
          "and numbers or small arrays copied to the host and to the device:")
    for method, projections in (("ibp", None), ("crown-ibp", None), ("cap-ibp", None), ("one-step", None), ("cap", 50)):
        n = launches(standin.cupy, method, 2, projections)
        common = ", ".join(f"{count} {name}" for name, count in n.by_name.most_common(4))
        print(f"{method + (f', {projections} projections' if projections else ''):20} {n.launches:5}  ({common}, …)  "
              f"{n.to_host} and {n.to_device} copies")
