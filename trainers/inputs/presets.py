"""Settings as data: of the paper's training runs (TRAINING), and of the studies that trainers/study.py runs (STUDIES).

Beside each of the paper's settings stands where it comes from: a file of the code released with the paper
(github.com/sungyoon-lee/LossLandscapeMatters; config/*.json over defaults.json). What is not listed is our default, as
no source was found for it or ours differs on purpose: 5,000 training images are held out to choose the epoch (the
release trains on all, and chooses by the test set); the last, smaller minibatch is left out; seeds are ours. Objectives
after the paper have the settings of their own authors' code, and one those of a later benchmark's (Mao et al. 2025).
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

OURS = {                        # in all three config files, if nothing else is said
    "method": "one-step",       # "bound_type": "crown-interval", "bound_opts": {"ours": true}
    # our default η, 2: train.py, Train_calloss_ours: one step of 2 times the sign, then clipped to [0, 1]
    "beta": (1.0, 1.0),         # "final-beta": 1.0; "start_beta": 1.0 in defaults.json
    "kappa": (0.0, 0.0),        # "final-kappa": 0.0; "start_kappa": 0.0 in defaults.json
    "ibp_epochs": 0.0,
    "norm": "inf",              # "norm": "inf"
    "no_clip": True,            # "bounded_input": false; its attack is clipped to [0, 1] all the same, ours is not then
    "ramp_shape": "linear",     # "schedule_type": "linear" in defaults.json
    "optimizer": "adam",        # "optimizer": "adam", "weight_decay": 0.0
}

CIFAR10 = {                     # config/cifar10.json
    **OURS,
    "data": "cifar10",          # "dataset": "cifar", "train_random_transform": true, "normalize_input": false
    "eps": 0.0313725,           # "epsilon", "train_epsilon": 8/255; README.md: 0.007843 as well, --eps 0.007843 here
    "epochs": 400,              # "epochs"
    "warmup": 20,               # "schedule_start"; Section 4.1 has 10 at 8/255, and then a ramp of 120
    "ramp": 240,                # "schedule_length": 241, less 1 in train.py (EpsilonScheduler)
    "rate": 3e-4,               # "lr"
    "milestones": tuple(range(270, 400, 10)),  # "lr_decay_step": 10 in defaults.json, from the ramp's end (train.py)
    "factor": 0.5,              # "lr_decay_factor": 0.5 in defaults.json
    "batch": 128,               # "batch_size"
}

# The objectives that came after the paper, at ε = 0.1 on MNIST. Their CNN7 with batch normalisation is `small` here,
# and what belongs to it is left out: its initialisation, and a second penalty in the ramp (Shi et al. 2021).
AFTER = {  # README.md of all three: github.com/eth-sri/sabr, alessandrodepalma/expressive-losses, kanaksad/CTBench
    "method": "ibp",
    "model": "small",           # ours
    "crop": 0,                  # ours: images are not moved
    "eps": 0.1,
    "epochs": 70,               # "--epochs 70", "--num-epochs=70", "--n-epochs 70"
    "ramp": 20,                 # "--end_epoch_eps 22" from 2, "length=20", "--end-epoch-eps 20" from 0
    "ramp_shape": "smooth",     # SmoothedScheduler (argparser.py of the second)
    "rate": 5e-4,               # "--lr 0.0005" in all
    "milestones": (50, 60),     # "--custom_schedule 50 60", "--lr-decay-milestones=50,60", "--lr-milestones 50 60"
    "factor": 0.2,              # "lr_decay_factor", "lr-decay-factor": 0.2 by default in the first two
    "batch": 256,               # "--bs 256", "batch_size": 256, "--train-batch 256"
}

EXPRESSIVE = {                  # README.md of alessandrodepalma/expressive-losses, "MNIST - 0.1"
    **AFTER,
    "warmup": 0,                # "start=1": its first epoch is 1
    "train_eps": 0.2,           # "--train-eps-mul 2.0"
    "attack_steps": 1,          # "--train_att_n_steps 1", of 10 ε: to the ball's edge, as one of 2 ε is
    "clip_norm": 10.0,          # "--grad-norm": 10 by default
}

TRAINING = {
    "sabr": {                   # README.md of eth-sri/sabr, "MNIST 0.1", over the defaults of src/parse_args.py
        **AFTER,
        "objective": "sabr",
        "lam": 0.4,             # "--lambda_ratio 0.4"
        "warmup": 2,            # "start_epoch_eps": 2; clean loss alone before ("kappa_start": 1, "end_epoch_kappa": 2)
        "ramp_shape": "linear",  # ASSUMED: "eps_scheduler_mode": "exp" has no counterpart here
        "attack_steps": 8,      # "adv_start_steps": 8, of ε/2 falling to ε/2000, after 10 random ones; 8 of ε/4 here
        "l1": 1e-5,             # "--l1 1e-5", of the biases too
    },
    "mtl-ibp": {**EXPRESSIVE, "objective": "mtl-ibp", "alpha": 0.01, "l1": 1e-5},  # --mtlibp_coeff 1e-2 --l1_coeff 1e-5
    "cc-ibp": {**EXPRESSIVE, "objective": "cc-ibp", "alpha": 0.1, "l1": 2e-6},     # --ccibp_coeff 0.1 --l1_coeff 2e-6
    "exp-ibp": {  # that README has none on MNIST: scripts/examples/mnist/0.1/train_expibp.sh of kanaksad/CTBench
        **EXPRESSIVE,           # "--train-eps 0.2", "--grad-clip 10"
        "objective": "exp-ibp",
        "alpha": 0.02,          # "ibp_coef=0.02"
        "kappa": (0.3, 0.3),    # "robust_weight=0.7"
        "attack_steps": 10,     # "train_steps=10", the best of 3 restarts; one here
        "l1": 1e-5,             # "L1=1e-5"
    },
    "paper-mnist": {            # config/mnist.json
        **OURS,
        "data": "mnist",        # "dataset"
        "crop": 0,              # none of its settings moves images
        "model": "dm_large",    # "model_class": "IBP_large", "linear_size": 512
        "eps": 0.4,             # "epsilon", "train_epsilon"
        "epochs": 200,          # "epochs"
        "warmup": 10,           # "schedule_start"
        "ramp": 49,             # "schedule_length": 50, less 1 in train.py (EpsilonScheduler)
        "rate": 5e-4,           # "lr"
        "milestones": (130, 190),  # "lr_decay_milestones"
        "factor": 0.1,          # "lr_decay_factor"
        "batch": 80,            # "batch_size"
    },
    # "model_class": "model_cnn_4layer", "width": 8, "linear_size": 512
    "paper-cifar10-shallow": {**CIFAR10, "model": "dm_medium"},
    # no config file of it is released: as the shallow one, but for the network,
    # ASSUMED: IBP_large, the deepest network that the release's config files name
    "paper-cifar10-deep": {**CIFAR10, "model": "dm_large"},
    "paper-svhn": {             # config/svhn.json; its "normalize_input": true has no counterpart here
        **OURS,
        "data": "svhn",         # "dataset", "train_random_transform": true
        "model": "dm_large",    # "model_class": "IBP_large", "linear_size": 512
        "eps": 0.01,            # "epsilon", "train_epsilon"; of pixels in [0, 1], train.py divides by their deviation
        "epochs": 200,          # "epochs"
        "warmup": 10,           # "schedule_start"
        "ramp": 120,            # "schedule_length": 121, less 1 in train.py (EpsilonScheduler)
        "rate": 3e-4,           # "lr"
        "milestones": tuple(range(140, 200, 10)),  # "lr_decay_step": 10 in defaults.json, from the end of the ramp
        "factor": 0.5,          # "lr_decay_factor": 0.5 in defaults.json
        "batch": 70,            # "batch_size"
    },
}

METHODS = {  # what a study calls a run -> its options
    "ibp": {"method": "ibp"},
    "crown-ibp": {"method": "crown-ibp"},
    "cap": {"method": "cap", "projections": 50},  # 50 as "convex-proj" in the release's defaults.json; verified exactly
    "one-step": {"method": "one-step"},
    "cbp-1-0": {"method": "crown-ibp", "beta": (1.0, 0.0)},
    "one-step-1-0.1": {"method": "one-step", "beta": (1.0, 0.1)},
    "cap-ibp": {"method": "cap-ibp"},
    "random": {"method": "random"},
    **{f"sparse-{p:g}-{q:g}": {"method": "sparse", "p": p, "q": q}
       for p, q in ((0.0, 0.0), (0.0, 0.5), (0.0, 1.0), (0.5, 1.0), (1.0, 1.0))},
}

OBJECTIVES = {  # and those after the paper, by ibp's bound, or by one-step's in the last epochs
    **{objective: {"method": "ibp", "objective": objective, "attack_steps": 1}
       for objective in ("sabr", "mtl-ibp", "cc-ibp", "exp-ibp")},
    **{f"{objective}-one-step": {"method": "one-step", "objective": objective, "attack_steps": 1}
       for objective in ("sabr", "mtl-ibp")},
}

# as usual, and for interval bounds
STARTS = {"": {}, "-init": {"init": "ibp"}, "-init-regularise": {"init": "ibp", "regularise": 0.5}}
STARTED = {method + start: {**METHODS[method], **options}
           for method in ("ibp", "crown-ibp", "one-step") for start, options in STARTS.items()}

SEARCHED = {f"{method}-{rate:g}-{ramp:g}": {**METHODS[method], "rate": rate, "ramp": ramp, "probe": 0}
            for method in ("ibp", "crown-ibp", "one-step", "cbp-1-0")
            for rate in (1e-3, 2e-3, 4e-3, 8e-3) for ramp in (1.25, 2.75)}
# of each method's eight the one with the least verified error in validation
CHOSEN = ("ibp-0.004-2.75", "crown-ibp-0.008-1.25", "one-step-0.004-1.25", "cbp-1-0-0.004-2.75")


def schedule(epochs):
    """One shape for every study, 6 epochs long, stretched to so many; all epochs by the run's own method."""
    return {"epochs": epochs, "ibp_epochs": 0.0, "batch": 128, "factor": 0.2, "probe": 100,
            **stretched({"warmup": 0.25, "ramp": 2.75, "milestones": (4.5, 5.5)}, epochs / 6)}


