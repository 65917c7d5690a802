"""Bad arguments and bad files: each gives one line that names what was wrong, and leaves nothing half-done."""

import numpy as np
import pytest
from networks import batch, build, draws

import refbound as rb
from refbound.branching import branch_and_bound
from refbound.landscape import jump, lower_slopes
from refbound.layers import Conv2d, Flatten, Linear, ReLU

NET = build("dense")
BALL, Y = batch(NET)
X = BALL.x
NAN = np.where(np.arange(6) == 2, np.nan, X)


def line_of(call):
    """The one line of the ValueError that the call must raise."""
    with pytest.raises(ValueError) as caught:
        call()
    line = str(caught.value)
    assert type(caught.value) is ValueError and line and "\n" not in line
    return line


def refuses(call, *words):
    line = line_of(call)
    assert all(str(word) in line for word in words), line


# ---- the ball ----

@pytest.mark.parametrize("words, arguments", [
    ("x list", dict(x=[[0.5]])), ("x int64 (2, 6)", dict(x=np.zeros((2, 6), int))),
    ("x float64 (6,)", dict(x=np.zeros(6))),
    ("x finite NaN", dict(x=NAN)), ("x [0.0, 1.0] 255", dict(x=np.full((2, 6), 255.0))),
    ("x [0.0, 0.5]", dict(domain=(0.0, 0.5))),
    ("eps -0.1", dict(eps=-0.1)), ("eps -1.0", dict(eps=[0.1, -1, 0])), ("eps nan", dict(eps=np.nan)),
    ("eps inf", dict(eps=np.inf)), ("eps None", dict(eps=None)),
    ("eps (2,)", dict(eps=[0.1, 0.2])), ("eps (3, 1)", dict(eps=np.full((3, 1), 0.1))),
    ("norm np.inf, 2 or 1 'inf'", dict(norm="inf")), ("norm 3", dict(norm=3)), ("norm None", dict(norm=None)),
    ("eps True", dict(eps=[True, False, True])), ("eps 0.1", dict(eps=["0.1"] * 3)), ("eps number", dict(eps=10**400)),
    ("domain (1, 0)", dict(domain=(1, 0))), ("domain nan", dict(domain=(0, np.nan))),
    ("domain finite inf", dict(domain=(0, np.inf))), ("domain finite", dict(domain=(0, 10**400))),
    ("domain None norm 2", dict(norm=2, domain=(0, 1)))])
def test_a_ball_that_cannot_be(words, arguments):
    arguments = {"x": X, "eps": 0.1, **arguments}
    refuses(lambda: rb.Ball(**arguments), f"{words.split()[0]}:", *words.split()[1:])


# ---- the functions ----

BOUNDS = {"margin_bounds": rb.margin_bounds, "linear_bound": rb.linear_bound, "robust_loss": rb.robust_loss}
WITH_LABELS = {**BOUNDS, "pgd": lambda net, ball, y, method: rb.pgd(net, ball, y, steps=1)}


@pytest.mark.parametrize("f", WITH_LABELS.values(), ids=WITH_LABELS)
@pytest.mark.parametrize("word, net, ball, y", [
    ("net: Network int", 3, BALL, Y), ("ball: Ball ndarray", NET, X, Y),
    ("x: (N, 6) (3, 5)", NET, rb.Ball(X[:, :5], 0.1), Y),
    ("y: integer list", NET, BALL, Y.tolist()), ("y: integer float64", NET, BALL, Y.astype(float)),
    ("y: (3,) (2,)", NET, BALL, Y[:2]), ("y: (3,) (3, 1)", NET, BALL, Y[:, None]),
    ("y: 0 3 4", NET, BALL, Y + 4), ("y: -1", NET, BALL, Y * 0 - 1),
    ("y: NoneType", NET, BALL, None)])
def test_arguments_that_do_not_fit(f, word, net, ball, y):
    refuses(lambda: f(net, ball, y, "crown-ibp"), *word.split())


def full(*shapes, value=0.5):
    return [np.full(shape, value) for shape in shapes]


