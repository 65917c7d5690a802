"""How ε, β, κ and the learning rate go over a training run, as functions of the time t in epochs (a real number)."""


def linear(t):
    """0 to 1 on a line."""
    return t


def smooth(t):
    """0 to 1 by a quartic that meets a line at a quarter of the way (Xu et al. 2020, "smoothed" in auto_LiRPA).

    f = a t⁴ up to t = 1/4, then a line with the same value and slope there, through (1, 1).
    """
    a = 1 / (0.25**4 + 4 * 0.25**3 * 0.75)
    return a * t**4 if t < 0.25 else a * (0.25**4 + 4 * 0.25**3 * (t - 0.25))


SHAPES = {"linear": linear, "smooth": smooth}


def ramp(t, start, length, shape):
    """0 until `start`, 1 from `start + length`, the shape between."""
    if t >= start + length:
        return 1.0
    return SHAPES[shape]((t - start) / length) if t > start else 0.0


def between(first, last, fraction):
    """From `first` to `last` with the ramp: β and κ."""
    return first + (last - first) * fraction


def rate(t, first, milestones, factor):
    """The learning rate: `first`, times `factor` at each milestone passed."""
    return first * factor ** sum(t >= m for m in milestones)
