"""The bounds of every method as a PyTorch user would write them: a second opinion, and the opponent in the benchmark.

Written from the definitions of Lee et al. (2021) with none of refbound's code: batches come first, layers are those of
torch.nn, convolutions are F.conv2d and F.conv_transpose2d, and every gradient is autograd's. Of a network it is given
only the layers and the parameters.

    model = sequential(net)
    robust_loss(model, ball_around(x, 0.1, domain=(0, 1)), x, y, "crown-ibp").backward()

Options, by keyword, are refbound's, in batches of tensors: slopes, a0, eta, p, q, steps, shared; and for cap `cauchy`,
the draws for the input and for each ReLU but the last, (k, units).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .layers import (Ball, adaptive, backward, ball_around, by_adaptive_lines, by_parallel_lines, enclose, interval,
                     layerwise, maximum, projected)

__all__ = ["Bound", "ball_around", "bound", "cross_entropy", "margin_rows", "objective_loss", "robust_loss",
           "sequential", "small_box"]


class Bound(NamedTuple):
    """s̄ = max over the ball of g·x + b, and what it was made from."""

    s: torch.Tensor  # (N, S), S = c − 1: the classes but y, in order
    g: torch.Tensor
    b: torch.Tensor
    pre: list        # (l, u) of each ReLU


def sequential(net):
    """A refbound network as a torch.nn.Sequential, with its `shapes`, `relus` and `head` (layers.py)."""
    kinds = {"linear": nn.Linear, "conv2d": nn.Conv2d, "relu": nn.ReLU, "flatten": nn.Flatten}
    model = nn.Sequential(*(kinds[spec.pop("type")](**spec) for spec in net.spec()))
    state = {name: torch.from_numpy(value.copy()) for name, value in net.params.items()}
    model.to(next(iter(state.values())).dtype).load_state_dict(state)
    model.shapes, model.relus, model.head = net.shapes, net.relus, net.head
    return model


def slopes_of(method, model, ball, C, pre, a0=None, eta=2.0, p=0.5, q=0.5, steps=20, shared=True):
    """The lower slopes of each ReLU; None for parallel lines."""
    if method in ("cap", "cap-ibp"):
        return [None] * len(pre)
    if method in ("crown", "crown-ibp"):
        return [adaptive(l, u) for l, u in pre]
    if method == "alpha":
        return descended(model, ball, C, pre, steps, shared)
    if a0 is None:
        a0 = [torch.rand_like(l) for l, _ in pre]
    if method == "random":
        return a0
    if method == "sparse":
        return [(a < torch.where(-l > u, p, q)).to(a.dtype) for a, (l, u) in zip(a0, pre)]
    _, d = slope_gradient(model, ball, C, pre, a0)
    return [(a - eta * da.sign()).clamp(0, 1) for a, da in zip(a0, d)]  # one-step


def slope_gradient(model, ball, C, pre, slopes, shared=True):
    """Each example's loss with these slopes, or each margin by itself, and its gradient in them."""
    slopes = [a.detach().requires_grad_() for a in slopes]
    with torch.enable_grad():
        lines = [enclose(l.detach(), u.detach(), a) for (l, u), a in zip(pre, slopes)]
        g, b = backward(model, len(model), C, lines)
        s = maximum(g, ball) + b
        value = cross_entropy(s) if shared else s
    return value.detach(), torch.autograd.grad(value.sum(), slopes) if slopes else ()


def descended(model, ball, C, pre, steps, shared):
    """The best of the slopes met by signed descent from the adaptive ones, steps falling from 1/2 to 1/512."""
    a, least = [adaptive(l, u) for l, u in pre], C.new_tensor(math.inf)
    if not shared:
        a = [slope.unsqueeze(1).expand(-1, C.shape[1], *slope.shape[1:]) for slope in a]
    best = a
    for t in range(steps + 1):
        value, d = slope_gradient(model, ball, C, pre, a, shared)
        better, least = value < least, value.minimum(least)
        best = [torch.where(better.view(*better.shape, *(1,) * (new.dim() - better.dim())), new, old)
                for new, old in zip(a, best)]
        a = [(slope - 0.5 * 256 ** (-t / max(steps, 1)) * da.sign()).clamp(0, 1) for slope, da in zip(a, d)]
    return best


