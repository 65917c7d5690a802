"""Published errors (l∞), in percent, that trainers/table1.py prints beside ours. None is printed as –.

An entry is (standard, PGD, verified). Every number was read in the source beside it. The paper gives errors throughout;
accuracies of other sources are turned into errors. The literature is the paper's where it has a number.
"""

# The paper's networks: its release's config/mnist.json, cifar10.json and svhn.json ("IBP_large", "model_cnn_4layer").
# It has no file for the deep network of CIFAR-10, which is taken to be "IBP_large" too
NETWORKS = {"mnist": "dm_large", "cifar10": "dm_medium (shallow) and, as we take it, dm_large (deep)",
            "svhn": "dm_large"}

# The paper's Table 1: data -> part -> ε -> errors by IBP, CROWN-IBP (β=1), CAP and OURS, as its columns. It has no CAP
# at 0.4 (Section 6: it could not be trained) and none of the deep network. The fifth is CBP 1→0, of Section 7's second
# paragraph, at 8/255 quoted there from Zhang et al. (2020). Row 16/255 has CAP: it is taken as the shallow network's
PAPER = {
    "mnist": {"published": {
        0.1: ((1.18, 2.16, 3.52), (1.07, 1.69, 2.10), (0.80, 1.73, 3.19), (1.09, 1.77, 2.36), None),
        0.2: ((2.00, 3.29, 6.31), (2.99, 5.50, 7.97), (3.22, 6.72, 11.06), (1.70, 3.44, 4.34), None),
        0.3: ((3.50, 5.85, 10.45), (5.73, 10.76, 16.28), (19.19, 35.84, 47.85), (3.49, 5.59, 9.79), None),
        0.4: ((3.50, 7.30, 17.96), (5.73, 14.63, 23.80), None, (3.49, 6.77, 15.42), None)}},
    "cifar10": {
        "published, shallow": {
            2/255: ((37.98, 49.40, 55.39), (32.48, 42.77, 50.15), (28.80, 38.95, 48.50), (31.49, 42.73, 49.42), None),
            4/255: ((46.42, 57.42, 62.80), (45.56, 58.24, 64.47), (40.78, 52.62, 61.88), (42.53, 55.55, 61.52), None),
            6/255: ((52.84, 63.92, 68.79), (54.72, 65.28, 71.04), (49.20, 60.85, 69.03), (50.19, 61.88, 66.90), None),
            8/255: ((55.71, 66.79, 70.95), (61.37, 70.66, 75.37), (56.77, 66.78, 73.02), (56.01, 66.17, 69.70), None),
            16/255: ((67.10, 75.12, 78.26), (76.65, 81.90, 84.42), (75.11, 80.67, 82.07), (65.93, 75.39, 77.87), None)},
        "published, deep": {
            2/255: ((39.17, 48.80, 55.48), (29.02, 40.17, 46.22), None, (31.48, 42.52, 47.89), (35.83, 46.21, 52.26)),
            8/255: ((59.53, 65.98, 70.86), (59.43, 65.79, 73.34), None, (50.78, 62.58, 68.44), (54.02, 65.42, 66.94))}},
    # printed as CIFAR-10's last row; the text of Section 6 says 0.001
    "svhn": {"published": {
        0.01: ((19.91, 34.12, 43.83), (17.25, 30.84, 39.88), (16.88, 30.16, 37.09), (16.41, 30.43, 39.44), None)}},
}

SOURCES = {
    "a": "the paper's Table 2, which has no PGD errors and some of one decimal; RS and COLT by an exact verifier",
    "b": "an earlier leaderboard of Li et al., \"SoK: Certified Robustness for Deep Neural Networks\" "
         "(github.com/AI-secure/Certified-Robustness-SoK-Oldver, README.md): certified accuracies",
    "c": "Gowal et al., arXiv 1810.12715, abstract: the best verified errors before theirs",
    "d": "github.com/deepmind/interval-bound-propagation, README.md: the released models that it names for these ε, "
         "PGD of 20 steps, verified by ibp",
    "e": "a later leaderboard of Li et al. (github.com/sokcertifiedrobustness/sokcertifiedrobustness.github.io, "
         "_data/board.yml): certified accuracies",
    "f": "github.com/ADA-research/CTRAIN, papers/rethinking_evaluation_paradigms/eval/plot.py: accuracies as published "
         "by the authors, and by Mao et al. 2025 (CTBench)",
}

