"""The room verify: with what its means share no code, which way imports point, and that pages name what is there."""

import argparse
import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from trainers import evaluate, landscape
from trainers.inputs import arguments
from verify import complete, theorems, tightness
from verify.speed import benchmark

ROOT = Path(__file__).resolve().parents[1]
VERIFY = ROOT / "verify"
PAGES = {path: path.read_text(encoding="utf-8") for path in (VERIFY / "README.md", VERIFY / "golden" / "README.md")}
COMMANDS = sorted(path.stem for path in VERIFY.glob("*.py") if path.stem != "__init__")


def imports(path):
    """What a file imports, wherever in it, by full names."""
    found, parts = set(), path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*parts[:-node.level]] if node.level else []
            found |= {".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names}
    return found


def of_this_project(paths):
    return {name for path in paths for name in imports(path)
            if name.split(".")[0] in ("refbound", "trainers", "verify")}


# ---- no code is shared ----

def test_the_prover_imports_nothing_of_the_project():
    assert all(name.startswith("verify.prover.") for name in of_this_project(VERIFY.glob("prover/*.py")))


def test_the_programs_import_what_a_layer_and_a_ball_are_and_no_bound():
    """Of the network they take the layers, and its values at an input; of the ball its numbers."""
    allowed = {"refbound.Ball", "refbound.Network", "refbound.arrays.ops.as_rows",
               *(f"refbound.layers.{name}" for name in ("Conv2d", "Linear", "ReLU", "forward", "unbroken"))}
    found = of_this_project(VERIFY.glob("programs/*.py"))
    assert {name for name in found if not name.startswith("verify.programs.")} <= allowed


def test_the_rendering_imports_nothing_of_the_project():
    found = of_this_project(VERIFY / "pytorch" / name for name in ("rendering.py", "layers.py"))
    assert found and all(name.startswith("verify.pytorch.layers.") for name in found)


# ---- one way ----

def test_imports_point_one_way():
    """A command is imported by none, and no chain of imports comes back to where it began."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in VERIFY.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    uses = {name: {m for found in imports(path) for m in modules if m != "verify" and f"{found}.".startswith(f"{m}.")}
            for name, path in modules.items()}
    assert not {f"verify.{command}" for command in COMMANDS} & set().union(*uses.values())
    while uses:
        last = {name for name, used in uses.items() if not used & uses.keys()}
        assert last, uses
        uses = {name: used for name, used in uses.items() if name not in last}


def test_refbound_and_trainers_do_without_verify():
    for room in ("refbound", "trainers"):
        assert not [name for name in of_this_project((ROOT / room).rglob("*.py")) if name.startswith("verify.")]


# ---- the pages ----

def test_the_commands_stand_on_top_and_say_how_they_are_used(capsys):
    for command in COMMANDS:
        try:
            assert importlib.import_module(f"verify.{command}").main(["--help"]) == 0
        except SystemExit as done:
            assert done.code == 0
        assert f"verify.{command}" in capsys.readouterr().out


class Parsed(Exception):
    """A command line was understood."""


@pytest.mark.parametrize("line", sorted({line for page in PAGES.values() for line in
                                         re.findall(r"python -m ((?:verify|trainers)\.[^`\n#]+)", page)}))
def test_every_command_of_the_pages_is_one(line, monkeypatch):
    real = argparse.ArgumentParser.parse_args

    def parse(self, argv=None, namespace=None):
        raise Parsed(real(self, argv, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    module, *argv = line.split()
    with pytest.raises(Parsed):
        importlib.import_module(module).main(argv)


def test_no_results_take_the_place_of_a_network():
    for command in (evaluate, landscape, benchmark, complete, theorems, tightness):
        out = next(field for field in dataclasses.fields(command.Args) if field.name == "out")
        assert out.metadata["type"] is arguments.results
