"""Networks from files that others write, by their endings; and the run that a network is from."""

import importlib


def optional(package, extra, files):
    """A package that only some files need; ValueError that says how to get it if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(f"{files} files need the package {package}, which is not installed "
                         f"(pip install 'refbound[{extra}]')") from None