@pytest.mark.parametrize("words, method, options", [
    ("method: crown-ibp 'foo'", "foo", {}), ("method: None", None, {}),
    ("eta: not an option 'crown-ibp' slopes", "crown-ibp", dict(eta=2.0)),
    ("slopes: 'ibp' none", "ibp", dict(slopes=[])),
    ("foo: not an option", "cap", dict(foo=1)), ("cauchy: not an option", "cap", dict(cauchy=1)),
    ("eta: positive 0", "one-step", dict(eta=0)), ("eta: positive nan", "one-step", dict(eta=np.nan)),
    ("p: [0, 1] 1.5", "sparse", dict(p=1.5)), ("q: [0, 1] -1", "sparse", dict(q=-1)),
    ("steps: whole -1", "alpha", dict(steps=-1)), ("steps: whole 1.5", "alpha", dict(steps=1.5)),
    ("projections: positive 0", "cap", dict(projections=0)),
    ("projections: positive 2.0", "cap", dict(projections=2.0)),
    ("slopes: 2 arrays 1", "cap", dict(slopes=full((3, 8)))),
    ("slopes: complex128", "crown", dict(slopes=full((3, 8), (3, 7), value=0.5j))),
    ("slopes: <U3", "crown", dict(slopes=full((3, 8), (3, 7), value="0.5"))),
    ("a0: slopes, both", "one-step", dict(slopes=full((3, 8), (3, 7)), a0=full((3, 8), (3, 7)))),
    ("p: slopes, both", "sparse", dict(slopes=full((3, 8), (3, 7)), p=0.5)),
    ("slopes: (3, 7) (3, 8)", "crown", dict(slopes=full((3, 8), (3, 8)))),
    ("slopes: (3, 8) list", "crown", dict(slopes=[[0.5] * 8, [0.5] * 7])),
    ("slopes: [0, 1] layer 1", "crown", dict(slopes=full((3, 8), (3, 7), value=1.5))),
    ("slopes: [0, 1] layer 1", "crown", dict(slopes=full((3, 8), (3, 7), value=np.nan))),
    ("a0: (3, 8) (3, 3, 8)", "one-step", dict(a0=full((3, 3, 8), (3, 3, 7)))),
    ("a0: [0, 1]", "random", dict(a0=full((3, 8), (3, 7), value=-0.1)))])
@pytest.mark.parametrize("f", BOUNDS.values(), ids=BOUNDS)
def test_options_that_cannot_be(f, words, method, options):
    if not (f is rb.robust_loss and method == "alpha"):
        refuses(lambda: f(NET, BALL, Y, method, rng=draws(), **options), *words.split())


@pytest.mark.parametrize("method, options, what", [
    ("random", {}, "slopes"), ("sparse", {}, "slopes"), ("one-step", {}, "slopes"),
    ("cap", {"projections": 3}, "projections")])
@pytest.mark.parametrize("rng", [None, 3, np.random.RandomState(0)])
def test_what_must_be_drawn_needs_a_generator(method, options, what, rng):
    refuses(lambda: rb.margin_bounds(NET, BALL, Y, method, rng=rng, **options), "rng:", what, "Generator", repr(rng))


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "cap"])
def test_what_is_no_generator_is_refused_where_nothing_is_drawn(method):
    refuses(lambda: rb.margin_bounds(NET, BALL, Y, method, rng=3), "rng:", "Generator", "3")


def test_other_refusals_of_the_functions():
    refuses(lambda: rb.robust_loss(NET, BALL, Y, "alpha"), "method:", "alpha", "evaluation")
    for name in ("beta", "kappa"):
        for value in (-0.1, 1.1, np.nan):
            refuses(lambda: rb.robust_loss(NET, BALL, Y, "ibp", **{name: value}), f"{name}:", "[0, 1]", value)
    round_ball = rb.Ball(X, 0.1, norm=2)
    refuses(lambda: rb.margin_bounds(NET, round_ball, Y, "cap", projections=3, rng=draws()), "projections:", "norm 2")
    refuses(lambda: rb.pgd(NET, BALL, Y, restarts=2), "rng:", "2 restarts")
    refuses(lambda: rb.models.small(0), "rng:", "parameters", "Generator", 0)
    refuses(lambda: rb.pgd(NET, BALL, Y, step_size=np.array(["0.1"] * 3)), "step_size:", "<U3")
    refuses(lambda: rb.pgd(NET, BALL, Y, step_size=np.zeros(2)), "step_size:", "(3,)", "(2,)")
    refuses(lambda: rb.preactivation_bounds(NET, BALL, "foo"), "method:", "'foo'")
    refuses(lambda: rb.preactivation_bounds(NET, X, "ibp"), "ball:", "ndarray")
    for s, word in ((None, "NoneType"), (np.zeros(3), "(3,)"), (np.full((3, 4), np.nan), "NaN"),
                    (np.full((3, 4), -np.inf), "−∞"), (np.full((3, 4), None), "object")):
        refuses(lambda: rb.certified(s, Y), "s:", word)
    refuses(lambda: rb.certified(np.zeros((3, 4)), Y[:2]), "y:", "(3,)")
    for x in (X[:, :5], X.tolist(), X[0]):
        refuses(lambda: NET(x), "x:", "(N, 6)")


