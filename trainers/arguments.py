"""Command lines from dataclasses: a field is an option, its metadata the line of help, its default the default."""

import argparse
import dataclasses
import sys

import numpy as np


def option(default, text, **more):
    """A dataclass field that is a command-line option."""
    if isinstance(default, (tuple, list)):
        return dataclasses.field(default_factory=lambda: tuple(default), metadata={"help": text, "nargs": "*", **more})
    return dataclasses.field(default=default, metadata={"help": text, **more})


def parse(cls, prog, argv=None, presets=None):
    """An instance of the dataclass from the command line; --help shows every field with its default.

    presets  {name: {field: value}}: --preset NAME puts these in the defaults' place, so that options given override them
    """
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=cls.__doc__,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in dataclasses.fields(cls):
        _add(parser, field, opposites=bool(presets))
    if presets:
        parser.add_argument("--preset", choices=tuple(presets), default=argparse.SUPPRESS,
                            help="settings of trainers/presets.py; options given beside it override them")
    values = vars(parser.parse_args(argv))
    if presets and "preset" in values:
        parser.set_defaults(**presets[values["preset"]])
        values = vars(parser.parse_args(argv))
        del values["preset"]
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _add(parser, field, opposites):
    """A field as an option. A switch can be turned off (--no-clip, --clip) with `opposites`, or if its default is None."""
    meta, name = dict(field.metadata), "--" + field.name.replace("_", "-")
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    kind = meta.pop("type", type(default))
    if meta.pop("positional", False):
        parser.add_argument(field.name, type=kind, **meta)
    elif kind is bool:
        parser.add_argument(name, action="store_true", default=default, **meta)
        if opposites or default is None:
            off = "--" + (name[5:] if name.startswith("--no-") else "no-" + name[2:])
            parser.add_argument(off, dest=field.name, action="store_false", default=default, help=f"not {name}")
    else:
        if kind is tuple:
            kind = type(default[0]) if default else float
        parser.add_argument(name, type=kind, default=default, **meta)


def norm(text):
    """A norm by its name on the command line."""
    try:
        return {"inf": np.inf, "2": 2, "1": 1}[text]
    except KeyError:
        raise argparse.ArgumentTypeError(f"expected inf, 2 or 1, got {text!r}") from None


def run(main):
    """main() as a command: what cannot be done is one line on stderr and exit status 1."""
    sys.stdout.reconfigure(line_buffering=True)  # in a log, too, a line is there once it is printed
    try:
        sys.exit(main())
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
