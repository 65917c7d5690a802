"""The tables of runs: mean and spread beside published numbers, and one line for a record that cannot be read."""

import json
import re

import pytest

from trainers import table1, train
from trainers.files import checkpoint, record, words
from trainers.inputs import presets


def made(name, seed, verified, **changed):
    """A record as trainers.study writes it."""
    given = record.settings(vars(train.Args(method="ibp", seed=seed, **changed)))
    result = {"standard_error": 1.5, "pgd_error": 2.5, "verified_error": verified, "estimate": False,
              "method": ["ibp"], "training_seconds": 90.0}
    return {"name": name, "arguments": given, "versions": {}, "result": result,
            "exact": None, "log": {"verified_error": [9.0, verified + 1], "seconds": [45, 45], "probe_seconds": [0, 0]},
            "landscape": {}}


def test_the_tables_show_mean_and_spread_beside_published_errors(tmp_path, capsys):
    for seed, verified in enumerate((4.0, 5.0, 6.0)):
        one = made(f"ibp-small-0.1-{seed}", seed, verified)
        (tmp_path / f"{one['name']}.json").write_text(record.text(one))
    table1.main([str(tmp_path)])
    printed = capsys.readouterr().out
    ours, paper = cells(printed)[1:3]
    assert ours[:3] == ["0.1", "ours", "1.50 ± 0.00 / 2.50 ± 0.00 / 5.00 ± 1.00 (3)"] and set(ours[3:]) == {"–"}
    assert paper == ["", "published", "1.18 / 2.16 / 3.52", "1.07 / 1.69 / 2.10", "0.80 / 1.73 / 3.19",
                     "1.09 / 1.77 / 2.36", "–"]
    for text in ("errors, of dm_large", "IBP (Gowal et al. 2018)",
                 "7 epochs, the first 5 by ibp alone, ε = 0 for 0.5 and rising for 5",
                 "IBP: ε 0.1 (6.0 %); 3 runs, 1.5 minutes each"):
        assert text in printed


