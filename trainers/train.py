"""Certified training, in one file to read from top to bottom: `main` is the whole run in short, and the functions below
stand in the order in which a run needs them. What a step is made of is in trainers/loop.

    python -m trainers.train                 the main job: `small` by one-step at ε = 0.1 on MNIST
    python -m trainers.train --method ibp --model mlp --eps 0.2 --epochs 30 --run runs/mine
    python -m trainers.train --preset paper-cifar10-shallow --data-dir FOLDER --device cuda

The results depend on these details:
 1. 5,000 training images, chosen by --split-seed, are held out; the epoch with the least verified error on them, at
    --eps, is kept as best.npz, among those that end at full ε. The test set is read once, at the end, by that network.
 2. ε is 0 for --warmup epochs, then rises to --train-eps over --ramp epochs; β and κ go from their first to their last
    value over the same time. All are set at every step.
 3. Every draw is seeded by its purpose and (seed, epoch, step, shard): a run does not depend on what was drawn before,
    so that a resumed run ends as one that was never stopped, and any number of processes ends alike.
 4. The gradient of a minibatch is the sum of its shards' in fixed order; the last, smaller minibatch is left out.
 5. An image is verified by the method itself; if β ends below 1 (a mixture with ibp, (3)), by either. After an epoch
    by ibp alone, ibp verifies in validation until ε has risen; the test of other objectives adds crown-ibp and alpha.
 6. An image is flipped (cifar10) and moved by up to --crop pixels, anew in each minibatch.
 7. Every --probe steps the loss landscape is measured (landscape.csv); nothing of the training depends on it.
 8. An objective's attack is made anew at every step; its α or λ stays the same. By sabr the log's verified error in
    training is of its small boxes, and proves nothing; in validation and at the test an image is verified as by robust.
 9. The loss that is logged, and whose landscape is measured, is without the terms of --l1 and --regularise.
10. --regularise adds λ (1 − ε_t / ε) times the mean of refbound/regularisers.py, until the end of the ramp. They are of
    interval bounds over the ball, whatever the method and the objective; at ε = 0 they are those of ε = 1e-6.
"""

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import refbound as rb
from refbound import checks
from refbound.arrays.device import device_module
from refbound.layers import add
from refbound.objectives import STEPS, setting

from . import data
from .evaluate import Args as Evaluation, certifiers, evaluate, report
from .files import checkpoint
from .inputs import arguments, presets
from .inputs.arguments import argument
from .inputs.draws import stream
from .loop import parallel, schedule
from .loop.minibatch import Minibatch, gradient, options_given
from .loop.optim import OPTIMIZERS, add_l1, clip_norm
from .loop.probe import probe