@pytest.mark.parametrize("f", [rb.margin_bounds, rb.linear_bound])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_statement_is_made_where_a_bound_overflows(f):
    huge = NET.with_params({name: 1e200 * p for name, p in NET.params.items()})
    refuses(lambda: f(huge, BALL, Y, "crown-ibp"), f.__name__, "overflowed", "float64")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_relu_that_makes_0_of_an_overflow_does_not_hide_it():
    """u = −∞ by rounding is 0 after the ReLU, where exact arithmetic has 1.2e38."""
    def array(*numbers):
        return np.array(numbers, np.float32)

    net = rb.Network([Linear(2, 2), Linear(2, 1), ReLU(), Linear(1, 2)], {
        "0.weight": array([-3e38, -3e38], [3e38, 0]), "0.bias": array(0, 0),
        "1.weight": array([0.25, 0.9]), "1.bias": array(0),
        "3.weight": array([0], [1e-38]), "3.bias": array(0, -0.1)}, (2,))
    ball, y = rb.Ball(np.ones((1, 2), np.float32), 0.0), np.array([0])
    for f in (rb.margin_bounds, rb.linear_bound):
        refuses(lambda: f(net, ball, y, "ibp"), f.__name__, "overflowed")
    refuses(lambda: rb.preactivation_bounds(net, ball, "ibp"), "preactivation_bounds", "overflowed")
    assert branch_and_bound(net, ball, y, limit=10)[0].answer == "unknown"
    net = rb.Network([Linear(1, 2)],
                     {"0.weight": np.array([[1.5e308], [-1.5e308]]), "0.bias": np.array([0, 1.7e308])}, (1,))
    assert branch_and_bound(net, rb.Ball(np.full((1, 1), 0.6), 0.1), y)[0].answer != "robust"  # s̄ = −∞


def test_a_ball_keeps_what_was_checked():
    for domain in (None, (0.0, 1.0)):
        x, eps = X.copy(), np.full(3, 0.1)
        ball = rb.Ball(x, eps, domain=domain)
        x[:], eps[:] = np.nan, -1
        assert (ball.x == X).all() and (ball.eps == 0.1).all()


# ---- networks ----

@pytest.mark.parametrize("words, layers, shape", [
    ("layer 0: (6,) (5,)", [Linear(6, 3)], (5,)), ("layer 1: (7,) (6,)", [Linear(5, 6), Linear(7, 3)], (5,)),
    ("layer 0: (2, H, W) (1, 5, 5)", [Conv2d(2, 3, 3)], (1, 5, 5)),
    ("layer 0: kernel (3, 3)", [Conv2d(1, 3, 3)], (1, 2, 5)),
    ("output (c,) (3, 3, 3)", [Conv2d(1, 3, 3)], (1, 5, 5)), ("2 classes (1,)", [Linear(5, 1)], (5,)),
    ("layer 1: (8,) (18,)", [Flatten(), Linear(8, 3)], (2, 3, 3))])
def test_layers_that_do_not_fit(words, layers, shape):
    refuses(lambda: rb.models.initialise(draws(), layers, shape, float), *words.split())


@pytest.mark.parametrize("arguments", [dict(kernel_size=0), dict(kernel_size=(3, 3, 3)), dict(kernel_size=3, stride=0),
                                       dict(kernel_size=3, padding=-1), dict(kernel_size=(3, 2.5)),
                                       dict(kernel_size=1, stride=True), dict(kernel_size=True)])
