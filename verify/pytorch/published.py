"""Implementations that others published, each behind one call, and what is known of where they differ from refbound.

    compute = PEERS["auto_LiRPA"].prepare(model, x, "crown-ibp")    # once for a model (rendering.sequential)
    bound = compute(region, y)                                      # a rendering.Bound; None for what it does not show

Nothing is imported until `prepare` is called. Each adapter was run against the release named beside it. None takes
slopes or draws, so one-step, random, sparse and alpha have no peer; random projections are timed, not compared.
"""

import importlib.util
import math
from typing import NamedTuple


class Why(NamedTuple):
    """Why an implementation differs from refbound, in which quantities, and whether its margins lie above or below."""

    text: str
    quantities: tuple


BOUND = ("margins", "loss", "gradient")
SAME = Why("", ())
HELD = Why("the lines are constants in its gradient", ("gradient",))
MERGED = Why("the last layer is not merged with C(y)", ("above", *BOUND))
CUT = Why(f"each unit takes the interval's bound where that is tighter; {HELD.text}", ("below", "g", "b", *BOUND))
PADDING = Why("the interval of an l2 ball ignores a convolution's padding", ("above", *BOUND))


class Region(NamedTuple):
    """What ball_around takes."""

    x: object
    eps: float
    norm: float = math.inf
    domain: tuple = None


class Peer(NamedTuple):
    """An implementation: its package, and for each method it has why it may differ; the norms that are compared."""

    package: str
    prepare: object      # (model, x, method, projections=None) -> compute
    differs: dict        # method -> Why
    norms: tuple = (math.inf,)
    convolutions: bool = True
    projections: bool = False
    differs_off_box: Why = SAME  # why it may differ for other norms

    def installed(self):
        return importlib.util.find_spec(self.package) is not None

    def takes(self, net, method, projections=None):
        """Whether it has the method, with projections where they are asked for, for such a network."""
        dense = all(spec["type"] != "conv2d" for spec in net.spec())
        return method in self.differs and (self.projections or not projections) and (self.convolutions or dense)


def _rendering(model, x, method, projections=None):
    """Ours, but PyTorch's: with fresh draws at every call, as in training."""
    from . import rendering

    def compute(region, y):
        shapes = [model.shapes[i] for i in (0, *model.relus[:-1])] if projections else ()
        cauchy = [x.new_empty(projections, math.prod(shape)).cauchy_() for shape in shapes]
        return rendering.bound(model, rendering.ball_around(*region), y, method, cauchy=cauchy)

    return compute


def _bound_propagation(model, x, method, projections=None):
    """bound-propagation 0.4.7. It bounds logits; here C(y) takes the place of the identity that it starts back from."""
    from bound_propagation import BoundModelFactory, HyperRectangle, LinearBounds
    from torch import nn

    from . import rendering
    dense = nn.Sequential(*(layer for layer in model if not isinstance(layer, nn.Flatten)))
    net = BoundModelFactory(adaptive_relu=method.startswith("crown")).build(dense)
    relus = [layer for layer in net.bound_sequential if isinstance(layer.module, nn.ReLU)]

    def compute(region, y):
        ball = rendering.ball_around(*region)
        c, r = ball.centre.flatten(1), ball.radius.flatten(1)
        box, C = HyperRectangle(c - r, c + r), rendering.margin_rows(y, model.shapes[-1][0], c.dtype)
        if method == "ibp":
            z = net.ibp_forward(box.bounding_hyperrect(), save_input_bounds=True)
            s = C.clamp(min=0) @ z.upper.unsqueeze(2) + C.clamp(max=0) @ z.lower.unsqueeze(2)
            pre = [(relu.input_bounds.lower, relu.input_bounds.upper) for relu in relus]
            return rendering.Bound(s.squeeze(2), None, None, pre)
        net.initial_linear_bounds = lambda *_, **__: LinearBounds(box, None, (C, C.new_zeros(C.shape[:2])))
        linear = (net.crown_ibp if method.endswith("-ibp") else net.crown)(box, bound_lower=False)
        return rendering.Bound(linear.concretize().upper, *linear.upper, None)

    return compute


def _convex_adversarial(model, x, method, projections=None):
    """convex_adversarial 0.4.4, by Wong and Kolter: DualNetwork, with the c − 1 margins as its objectives."""
    from convex_adversarial import DualNetwork

    from . import rendering

    def compute(region, y):
        x, eps, norm, domain = region
        kind = {"norm_type": "l1" if norm == math.inf else "l2"}  # the dual norm, and l2 as it is
        if projections:
            kind = {"norm_type": "l1_median", "proj": projections}
        if domain:
            kind |= {"bounded_input": True, "input_l": domain[0], "input_u": domain[1]}
        dual = DualNetwork(model, x, eps, **kind)
        s = -dual(-rendering.margin_rows(y, model.shapes[-1][0], x.dtype))
        pre = [(layer.zl, layer.zu) for layer in dual.dual_net if hasattr(layer, "zl")]
        return rendering.Bound(s, None, None, pre)

    return compute


def _auto_lirpa(model, x, method, projections=None):
    """auto_LiRPA 0.3, as released only for PyTorch before 1.13 and NumPy 1 (it was run here patched to import).

    Lower slopes are adaptive unless the documented bound option `relu` says "same-slope".
    """
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    from . import rendering
    options = {"relu": "same-slope"} if method.startswith("cap") else {}
    net = BoundedModule(model, x[:1], bound_opts=options)
    name = {"ibp": "IBP", "crown": "CROWN", "cap": "CROWN"}.get(method, "CROWN-IBP")

    def compute(region, y):
        ball = rendering.ball_around(*region)
        box = {"x_L": ball.centre - ball.radius, "x_U": ball.centre + ball.radius} if ball.norm == math.inf else {}
        perturbed = BoundedTensor(region.x, PerturbationLpNorm(eps=region.eps, norm=ball.norm, **box))
        C = rendering.margin_rows(y, model.shapes[-1][0], region.x.dtype)
        _, s = net.compute_bounds(x=(perturbed,), C=C, method=name, bound_lower=False)
        return rendering.Bound(s, None, None, None)

    return compute


EVERY = ("ibp", "crown-ibp", "cap-ibp", "random", "sparse", "one-step", "alpha", "cap", "crown")
PEERS = {
    "rendering": Peer("torch", _rendering, dict.fromkeys(EVERY, SAME), (math.inf, 2, 1), projections=True),
    "bound_propagation": Peer("bound_propagation", _bound_propagation, {
        "ibp": MERGED, "crown-ibp": HELD, "cap-ibp": HELD, "crown": CUT, "cap": CUT,
    }, convolutions=False),
    "convex_adversarial": Peer("convex_adversarial", _convex_adversarial, {"cap": SAME}, (math.inf, 2),
                               projections=True),
    "auto_LiRPA": Peer("auto_LiRPA", _auto_lirpa, dict.fromkeys(("ibp", "crown-ibp", "cap-ibp", "crown", "cap"), SAME),
                       (math.inf, 2), differs_off_box=PADDING),
}
