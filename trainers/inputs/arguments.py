"""Command lines from dataclasses: a field is an option, its metadata the line of help, its default the default."""

import argparse
import dataclasses
import math
import os
import sys
from fractions import Fraction
from pathlib import Path

PICTURES, NETWORKS = (".png", ".pdf", ".svg"), (".npz", ".onnx", ".pt", ".pth")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def argument(default, text, **more):
    """A dataclass field that is given on the command line: --name, or by its place with positional=True."""
    if isinstance(default, (tuple, list)):
        default, more = tuple(default), {"nargs": "+" if default else "*", **more}
    return dataclasses.field(default=default, metadata={"help": text, **more})


def parse(cls, prog, argv=None, presets=None):
    """An instance of the dataclass from the command line; --help shows every field with its default.

    presets  {name: {field: value}}: --preset NAME puts these in the defaults' place, so options given override them
    """
    parser = Parser(prog=f"python -m {prog}", description=cls.__doc__)
    for field in dataclasses.fields(cls):
        _add(parser, field, opposites=bool(presets))
    if presets:
        parser.add_argument("--preset", choices=tuple(presets), default=argparse.SUPPRESS,
                            help="settings of trainers/inputs/presets.py; options given beside it override them")
    given = vars(parser.parse_args(argv))
    if presets and "preset" in given:
        parser.set_defaults(**presets[given["preset"]])
        given = vars(parser.parse_args(argv))
        del given["preset"]
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def _add(parser, field, opposites):
    """A field as an option; with `opposites`, or a default of None, a switch can be turned off (--no-clip, --clip)."""
    more, name, default = dict(field.metadata), "--" + field.name.replace("_", "-"), field.default
    kind = more.pop("type", type(default))
    if kind is tuple:
        kind = type(default[0]) if default else float
    kind = number if kind is float else kind
    if more.pop("positional", False):
        parser.add_argument(field.name, type=kind, **more)
    elif kind is bool:
        parser.add_argument(name, action="store_true", default=default, **more)
        if opposites or default is None:
            off = "--" + (name[5:] if name.startswith("--no-") else "no-" + name[2:])
            parser.add_argument(off, dest=field.name, action="store_false", default=default, help=f"not {name}")
    else:
        if default not in (None, "", ()):
            more["help"] += f" (default: {default})"
        parser.add_argument(name, type=kind, default=default, **more)


def at_least(args, **least):
    """ValueError unless every one of these arguments, if it was given, is finite and at least so much."""
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and not bound <= value < math.inf:
            expected = "a finite number" if value == math.inf else f"at least {bound}"
            raise ValueError(f"--{name.replace('_', '-')}: expected {expected}, got {value}")


def in_pixels(args):
    """ValueError for an l∞ radius above 1, as is an ε in 255ths."""
    for name in ("eps", "train_eps"):
        given = getattr(args, name, None)
        if given is not None and (value := number(str(given))) > 1 and getattr(args, "norm", "inf") == "inf":
            raise ValueError(f"--{name.replace('_', '-')}: expected at most 1, as pixels are in [0, 1], got {value:g}")


def number(text):
    """A number, or a fraction such as 8/255."""
    try:
        return float(Fraction(text) if "/" in text else text)
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"expected a number or a fraction such as 8/255, got {text!r}") from None


def digits(text):
    """A number or a fraction as it was written, for arithmetic without rounding."""
    number(text)
    return text


def file(text):
    """The name of a file that can be written, or the reason why not: said before any work is done for it."""
    path = Path(text)
    if path.exists() and not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise argparse.ArgumentTypeError(f"{text}: expected the name of a file, found {found}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: the folder {path.parent} cannot be written to")
    return text


def results(text):
    """The same of a file of results, which is not to take the place of a network."""
    if Path(text).suffix.lower() in NETWORKS:
        raise argparse.ArgumentTypeError(f"{text}: expected a name for results, got that of a network")
    return file(text)


def folder(text):
    """The name of a folder that is there or can be made, or why not."""
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: expected the name of a folder, found a file")
    return text


def picture(text):
    """The same of a picture's file."""
    if Path(text).suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in {', '.join(PICTURES)}")
    return file(text)


def run(main):
    """main() as a command: what cannot be done is one line on stderr and exit status 1."""
    sys.stdout.reconfigure(line_buffering=True, errors="replace")  # a line is there once printed, and on any terminal
    sys.stderr.reconfigure(errors="replace")
    try:
        sys.exit(main())
    except BrokenPipeError:  # who reads has read enough; Python would write what is left of the line, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError, RuntimeError, OverflowError, MemoryError) as error:
        what = "out of memory: " if isinstance(error, MemoryError) else ""
        if isinstance(error, OSError) and error.filename and error.strerror:
            error = f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
        print(f"error: {what}{' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
