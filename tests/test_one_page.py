"""refbound/one_page.py, the paper on one page, against the library, autograd, the reference outputs and the example."""

import ast
import subprocess
import sys
from functools import partial
from pathlib import Path

import autograd
import autograd.numpy
import numpy as np
import pytest
from networks import HAND_MARGINS, HAND_SECOND, hand

import refbound as rb
from refbound import one_page

ROOT = Path(__file__).parents[1]
WIDTHS = [(4, 3), (3, 6, 2), (6, 8, 7, 4), (5, 7, 6, 5, 3)]
DRAWN = ["random", "sparse", "one-step"]
GOLDEN = ["hand", "dense", "dense-mixed", "stable", "dead", "eps-zero"]  # the dense ones with an l∞ ball


def layers(params):
    """{"0.weight": ...} as the page has it."""
    return [(params[f"{2 * k}.weight"], params[f"{2 * k}.bias"]) for k in range(len(params) // 2)]


def boxes(x, eps, domain):
    """(centre, radius) of each example's ball."""
    low, high = np.maximum(x - eps[:, None], domain[0]), np.minimum(x + eps[:, None], domain[1])
    return list(zip((low + high) / 2, (high - low) / 2))


def close(a, b, rtol=1e-12):
    """To `rtol` of the largest entry."""
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1e-300))


def mean(nets):
    """The mean of the gradients of N examples, by name."""
    return {f"{2 * k}.{kind}": sum(net[k][j] for net in nets) / len(nets)
            for k in range(len(nets[0])) for j, kind in enumerate(("weight", "bias"))}


class Problem:
    """A random dense network, a ball that is cut or not, labels, and draws for each ReLU."""

    def __init__(self, widths, clipped, seed=0):
        rng = np.random.default_rng([seed, *widths])
        net = rb.models.mlp(rng, widths=widths, dtype=np.float64)
        self.net = net.with_params({name: 1.5 * p + 0.1 * rng.normal(size=p.shape) for name, p in net.params.items()})
        x, self.y, eps = rng.uniform(0, 1, (3, widths[0])), rng.integers(0, widths[-1], 3), np.array([0.05, 0.2, 0.3])
        self.ball = rb.Ball(x, eps, domain=(0.0, 1.0) if clipped else None)
        self.boxes = boxes(x, eps, (0, 1) if clipped else (-np.inf, np.inf))
        self.a0 = [rng.random((3, n)) for n in widths[1:-1]]

    def options(self, method):
        """For the library."""
        return {"a0": self.a0} if method in DRAWN else {}

    def rows(self, method):
        """(C, net, ball, method, a0) of each example, for the page."""
        return [(one_page.margin_matrix(self.y[n], self.net.classes), layers(self.net.params), self.boxes[n],
                 one_page.METHODS[method], [a[n] for a in self.a0]) for n in range(3)]


# ---- the page equals the library ----

@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("clipped", [True, False])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("method", one_page.METHODS)
def test_margins_loss_and_every_gradient_are_the_librarys(method, widths, clipped, beta):
    problem = Problem(widths, clipped)
    out = rb.robust_loss(problem.net, problem.ball, problem.y, method, beta=beta, **problem.options(method))
    rows = [(*row, beta) for row in problem.rows(method)]
    losses, margins = zip(*(one_page.robust_loss(*row) for row in rows))
    close(margins, out.margins)
    close(np.mean(losses), out.value)
    grads = mean([one_page.robust_loss_vjp(1.0, *row) for row in rows])
    assert set(grads) == set(out.grads)
    for name, d in out.grads.items():
        close(grads[name], d)


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("method", one_page.METHODS)
def test_intermediate_bounds_and_the_linear_bound_are_the_librarys(method, widths):
    problem = Problem(widths, True)
    pre = rb.preactivation_bounds(problem.net, problem.ball, method, **problem.options(method))
    lin = rb.linear_bound(problem.net, problem.ball, problem.y, method, **problem.options(method))
    for n, row in enumerate(problem.rows(method)):
        mine, lines = one_page.relaxation(*row)
        for (l, u), (l_n, u_n) in zip(pre, mine, strict=True):
            close(l_n, l[n])
            close(u_n, u[n])
        g, b = one_page.linear_bound(*row[:2], lines)[-1]
        close(g, lin.g[n])
        close(b, lin.b[n])


@pytest.mark.parametrize("widths", WIDTHS)
def test_lines_of_slope_0_are_interval_arithmetic(widths):
    """The unified view of Section 3.2: IBP is a linear relaxation."""
    for C, net, (centre, radius), method, a0 in Problem(widths, True).rows("ibp"):
        pre, _ = one_page.relaxation(C, net, (centre, radius), method, a0)
        ball = centre, radius
        for (W, bias), (l, u) in zip(net, pre):
            centre, radius = W @ centre + bias, np.abs(W) @ radius
            close(l, centre - radius)
            close(u, centre + radius)
            low, high = np.maximum(centre - radius, 0), np.maximum(centre + radius, 0)
            centre, radius = (high + low) / 2, (high - low) / 2
        W, bias = net[-1]
        close(one_page.margin_bounds(C, net, ball, method, a0), C @ W @ centre + np.abs(C @ W) @ radius + C @ bias)


# ---- and autograd ----

