"""Published errors on MNIST (l∞), in percent, that trainers/table1.py prints beside ours. None is printed as –.

An entry is (standard, PGD, verified). Numbers are here only if they were read in the source beside them; accuracies are turned
into errors. The paper's own Table 1 is not filled in.
"""

LARGER = "dm_large, on GPUs"  # the paper's MNIST network: "IBP_large" in the release's config/mnist.json

# Table 1 of the paper: column -> ε -> errors, where they are known; CBP is in its Section 7, on CIFAR-10 alone
PAPER = {"IBP": {}, "CROWN-IBP (β=1), CBP 1→1": {}, "CAP": {}, "OURS": {}, "CBP 1→0": {}}


SOURCES = {
    "a": "the leaderboard of Li et al., \"SoK: Certified Robustness for Deep Neural Networks\" "
         "(sokcertifiedrobustness.github.io, _data/board.yml): certified accuracies",
    "b": "its earlier version (github.com/AI-secure/Certified-Robustness-SoK-Oldver, README.md): certified accuracies",
    "c": "Gowal et al., arXiv 1810.12715, abstract: the best verified errors before theirs",
    "d": "github.com/deepmind/interval-bound-propagation, README.md: the released models that it names for these ε, "
         "PGD of 20 steps, verified by ibp",
}

LITERATURE = (  # Table 2: method, its network, ε -> errors, letters of SOURCES
    # a: "Training for faster adversarial robustness verification via inducing ReLU stability", 80.68 % at 0.3 (c: 19.32 %)
    ("RS (Xiao et al. 2019)", "", {0.3: (None, None, 19.32)}, "a, c"),
    # b: "Differentiable abstract interpretation …", 96.6 % at 0.1, "only evaluated from 500 samples"
    ("DiffAI (Mirman et al. 2018)", "big CNN, 500 images", {0.1: (None, None, 3.4)}, "b"),
    # a: "Adversarial training and provable defenses: bridging the gap", 85.7 % at 0.3
    ("COLT (Balunović, Vechev 2020)", "", {0.3: (None, None, 14.3)}, "a"),
    # b: "Provable defenses against adversarial examples via the convex outer adversarial polytope", 94.18 % at 0.1
    ("CAP (Wong, Kolter 2018)", "CNN", {0.1: (None, None, 5.82)}, "b"),
    # b: "Scaling provable adversarial defenses", large CNN 96.33 % at 0.1 (c: 3.67 %), small CNN 56.90 % at 0.3
    ("CAP (Wong et al. 2018)", "large CNN; at 0.3 small", {0.1: (None, None, 3.67), 0.3: (None, None, 43.1)}, "b, c"),
    # d: "ibp/mnist_0.2_medium" at 0.1, "ibp/mnist_0.4_large_200" at the others
    ("IBP (Gowal et al. 2018)", "large; at 0.1 medium",
     {0.1: (1.06, 2.01, 2.92), 0.2: (1.66, 2.94, 4.53), 0.3: (1.66, 3.97, 8.21), 0.4: (1.66, 5.44, 15.01)}, "d"),
    # d: "crown-ibp/mnist_0.2_large" at 0.1, "crown-ibp/mnist_0.4_large" at the others
    ("CROWN-IBP (Zhang et al. 2020)", "large",
     {0.1: (0.97, 1.66, 2.25), 0.2: (1.62, 2.72, 3.87), 0.3: (1.62, 3.62, 6.68), 0.4: (1.62, 5.05, 12.49)}, "d"),
)