@dataclass
class Args:
    """Train a classifier to certified robustness; without arguments, the main job."""

    run: str = argument("", "run folder (default: runs/METHOD-MODEL-EPS-SEED, with OBJECTIVE- before it "
                            "if that is not robust); a stopped run goes on from there")
    objective: str = argument("robust", "what is minimised (refbound/objectives.py)", choices=tuple(rb.OBJECTIVES))
    method: str = argument("one-step", "how the margins are bounded",
                           choices=[m for m in rb.METHODS if rb.METHODS[m].trains])
    model: str = argument("small", "network", choices=tuple(rb.models.MODELS))
    eps: float = argument(0.1, "radius of the ball at the test, pixels in [0, 1]")
    train_eps: float = argument(None, "radius at the end of the ramp (default: eps)", type=float)
    norm: str = argument("inf", "of the ball", choices=("inf", "2", "1"))
    no_clip: bool = argument(False, "do not intersect the l∞ ball with the domain [0, 1]")
    epochs: int = argument(7, "epochs in all")
    ibp_epochs: float = argument(5.0, "of these, epochs by ibp alone at the start, several times as fast (β = 0)")
    warmup: float = argument(0.5, "epochs at ε = 0")
    ramp: float = argument(5.0, "epochs over which ε rises")
    ramp_shape: str = argument("linear", "of ε, β and κ over the ramp", choices=tuple(schedule.SHAPES))
    beta: tuple = argument((1.0, 1.0), "β of (3) before and after the ramp: the weight of the method against ibp")
    kappa: tuple = argument((0.0, 0.0), "κ before and after the ramp: the weight of the clean loss (not in the paper)")
    alpha: float = argument(None, "α of mtl-ibp, cc-ibp and exp-ibp: the weight of the bound against the attack "
                                  "(default: 0.5)", type=float)
    lam: float = argument(None, "λ of sabr: the radius of its box, as a share of ε (default: 0.5)", type=float)
    attack_steps: int = argument(STEPS, "steps of the attack that all objectives but robust make; "
                                        "together they are 2 ε long")
    init: str = argument("uniform", "what weights are drawn from: U(±1/√fan_in), or ibp: N(0, 2π/fan_in²) "
                                    "but in the last layer", choices=("uniform", "ibp"))
    regularise: float = argument(0.0, "λ of the regularisers while ε rises: tight boxes, "
                                      "active beside inactive units (0: none)")
    l1: float = argument(0.0, "weight of the sum of the weights' magnitudes, added to the loss")
    optimizer: str = argument("adam", "optimiser", choices=tuple(OPTIMIZERS))
    adam_beta2: float = argument(None, "β₂ of adam (default: 0.999)", type=float)
    rate: float = argument(2e-3, "learning rate")
    milestones: tuple = argument((5.75, 6.25, 6.6, 6.85), "epochs at which the learning rate falls", nargs="*")
    factor: float = argument(0.4, "by which it falls")
    clip_norm: float = argument(0.0, "largest l2 norm of a minibatch's gradient (0: any)")
    batch: int = argument(64, "examples in a minibatch")
    shard: int = argument(0, "examples in a shard of a minibatch (0: by the network's size; on a GPU the minibatch)")
    eta: float = argument(None, "η of equation (7) (default: 2)", type=float)
    p: float = argument(None, "rate of sparse where −l > u (default: 1/2)", type=float)
    q: float = argument(None, "rate of sparse elsewhere (default: 1/2)", type=float)
    projections: int = argument(None, "Cauchy projections of cap (default: exact)", type=int)
    limit: int = argument(0, "train on the first images only (0: all)")
    data: str = argument("mnist", "data set", choices=tuple(data.READERS))
    data_dir: str = argument(None, "its folder (default: MNIST as shipped)", type=str)
    crop: int = argument(None, "move images by up to so many pixels, at random (default: mnist 1, others 4)", type=int)
    validation: int = argument(5000, "training images held out to choose the epoch")
    split_seed: int = argument(0, "of the images held out")
    seed: int = argument(0, "of the parameters, the order of the images and every draw")
    probe: int = argument(200, "measure the loss landscape every so many steps (trainers/landscape.py; 0: never)")
    as_released: bool = argument(False, "measure also what the authors' code logs: redrawn slopes, RMS, similarity")
    device: str = argument("cpu", "cpu or cuda", choices=("cpu", "cuda"))
    threads: int = argument(0, "cores, a process each where the system can fork (0: all); "
                               "the result does not depend on it")


def main(argv=None):
    """The run, from its first epoch or from where it stopped, to the one look at the test set."""
    args = arguments.parse(Args, "trainers.train", argv, presets.TRAINING)
    check(args)
    args.crop = data.AUGMENT[args.data][1] if args.crop is None else args.crop
    by = args.method if args.objective == "robust" else f"{args.objective}-{args.method}"
    args.run = args.run or f"runs/{by}-{args.model}-{args.eps:g}-{args.seed}"
    xp, folder = device_module(args.device), Path(args.run)
    train, held_out, classes = examples(args)
    net = new_network(args, xp, train.images.shape[1:], classes)
    with checkpoint.alone(folder):
        if finished := checkpoint.open_folder(folder, asdict(args), report, [train.checksum, held_out.checksum]):
            print(f"{folder}: this run is finished\n{finished}")
            return
        with parallel.workers(parallel.threads(args)) as pmap:
            rows = train_epochs(net, train, held_out, args, pmap, folder)
        finish(folder, args, xp, rows)


