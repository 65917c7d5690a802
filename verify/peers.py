"""Other implementations of the same bounds held against refbound: what they compute, and how long they take.

    python -m verify.peers agreement [--models dense conv ...]
    python -m verify.peers speed [--models mlp small ...] [--methods ibp ...] [--sweep] [--out FILE] [--figure FILE]
    python -m verify.peers floors [--models small ...] [--methods ibp ...]

The others (pytorch/; pip install 'refbound[peers]') are a rendering in PyTorch, written as one would write it there,
and the published packages that are installed. The exit status of `agreement` is 1 if the rendering differs by more than
1e-9, or a package by what no known cause explains. `floors` has refbound alone: what each pass of a step would take at
the machine's own rates, and what it takes.
"""

import math
import sys
from dataclasses import dataclass
from importlib.metadata import version

from trainers.files.words import markdown
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .pytorch.agreement import BETA, KAPPA, NETWORKS, QUANTITIES, Unusable, of_published, of_rendering
from .pytorch.published import PEERS
from .speed import benchmark, floors

TOLERANCE = 1e-9


@dataclass
class Agreement:
    """Hold the PyTorch rendering and the installed implementations against refbound, in float64."""

    models: tuple = argument(("dense", "conv", "mlp", "small"), "networks, random parameters", choices=tuple(NETWORKS))
    n: int = argument(2, "inputs of each network")
    seed: int = argument(0, "of parameters, inputs and draws")


def agreement(args):
    """Prints a table for each implementation; 1 if one differs for no known reason."""
    if not PEERS["rendering"].installed():
        raise ValueError("agreement: needs PyTorch, which is not installed (pip install 'refbound[peers]')")
    arguments.at_least(args, n=1, seed=0)
    found = of_rendering(args)
    largest = max(value for row in found.values() for value in row.values())
    print(f"worst difference from refbound in float64, on {', '.join(args.models)}, {args.n} inputs each, "
          f"seed {args.seed}: l∞ clipped and not, l2 and l1\n")
    print(f"rendering, torch {version('torch')}, β = {BETA:g}, κ = {KAPPA:g}\n")
    print(markdown(("method", *QUANTITIES), [(variant, *cells(row)) for variant, row in found.items()], QUANTITIES))
    wrong = [f"the rendering differs by {largest:.1e}, expected at most {TOLERANCE:g}"] * (largest > TOLERANCE)
    for name, peer in PEERS.items():
        if name != "rendering":
            table, unexplained = published_table(name, peer, args)
            print("\n" + table)
            wrong += [f"{name} differs in {row} by more than {TOLERANCE:g}, for no known reason" for row in unexplained]
    print(*wrong, sep="\n", end="\n" * bool(wrong), file=sys.stderr)
    return 1 if wrong else 0


def published_table(name, peer, args):
    """(the table of one published implementation, or why there is none; its rows that no known cause explains)."""
    wanted = f"with it would be compared: {', '.join(peer.differs)}"
    if not peer.installed():
        return f"{name}: not installed; {wanted}", []
    try:
        found = of_published(peer, args)
    except Unusable as error:
        return f"{name} {version(peer.package)}: cannot be used here ({error}); {wanted}", []
    rows, unexplained = [], []
    for (method, norm), row in found.items():
        apart = {name for name, value in row.items() if value > TOLERANCE}
        known = [peer.differs[method]] + [peer.differs_off_box] * (norm != math.inf)
        title = f"{method}, l{'∞' if norm == math.inf else norm}"
        why = "agrees" if not apart else next((why.text for why in known if apart <= {*why.quantities}), None)
        unexplained += [title] * (why is None)
        rows.append((title, *cells(row), why or "UNEXPLAINED"))
    skipped = "" if peer.convolutions else ", without the networks that have convolutions"
    table = markdown(("method", *QUANTITIES, "why"), rows, QUANTITIES)
    return f"{name} {version(peer.package)}{skipped}\n\n{table}", unexplained


def cells(row):
    """The differences as text, – where there is none."""
    return [f"{row[name]:.0e}" if name in row else "–" for name in QUANTITIES]


COMMANDS = {"agreement": (Agreement, agreement), "speed": (benchmark.Args, benchmark.speed),
            "floors": (floors.Args, floors.floors)}


def main(argv=None):
    """One of the commands; the exit status, 1 if an implementation disagrees for no known reason."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if argv[:1] == [] or argv[0] not in COMMANDS:
        raise ValueError(f"verify.peers: expected one of {', '.join(COMMANDS)}, got {' '.join(argv[:1]) or 'nothing'}")
    cls, command = COMMANDS[argv[0]]
    return command(arguments.parse(cls, f"verify.peers {argv[0]}", argv[1:]))


if __name__ == "__main__":
    arguments.run(main)
