"""The pages say what is so: examples print what is shown, and all that is named exists, in the size that is said."""

import collections
import contextlib
import importlib
import inspect
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import refbound as rb

ROOT = Path(__file__).parents[1]
FRONT, COURSE = (ROOT / "README.md").read_text(), (ROOT / "refbound" / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted(path for room in ("refbound", "trainers", "verify", "tests")
                                     for path in (ROOT / room).rglob("README.md"))]


def test_the_examples_print_what_the_readme_shows(monkeypatch):
    monkeypatch.chdir(ROOT)
    examples, names = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", FRONT, re.DOTALL), {}
    assert len(examples) == FRONT.count("```python") > 0
    for code, shown in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == shown


def test_the_front_page_is_read_in_ten_minutes():
    assert len((ROOT / "README.md").read_bytes()) <= 8192


def test_every_function_in_the_table_of_equations_exists_and_carries_the_number():
    table = FRONT.split("| in the paper |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 8
    for row in table:
        where, functions, _ = row.strip("| ").split(" | ")
        for module, name in re.findall(r"`(\w+)\.(\w+)`", functions):
            found = importlib.import_module(f"refbound.{module}")
            for equation in re.findall(r"\(\d\)", where):  # the line that implements it ends with its number
                source = inspect.getsource(getattr(found, name))
                assert re.search(rf"# {re.escape(equation)}$", source, re.MULTILINE), (module, name, equation)
            assert "Definition 1" not in where or "Definition 1" in inspect.getdoc(found), (module, name)
            for place in re.findall(r"Section [\d.]+|Appendix [A-Z]", where):
                assert place.split()[-1] in inspect.getsource(found), (module, name, place)
            assert callable(getattr(found, name))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_file_and_link_that_a_page_names_exists(page):
    text, sources = page.read_text(), "\n".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in sources, name
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert link.startswith("http") or path.exists() and (not anchor or anchor in anchors(path.read_text())), link
    for path in re.findall(r"`((?:refbound|trainers|verify|tests)/[\w/.*-]+)`", text):
        assert any(ROOT.glob(path.rstrip("/"))), path


def anchors(text):
    """Of the headings of a page, as GitHub makes them."""
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]


def test_files_are_as_long_as_the_pages_say():
    """To ten lines."""
    said = [(name, int(n)) for name, n in re.findall(r"\]\(refbound/(\w+\.py)\) \((\d+)", FRONT)]
    for files, lines in re.findall(r"^\| (\[.*?) \| (\d+) \|", COURSE, re.MULTILINE):
        said.append((tuple(re.findall(r"\((\w+\.py)\)", files)), int(lines)))
    assert len(said) > 12
    for files, lines in said:
        actual = sum(len((ROOT / "refbound" / name).read_text().splitlines())
                     for name in ([files] if isinstance(files, str) else files))
        assert abs(actual - lines) <= 10, (files, lines, actual)


def test_the_exercises_ask_for_what_the_reference_has():
    reference = json.loads((ROOT / "verify" / "golden" / "hand.json").read_text())
    names = re.findall(r"`([a-z-]+/[\w/.]+)`", COURSE.split("## Exercises")[1])
    assert len(names) > 20
    for name in names:
        assert name in reference, name


# ---- the way of a bound through the code ----

def passed(work):
    """{file: functions} of refbound that are called meanwhile; constructors and comprehensions do not count."""
    folder, seen = str(Path(rb.__file__).parent), collections.defaultdict(set)

    def profile(frame, event, _):
        code = frame.f_code
        if (event == "call" and code.co_filename.startswith(folder)
                and not code.co_name.startswith(("<", "__init__", "__post_init__"))):
            seen[code.co_filename].add((code.co_name, code.co_firstlineno))

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("work, files, functions", [
    (lambda net, ball, y: rb.margin_bounds(net, ball, y, "crown-ibp"), 9, 40),
    (lambda net, ball, y: rb.robust_loss(net, ball, y, "one-step", rng=np.random.default_rng(0)), 11, 60)],
    ids=["margin_bounds, crown-ibp", "robust_loss, one-step"])
def test_the_way_of_a_bound_through_the_code_is_short(work, files, functions):
    rng = np.random.default_rng(0)
    net, ball = rb.models.small(rng), rb.Ball(rng.random((2, 1, 28, 28), dtype=np.float32), 0.1)
    seen = passed(lambda: work(net, ball, np.array([1, 2])))
    assert 5 < len(seen) <= files and 20 < sum(map(len, seen.values())) <= functions


def test_the_files_of_the_method_are_600_lines_and_all_are_120_columns():
    files = ("relaxation", "interval", "linear", "slopes", "methods", "losses", "api")
    assert sum(len((ROOT / "refbound" / f"{name}.py").read_text().splitlines()) for name in files) <= 600
    rooms = [path for room in ("refbound", "trainers", "verify", "tests") for path in (ROOT / room).rglob("*.py")]
    assert not [f"{path}: {line}" for path in rooms for line in path.read_text().splitlines() if len(line) > 120]


def test_the_wheel_holds_every_folder_of_refbound():
    packages = json.loads(re.search(r"^packages = (\[.*?\])", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1])
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "refbound").rglob("__init__.py")}
    assert sorted(packages) == sorted(".".join(folder.parts) for folder in folders)