def check(args):
    """ValueError for arguments that cannot be, before anything is read or written."""
    arguments.at_least(args, epochs=1, batch=1, validation=1, attack_steps=1, probe=int(args.as_released),
                       **dict.fromkeys(("eps", "train_eps", "ibp_epochs", "warmup", "ramp", "regularise", "l1", "rate",
                                        "clip_norm", "crop", "shard", "limit", "threads", "seed", "split_seed"), 0))
    arguments.in_pixels(args)
    if not 0 < args.factor <= 1:
        raise ValueError(f"--factor: expected a number in (0, 1], got {args.factor}")
    if not all(0 <= time < math.inf for time in args.milestones):
        raise ValueError(f"--milestones: expected epochs, got {' '.join(map(str, args.milestones))}")
    for name in ("beta", "kappa"):
        if len(getattr(args, name)) != 2 or not all(0 <= v <= 1 for v in getattr(args, name)):
            raise ValueError(f"--{name}: expected two numbers in [0, 1], got {getattr(args, name)}")
    for name, value in options_given(args).items():
        if name not in rb.METHODS[args.method].options:
            taken = ", ".join(option for option in rb.METHODS[args.method].options if hasattr(args, option)) or "none"
            raise ValueError(f"--{name}: not an option of {args.method}, which takes {taken}")
        checks.option_value(name, value)
    if args.objective == "robust" and args.attack_steps != STEPS:
        raise ValueError("--attack-steps: expected an --objective other than robust, which makes no attack")
    for name in ("alpha", "lam"):
        setting(name, getattr(args, name), args.objective)
    if args.adam_beta2 is not None and (args.optimizer != "adam" or not 0 <= args.adam_beta2 < 1):
        raise ValueError(f"--adam-beta2: expected a number in [0, 1) and --optimizer adam, got {args.adam_beta2} "
                         f"and {args.optimizer}")
    if args.projections and args.norm != "inf":
        raise ValueError(f"--projections: expected --norm inf with them, got {args.norm}")
    if args.warmup + args.ramp > args.epochs:
        raise ValueError(f"--epochs: expected at least --warmup + --ramp = {args.warmup + args.ramp:g}, "
                         f"got {args.epochs}")
    if args.ibp_epochs >= args.epochs and args.method != "ibp":
        raise ValueError(f"--epochs: expected more than --ibp-epochs = {args.ibp_epochs:g}, got {args.epochs}")


def examples(args):
    """(the images to train on, those held out, the number of classes), once all that will be read can be, and fits.

    The test set is not used yet: what is wrong with it should not be found after training.
    """
    whole, test = (data.load(args.data, split, args.data_dir) for split in ("train", "test"))
    (shape, classes), (other, others) = ((of.images.shape[1:], int(of.labels.max()) + 1) for of in (whole, test))
    if other != shape or others > classes:
        raise ValueError(f"the test set: expected images {shape} of at most {classes} classes, as the training set, "
                         f"got {other} of {others}")
    if args.validation >= len(whole.labels):
        raise ValueError(f"--validation: expected less than the {len(whole.labels)} training images, "
                         f"got {args.validation}")
    if args.crop and args.crop >= min(whole.images.shape[2:]):
        raise ValueError(f"--crop: expected less than the {min(whole.images.shape[2:])} pixels of an image, "
                         f"got {args.crop}")
    train, held_out = data.split_validation(whole, args.validation, args.split_seed)
    train = data.Dataset(*(column[:args.limit or None] for column in train))
    if len(train.labels) < args.batch:
        raise ValueError(f"--batch: expected at most the {len(train.labels)} training images, got {args.batch}")
    return train, held_out, classes


def new_network(args, xp, input_shape, classes):
    """The network that the run starts from, on its device."""
    more = {"widths": (math.prod(input_shape), 100, 100, classes)} if args.model == "mlp" else {"classes": classes}
    rng = stream("parameters", args.seed)
    net = rb.models.MODELS[args.model](rng, input_shape=input_shape, **more)
    net = rb.models.for_intervals(rng, net) if args.init == "ibp" else net
    return net.with_params({k: xp.asarray(v) for k, v in net.params.items()})


def train_epochs(net, train, held_out, args, pmap, folder):
    """Trains from the first epoch or the checkpoint to the last, all files written after each; the rows of the log."""
    done, state, rows, probes, best = 0, {}, [], [], math.inf
    if (folder / "checkpoint.npz").exists():
        like = next(iter(net.params.values()))
        done, params, state, rows, probes, best = checkpoint.restore(folder / "checkpoint.npz", like)
        net = net.with_params(params)
        print(f"{folder}: going on after epoch {done}")
    for epoch in range(done + 1, args.epochs + 1):
        started = time.monotonic()
        net, state, row, found = train_epoch(net, state, train, epoch, args, pmap, folder)
        fraction = schedule.ramp(epoch, args.warmup, args.ramp, args.ramp_shape)  # where the epoch ends
        # epochs that compete are verified alike
        by = ("ibp",) if epoch <= args.ibp_epochs and fraction < 1 else certifiers(args.method, args.beta)
        validation = errors(net, held_out, args, fraction * args.eps, by)
        rows.append({**row, **{f"validation_{kind}": validation[kind]
                               for kind in ("eps", "standard_error", "verified_error")},
                     "probe_seconds": round(sum(one.pop("seconds") for one in found), 2),
                     "seconds": round(time.monotonic() - started, 1)})
        probes += found
        if fraction == 1 and validation["verified_error"] < best:
            best = validation["verified_error"]
            rb.save(net, folder / "best.npz")
        rb.save(net, folder / "model.npz")
        checkpoint.write_log(folder / "log.csv", rows)
        if probes:
            checkpoint.write_log(folder / "landscape.csv", probes)
        checkpoint.save(folder / "checkpoint.npz", epoch, net.params, state, rows, probes, best)
        print(line(rows[-1], args))
    return rows


