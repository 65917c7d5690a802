"""refbound: certified training by linear relaxation, written out in array code.

After Lee, Lee, Park and Lee, "Towards Better Understanding of Training Certifiably Robust Models against
Adversarial Examples", NeurIPS 2021. The symbols, everywhere:

    symbol      meaning                                                         shape inside       equation
    x, ε        an input and the radius of its ball B(x, ε)                     (N, n), (N,)       Section 2
    z           logits f(x)                                                     (N, c)
    y           labels                                                          (N,)
    C           the margin matrix C(y): rows e_m − e_y                          (S, N, c)          Section 2
    s, s̄        margins z_m − z_y, and their upper bounds                       (S, N)             (1)
    l, u        bounds of a ReLU's input                                        (N, n)
    a̲, b̲        slope and intercept of the lower line of a ReLU                 (N, n)             Definition 1
    ā, b̄        slope and intercept of the upper line, the chord                (N, n)             Definition 1
    g, b        the linear bound C f(x) ≤ g·x + b; g is the relaxed gradient    (S, N, n), (S, N)  Definition 1, (2)
    a₀, η       the start and the step of the one projected gradient step       (N, n)             (7)
    β, κ        weight of the method against ibp; weight of the clean loss                         (3)
    c, r        centre and radius of a region, or of the interval of a unit     (N, n)
    v(g), x*    the furthest point of the unit ball along g; c + r v(g)         (S, N, n)          (2)
    v           the upstream gradient of g on its way through the network       (S, N, n)
    θ, ρ, τ     parameters; a step along a gradient, and in units of it                            landscape.py

In shapes: N examples, c classes, S specifications (the c − 1 classes m ≠ y; layer by layer, units), n units of a layer.
Inside, the units of an image lie in a row, channels last; the public functions take and give (N, *shape), channels first.
"""

from . import models
from .api import LinearBound, RobustLoss, certified, linear_bound, margin_bounds, pgd, preactivation_bounds, robust_loss
from .ball import Ball
from .methods import METHODS
from .network import Network, load, save

__all__ = ["Ball", "LinearBound", "METHODS", "Network", "RobustLoss", "certified", "linear_bound", "load",
           "margin_bounds", "models", "pgd", "preactivation_bounds", "robust_loss", "save"]