@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("method", one_page.METHODS)
def test_every_gradient_is_autograds(method, widths, monkeypatch):
    for C, net, *rest in Problem(widths, True).rows(method):
        grads = one_page.robust_loss_vjp(1.0, C, net, *rest, 0.6)
        with monkeypatch.context() as patch:
            patch.setattr(one_page, "np", autograd.numpy)
            expected = autograd.grad(lambda net: one_page.robust_loss(C, net, *rest, 0.6)[0])(net)
        for mine, theirs in zip(grads, expected, strict=True):
            for d, e in zip(mine, theirs, strict=True):
                close(d, e)


# ---- and the reference outputs ----

@pytest.mark.parametrize("method", one_page.METHODS)
@pytest.mark.parametrize("name", GOLDEN)
def test_the_reference_outputs_are_met(name, method):
    a = np.load(ROOT / "verify" / "golden" / f"{name}.npz")
    net = layers({key: a[key] for key in a.files if key[0].isdigit()})
    inner, rule, eta = one_page.METHODS[method]
    if method == "sparse":
        rule = (partial(one_page.sparse, p=a["p"], q=a["q"]), *rule[1:])
    row = inner, rule, eta and a["eta"]
    nets, losses = [], []
    for n, ball in enumerate(boxes(a["x"], a["eps"], a["domain"])):
        a0, C = [a[f"a0/{k}"][n] for k in range(len(net) - 1)], one_page.margin_matrix(a["y"][n], len(net[-1][1]))
        pre, lines = one_page.relaxation(C, net, ball, row, a0)
        (g, b), s = one_page.linear_bound(C, net, lines)[-1], one_page.margin_bounds(C, net, ball, row, a0)
        found = {"g": g, "b": b, "margins": s}
        for k, ((l, u), (a_lo, *_)) in enumerate(zip(pre, lines)):
            found |= {f"preactivation/{k}/l": l, f"preactivation/{k}/u": u}
            found |= {f"slopes/{k}": a_lo} if method != "ibp" else {}
        for key, value in found.items():
            close(value, a[f"{method}/{key}"][n])
        problem = C, net, ball, row, a0, a["beta"]
        losses.append(one_page.robust_loss(*problem)[0])
        nets.append(one_page.robust_loss_vjp(1.0, *problem))
    if a["kappa"] == 0:  # the weight of the clean loss, which is not the paper's
        close(np.mean(losses), a[f"{method}/loss"])
        for key, d in mean(nets).items():
            close(d, a[f"{method}/grad/{key}"])


# ---- what it prints ----

def printed(capsys, monkeypatch, *arguments):
    """{name: [rows of numbers]} of the printed lines, the first apart."""
    monkeypatch.setattr(sys, "argv", ["one_page", *arguments])
    one_page.main()
    title, *lines = capsys.readouterr().out.splitlines()
    return title, {line[:24].strip(): [list(map(float, row.split())) for row in line[24:].split("|")] for line in lines}


@pytest.mark.parametrize("method, label", [
    (None, 0), *((method, label) for method in one_page.METHODS for label in (0, 1))])
def test_it_prints_the_hand_worked_network(method, label, capsys, monkeypatch):
    title, numbers = printed(capsys, monkeypatch, *[method, str(label)] * (method is not None))
    method = method or "crown-ibp"
    assert title.startswith(f"{method}:")
    net, ball, y = hand()
    ball, y, other = ball[label:label + 1], y[label:label + 1], 1 - label
    draws = [0.75, 0.25] if method == "sparse" else [0.5, 0.5]
    options = {"a0": [np.array([draws])] * 2} if method in DRAWN else {}
    x, s, L, _ = numbers["x* | s | L | ds"]
    if method in HAND_MARGINS:
        close(s[other], HAND_MARGINS[method][label])
    close(numbers["layer 1: l | u"], ([-1, -2], [3, 2]))
    close(numbers["layer 2: l | u"], HAND_SECOND.get(method, HAND_SECOND["ibp"]))
    lin, out = (f(net, ball, y, method, **options) for f in (rb.linear_bound, rb.robust_loss))
    close(np.hstack(numbers["g | b at x"]), [*lin.g[0, other], lin.b[0, other]], 1e-3)
    close(x, np.sign(lin.g[0, other]))
    close(L[0], out.value, 1e-3)
    for k in (1, 2, 3):
        *dW, dbias = numbers[f"layer {k}: dW | dbias"]
        close(dW, out.grads[f"{2 * k - 2}.weight"], 1e-3)
        close(dbias, out.grads[f"{2 * k - 2}.bias"], 1e-3)


def test_a_method_that_is_not_there_is_one_line_that_names_those_that_are(capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        printed(capsys, monkeypatch, "crown-ipb")
    line, = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and all(method in line for method in one_page.METHODS)


def test_who_reads_no_further_is_told_nothing():
    """As `python -m refbound.one_page | head -3` does."""
    page = subprocess.Popen([sys.executable, "-m", "refbound.one_page"], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    page.stdout.close()
    assert page.stderr.read() == ""
    page.stderr.close()
    assert page.wait() != 0


# ---- that it is a page ----

def imported(path):
    """The names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{name.name}" for name in node.names)


def test_it_is_one_page_and_stands_alone():
    page = ROOT / "refbound" / "one_page.py"
    assert len(page.read_text().splitlines()) <= 240
    assert {name.split(".")[0] for name in imported(page)} <= {"numpy", *sys.stdlib_module_names}
    others = [path for path in (ROOT / "refbound").rglob("*.py") if path != page]
    assert others and not any("one_page" in name for path in others for name in imported(path))
