"""The README's example prints what the README says, and names only what exists."""

import contextlib
import importlib
import io
import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_prints_what_the_readme_shows():
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == printed


def test_every_function_in_the_table_of_equations_exists():
    table = README.split("| in the paper |")[1].split("\n\n")[0]
    names = re.findall(r"`([a-z.]+)\.(\w+(?:\.\w+)?)`", table)
    assert len(names) > 10
    for module, path in names:
        found = importlib.import_module(f"refbound.{module}")
        for name in path.split("."):
            found = getattr(found, name)


def test_every_equation_is_marked_where_it_is_implemented():
    source = {path.name: path.read_text() for path in (Path(__file__).parent.parent / "refbound").glob("*.py")}
    for number, file in (("(1)", "losses.py"), ("(2)", "linear.py"), ("(3)", "losses.py"), ("(7)", "slopes.py")):
        assert re.search(rf"# {re.escape(number)}$", source[file], re.MULTILINE), (number, file)
    assert "Definition 1" in source["linear.py"]
