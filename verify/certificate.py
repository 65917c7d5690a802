"""Certificates of a network, made in floating point and proved again in exact arithmetic.

    python -m verify.certificate MODEL --eps 0.1 --n 100 [--method crown-ibp alpha] [--no-clip] [--save DIR]
    python -m verify.certificate MODEL --read DIR

`make` takes the l and u of interval propagation, or of CAP, rounded outwards to few bits so that they can be proved and
integers stay short, and the slopes of the first method whose bound is negative for every margin, or whose worst is
least. Nothing it does needs to be trusted: prover/, which shares no code with refbound, proves every l, u and margin,
or says what does not hold; it says too what a proof proves. For l∞ balls; images are bytes, so pixels k/255 are exact.
"""

import io
import time
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

import refbound as rb
from refbound.arrays.blocks import identity_blocks
from refbound.arrays.ops import images
from refbound.cap import two_sided
from refbound.interval import interval
from refbound.layers import Affine, Flatten, ReLU, margin_matrix
from refbound.methods import METHODS
from refbound.relaxation import chord
from trainers import data
from trainers.files import checkpoint
from trainers.files.words import progress
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .formats.load import Given, as_the_run, load_any
from .prover import exact
from .prover.claims import Certificate, Rejected, network_digest, rational, read, save

BITS = 20            # of l and u, below the largest of its layer
SLOPE_BITS = 16
CLEAR = -1e-4        # a float bound below this, of the size of the image's largest, is not looked at by the next method
BATCH = 20           # images
MAKERS = (*(name for name, method in METHODS.items() if method.bounds is interval and method.slopes), "cap")
DEFAULT = ("crown-ibp", "one-step", "alpha")


@dataclass
class Args(Given):
    """Makes the certificates of a model's first test images and proves them again in exact arithmetic."""

    eps: str = argument(
        None, "radius of the l∞ ball, a decimal fraction (default: that of the run)", type=arguments.digits)
    n: int = argument(100, "certificates: of the first n test images that a float bound certifies")
    give_up: int = argument(100, "stop after so many images in a row without a certificate")
    method: tuple = argument(DEFAULT, "whose slopes to try, in this order", choices=MAKERS)
    steps: int = argument(20, "of alpha, which has its own slopes for each margin")
    save: str = argument(None, "also write each certificate to this folder", type=arguments.folder)
    read: str = argument(
        None, "instead of making any, prove the certificates of this folder: alone, for they say their own ε", type=str)


def main(argv=None):
    """Makes or reads certificates, and proves them; the exit status, 0 if all hold."""
    args = arguments.parse(Args, "verify.certificate", argv)
    arguments.at_least(args, n=1, give_up=1, steps=0, seed=0)
    net = load_any(args.model)
    network = exact.Network(net.spec(), net.params, net.input_shape)
    if args.read:
        alone(args)
        paths = sorted(Path(args.read).glob("*.npz"))
        certificates, skipped, seconds = [(path.name, path) for path in paths], 0, 0.0
        if not paths:
            raise ValueError(f"{args.read}: no certificates (*.npz) there")
    else:
        as_the_run(args)
        started = time.perf_counter()
        test = data.load("mnist", "test", args.data_dir)
        few, y = data.first(test, min(args.n, len(test.labels)), net)
        data.suspect(args.model, 100 * np.mean(net(data.to_float(few, net.dtype)).argmax(1) != y))
        certificates, skipped, stopped = first_certificates(net, test, str(args.eps), not args.no_clip, args)
        seconds = time.perf_counter() - started
        if stopped:
            more = ("a smaller --eps" if "cap" in args.method or not net.relus else
                    "--method cap, whose l and u are no interval bounds,")
            print(f"stopped after {args.give_up} images in a row without a certificate (--give-up): "
                  f"{more} may find some")
    started, outcomes = time.perf_counter(), []
    for name, certificate in progress(certificates, "certificates checked"):
        try:
            certificate = read(certificate) if args.read else certificate
            outcomes.append((name, exact.prove(certificate, network), subject(certificate)))
        except Rejected as error:
            outcomes.append((name, error, None))
    return report(outcomes, skipped, seconds, time.perf_counter() - started)