def intermediate(model, ball, method, cauchy=None):
    """[(l, u)] of each ReLU; and, of ibp, the box after the last."""
    if method == "crown":
        return layerwise(model, ball, by_adaptive_lines), None
    if method == "cap":
        return projected(model, ball, cauchy) if cauchy else layerwise(model, ball, by_parallel_lines), None
    return interval(model, ball, model.head)


def margin_rows(y, classes, dtype):
    """C(y) (N, S, c): e_m − e_y for the classes m ≠ y."""
    eye, m = torch.eye(classes, dtype=dtype, device=y.device), torch.arange(classes - 1, device=y.device)
    return eye[m + (m >= y.unsqueeze(1))] - eye[y].unsqueeze(1)


def bound(model, ball, y, method, found=None, cauchy=None, slopes=None, **options):
    """The Bound of the margins z_m − z_y by one method; `found`: its intermediate bounds, if they are known."""
    pre, last = found or intermediate(model, ball, method, cauchy)
    C = margin_rows(y, model.shapes[-1][0], ball.centre.dtype)
    if method == "ibp":
        g, b = backward(model, len(model), C, (), start=model.head)
        s = maximum(g, last) + b
        flat = s.new_zeros(()).expand(*s.shape, *model.shapes[0])  # constant lines
        return Bound(s, flat, s, pre) if model.relus else Bound(s, g, b, pre)
    if slopes is None:
        slopes = slopes_of(method, model, ball, C, pre, **options)
    g, b = backward(model, len(model), C, [enclose(l, u, a) for (l, u), a in zip(pre, slopes)])
    return Bound(maximum(g, ball) + b, g, b, pre)


def cross_entropy(s):
    """log(1 + Σ exp s_m) of each example: the true class has margin 0."""
    return F.pad(s, (1, 0)).logsumexp(1)


def small_box(ball, x, x_adv, eps, lam):
    """SABR's Ball of radius λ ε around x_adv, moved into `ball`, B(x, eps)."""
    eps = torch.as_tensor(eps, dtype=x.dtype).expand(len(x)).view(-1, *(1,) * (x.dim() - 1))
    if ball.norm == math.inf:
        radius = (lam * eps).minimum(ball.radius)
        return Ball(x_adv.clamp(ball.centre - ball.radius + radius, ball.centre + ball.radius - radius),
                    radius, ball.norm)
    way = x_adv - x
    far = torch.linalg.vector_norm(way.flatten(1), 2, dim=1).view(eps.shape)
    return Ball(x + way * ((1 - lam) * eps / far).clamp(max=1), lam * eps, ball.norm)  # l2


def objective_loss(model, ball, x, y, objective, method, x_adv, box=None, alpha=None, beta=1.0, kappa=0.0, **options):
    """The mean of (1 − κ) an objective + κ L(clean); box: where the bound holds for sabr, in the place of the ball."""
    region = box if objective == "sabr" else ball
    s = beta * bound(model, region, y, method, **options).s + (1 - beta) * bound(model, region, y, "ibp").s
    s_adv = (margin_rows(y, model.shapes[-1][0], x.dtype) @ model(x_adv).unsqueeze(2)).squeeze(2)
    value = {"robust": lambda: cross_entropy(s), "sabr": lambda: cross_entropy(s),
             "mtl-ibp": lambda: alpha * cross_entropy(s) + (1 - alpha) * cross_entropy(s_adv),
             "cc-ibp": lambda: cross_entropy(alpha * s + (1 - alpha) * s_adv),
             "exp-ibp": lambda: cross_entropy(s) ** alpha * cross_entropy(s_adv) ** (1 - alpha)}[objective]()
    return (1 - kappa) * value.mean() + kappa * F.cross_entropy(model(x), y), s


def robust_loss(model, ball, x, y, method, beta=1.0, kappa=0.0, cauchy=None, **options):
    """The mean of (1 − κ) L(β s̄ + (1 − β) s̄_ibp) + κ L(clean)."""
    found, s = intermediate(model, ball, method, cauchy), 0
    if beta > 0:
        s = beta * bound(model, ball, y, method, found, **options).s
    if beta < 1:
        s = s + (1 - beta) * bound(model, ball, y, "ibp", None if method in ("cap", "crown") else found).s
    loss = cross_entropy(s).mean()
    return (1 - kappa) * loss + kappa * F.cross_entropy(model(x), y) if kappa > 0 else loss
