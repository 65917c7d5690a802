"""Networks from files that others write, by their endings; and the run that a network is from."""

import importlib


def optional(package, extra, files):
    """A package that only some files need; ValueError that says how to get it if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(f"{files} files need the package {package}, which is not installed "
                         f"(pip install 'refbound[{extra}]')") from None


def reason(error):
    """An exception of foreign code in one line: its text's first, with its class unless it is a ValueError."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__} {text}".strip()