def test_windows_that_cannot_be(arguments):
    refuses(lambda: Conv2d(1, 1, **arguments), "conv2d:", [*arguments][-1])


@pytest.mark.parametrize("make", [lambda: Linear(-1, 3), lambda: Linear(3, "a"), lambda: Linear(3.0, 3),
                                  lambda: Linear(True, 3), lambda: Conv2d(0, 1, 3), lambda: Conv2d(1, -2, 3)])
def test_layers_of_sizes_that_cannot_be(make):
    refuses(make, "whole number of at least 1, got")


@pytest.mark.parametrize("shape", [6, None, "6", (1.5, 4), (0,), (-6,)])
def test_input_shapes_that_cannot_be(shape):
    refuses(lambda: rb.Network(NET.layers, NET.params, shape),
            "input_shape: expected positive whole numbers", repr(shape))


def test_what_is_printed_says_what_it_is():
    assert repr(NET) == "<Network of inputs (6,), 4 classes, float64: Linear ReLU Linear ReLU Linear>"
    assert repr(rb.Ball(X, 0.1)) == "<Ball of 3 inputs (6,), norm inf, ε 0.1, domain (0.0, 1.0)>"
    assert repr(rb.METHODS["one-step"]) == "<one projected gradient step (7); options: slopes, a0, eta>"


@pytest.mark.parametrize("words, change", [
    ("0.bias: (8,) (7,)", {"0.bias": np.zeros(7)}), ("0.weight: (8, 6) (6, 8)", {"0.weight": np.zeros((6, 8))}),
    ("0.bias: float int64", {"0.bias": np.zeros(8, int)}), ("0.bias: list", {"0.bias": [0.0] * 8}),
    ("one dtype float32 float64", {"0.bias": np.zeros(8, np.float32)}), ("params: 7.bias", {"7.bias": np.zeros(8)})])
def test_parameters_that_do_not_fit(words, change):
    refuses(lambda: NET.with_params({**NET.params, **change}), *words.split())
    refuses(lambda: NET.with_params({k: v for k, v in NET.params.items() if k != "0.bias"}), "params:", "0.bias")


# ---- what is refused by name ----

def ball_of(**arguments):
    return lambda: rb.Ball(**{"x": X, "eps": 0.1, **arguments})


def bounds_of(method, **options):
    return lambda: rb.margin_bounds(NET, BALL, Y, method, rng=draws(), **options)


def attack_of(**arguments):
    return lambda: rb.pgd(NET, BALL, Y, **{"steps": 2, **arguments})