def stretched(options, by):
    """Options with every time in them so many times as long."""
    times = {"ibp_epochs", "warmup", "ramp", "milestones"}
    return {name: value if name not in times else round(value * by, 3) if name != "milestones" else
            tuple(round(time * by, 3) for time in value) for name, value in options.items()}


EQUAL = dict.fromkeys(("ibp", "crown-ibp", "one-step", "cbp-1-0"), (0, 1, 2))  # equal epochs of one schedule at every ε
WITH_CAP = {**EQUAL, "cap": (0,)}  # which has 4 epochs, and was not run above 0.2
MIXED = {**EQUAL, "one-step-1-0.1": (0,)}  # OURS with β from 1 to 0.1
# at large ε, all methods; this, SLOWER and SHORT were chosen by ibp's errors in training and validation
FASTER = {"adam_beta2": 0.99}
SLOWER = {"rate": 1e-3, "warmup": 0.5, "ramp": 8.0, "milestones": (46.0, 56.0)}
SHORT = {"warmup": 0.5, "ramp": 8.0, "milestones": (23.0, 28.0)}
# warm-up and ramp of 20 epochs, milestones of SLOWER; for CBP 1→0 at each ε the better of this and SLOWER, by images
# held out
LATE = {"warmup": 0.833, "ramp": 9.167, "milestones": (46.0, 56.0)}
BY_IBP = {  # method -> ε -> options; searched: only mtl-ibp's α, 3 and 2 trials of 10 or 20 epochs, by held-out images
    "ibp": {0.1: {}, 0.3: {}},
    "sabr": {0.1: {"lam": 0.5}, 0.3: {"lam": 0.8}},
    "mtl-ibp": {0.1: {"alpha": 0.3}, 0.3: {"alpha": 0.5}},
    "cc-ibp": {0.1: {"alpha": 0.3}, 0.3: {"alpha": 0.7}},
    "exp-ibp": {0.1: {"alpha": 0.3}, 0.3: {"alpha": 0.5}},
}
LAST = {"ibp_epochs": 20.0, "milestones": (22.0, 23.3)}  # of 24 epochs
BY_ONE_STEP = {
    "sabr-one-step": {0.1: {"lam": 0.5, **LAST}},
    "mtl-ibp-one-step": {0.1: {"alpha": 0.3, **LAST}, 0.3: {"alpha": 0.5, **LAST}},
}


