"""How ε, β (Section 7), κ and the learning rate go over a training run, by the time t in epochs (a real number)."""


def smooth(t):
    """0 to 1 by a quartic that meets a line at a quarter of the way (Xu et al. 2020, "smoothed" in auto_LiRPA).

    f = a t⁴ up to t = 1/4, then a line with the same value and slope there, through (1, 1).
    """
    a = 1 / (0.25**4 + 4 * 0.25**3 * 0.75)
    return a * t**4 if t < 0.25 else a * (0.25**4 + 4 * 0.25**3 * (t - 0.25))


SHAPES = {"linear": lambda t: t, "smooth": smooth}


def ramp(t, start, length, shape):
    """0 until `start`, 1 from `start + length`, the shape between."""
    if t >= start + length:
        return 1.0
    return SHAPES[shape]((t - start) / length) if t > start else 0.0


def at(t, args):
    """All at time t: ε, β and κ go from first to last over the ramp, the rate falls at each milestone.

    While ibp trains alone, β is 0. The weight of the regularisers, if there is one, is λ (1 − ε_t / ε).
    """
    fraction = ramp(t, args.warmup, args.ramp, args.ramp_shape)
    beta, kappa = (first + (last - first) * fraction for first, last in (args.beta, args.kappa))
    return {"eps": fraction * (args.eps if args.train_eps is None else args.train_eps),
            "beta": beta if t >= args.ibp_epochs else 0.0, "kappa": kappa,
            "rate": args.rate * args.factor ** sum(t >= milestone for milestone in args.milestones),
            **({"regularise": args.regularise * (1 - fraction)} if args.regularise else {})}