def train_epoch(net, state, train, epoch, args, pmap, folder):
    """The network and optimiser after one more epoch, the epoch's row of the log, and the probes of the landscape."""
    order = stream("order", args.seed, epoch).permutation(len(train.labels))
    steps, sums, now, probes = len(order) // args.batch, np.zeros(3), {}, []
    optimizer = partial(OPTIMIZERS[args.optimizer], **({} if args.adam_beta2 is None else {"beta2": args.adam_beta2}))
    for step in tqdm(range(steps), f"epoch {epoch}", leave=False, disable=None):
        now = schedule.at(epoch - 1 + step / steps, args)
        batch = order[step * args.batch:(step + 1) * args.batch]
        here = Minibatch(train, batch, [args.seed, epoch, step], now, args, pmap)
        loss, grads, wrong, unverified, regularisers = gradient(net, here)
        downhill = clip_norm(add_l1(add(grads, regularisers), net.params, args.l1), args.clip_norm)
        params, state = optimizer(net.params, downhill, state, now["rate"])
        if not all(map(math.isfinite, (loss, *(float(abs(w).max()) for w in params.values())))):
            last = folder / "checkpoint.npz"
            raise ValueError(f"the loss is no longer finite at epoch {epoch}, step {step + 1}; "
                             + (f"the last good checkpoint is {last}" if last.exists()
                                else "there is no checkpoint yet"))
        before, net = net, net.with_params(params)
        if args.probe and ((epoch - 1) * steps + step) % args.probe == 0:
            at = {"epoch": epoch, "step": step, "time": epoch - 1 + step / steps, "eps": now["eps"], "loss": loss}
            probes.append({**at, **probe(before, net, grads, here)})
        sums += loss, wrong, unverified
    seen = steps * args.batch
    row = {"epoch": epoch, **{k: round(v, 9) for k, v in now.items()}, "loss": sums[0] / steps,
           "standard_error": 100 * sums[1] / seen, "verified_error": 100 * sums[2] / seen}
    return net, state, row, probes


def errors(net, dataset, args, eps, methods, attack=False):
    """What trainers.evaluate finds on these images at this ε, by these methods."""
    kept = ("norm", "no_clip", "seed", "device", "threads", "shard", "data", "eta", "p", "q")
    more = {name: getattr(args, name) for name in kept} | ({} if attack else {"pgd_steps": 0})
    asked = Evaluation(eps=eps, method=methods, projections=args.projections or 0, **more)
    return evaluate(net, dataset, asked, quiet=not attack)


def line(row, args):
    """An epoch of the log for a person; the ε of the validation where it is not that of the training."""
    at = "" if args.train_eps in (None, args.eps) else f" at ε {row['validation_eps']:.3f}"
    return (f"epoch {row['epoch']:3d}/{args.epochs}  ε {row['eps']:.3f}  loss {row['loss']:.4f}  "
            f"train {row['standard_error']:5.2f} / {row['verified_error']:6.2f} %  "
            f"validation {row['validation_standard_error']:5.2f} / {row['validation_verified_error']:6.2f} %{at}  "
            f"{row['seconds']:.1f} s")


def finish(folder, args, xp, rows):
    """The one look at the test set, by the best network."""
    net = rb.load(folder / "best.npz")
    net = net.with_params({k: xp.asarray(v) for k, v in net.params.items()})
    by = certifiers(args.method, args.beta, args.objective)
    result = errors(net, data.load(args.data, "test", args.data_dir), args, args.eps, by, attack=True)
    result |= {"arguments": asdict(args), "versions": checkpoint.versions(args.device),
               "training_seconds": round(sum(row["seconds"] for row in rows), 1),
               "probe_seconds": round(sum(row["probe_seconds"] for row in rows), 1)}
    checkpoint.write_json(folder / "result.json", result)
    print(report(result))
    print(f"saved in {folder}")


if __name__ == "__main__":
    arguments.run(main)