def make(net, images, labels, eps, clipped=True, methods=DEFAULT, steps=20, seed=0):
    """[(Certificate, float bound of its worst margin)] of some images (N, ...) uint8, labels (N,).

    eps: a decimal string, or for each pixel one, shaped as the images; of another number, its digits as printed.
    ValueError for images that do not fit, or an ε that is not a number.
    """
    try:
        radius = np.vectorize(lambda e: float(rational(str(e))), otypes=[float])(eps)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"eps: expected a decimal fraction, got {eps!r}") from None
    claimed = [np.ravel(e).astype(str).tolist() for e in eps] if radius.ndim else [str(eps)] * len(images)
    radius = radius.reshape(len(images), *net.input_shape) if radius.shape == images.shape else radius
    wide = net.with_params({name: value.astype(np.float64) for name, value in net.params.items()})
    digest = network_digest(net.spec(), net.params, net.input_shape)
    ball = rb.Ball(data.to_float(images, np.float64).reshape(len(images), *net.input_shape), radius,
                   domain=(0.0, 1.0) if clipped else None)
    worst, best, clear = np.full(len(images), np.inf), [None] * len(images), np.zeros(len(images), bool)
    for method in methods:
        todo = np.flatnonzero(~clear)
        if len(todo):
            for i, s, *claims in zip(todo, *claim(wide, ball[todo], labels[todo], method, steps, seed)):
                bound = s.max()
                if best[i] is None or bound < worst[i]:
                    worst[i], best[i] = np.nan_to_num(bound, nan=np.inf), claims  # NaN: the next method is tried
                    clear[i] = bound < CLEAR * np.abs(s).max()
    return [(Certificate(digest, image.reshape(-1), int(label), eps, clipped, *claims).sealed(), bound)
            for image, label, eps, claims, bound in zip(images, labels, claimed, best, worst)]


def claim(net, ball, y, method, steps=20, seed=0):
    """The float bounds of the margins (N, S) and what a certificate claims: lists of l, u, s and a for each example."""
    region, rng, row = ball.region(np.float64), np.random.default_rng(seed), METHODS[method]
    pre = outward_bounds(net, region, row.bounds is not interval)
    options = {"a0": [rng.random(l.shape) for l, _ in pre], "steps": steps, "shared": False}
    margins = row.margins(net, region, margin_matrix(y, net.classes, np.float64), pre, options)
    arrays = [[l for l, _ in pre], [u for _, u in pre], [short(chord(l, u)[0]) for l, u in pre],
              [short(np.clip(line.a_lo, 0, 1)) for line in margins.lines]]
    arrays = [[images(v, net.shapes[i]).reshape(v.shape) for i, v in zip(net.relus, kind)] for kind in arrays]
    return margins.s.T, *([[v[..., i, :] for v in kind] for i in range(len(y))] for kind in arrays)


def outward_bounds(net, region, by_cap=False):
    """[(l, u)] of each ReLU, (N, n), rounded outwards to BITS bits, which is further than float64 errs.

    By interval propagation; with by_cap, the better of it and CAP's, unit by unit. Each from the rounded ones before.
    """
    pre, chords, (centre, radius, _) = [], [], region
    for i in range(net.head):
        layer = net.layers[i]
        if isinstance(layer, Affine):
            W = net.params[f"{i}.weight"]
            radius = layer.apply(np.abs(W), layer.patches(radius))
            centre = layer.apply(W, layer.patches(centre)) + layer.per_unit(net.params[f"{i}.bias"])
        elif isinstance(layer, ReLU):
            l, u = centre - radius, centre + radius
            if by_cap and pre:
                least, most = _cap(net, i, chords, region)
                l, u = np.maximum(l, least), np.minimum(u, most)
            step = 2.0 ** (np.ceil(np.log2(max(np.abs(l).max(), np.abs(u).max(), 1e-300))) - BITS)
            l, u = np.floor(l / step - 1 / 16) * step, np.ceil(u / step + 1 / 16) * step
            lp, up, s = np.maximum(l, 0), np.maximum(u, 0), short(chord(l, u)[0])
            pre.append((l, u))
            chords.append((s, np.maximum(lp - s * l, up - s * u)))
            centre, radius = (up + lp) / 2, (up - lp) / 2
        elif isinstance(layer, Flatten):
            centre, radius = layer.reorder(centre), layer.reorder(radius)
    return pre


def _cap(net, stop, chords, region):
    """l and u at the output of layers[:stop] by parallel lines, in blocks of rows."""
    parts = [two_sided(net, stop, E, chords, region) for _, E in identity_blocks(net, stop, region)]
    middle, width = (np.concatenate([getattr(part, name) for part in parts]).T for name in ("m", "d"))
    return middle - width, middle + width