class Study(NamedTuple):
    """The runs of a study, and how they are trained."""

    model: str
    seeds: dict           # {ε: {method: seeds}}
    epochs: object        # a number for all runs, or {ε: {method: epochs}}
    differing: dict = {}  # {(method, ε): what differs from `schedule`}
    crop: dict = {}       # {ε: by how many pixels images are moved at random, where training would overfit without}


def starts(model, eps, methods):
    """A study of the starts: 6 epochs of each of {method: seeds}."""
    seeds = {method + start: of for method, of in methods.items() for start in STARTS}
    return Study(model, {eps: seeds}, 6, {(name, eps): {"probe": 0, **(FASTER if eps > 0.2 else {})} for name in seeds})


STUDIES = {
    "reduced": Study("mlp", {0.1: dict.fromkeys(METHODS, (0,))}, 6),
    "reduced-0.3": Study("mlp", {0.3: dict.fromkeys(METHODS, (0,))}, 6),
    "small": Study(
        "small", {0.1: WITH_CAP, 0.2: WITH_CAP, 0.3: MIXED, 0.4: MIXED},
        epochs={eps: {**dict.fromkeys(MIXED, 20), "cap": 4} for eps in (0.1, 0.2, 0.3, 0.4)},
        differing={(method, eps): FASTER for method in MIXED for eps in (0.3, 0.4)}, crop={0.1: 1, 0.2: 1}),
    # more epochs; OURS at 0.2 to a larger ε, beside IBP, and at 0.3 by what is best for IBP; exp-ibp to a larger ε
    "longer": Study(
        "small", {0.1: {"ibp": (0, 1, 2), "one-step": (0,), "mtl-ibp": (0, 1, 2), "exp-ibp": (0, 1, 2)},
                  0.2: {"ibp": (0, 1, 2), "one-step": (0,)},
                  0.3: {"ibp": (0, 1, 2), "one-step": (0,), "cbp-1-0": (0,), "mtl-ibp": (0,)},
                  0.4: {"ibp": (0, 1, 2), "cbp-1-0": (0,)}},
        epochs={0.1: {"ibp": 60, "one-step": 60, "mtl-ibp": 60, "exp-ibp": 30}, 0.2: {"ibp": 60, "one-step": 36},
                0.3: {"ibp": 60, "one-step": 36, "cbp-1-0": 60, "mtl-ibp": 60}, 0.4: {"ibp": 30, "cbp-1-0": 60}},
        differing={
            ("ibp", 0.1): SLOWER, ("ibp", 0.2): {**SLOWER, "train_eps": 0.25}, ("one-step", 0.2): {"train_eps": 0.25},
            ("ibp", 0.3): {**SLOWER, **FASTER}, ("one-step", 0.3): {**stretched(SLOWER, 36 / 60), **FASTER},
            ("ibp", 0.4): {**SHORT, **FASTER}, ("cbp-1-0", 0.3): {**LATE, **FASTER},
            ("cbp-1-0", 0.4): {**SLOWER, **FASTER},
            ("mtl-ibp", 0.1): {**SLOWER, **BY_IBP["mtl-ibp"][0.1], "probe": 0},
            ("exp-ibp", 0.1): {**SHORT, "rate": 1e-3, "train_eps": 0.15, **BY_IBP["exp-ibp"][0.1], "probe": 0},
            ("mtl-ibp", 0.3): {**SLOWER, **FASTER, **BY_IBP["mtl-ibp"][0.3], "probe": 0}}, crop={0.1: 1}),
    # the objectives after the paper, beside IBP in as many epochs; alike but for α, λ, and the last epochs of one-step
    "objectives": Study(
        "small", {0.1: dict.fromkeys((*BY_IBP, *BY_ONE_STEP), (0, 1, 2)),
                  0.3: dict.fromkeys((*BY_IBP, "mtl-ibp-one-step"), (0, 1, 2))},
        epochs={eps: {**dict.fromkeys(BY_IBP, 30), **dict.fromkeys(BY_ONE_STEP, 24)} for eps in (0.1, 0.3)},
        differing={(method, eps): {**SHORT, "rate": 1e-3, "probe": 0, **(FASTER if eps == 0.3 else {}), **options}
                   for method, of in {**BY_IBP, **BY_ONE_STEP}.items() for eps, options in of.items()}, crop={0.1: 1}),
    # where the start for interval bounds helps
    "start-mlp": starts("mlp", 0.1, dict.fromkeys(("ibp", "crown-ibp", "one-step"), (0, 1, 2))),
    "start-small": starts("small", 0.3, {"ibp": (0, 1, 2), "crown-ibp": (0,)}),
    "start-wide": starts("wide", 0.3, {"ibp": (0,)}),
    # the same small search of rate and ramp for each method; what it chose has three seeds
    "search": Study("mlp", {0.1: {name: (0, 1, 2) if name in CHOSEN else (0,) for name in SEARCHED}}, 6),
    "search-small": Study("small", {0.3: {name: (0,) for name in SEARCHED if "-0.001-" not in name}}, 6,
                          differing={(name, 0.3): FASTER for name in SEARCHED}),
}


