"""What a command is given: a network, by the ending of its file's name, and the ε of the run that it is from."""

from dataclasses import dataclass
from pathlib import Path

from trainers.files import checkpoint
from trainers.inputs import arguments
from trainers.inputs.arguments import argument

from .onnx_reader import read_onnx


@dataclass
class Given:
    """The options of every command that looks at the images of a test set."""

    model: str = argument("", "a network (.npz, .onnx) or a run folder, whose best network is taken", positional=True)
    eps: float = argument(None, "radius of the l∞ ball, pixels in [0, 1] (default: that of the run)", type=float)
    no_clip: bool = argument(None, "do not intersect the ball with [0, 1] (default: as the run)", type=bool)
    data_dir: str = argument(None, "folder of the data set (default: that of the run, or MNIST as shipped)", type=str)
    seed: int = argument(0, "of every draw")


def load_any(path):
    """The Network of an .npz or .onnx file or of a run folder; ValueError names the file and what is wrong with it."""
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors":
        line = f"torch.save(safetensors.torch.load_file('{path}'), 'net.pth')"
        raise ValueError(f"{path}: expected a .npz, .onnx or .pth file; in PyTorch {line} makes one of it")
    if suffix not in (".npz", ".onnx", ".pt", ".pth") and Path(path).is_file():
        raise ValueError(f"{path}: expected a name that ends in .npz or .onnx, or a run folder")
    return read_onnx(path) if suffix == ".onnx" else checkpoint.load_model(path)[0]


def as_the_run(args):
    """Sets args.eps, no_clip and data_dir, where they were not given, to those of the run that args.model names.

    ValueError if the run is of another norm than l∞ or of other data than MNIST's kind; or if ε is above 1, or missing.
    """
    given = checkpoint.arguments_of(args.model) if Path(args.model).is_dir() else {}
    for name, value in {"norm": "inf", "data": "mnist"}.items():
        if given.get(name, value) != value:
            raise ValueError(f"{args.model}: expected a run of --{name} {value}, got one of {given[name]}")
    for name, default in {"eps": None, "no_clip": False, "data_dir": None}.items():
        if getattr(args, name) is None:
            setattr(args, name, given.get(name, default))
    if args.eps is None:
        raise ValueError("--eps: a network file does not say its ε; expected --eps with a number")
    arguments.in_pixels(args)