@pytest.mark.parametrize("name, call", [
    ("eps", ball_of(eps="a")), ("eps", ball_of(eps={})),
    ("domain", ball_of(domain="box")), ("domain", ball_of(domain=3)), ("domain", ball_of(domain=(None, 1))),
    ("x", lambda: rb.Ball(X[:0], 0.1)), ("x", lambda: NET(X[:0])), ("x", lambda: NET(X * np.nan)),
    ("x", lambda: NET(X * 1j)), ("x", lambda: NET(X.astype(str))),
    ("method", lambda: rb.margin_bounds(NET, BALL, Y, ["ibp"])),
    ("eta", bounds_of("one-step", eta="a")), ("eta", bounds_of("one-step", eta=np.inf)),
    ("q", bounds_of("sparse", q="a")), ("slopes", bounds_of("crown", slopes=3)), ("foo", bounds_of("crown", foo=None)),
    ("shared", bounds_of("alpha", shared="no")), ("beta", lambda: rb.robust_loss(NET, BALL, Y, "ibp", beta="a")),
    ("kappa", lambda: rb.robust_loss(NET, BALL, Y, "ibp", kappa=None)),
    ("steps", attack_of(steps=-1)), ("steps", attack_of(steps=1.5)), ("restarts", attack_of(restarts=0, rng=draws())),
    ("restarts", attack_of(restarts=-1)), ("rng", attack_of(rng=3)), ("step_size", attack_of(step_size=np.nan)),
    ("step_size", attack_of(step_size=-1.0)), ("step_size", attack_of(step_size="a")),
    ("step_size", attack_of(step_size=np.array("a"))), ("step_size", attack_of(step_size=10**400)),
    ("params", lambda: rb.Network(NET.layers, None, (6,))), ("layers", lambda: rb.Network(None, {}, (6,))),
    ("rng", lambda: rb.models.for_intervals(0, NET)), ("h", lambda: jump(NET, BALL, Y, "crown-ibp", h="a")),
    ("ball", lambda: lower_slopes(NET, 3, Y, "one-step", rng=draws())), ("targeted", attack_of(targeted=1)),
    ("0.bias", lambda: NET.with_params({**NET.params, "0.bias": np.full(8, np.nan)})),
    ("params", lambda: rb.Network([ReLU()], {}, (3,))), ("layer 0", lambda: rb.Network([3], {}, (3,))),
    ("conv2d", lambda: Conv2d(1, 1, 3.0))])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_should_be_refused_by_name(name, call):
    assert line_of(call).startswith(f"{name}:")


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("unlike", [np.ma.masked_array, np.matrix], ids=["masked", "matrix"])
def test_masked_arrays_and_matrices_are_refused_wherever_arrays_come_in(unlike):
    """A matrix multiplies by *, and has two axes whatever is summed; what a masked array hides, checks miss too."""
    W, kind = NET.params["0.weight"], type(unlike([[0.5]])).__name__
    for name, call in (("x", ball_of(x=unlike(X))), ("eps", ball_of(eps=unlike(np.full((3, 6), 0.1)))),
                       ("x", lambda: NET(unlike(X))),
                       ("0.weight", lambda: NET.with_params({**NET.params, "0.weight": unlike(W)})),
                       ("step_size", attack_of(step_size=unlike(np.full((3, 6), 0.1)))),
                       ("slopes", bounds_of("crown", slopes=[unlike(a) for a in full((3, 8), (3, 7))])),
                       ("y", lambda: rb.margin_bounds(NET, BALL, unlike(Y), "ibp")),
                       ("s", lambda: rb.certified(unlike(np.zeros((3, 4))), Y))):
        line = line_of(call)
        assert line.startswith(f"{name}:") and kind in line, line


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_a_network_is_of_float32_or_float64(dtype, tmp_path):
    odd = {name: value.astype(dtype) for name, value in NET.params.items()}
    words = "0.weight: expected a float32 or float64 array", str(np.dtype(dtype))
    refuses(lambda: NET.with_params(odd), *words)
    refuses(lambda: rb.models.small(draws(), dtype=dtype), *words)
    rb.save(NET, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        np.savez(tmp_path / "odd.npz", **{name: file[name] for name in file.files} | odd)
    refuses(lambda: rb.load(tmp_path / "odd.npz"), "odd.npz: not a network file:", *words)


def test_numpy_integers_are_whole_numbers():
    rb.margin_bounds(NET, BALL, Y, "alpha", steps=np.int64(2))
    assert Linear(6, np.int64(3)) == Linear(6, 3) and Conv2d(1, 2, np.int64(3)) == Conv2d(1, 2, (np.int8(3), 3))


@pytest.mark.filterwarnings("error")
def test_a_numpy_number_is_a_number_without_a_warning():
    rb.robust_loss(NET, BALL, Y, "one-step", beta=np.float32(0.5), eta=np.float16(2), rng=draws())


def test_intermediate_bounds_by_interval_need_no_generator():
    rb.preactivation_bounds(NET, BALL, "one-step")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_linear_bound_is_given_where_g_overflows():
    net = rb.Network([Linear(2, 2), Linear(2, 2)], {"0.weight": 1e200 * np.eye(2), "0.bias": np.zeros(2),
                                                    "1.weight": 1e200 * np.eye(2), "1.bias": np.zeros(2)}, (2,))
    ball = rb.Ball(np.full((1, 2), 0.5), 0.1)
    refuses(lambda: rb.linear_bound(net, ball, np.array([0]), "crown-ibp"), "linear_bound:", "overflowed")


def test_a_step_for_each_example_is_finite():
    refuses(attack_of(step_size=np.full(3, np.inf)), "step_size:")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_linear_bound_is_given_where_b_alone_overflows():
    net = rb.Network([Linear(2, 2)], {"0.weight": np.eye(2), "0.bias": np.array([-1e308, 1e308])}, (2,))
    refuses(lambda: rb.linear_bound(net, rb.Ball(np.full((1, 2), 0.5), 0.1), np.array([0]), "crown-ibp"),
            "linear_bound:", "overflowed")
