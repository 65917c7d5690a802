"""How a method looks in every figure: one colour, and for print in grey a line style and a marker as well."""

COLOURS = {  # Okabe and Ito's
    "ibp": "#0072B2", "crown-ibp": "#E69F00", "cap-ibp": "#56B4E9", "cap": "#009E73", "crown": "#D55E00",
    "random": "#999999", "sparse": "#F0E442", "one-step": "#CC79A7", "alpha": "#000000"}
DASHES = {
    "ibp": (0, ()), "crown-ibp": (0, (5, 2)), "cap-ibp": (0, (6, 2, 1, 2)), "cap": (0, (3, 2)), "crown": (0, (8, 2)),
    "random": (0, (1, 1.5)), "sparse": (0, ()), "one-step": (0, ()), "alpha": (0, (1, 1))}
MARKERS = {"ibp": "o", "crown-ibp": "s", "cap-ibp": "^", "cap": "v", "crown": "D", "random": "X", "sparse": "d",
           "one-step": "*", "alpha": "P"}
