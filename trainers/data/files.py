"""What the three readers share: finding files, and the one line that says what is wrong with them."""

from pathlib import Path


def wrong(what, found, expected):
    """The error for a file or argument `what` that holds something else than it should, on one line."""
    return ValueError(" ".join(f"{what}: found {found}, expected {expected}".split()))


def existing_folder(data_dir, holding):
    """data_dir as a Path, or an error that says which files belong there."""
    if data_dir is None:
        raise wrong("data_dir", "None", f"a folder holding {holding}")
    folder = Path(data_dir)
    if not folder.is_dir():
        seen = "" if folder.is_absolute() else f" in {Path.cwd()}"
        raise FileNotFoundError(f"{folder}: found no such folder{seen}, expected one holding {holding}")
    return folder


def existing_file(folder, names, holding):
    """The first of `names` that is a file in `folder`."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder}: found no file {' or '.join(names)}, expected a folder holding {holding}")


def check_labels(path, labels, images, low=0, high=9):
    """One label in low … high for each image."""
    if len(labels) != len(images):
        raise wrong(path, f"{len(labels)} labels", f"{len(images)}, one for each image")
    outside = labels[(labels < low) | (labels > high)]
    if len(outside):
        raise wrong(path, f"label {outside[0]}", f"labels from {low} to {high}")