LITERATURE = {  # Table 2: data -> method, its network, ε -> errors, letters of SOURCES
    "mnist": (
        ("RS (Xiao et al. 2019)", "", {0.1: (1.32, None, 4.87), 0.3: (2.67, None, 19.32)}, "a"),
        ("DiffAI (Mirman et al. 2018)", "", {0.1: (1.3, None, 4.2), 0.3: (3.4, None, 10.7)}, "a"),
        ("COLT (Balunović, Vechev 2020)", "", {0.1: (0.8, None, 2.9), 0.3: (2.7, None, 14.3)}, "a"),
        ("OURS, the paper's", "", {0.1: (1.09, None, 2.28), 0.3: (2.42, None, 7.84)}, "a"),  # not those of its Table 1
        # b: "Provable defenses against adversarial examples via the convex outer adversarial polytope", 94.18 % at 0.1
        ("CAP (Wong, Kolter 2018)", "CNN", {0.1: (None, None, 5.82)}, "b"),
        # b: "Scaling provable adversarial defenses", large CNN 96.33 % at 0.1 (c: 3.67 %), small CNN 56.90 % at 0.3
        ("CAP (Wong et al. 2018)", "large CNN; at 0.3 small",
         {0.1: (None, None, 3.67), 0.3: (None, None, 43.1)}, "b, c"),
        # d: "ibp/mnist_0.2_medium" at 0.1, "ibp/mnist_0.4_large_200" at the others
        ("IBP (Gowal et al. 2018)", "large; at 0.1 medium",
         {0.1: (1.06, 2.01, 2.92), 0.2: (1.66, 2.94, 4.53), 0.3: (1.66, 3.97, 8.21), 0.4: (1.66, 5.44, 15.01)}, "d"),
        # d: "crown-ibp/mnist_0.2_large" at 0.1, "crown-ibp/mnist_0.4_large" at the others
        ("CROWN-IBP (Zhang et al. 2020)", "large",
         {0.1: (0.97, 1.66, 2.25), 0.2: (1.62, 2.72, 3.87), 0.3: (1.62, 3.62, 6.68), 0.4: (1.62, 5.05, 12.49)}, "d"),
        # later objectives, by exact verifiers. e: SABR 98.22 and 93.40 %, CC-IBP 98.43 % (not its standard accuracy)
        # f: SABR (98.75, ...): its certified 92.98 is from CROWN-IBP's line above: e's is taken; MTL-IBP (98.80, 93.62)
        ("SABR (Müller et al. 2023)", "CNN7", {0.1: (None, None, 1.78), 0.3: (1.25, None, 6.60)}, "e, f"),
        ("CC-IBP (De Palma et al. 2024)", "CNN7", {0.1: (None, None, 1.57)}, "e"),
        ("MTL-IBP (De Palma et al. 2024)", "CNN7", {0.3: (1.20, None, 6.38)}, "f"),
        # f: IBP (98.54, 93.80), CROWN-IBP (98.48, 93.90), SABR (98.66, 93.68), MTL-IBP (98.74, 93.90)
        ("IBP, by CTBench", "CNN7", {0.3: (1.46, None, 6.20)}, "f"),
        ("CROWN-IBP, by CTBench", "CNN7", {0.3: (1.52, None, 6.10)}, "f"),
        ("SABR, by CTBench", "CNN7", {0.3: (1.34, None, 6.32)}, "f"),
        ("MTL-IBP, by CTBench", "CNN7", {0.3: (1.26, None, 6.10)}, "f"),
    ),
    "cifar10": (
        ("RS (Xiao et al. 2019)", "", {2/255: (38.88, None, 54.07), 8/255: (59.55, None, 79.72)}, "a"),
        ("DiffAI (Mirman et al. 2018)", "", {2/255: (37.7, None, 54.5), 8/255: (53.8, None, 72.8)}, "a"),
        ("COLT (Balunović, Vechev 2020)", "", {2/255: (21.6, None, 39.5), 8/255: (48.3, None, 72.5)}, "a"),
        ("OURS, the paper's", "deep", {2/255: (31.48, None, 47.89), 8/255: (50.78, None, 68.44)}, "a"),
    ),
}