def short(slope):
    """The nearest multiple of 2^-SLOPE_BITS."""
    return np.rint(slope * 2**SLOPE_BITS) / 2**SLOPE_BITS


# ---- the command ----

def alone(args):
    """ValueError if another option was given with --read: a certificate says itself what it certifies."""
    given = [(field.name, getattr(args, field.name), field.default) for field in fields(args)
             if field.name not in ("model", "read")]
    if other := [f"{name.replace('_', '-')} = {value}" for name, value, default in given if value != default]:
        raise ValueError(f"--read: proves certificates as they stand; expected no other option, got {', '.join(other)}")


def first_certificates(net, dataset, eps, clipped, args):
    """([(file name, Certificate)], how many images a float bound did not certify, whether it gave up).

    The certificates of the first args.n images that one did; with --save each is written as soon as it is made.
    """
    (images, labels), certificates, index, in_a_row = data.first(dataset, 0, net), [], -1, 0
    parts = (slice(i, i + BATCH) for i in range(0, len(images), BATCH))
    made = (pair for part in parts
            for pair in make(net, images[part], labels[part], eps, clipped, args.method, args.steps, args.seed))

    def found():
        nonlocal index, in_a_row
        for index, (certificate, worst) in enumerate(made):
            in_a_row = 0 if worst < 0 else in_a_row + 1
            if worst < 0:
                yield f"{index:05}.npz", certificate
            if in_a_row == args.give_up:
                return

    if args.save:
        Path(args.save).mkdir(parents=True, exist_ok=True)
    for name, certificate in progress(islice(found(), args.n), "certificates made", min(args.n, len(images))):
        certificates.append((name, certificate))
        if args.save:
            write(certificate, Path(args.save) / name)
    return certificates, index + 1 - len(certificates), in_a_row == args.give_up


def write(certificate, path):
    """A certificate to a file, whole or not at all."""
    buffer = io.BytesIO()
    save(certificate, buffer)
    checkpoint.write(path, buffer.getvalue())


def subject(certificate):
    """What it certifies: the image and its label, the least and greatest ε of a pixel, and whether it is clipped."""
    eps = sorted(np.ravel(certificate.eps).tolist(), key=Fraction)
    return (certificate.image.tobytes(), certificate.label), eps[0].strip(), eps[-1].strip(), certificate.clipped


def scope(subjects):
    """What many certify together, in words."""
    pairs, least, greatest, clipped = zip(*subjects)
    least, greatest = min(least, key=Fraction), max(greatest, key=Fraction)
    eps = f"ε = {least}" if Fraction(least) == Fraction(greatest) else f"ε from {least} to {greatest}"
    balls = ("clipped to [0, 1]" if all(clipped) else
             f"{sum(clipped)} clipped to [0, 1], the others not" if any(clipped) else "not clipped")
    return f"{eps}; {balls}; pairs of an image and its label: {len(set(pairs))}"


def in_words(worst):
    """An exact bound, in digits if Python prints so many and float64 has a number near it."""
    try:
        if float(worst) == 0 != worst:
            raise OverflowError
        return f"the exact bound {worst}, which is {float(worst):.3g}"
    except (ValueError, OverflowError):
        return f"an exact bound of about 2^{worst.numerator.bit_length() - worst.denominator.bit_length()}"


def report(outcomes, skipped, seconds, proving):
    """Prints what held, of what, and what did not; the exit status, 0 if there were any and all did."""
    failed = [(name, outcome) for name, outcome, _ in outcomes if isinstance(outcome, Rejected) or not outcome.holds]
    held = [what for _, outcome, what in outcomes if what and outcome.holds]
    rejected = sum(isinstance(outcome, Rejected) for _, outcome in failed)
    for name, outcome in failed:
        why = (f"rejected: {outcome}" if isinstance(outcome, Rejected) else
               f"not proved: its worst margin has {in_words(outcome.worst)}")
        print(f"{name}: {why}")
    print(f"{len(outcomes)} certificates: {len(outcomes) - len(failed)} held, {len(failed) - rejected} not proved, "
          f"{rejected} rejected; {proving / max(len(outcomes), 1):.2f} s an image")
    if held:
        print(f"held: {scope(held)}")
    if seconds:
        print(f"made in {seconds:.1f} s; {skipped} images among them have no float bound below 0, "
              "and so no certificate")
    return int(bool(failed) or not outcomes)


if __name__ == "__main__":
    arguments.run(main)