def cells(text):
    """The rows of the tables in a text, each a list of its cells; the lines beneath headings are left out."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


# The rows of the paper's Table 1, from top to bottom: ε, then IBP, CROWN-IBP (β=1), CAP, OURS; ** where the paper
# prints bold, the least verified error of a row, and __ where it underlines, the second
TABLE_1 = {
    ("mnist", "published"): """
        0.1    1.18 / 2.16 / 3.52       1.07 / 1.69 / 2.10**     0.80 / 1.73 / 3.19       1.09 / 1.77 / 2.36__
        0.2    2.00 / 3.29 / 6.31__     2.99 / 5.50 / 7.97       3.22 / 6.72 / 11.06      1.70 / 3.44 / 4.34**
        0.3    3.50 / 5.85 / 10.45__    5.73 / 10.76 / 16.28     19.19 / 35.84 / 47.85    3.49 / 5.59 / 9.79**
        0.4    3.50 / 7.30 / 17.96__    5.73 / 14.63 / 23.80     –                        3.49 / 6.77 / 15.42**""",
    ("cifar10", "published, shallow"): """
        2/255  37.98 / 49.40 / 55.39    32.48 / 42.77 / 50.15    28.80 / 38.95 / 48.50**  31.49 / 42.73 / 49.42__
        4/255  46.42 / 57.42 / 62.80    45.56 / 58.24 / 64.47    40.78 / 52.62 / 61.88__  42.53 / 55.55 / 61.52**
        6/255  52.84 / 63.92 / 68.79__  54.72 / 65.28 / 71.04    49.20 / 60.85 / 69.03    50.19 / 61.88 / 66.90**
        8/255  55.71 / 66.79 / 70.95__  61.37 / 70.66 / 75.37    56.77 / 66.78 / 73.02    56.01 / 66.17 / 69.70**
        16/255 67.10 / 75.12 / 78.26__  76.65 / 81.90 / 84.42    75.11 / 80.67 / 82.07    65.93 / 75.39 / 77.87**""",
    ("cifar10", "published, deep"): """
        2/255  39.17 / 48.80 / 55.48    29.02 / 40.17 / 46.22**  –                        31.48 / 42.52 / 47.89__
        8/255  59.53 / 65.98 / 70.86__  59.43 / 65.79 / 73.34    –                        50.78 / 62.58 / 68.44**""",
    ("svhn", "published"): """
        0.01   19.91 / 34.12 / 43.83    17.25 / 30.84 / 39.88    16.88 / 30.16 / 37.09**  16.41 / 30.43 / 39.44__""",
}
SECTION_7 = {  # CBP 1→0
    ("published, deep", "8/255"): "54.02 / 65.42 / 66.94", ("published, deep", "2/255"): "35.83 / 46.21 / 52.26"}
TABLE_2 = {  # ε of the columns, then the rows: standard / verified
    "mnist": """         0.1            0.3
        RS               1.32 / 4.87    2.67 / 19.32
        DiffAI           1.3 / 4.2      3.4 / 10.7
        COLT             0.8 / 2.9      2.7 / 14.3
        OURS             1.09 / 2.28    2.42 / 7.84""",
    "cifar10": """       2/255          8/255
        RS               38.88 / 54.07  59.55 / 79.72
        DiffAI           37.7 / 54.5    53.8 / 72.8
        COLT             21.6 / 39.5    48.3 / 72.5
        OURS             31.48 / 47.89  50.78 / 68.44""",
}


def split(text):
    """Lines of cells that two spaces or more divide; the ε of a row may be one space off."""
    return [re.split(r"\s{2,}|(?<=255)\s", line.strip()) for line in text.strip().splitlines()]


@pytest.mark.parametrize(("data", "part"), TABLE_1)
def test_table_1_of_the_paper_is_printed_as_it_stands_there(data, part):
    text = next(table1.tables([made("a", 0, 4.0, data=data, data_dir=None if data == "mnist" else "folder")]))
    eps, found = None, []
    for first, name, *row in cells(text)[1:]:
        eps = first or eps
        if name == part:
            found.append([eps, *row])
    rows = split(TABLE_1[data, part])
    assert found == [[eps, *(entry.strip("*_") for entry in row), SECTION_7.get((part, eps), "–")]
                     for eps, *row in rows]
    for _, *row in rows:
        first, second, *_ = sorted((entry for entry in row if entry != "–"),
                                   key=lambda entry: float(entry.strip("*_").split(" / ")[2]))
        assert first.endswith("**") and second.endswith("__")


@pytest.mark.parametrize("data", TABLE_2)
def test_table_2_of_the_paper_is_printed_as_it_stands_there(data):
    text = list(table1.tables([made("a", 0, 4.0, data=data, data_dir=None if data == "mnist" else "folder")]))[1]
    header, *found = cells(text)
    eps, *rows = split(TABLE_2[data])
    for name, *row in rows:
        of = next(line for line in found if line[0].startswith(name))
        printed = [of[header.index(f"ε = {e}")].split(" / ") for e in eps]
        assert ([[float(standard), float(verified)] for standard, _, verified in printed]
                == [[*map(float, e.split(" / "))] for e in row])
        assert {pgd for _, pgd, _ in printed} == {"–"} and of[2] == "a"


def test_a_run_by_the_released_settings_stands_beside_the_papers_row():
    """They have 0.0313725 for 8/255."""
    text = next(table1.tables([made("a", 0, 4.0, data="cifar10", data_dir="folder",
                                    eps=presets.TRAINING["paper-cifar10-shallow"]["eps"])]))
    assert ["8/255", "ours"] in [row[:2] for row in cells(text) if row[2].endswith("(1)")]


def test_runs_that_the_paper_has_none_of_are_not_beside_its_numbers():
    for other in ({"norm": "2"}, {"data_dir": "fashion"}):
        assert "published" not in "".join(table1.tables([made("a", 0, 4.0, **other)]))


def test_runs_that_differ_in_more_than_their_seeds_share_no_cell():
    longer = made("longer", 1, 5.0, epochs=9)
    other_data = made("other", 1, 5.0, data_dir="fashion")
    assert list(table1.tables([other_data]))[0].startswith("Table 1. MNIST from fashion, small")
    for pair, what in (([made("a", 0, 4.0), longer], "epochs"), ([made("a", 0, 4.0), made("b", 0, 4.0)], "seeds")):
        with pytest.raises(ValueError, match=f"a.*{what}"):
            list(table1.tables(pair))
    older, moved = made("a", 0, 4.0), made("b", 1, 5.0, crop=1)
    del older["arguments"]["crop"]  # a record from before there was such an option
    assert (checkpoint.known(older["arguments"])["crop"] == 0
            and checkpoint.known({"data": "svhn", "crop": None})["crop"] == 4)
    for pair in ([older, moved], [moved, older]):
        with pytest.raises(ValueError, match="crop"):
            list(table1.tables(pair))
    headed = list(table1.tables([made("a", 0, 4.0), made("b", 0, 4.0, model="mlp")]))
    assert "small" in headed[0] and "mlp" in headed[3]
    assert "minibatches of 64 of images moved by up to 2 pixels" in list(table1.tables([made("a", 0, 4.0, crop=2)]))[2]


@pytest.mark.parametrize("content, words", [
    (None, "nothing there"), ("not JSON", "cannot be read"), ('{"name": NaN}', "NaN is no number of JSON"),
    ("[1, 2]", "list"), ('{"name": "ibp"}', "no arguments"),
    (record.text({"name": "ibp", **dict.fromkeys(record.PARTS, {})}), "no arguments: method"),
    (record.text(made("another", 0, 1.0)), "another"),
], ids=["missing", "text", "NaN", "list", "foreign", "bare", "renamed"])
def test_a_missing_or_foreign_result_is_one_line(content, words, tmp_path, refused):
    path = tmp_path / "ibp.json"
    if content is not None:
        path.write_text(content)
    refused(table1, [str(path)], "ibp.json", words)
    if content is None:
        refused(table1, [str(tmp_path)], "or a folder of results")
        (tmp_path / "config.json").write_text("{}")
        refused(table1, [str(tmp_path)], "no arguments")


def test_exact_errors_have_a_row_for_each_seed_and_one_for_their_mean():
    a, b = made("a", 0, 4.0), made("b", 1, 5.0)
    for one, pgd, least, unknown in ((a, 1.0, 2.0, 0), (b, 2.0, 2.5, 1)):
        one["result"]["pgd_error"] = pgd
        one["complete"] = {"images": 100, "exact_error": least, "unknown": unknown}
    rows = cells(next(text for text in table1.tables([a, b]) if "Every image" in text))
    assert [row[1:] for row in rows if "IBP" in row[1]] == [
        ["IBP, seed 0", "1.00", "2.00", "4.00", "33 %"], ["IBP, seed 1", "2.00", "2.50 to 3.50", "5.00", "17 %"],
        ["IBP, mean of 2", "1.50 ± 0.71", "2.25 to 2.75", "4.50 ± 0.71", "25 %"]]
    del b["complete"]
    assert len([text for text in table1.tables([a, b]) if "mean of" in text]) == 0


def test_cells_hold_what_was_measured_alike():
    one, other = made("a", 0, 4.0), made("b", 1, 5.0)
    other["result"]["pgd_steps"] = 5
    with pytest.raises(ValueError, match="a and b were evaluated differently"):
        list(table1.tables([one, other]))


@pytest.mark.parametrize("part, name", [("arguments", "train_eps"), ("result", "pgd_error"), ("log", "verified_error"),
                                        ("landscape", "zero_slopes"), ("landscape", None)])
def test_a_record_that_lacks_what_is_read_is_one_line(part, name, tmp_path, refused):
    [path] = record.RESULTS.glob("ibp-mlp-0.1-0.json")
    found = json.loads(path.read_text())
    if name:
        del found[part][name]
    else:
        found[part]["time"].pop()
    (tmp_path / path.name).write_text(json.dumps(found))
    refused(table1, [str(tmp_path)], path.name, part, name or "one length")


@pytest.mark.parametrize("part, change", [
    ("exact", 5), ("complete", 3), ("arguments", {"eps": None}), ("arguments", {"milestones": None}),
    ("arguments", {"kappa": [0]}), ("result", {"verified_error": "x"}), ("landscape", {"time": [None] * 26}),
    ("result", {"training_seconds": None}),
    ("complete", {"images": 2, "exact_error": 1, "unknown": 0, "verdicts": "r"}), ("log", {}),
    ("complete", {"images": None, "exact_error": 1, "unknown": 0, "verdicts": "r"}), ("result", {"method": 5}),
    ("complete", {"verdicts": "r"}), ("complete", {"images": 1, "exact_error": 1, "unknown": 0, "verdicts": None}),
    ("result", {"training_seconds": [1]}), ("log", {"seconds": 3}),
    ("log", {"verified_error": ["x"] * 6}), ("log", {"verified_error": [None] * 6})])
def test_a_record_of_other_types_is_one_line(part, change, tmp_path, refused):
    [path] = record.RESULTS.glob("ibp-mlp-0.1-0.json")
    found = json.loads(path.read_text())
    found[part] = {**found.get(part, {}), **change} if change and isinstance(change, dict) else change
    (tmp_path / path.name).write_text(json.dumps(found))
    refused(table1, [str(tmp_path)], path.name, part)


@pytest.mark.parametrize("key, value", [("eps", 0.2), ("norm", "2"), ("clipped", False), ("images", 100),
                                        ("pgd_steps", 5), ("restarts", 2)])
def test_results_are_measured_alike_only_where_ball_images_and_attack_are(key, value):
    one = {"eps": 0.1, "norm": "inf", "clipped": True, "images": 10000, "pgd_steps": 100, "restarts": 1}
    assert words.same(one, dict(one)) and not words.same(one, {**one, key: value})
