"""What the pages of trainers and of its results say: commands can be given, tables are what the commands print.

And what it says of the folders: imports go one way, without circles.
"""

import ast
import importlib
import re
import shlex
import statistics
from pathlib import Path

import pytest

from trainers import landscape, table1, train
from trainers.files import record, words
from trainers.inputs import arguments, presets, published

ROOM = Path(__file__).parent.parent / "trainers"
PAGE = "".join((ROOM / folder / "README.md").read_text() for folder in (".", "results"))
EPS = 0.1, 0.2, 0.3, 0.4
COMMANDS = [path.stem for path in ROOM.glob("*.py") if path.stem != "__init__"]
GIVEN = sorted({" ".join(shlex.split(line, comments=True)) for line in re.findall(r"python -m trainers[^`\n]*", PAGE)})


def test_the_page_shows_every_command():
    assert {line.split()[2] for line in GIVEN} == {f"trainers.{name}" for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_helps(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"trainers.{name}").main(["--help"])
    assert stopped.value.code == 0 and capsys.readouterr().out.startswith(f"usage: python -m trainers.{name} ")


@pytest.mark.parametrize("line", GIVEN)
def test_a_command_of_the_page_can_be_given(line):
    _, _, name, *argv = line.replace(" [RUN...]", "").split()
    if name == "trainers.evaluate" and not argv:  # in the list of commands
        return
    module = importlib.import_module(name)
    given = arguments.parse(module.Args, name, argv, presets.TRAINING if name == "trainers.train" else None)
    if name == "trainers.train":
        module.check(given)
    if name == "trainers.study":
        assert presets.runs(presets.STUDIES[given.preset], given.only, given.epochs)
    for path in re.findall(r"trainers/\S+", " ".join(argv)):
        assert list(ROOM.parent.glob(path))


def rows(head, page=PAGE):
    """The cells of a page's tables under this head, row by row."""
    found = re.findall(rf"^\| {re.escape(head)} \|\n\|[-|]*\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for table in found for line in table.splitlines()]


def cells(folder="."):
    """The runs of `small` in a folder of the results, by column and ε."""
    found = {}
    for one in record.read([record.RESULTS / folder]):
        if one["arguments"]["model"] == "small":
            found.setdefault((words.heading(one["arguments"]), one["arguments"]["eps"]), []).append(one)
    return found


def printed(text):
    """The cells of a table as a command prints it, row by row."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")][2:]


def test_the_tables_of_errors_are_what_the_commands_print():
    ours, longer, others = map(cells, (".", "longer", "objectives"))
    assert rows("ε | IBP | CROWN-IBP (β = 1) | CAP | OURS | CBP 1→0") == [
        [f"{eps:g}", *(table1.cell(ours.get((name, eps))) for name in words.COLUMNS.values())] for eps in EPS]
    shown = rows("longer | ε = 0.1 | 0.2 | 0.3 | 0.4")
    assert {row[0] for row in shown} == {name for name, _ in longer}
    assert shown == [[name, *(table1.cell(longer.get((name, eps))) for eps in EPS)] for name, *_ in shown]
    assert rows("other methods | ε | standard / PGD / verified | by") == printed(table1.others(others)[0])
    assert rows("ε | network | PGD | exact | verified | missed") == [row for found in (ours, longer, others)
                                                                     for row in printed(table1.complete(found)[0])]
    front = [[f"{eps:g}", *(table1.exact(ours[column, eps][0])
                            for column in ("IBP", words.COLUMNS["crown-ibp", 1, 1], "OURS"))] for eps in EPS]
    assert rows("exact, ε | IBP | CROWN-IBP | OURS", (ROOM.parent / "README.md").read_text()) == front


def test_the_schedules_of_the_longer_runs_are_those_of_the_presets():
    shown = {(method, float(eps)): (int(epochs), float(rate), float(ramp))
             for method, of, epochs, rate, ramp in rows("method | ε | epochs | rate | ramp, epochs")
             for eps in of.split(",")}
    names = {"ibp": "IBP", "one-step": "OURS", "cbp-1-0": "CBP 1→0"}
    listed = presets.runs(presets.STUDIES["longer"])
    assert shown == {(names.get(method := name.partition("-small")[0], method), run["eps"]):
                     (run["epochs"], run.get("rate", train.Args().rate), float(f"{run['ramp']:.3g}"))
                     for name, run in listed.items()}


def test_the_table_of_tightness_has_the_exact_errors_and_own_bounds_of_the_records_but_for_rounding():
    shown, found = rows("ε | network of | exact | by `ibp` | by `crown-ibp` | by `one-step`"), cells()
    own = {"IBP": (3,), "CROWN-IBP": (4,), "OURS": (5,), "CBP 1→0": (3, 4)}  # columns of what trained it
    assert [row[:2] for row in shown] == [[f"{eps:g}", name] for eps in EPS for name in own]
    for row in shown:
        one = found[{"CROWN-IBP": words.COLUMNS["crown-ibp", 1, 1]}.get(row[1], row[1]), float(row[0])][0]
        verified, bounds = one["result"]["verified_error"], [float(row[k]) for k in own[row[1]]]
        assert row[2] == table1.exact(one) and min(map(float, row[3:])) > one["complete"]["exact_error"]
        assert min(bounds) >= verified - 0.05 and (len(bounds) > 1 or bounds[0] <= verified + 0.05)


def test_the_tables_of_smoothness_are_what_the_command_prints():
    found = printed(landscape.by_seeds([landscape.summary(run) for run in record.read()]))
    small, mlp = ([[eps, f"{name.partition(' (β=1)')[0]} ({seeds})", *row]
                   for model, eps, name, seeds, *row in found if model == of] for of in ("small", "mlp"))
    assert rows("ε | method | variation | l2 distance | cosine distance | verified error") == [*small, *mlp]


def test_an_exact_error_lies_between_pgd_and_verified_and_counts_the_verdicts():
    decided = [one for one in record.read([record.RESULTS / folder for folder in (".", "longer", "objectives")])
               if one.get("complete")]
    assert len(decided) > 16
    for one in decided:
        done, result = one["complete"], one["result"]
        count = {letter: done["verdicts"].count(letter) for letter in "mrn?"}
        assert sum(count.values()) == len(done["verdicts"]) == done["images"] == result["images"] == 10_000
        assert done["exact_error"] == (count["m"] + count["n"]) / 100 and done["unknown"] == count["?"] <= 10
        assert (result["pgd_error"] <= done["exact_error"] <= done["exact_error"] + count["?"] / 100
                <= result["verified_error"])


def test_the_errors_of_ibp_beside_the_other_objectives_are_those_of_the_records():
    found = cells("objectives")
    assert "IBP is verified by itself: " + " and ".join(
        f"{table1.cell(found['IBP', eps])} at {eps}" for eps in (0.1, 0.3)) in PAGE


def test_the_verified_errors_of_all_the_runs_at_0_3_are_those_of_the_records():
    errors = {}
    for folder in (".", "longer", "objectives"):
        for (method, eps), found in cells(folder).items():
            for one in found if eps == 0.3 and method in ("IBP", "OURS") else ():
                given = one["arguments"]
                alike = method, str(given["epochs"]), f"{given['rate'] / 1e-3:g}e-3", f"{given['ramp']:.2g} epochs"
                errors.setdefault(alike, []).append(f"{one['result']['verified_error']:.2f}")
    listed = {tuple(row[:4]): row[4] for row in rows("method | epochs | rate | ramp | verified error, by seed")}
    assert len(errors) == 5 and {alike: ", ".join(values) for alike, values in errors.items()}.items() <= listed.items()


def test_the_verified_errors_by_start_are_those_of_the_records():
    found = {}
    for one in record.read([record.RESULTS / "start"]):
        given = one["arguments"]
        row = found.setdefault((given["model"], given["eps"], given["method"]), {})
        row.setdefault((given["init"], given["regularise"]), []).append(one["result"]["verified_error"])
    names = {method: name for (method, *beta), name in words.COLUMNS.items() if beta == [1, 1]}
    assert sorted(rows("network, ε | method | usual start | `--init ibp` | and `--regularise 0.5`")) == sorted(
        [f"`{model}`, {eps:g}", names[method].partition(" (")[0],
         *(f"{table1.spread(row[start])} ({len(row[start])})" if start in row else "–"
           for start in (("uniform", 0), ("ibp", 0), ("ibp", 0.5)))]
        for (model, eps, method), row in found.items())


@pytest.mark.parametrize("model, rates", [("mlp", ("1e-3", "2e-3", "4e-3", "8e-3")),
                                          ("small", ("2e-3", "4e-3", "8e-3"))])
def test_the_search_is_that_of_the_records_and_what_it_chose_is_the_least_in_validation(model, rates):
    found, errors = {}, {}
    for one in record.read([record.RESULTS / "search"]):
        given, log = one["arguments"], one["log"]
        if given["model"] != model:
            continue
        pair = words.heading(given).partition(" (")[0], f"{given['ramp']:g}", f"{1000 * given['rate']:g}e-3"
        errors.setdefault(pair, {})[given["seed"]] = one["result"]["verified_error"]
        if given["seed"] == 0:
            found[pair] = min(error for error, eps in zip(log["validation_verified_error"], log["validation_eps"])
                              if eps == given["eps"])
    best = {method: min((pair for pair in found if pair[0] == method), key=found.get) for method, *_ in found}
    shown = {pair: f"**{of[0]:.2f}**" if pair in best.values() else f"{of[0]:.2f}" for pair, of in errors.items()}
    assert rows(f"method | ramp, epochs | {' | '.join(rates)}") == [
        [method, ramp, *(shown[method, ramp, rate] for rate in rates)]
        for method in ("IBP", "CROWN-IBP", "OURS", "CBP 1→0") if method in best for ramp in ("1.25", "2.75")]
    if model == "small":
        return  # of one seed
    assert {tuple(row) for row in rows("method | rate | ramp, epochs | verified error")} == {
        (method, rate, ramp, f"{table1.spread(list(errors[method, ramp, rate].values()))} (3)")
        for method, ramp, rate in best.values()}
    assert all(len(of) == (3 if pair in best.values() else 1) for pair, of in errors.items())


def test_the_verified_errors_beside_the_papers_are_those_of_its_table_1():
    found, here, front = cells(), [], []
    for eps, errors in published.PAPER["mnist"]["published"].items():
        pairs = []
        for column, paper in list(zip(words.COLUMNS.values(), errors))[:4]:
            runs = found.get((column, eps))
            mean = statistics.mean((one["exact"] or one["result"])["verified_error"] for one in runs) if runs else None
            pairs.append((f"{paper[2]:.2f}" if paper else "–", f"{mean:.2f}" if runs else "–"))
        here.append([f"{eps:g}", *("–" if paper == "–" else f"{paper}, here {ours}" for paper, ours in pairs)])
        front.append([f"{eps:g}", *(f"{ours} / {paper}" for paper, ours in (pairs[0], pairs[1], pairs[3]))])
    assert rows("ε | IBP | CROWN-IBP (β = 1) | CAP | OURS") == here
    assert rows("ε | IBP | CROWN-IBP | OURS", (ROOM.parent / "README.md").read_text()) == front


def test_no_table_of_the_page_has_more_than_six_columns():
    assert max(line.count("|") - 1 for line in PAGE.splitlines() if line.startswith("|")) == 6


def unit(path):
    """A folder, or a command with a file of its own."""
    parts = path.relative_to(ROOM).parts
    return parts[0].removesuffix(".py")


def imported(path):
    """The units that a file imports."""
    package = ("trainers", *path.relative_to(ROOM).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            level = getattr(node, "level", 0)
            above = package[:len(package) - level + 1] if level else ()
            for name in node.names:
                yield (*above, *filter(None, module.split(".")), *name.name.split("."))


def test_imports_go_one_way():
    edges = {}
    for path in ROOM.rglob("*.py"):
        names = list(imported(path))
        assert not any("verify" in name for name in names), path
        ours = {name[1] for name in names if name[0] == "trainers"}
        edges.setdefault(unit(path), set()).update(ours - {unit(path)})
    assert "loop" in edges["train"] and "evaluate" in edges["plots"]
    while edges:
        last = [name for name, below in edges.items() if not below & edges.keys()]
        assert last, f"a circle in {edges}"
        for name in last:
            del edges[name]