def runs(study, only=(), epochs=None):
    """{name: options} of a study: those that a pattern names (as "ibp" or "ibp-*-0.1-*"), if there are patterns."""
    chosen, used = {}, set()
    cells = [(seed, eps, method) for eps, cell in study.seeds.items()
             for method, seeds in cell.items() for seed in seeds]
    for seed, eps, method in sorted(cells, key=lambda cell: cell[0]):
        name = f"{method}-{study.model}-{eps:g}-{seed}"
        named = {pattern for pattern in only if pattern == method or fnmatchcase(name, pattern)}
        used |= named
        if named or not only:
            usual = study.epochs if isinstance(study.epochs, int) else study.epochs[eps][method]
            options = {**METHODS, **OBJECTIVES, **STARTED, **SEARCHED}[method] | study.differing.get((method, eps), {})
            chosen[name] = {"model": study.model, "eps": eps, "seed": seed, **schedule(epochs or usual),
                            **stretched(options, (epochs or usual) / usual), "crop": study.crop.get(eps, 0)}
    if unused := [pattern for pattern in only if pattern not in used]:
        methods = ", ".join(dict.fromkeys(method for *_, method in cells))
        raise ValueError(f"--only {' '.join(unused)}: names no run; expected one of {methods}, or a run's name")
    return chosen
