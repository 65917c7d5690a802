"""How balls and linear functions pass through the layers of a torch.nn.Sequential: what rendering.py is made of.

    g     (N, S, *shape)   the coefficients of S linear functions for each of N examples; (1, S, ...) if all share them
    b     (N, S)           their constants
    l, u  (N, *shape)      bounds of a ReLU's input

A model carries the `shapes` at the input of each layer, the places of its `relus`, and that after the last, the `head`
(rendering.sequential).
"""

import math
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

BLOCK = 2**22  # numbers in the largest array that one block of rows of the identity makes, for the cache's sake
KEPT = 2**26   # numbers in such an array of all rows, above which autograd computes a block again instead of keeping it


class Ball(NamedTuple):
    """The inputs x′ with ‖x′ − centre‖ ≤ radius: of a box one radius for each pixel, else one for each example."""

    centre: torch.Tensor  # (N, *shape)
    radius: torch.Tensor  # (N, *shape) or (N, 1, ...)
    norm: float


def ball_around(x, eps, norm=math.inf, domain=None):
    """The Ball of radius eps, a number, (N,) or of a box shaped as x; the box of l∞ cut to the domain."""
    eps = torch.as_tensor(eps, dtype=x.dtype, device=x.device)
    if eps.dim() < 2:
        eps = eps.expand(len(x)).view(-1, *(1,) * (x.dim() - 1))
    if norm != math.inf:
        return Ball(x, eps, norm)
    low, high = x - eps, x + eps
    if domain:
        low, high = low.clamp(min=domain[0]), high.clamp(max=domain[1])
    return Ball((low + high) / 2, (high - low) / 2, norm)


def dot(g, x):
    """g·x for every function of every example: (N, S, *shape), (N, *shape) -> (N, S)."""
    return (g.flatten(2) @ x.flatten(1).unsqueeze(2)).squeeze(2)


def maximum(g, ball):
    """max over the ball of g·x: the value at its centre, and its radius times the dual norm of g."""
    if ball.norm == math.inf:
        return dot(g, ball.centre) + dot(g.abs(), ball.radius)
    dual = torch.linalg.vector_norm(g.flatten(2), 2 if ball.norm == 2 else math.inf, dim=2)
    return dot(g, ball.centre) + ball.radius.flatten(1) * dual


# ---- interval bounds ----

def interval(model, ball, stop):
    """[(l, u)] of each ReLU in model[:stop], and the ball that encloses the output of model[:stop]."""
    pre, (c, r, norm) = [], ball
    for i, layer in enumerate(model[:stop]):
        if isinstance(layer, nn.ReLU):
            if norm != math.inf:
                r, norm = (r.flatten(1) * row_norms(model, i, ball)).view_as(c), math.inf
            l, u = c - r, c + r
            pre.append((l, u))
            c, r = (u.relu() + l.relu()) / 2, (u.relu() - l.relu()) / 2
        else:
            c, r = layer(c), r if norm != math.inf else widen(layer, r)
    return pre, Ball(c, r, norm)


def widen(layer, r):
    """The radius of the box around a box's image by an affine layer, |W| r; by Flatten, in its order."""
    if isinstance(layer, nn.Flatten):
        return layer(r)
    W = layer.weight.abs()
    return (F.linear(r, W) if isinstance(layer, nn.Linear) else
            F.conv2d(r, W, stride=layer.stride, padding=layer.padding))


def row_norms(model, stop, ball):
    """The dual norm of each row of model[:stop], which has no ReLU, as one matrix: (1, units)."""
    units = math.prod(model.shapes[stop])
    rows, _ = backward(model, stop, torch.eye(units, dtype=ball.centre.dtype).view(1, units, *model.shapes[stop]), ())
    return torch.linalg.vector_norm(rows.flatten(2), 2 if ball.norm == 2 else math.inf, dim=2)


# ---- the two lines of a ReLU ----

def chord(l, u):
    """Slope and intercept of the upper line; (1, 0) on an active unit, (0, 0) on an inactive one."""
    up, down = u.relu(), (-l).relu()
    slope = up / torch.where(up + down > 0, up + down, 1)
    return slope, down * slope


def enclose(l, u, lower):
    """(lower slope, upper slope, upper intercept), the slopes shaped to multiply g; lower None: parallel lines."""
    upper, intercept = chord(l, u)
    if lower is None:
        return upper.unsqueeze(1), None, intercept
    lower = lower.unsqueeze(1) if lower.dim() == l.dim() else lower  # one for all functions, or one for each
    unstable, upper = ((l < 0) & (u > 0)).unsqueeze(1), upper.unsqueeze(1)
    return torch.where(unstable, lower, upper), upper, intercept


def adaptive(l, u):
    """1 where the unit is active over the larger part of [l, u], else 0."""
    return (u > -l).to(l.dtype)


# ---- the linear bound, from the last layer back ----

def through(layer, shape, g):
    """A linear function g of an affine layer's output, as one of its input: (constant, coefficients)."""
    if isinstance(layer, nn.Linear):
        return g @ layer.bias, g @ layer.weight
    if isinstance(layer, nn.Flatten):
        return 0, g.reshape(*g.shape[:2], *shape)
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    unseen = (shape[1] + 2 * ph - kh) % sh, (shape[2] + 2 * pw - kw) % sw
    back = F.conv_transpose2d(g.flatten(0, 1), layer.weight, None, layer.stride, layer.padding, unseen)
    return g.sum((-2, -1)) @ layer.bias, back.unflatten(0, g.shape[:2])


def backward(model, stop, g, lines, start=0):
    """(g, b) with C h(x) ≤ g·x + b for h = model[start:stop], from g = C and the lines of its ReLUs."""
    b, lines = 0, list(lines)
    for layer, shape in reversed(list(zip(model, model.shapes))[start:stop]):
        if isinstance(layer, nn.ReLU):
            lower, upper, intercept = lines.pop()
            positive = g.relu()
            b = b + dot(positive, intercept)
            g = lower * g if upper is None else lower * g + (upper - lower) * positive
        else:
            constant, g = through(layer, shape, g)
            b = b + constant
    return g, b


# ---- intermediate bounds by the linear bound, layer by layer ----

def layerwise(model, ball, block):
    """[(l, u)]: each ReLU's input bounded from those before it; the first affine layer's bounds are the intervals."""
    pre = []
    for stop in model.relus:
        if not pre and sum(isinstance(layer, (nn.Linear, nn.Conv2d)) for layer in model[:stop]) <= 1:
            pre = interval(model, ball, stop + 1)[0]
            continue
        units, widest = math.prod(model.shapes[stop]), max(map(math.prod, model.shapes[:stop])) * len(ball.centre)
        before = tuple(pre)  # what checkpoint computes again must not have grown
        rows = torch.eye(units, dtype=ball.centre.dtype, device=ball.centre.device).view(1, units, *model.shapes[stop])
        run = block if units * widest <= KEPT else partial(checkpoint, block, use_reentrant=False)
        parts = [run(model, stop, E, before, ball) for E in rows.split(max(1, BLOCK // widest), 1)]
        pre.append(tuple(torch.cat(ends, 1).view(-1, *model.shapes[stop]) for ends in zip(*parts)))
    return pre


def by_parallel_lines(model, stop, g, pre, ball):
    """CAP: one pass back bounds both sides, middle ± half the width."""
    middle, half, chords = 0, 0, [chord(l, u) for l, u in pre]
    for layer, shape in reversed(list(zip(model, model.shapes))[:stop]):
        if isinstance(layer, nn.ReLU):
            slope, intercept = chords.pop()
            middle, half = middle + dot(g, intercept / 2), half + dot(g.abs(), intercept / 2)
            g = slope.unsqueeze(1) * g
        else:
            constant, g = through(layer, shape, g)
            middle = middle + constant
    middle = middle + dot(g, ball.centre)
    half = half + maximum(g, ball._replace(centre=torch.zeros_like(ball.centre)))
    return middle - half, middle + half


def by_adaptive_lines(model, stop, E, pre, ball):
    """CROWN: the upper bounds of E and of −E."""
    lines = [enclose(l, u, adaptive(l, u)) for l, u in pre]
    g, b = backward(model, stop, torch.cat([E, -E], 1), lines)
    upper, minus_lower = (maximum(g, ball) + b).chunk(2, 1)
    return -minus_lower, upper


def projected(model, ball, cauchy):
    """CAP's bounds with each l1 norm estimated by the median over Cauchy draws (Wong et al. 2018)."""
    k = len(cauchy[0])
    pre, centre, V = [], ball.centre, ball.radius.unsqueeze(1) * cauchy[0].view(k, *model.shapes[0])
    for layer in model[:model.head]:
        if isinstance(layer, nn.ReLU):
            half = V.unflatten(1, (-1, k)).abs().kthvalue(k // 2 + 1, 2).values.sum(1)
            pre.append((centre - half, centre + half))
            if len(pre) < len(model.relus):
                slope, intercept = chord(*pre[-1])
                fresh = (intercept / 2).unsqueeze(1) * cauchy[len(pre)].view(k, *intercept.shape[1:])
                centre, V = slope * centre + intercept / 2, torch.cat([slope.unsqueeze(1) * V, fresh], 1)
        else:
            centre = layer(centre)
            V = V.flatten(0, 1)
            V = (layer(V) if isinstance(layer, nn.Flatten) else
                 F.linear(V, layer.weight) if isinstance(layer, nn.Linear) else
                 F.conv2d(V, layer.weight, None, layer.stride, layer.padding)).unflatten(0, (len(centre), -1))
    return pre
