"""The reference outputs in verify/golden: written alike twice, true of this code, and any change to them is named."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import refbound as rb
from refbound.layers import Linear, ReLU
from verify import golden
from verify.reference import cases as golden_cases
from verify.reference import conventions

ALL = [*golden_cases.CASES]


def write(tmp_path, name, arrays):
    """A file as another implementation would write it."""
    path = tmp_path / f"{name}.npz"
    np.savez(path, **arrays)
    return path


def checked(capsys, *arguments):
    """(exit status, {state: {name: line}}) of a check; what is missing by its group."""
    status = golden.main(["check", *map(str, arguments)])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    said = {state: {} for state in ("agree", "differ", "unknown", "missing")}
    for state, text in lines:
        if state in said:
            said[state][text.split()[0].rstrip(":")] = text
    return status, said


def options(arrays, variant):
    """The arguments of the public functions that a variant stands for."""
    method, changes = golden_cases.VARIANTS[variant]
    net, _, _, drawn = golden_cases.problem(arrays)
    given = {"a0": [arrays[f"a0/{k}"] for k in range(len(net.relus))], "shared": changes.get("shared", True),
             **{name: drawn[name] for name in ("eta", "p", "q", "steps")}}
    return {name: given[name] for name in rb.METHODS[method].options if name in given}


# ---- what is shipped ----

def test_two_writes_are_bit_identical(tmp_path):
    for folder in ("one", "two"):
        golden_cases.golden.cache_clear()
        golden.write(tmp_path / folder)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_shipped_files_are_true_of_this_code_to_1e_12(capsys):
    status, said = checked(capsys, "--tolerance", "1e-12")
    assert status == 0 and not said["differ"] and not said["missing"]


def test_a_case_in_json_has_the_numbers_of_its_arrays(capsys):
    paths = list(golden.SHIPPED.glob("*.json"))
    for path in paths:
        status, said = checked(capsys, path, "--tolerance", "0", "--complete")
        assert status == 0 and len(said["agree"]) > 90
    assert paths


def test_the_cases_cover_every_method_and_stay_small():
    sizes = {path.name: path.stat().st_size for path in golden.SHIPPED.iterdir()}
    assert {f"{name}.npz" for name in ALL} <= set(sizes)
    assert max(sizes.values()) < 200_000 and sum(sizes.values()) < 2_000_000
    names = set(golden_cases.golden("conv"))
    for variant, (method, _) in golden_cases.VARIANTS.items():
        wanted = ["margins", "g", "b", "loss"] + [f"preactivation/{k}/{end}" for k in range(3) for end in "lu"]
        wanted += [] if method == "ibp" else [f"slopes/{k}" for k in range(3)]
        wanted += [] if method == "alpha" else [f"grad/{i}.{kind}" for i in (0, 2, 5, 7) for kind in ("weight", "bias")]
        assert names >= {f"{variant}/{name}" for name in wanted}


def test_the_cases_are_what_their_names_say():
    def kinds(name, k):  # unstable, inactive, dead
        l, u = (golden_cases.golden(name)[f"ibp/preactivation/{k}/{end}"] for end in "lu")
        return [int(where.sum()) for where in ((l < 0) & (u > 0), u <= 0, (l == 0) & (u == 0))]

    assert [kinds("stable", k)[0] for k in (0, 1)] == [0, 0] and kinds("stable", 0)[1] > 0
    assert kinds("dead", 0)[0] > 0 and kinds("dead", 0)[2] == 2 and kinds("dead", 0)[1] >= 4
    tied = golden_cases.golden("hand")
    assert (tied["ibp/preactivation/0/l"] == -tied["ibp/preactivation/0/u"]).any()
    for name in ("dense", "dense-mixed", "dense-l2", "dense-l1", "conv", "conv-strided", "conv-rectangular", "conv-l1"):
        a = golden_cases.golden(name)
        margins = [a[f"{v}/margins"] for v in golden_cases.VARIANTS if f"{v}/margins" in a]
        assert min(np.abs(s - t).max() for i, s in enumerate(margins) for t in margins[:i]) > 1e-3  # no two look alike
    for name in ("objectives", "objectives-l2", "objectives-conv"):
        losses = {round(float(golden_cases.golden(name)[f"{v}/loss"]), 6) for v in golden_cases.TRAINED}
        assert len(losses) == len(golden_cases.TRAINED)


def test_no_case_sits_on_a_kink_by_accident():
    """Rounding elsewhere moves no array by more than rounding: a relative change of 1e-11 by less than 1e-8."""
    rng = np.random.default_rng(0)
    for name in ALL[1:]:  # the tie in `hand` is on purpose, and exact
        a = golden_cases.inputs(name)
        for key in a:
            if re.match(r"\d|x|eps|cauchy", key):
                a[key] = a[key] * (1 + 1e-11 * rng.choice([-1, 1], a[key].shape))
        a["x"] = np.clip(a["x"], *a["domain"])
        for variant in (*golden_cases.VARIANTS, *golden_cases.TRAINED):
            for key, value in golden_cases.outputs(a, variant).items():
                assert conventions.difference(value, golden_cases.golden(name)[key])[0] < 1e-8, (name, key)


@pytest.mark.parametrize("name", ["dense-mixed", "dense-l2", "conv", "linear"])
def test_the_arrays_are_what_the_public_functions_give(name):
    a = golden_cases.golden(name)
    net, ball, y, _ = golden_cases.problem(a)
    for variant, (method, changes) in golden_cases.VARIANTS.items():
        if "projections" in changes:
            continue
        given = options(a, variant)
        np.testing.assert_array_equal(a[f"{variant}/margins"], rb.margin_bounds(net, ball, y, method, **given))
        bound = rb.linear_bound(net, ball, y, method, **given)
        np.testing.assert_array_equal(a[f"{variant}/g"], bound.g)
        np.testing.assert_array_equal(a[f"{variant}/b"], bound.b)
        for k, pair in enumerate(rb.preactivation_bounds(net, ball, method, **given)):
            for end, value in zip("lu", pair):
                np.testing.assert_array_equal(a[f"{variant}/preactivation/{k}/{end}"], value)
        if method != "alpha":
            out = rb.robust_loss(net, ball, y, method, float(a["beta"]), float(a["kappa"]), **given)
            assert a[f"{variant}/loss"] == out.value
            for key, d in out.grads.items():
                np.testing.assert_array_equal(a[f"{variant}/grad/{key}"], d)
        if method != "ibp":  # the chosen slopes, given back, choose the same bound
            slopes = [a[f"{variant}/slopes/{k}"] for k in range(len(net.relus))]
            again = rb.margin_bounds(net, ball, y, method, slopes=slopes)
            np.testing.assert_allclose(again, a[f"{variant}/margins"], rtol=1e-12, atol=1e-12)


# ---- check: what it names ----

@pytest.mark.parametrize("name", ALL)
def test_any_one_array_altered_by_a_millionth_is_the_one_named(name, tmp_path, capsys):
    shipped = golden.read(golden.SHIPPED / f"{name}.npz")
    rng, keys = np.random.default_rng(ALL.index(name)), [k for k, a in shipped.items() if a.dtype.kind in "fi"]
    for key in keys:
        a = shipped[key].astype(float)
        a.flat[rng.integers(a.size)] += 1e-6
        assert np.isinf(shipped[key]).any() or conventions.difference(a, shipped[key])[0] > 1e-9, key
    key = str(rng.choice([k for k in keys if "/" in k]))
    a = shipped[key].copy()
    at = np.unravel_index(rng.integers(a.size), a.shape)
    a[at] += 1e-6
    status, said = checked(capsys, write(tmp_path, name, {**shipped, key: a}))
    assert status == 1 and [*said["differ"]] == [key] and not said["missing"] and not said["unknown"]
    assert (f"at [{', '.join(map(str, at))}]: {float(a[at])!r}, expected {float(shipped[key][at])!r}"
            in said["differ"][key])


def test_missing_unknown_nan_and_misshapen_arrays_are_reported_as_such(tmp_path, capsys):
    a = golden_cases.golden("hand")
    part = {"crown/margins": a["crown/margins"], "crown/loss": a["crown/loss"].reshape(1)}
    status, said = checked(capsys, write(tmp_path, "hand", part))
    assert status == 0 and set(said["agree"]) == set(part) and not said["unknown"] and not said["differ"]
    assert checked(capsys, write(tmp_path, "hand", part), "--complete")[0] == 1
    status, said = checked(capsys, write(tmp_path, "hand", {**part, "crown/magrins": a["crown/margins"]}))
    assert status == 1 and said["unknown"] == {"crown/magrins": "crown/magrins  (expected crown/margins?)"}
    nan = np.where(a["crown/margins"] == 0, np.nan, a["crown/margins"])
    wrong = {"crown/margins": nan, "crown/loss": np.zeros(2), "crown/b": np.full((2, 2), "text")}
    status, said = checked(capsys, write(tmp_path, "hand", wrong))
    assert status == 1 and set(said["differ"]) == set(wrong)
    assert "nan" in said["differ"]["crown/margins"] and "shape (2,), expected ()" in said["differ"]["crown/loss"]
    assert checked(capsys, write(tmp_path, "hand", {}))[0] == 1


def test_what_is_no_real_number_differs_though_it_can_be_cast_to_one(tmp_path, capsys):
    a = golden_cases.golden("hand")["ibp/margins"]
    for kind in ("complex128", "datetime64[s]", "timedelta64[s]", "U9", "S9", "O"):
        assert conventions.difference(a.astype(int).astype(kind), a) == (
            np.inf, f"not numbers that float64 holds, but {np.dtype(kind)}")
    assert all(conventions.difference(a.astype(kind), a)[0] == 0 for kind in ("int8", "uint16", "float16"))
    assert conventions.difference(np.array(["-inf", "inf"]), np.array([-np.inf, np.inf]))[0] == 0  # as in a JSON file
    (tmp_path / "hand.json").write_text(json.dumps({"ibp/margins": [[0, 10**400], [3, 0]]}))
    status, said = checked(capsys, tmp_path / "hand.json")
    assert status == 1 and "not numbers that float64 holds, but object" in said["differ"]["ibp/margins"]


def test_an_exercise_in_plain_lists_is_told_what_is_missing_of_what_it_began(tmp_path, capsys):
    """Numbers of the hand-worked network, as a person would type them; one of them is wrong."""
    path, a = tmp_path / "hand.json", golden_cases.golden("hand")
    mine = {"ibp/margins": [[0, 4], [3, 0]], "crown-ibp/b": [[0, 2.8], [0.6, 0]], "crown-ibp/loss": 3.1, "Logits": 1}
    mine |= {f"crown-ibp/grad/{i}.{kind}": a[f"crown-ibp/grad/{i}.{kind}"].tolist() for i in (0, 2, 4)
             for kind in ("weight", "bias")}
    path.write_text(json.dumps(mine))
    status, said = checked(capsys, path)
    assert status == 1 and [*said["differ"]] == ["crown-ibp/loss"] and [*said["unknown"]] == ["Logits"]
    missing, rest = {}, [name for name in a if name != "provenance"]
    for method in ("ibp", "crown-ibp"):
        names = [name for name in a if name.startswith(f"{method}/")]
        missing[method] = f"{method}: " + " ".join(name[len(method) + 1:] for name in names if name not in mine)
        rest = [name for name in rest if name not in names]
    others = [method for method in golden_cases.VARIANTS if method not in missing]
    assert said["missing"] == {**missing, "all": f"all {len(rest)} arrays of: given, logits, {', '.join(others)}"}
    full = checked(capsys, path, "--complete")[1]["missing"]
    assert [*full] == ["given", "logits", *golden_cases.VARIANTS] and full["logits"] == "logits: logits"
    path = tmp_path / "objectives.json"  # its α has the name of a method
    path.write_text('{"alpha": 0.9}')
    assert [*checked(capsys, path)[1]["differ"]] == ["alpha"]
    path = tmp_path / "hand.json"
    path.write_text('{"ibp": {"margins": [[0, 4], [4, 0]]}}')
    with pytest.raises(ValueError, match="hand.json: .*: ibp: expected a number, lists of equal lengths, or a shape"):
        golden.main(["check", str(path)])
    path.write_text('{"ibp/margins": [[0, 4], [4]]}')
    with pytest.raises(ValueError,
                       match="hand.json: .*: ibp/margins: expected a number, lists of equal lengths, or a shape"):
        golden.main(["check", str(path)])


def test_the_exercise_of_the_page_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    page = (golden.SHIPPED / "README.md").read_text(encoding="utf-8")
    mine, printed = re.search(r"```json\n(.*?)```.*?```\n(.*?)```", page, re.DOTALL).groups()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hand.json").write_text(mine)
    assert golden.main(["check", "mine/hand.json", "--reference", str(golden.SHIPPED)]) == 1
    said, shown = ([re.sub(r"(?<=b  )[\d.e-]+", "0", line) for line in text.splitlines()]  # an error of rounding
                   for text in (capsys.readouterr().out, printed))
    assert said == shown


def test_another_references_folder_and_json_are_taken(tmp_path, capsys):
    golden.write(tmp_path)
    content = json.loads((tmp_path / "dead.json").read_text())
    content["one-step/g"]["data"][4] += 1e-6
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dead.json").write_text(json.dumps(content))
    status, said = checked(capsys, tmp_path / "other" / "dead.json", "--reference", tmp_path, "--quiet")
    assert status == 1 and [*said["differ"]] == ["one-step/g"] and not said["agree"]


def test_a_reference_whose_case_cannot_be_computed_is_one_clear_line(tmp_path):
    """It explains a difference by computing the case otherwise; an error of refbound is no fault of the reference."""
    whole = golden_cases.golden("hand")
    (tmp_path / "hand.json").write_text('{"ibp/margins": [[0, 7], [3, 0]]}')
    without_y = {name: a for name, a in whole.items() if name != "y"}
    for arrays, why in ((without_y, "it lacks 'y'"), ({**without_y, "y": whole["y"] + 0.5}, "y: expected labels"),
                        ({**whole, "ibp/margins": 1j}, "ibp/margins: expected numbers, got complex128")):
        np.savez(tmp_path / "hand.npz", **arrays)
        with pytest.raises(ValueError, match=f"hand.npz: expected a reference as .* of this one: {why}") as error:
            golden.main(["check", str(tmp_path / "hand.json"), "--reference", str(tmp_path)])
        assert "\n" not in str(error.value)


def test_an_error_of_refbound_is_not_called_one_of_the_reference(tmp_path, monkeypatch):
    def broken(*given):
        raise KeyError("dlines")
    (tmp_path / "hand.json").write_text('{"ibp/margins": [[0, 7], [3, 0]]}')
    monkeypatch.setattr(golden, "explain", broken)
    with pytest.raises(KeyError, match="dlines"):
        golden.main(["check", str(tmp_path / "hand.json")])


@pytest.mark.parametrize("content", [b"", b"no archive", "half", "a single array", "pickled"])
def test_a_file_of_another_kind_is_one_clear_line(content, tmp_path):
    path = tmp_path / "hand.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "half":
        whole = (golden.SHIPPED / "hand.npz").read_bytes()
        path.write_bytes(whole[:len(whole) // 2])
    elif content == "a single array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    else:
        np.savez(path, **{"crown/margins": np.array([object()])})
    with pytest.raises(ValueError, match=r"hand\.npz: not an \.npz or \.json file of arrays: \S+") as error:
        golden.main(["check", str(path)])
    assert "\n" not in str(error.value)


def test_a_file_without_a_reference_is_one_clear_line(tmp_path):
    for name, message in (("other", "no reference of that name"), ("hand", "no such file")):
        with pytest.raises(ValueError, match=message):
            golden.main(["check", str(tmp_path / f"{name}.npz")])
    (tmp_path / "hand.json").write_text("[1, 2]")
    done = subprocess.run([sys.executable, "-m", "verify.golden", "check", tmp_path / "hand.json"], capture_output=True,
                          text=True, cwd=golden.SHIPPED.parents[1])
    assert done.returncode == 1 and re.fullmatch(r"error: .*hand\.json: not an .*\n", done.stderr) and not done.stdout


# ---- check: the conventions, each produced here by other means than golden's ----

def outputs(a, net, ball, method, **given):
    """METHOD/margins, loss and gradients of a variant problem, by the public functions."""
    s = rb.margin_bounds(net, ball, a["y"], method, **given)
    out = rb.robust_loss(net, ball, a["y"], method, float(a["beta"]), float(a["kappa"]), **given)
    return {f"{method}/margins": s, f"{method}/loss": np.array(out.value),
            **{f"{method}/grad/{name}": d for name, d in out.grads.items()}}


def expect(capsys, path, words, changed):
    """Exactly the changed arrays differ, each explained in these words."""
    status, said = checked(capsys, path)
    assert status == 1 and changed and set(said["differ"]) == set(changed)
    for line in said["differ"].values():
        assert words in line.partition("<-")[2], line


def really(a, arrays):
    """Those that the convention changes."""
    return [name for name in arrays if conventions.difference(arrays[name], a[name])[0] > 1e-9]


@pytest.mark.parametrize("name, domain", [("dense", None), ("conv", None), ("hand", (0.0, 1.0))])
def test_clipping_is_recognised(name, domain, tmp_path, capsys):
    a, arrays = golden_cases.golden(name), {}
    net, ball, y, _ = golden_cases.problem(a)
    other = rb.Ball(ball.x, ball.eps, domain=domain)
    for method in ("ibp", "crown-ibp", "one-step", "cap", "crown"):
        arrays |= outputs(a, net, other, method, **options(a, method))
        for k, (l, u) in enumerate(rb.preactivation_bounds(net, other, method, **options(a, method))):
            arrays |= {f"{method}/preactivation/{k}/l": l, f"{method}/preactivation/{k}/u": u}
    expect(capsys, write(tmp_path, name, arrays), "clipping", really(a, arrays))


@pytest.mark.parametrize("name", ["dense", "dense-l2", "conv"])
def test_a_last_layer_that_is_not_merged_is_recognised(name, tmp_path, capsys):
    """IBP on logits one by one is IBP with one more ReLU, to which every logit comes positive."""
    a = golden_cases.golden(name)
    net, ball, y, _ = golden_cases.problem(a)
    n, c = len(net.layers), net.classes
    params = {**net.params, f"{n - 1}.bias": net.params[f"{n - 1}.bias"] + 64,
              f"{n + 1}.weight": np.eye(c), f"{n + 1}.bias": np.zeros(c)}
    apart = rb.Network([*net.layers, ReLU(), Linear(c, c)], params, net.input_shape)
    arrays = {key: value for key, value in outputs(a, apart, ball, "ibp").items() if key in a}
    l, u = rb.preactivation_bounds(apart, ball, "ibp")[-1]
    np.testing.assert_allclose(arrays["ibp/margins"][0, (y[0] + 1) % c], u[0, (y[0] + 1) % c] - l[0, y[0]])
    expect(capsys, write(tmp_path, name, arrays), "last layer not merged", really(a, arrays))


def test_a_last_layer_that_is_not_merged_is_recognised_in_linear_bounds(tmp_path, capsys):
    """z_m ≤ ... and z_y ≥ ...: margins against a class whose logit is the constant 0 bound the logits one by one."""
    a = golden_cases.golden("dense")
    net, ball, y, _ = golden_cases.problem(a)
    n, c = len(net.layers), net.classes

    def upper(sign):  # (N, c): upper bounds of ± each logit
        params = {**net.params, f"{n - 1}.weight": np.vstack([sign * net.params[f"{n - 1}.weight"],
                                                              0 * net.params[f"{n - 1}.weight"][:1]]),
                  f"{n - 1}.bias": np.append(sign * net.params[f"{n - 1}.bias"], 0)}
        wider = rb.Network([*net.layers[:-1], Linear(net.units[n - 1], c + 1)], params, net.input_shape)
        return {m: rb.margin_bounds(wider, ball, 0 * y + c, m)[:, :c] for m in ("crown-ibp", "cap-ibp", "cap", "crown")}

    up, minus_low = upper(1), upper(-1)
    rows, others = np.arange(len(y)), np.arange(c) != y[:, None]
    arrays = {f"{m}/margins": np.where(others, up[m] + minus_low[m][rows, y][:, None], 0) for m in up}
    expect(capsys, write(tmp_path, "dense", arrays), "last layer not merged", [*arrays])


@pytest.mark.parametrize("name", ["dense-mixed", "conv"])
def test_slopes_that_each_margin_chooses_for_itself_are_recognised(name, tmp_path, capsys):
    """Margin m alone is a network of two classes, m and y, with its own one-step slopes."""
    a = golden_cases.golden(name)
    net, ball, y, _ = golden_cases.problem(a)
    i, c, N = len(net.layers) - 1, net.classes, len(y)
    one = options(a, "one-step")
    s = np.zeros((N, c))
    for n in range(N):
        for m in set(range(c)) - {y[n]}:
            params = {**net.params, f"{i}.weight": net.params[f"{i}.weight"][[y[n], m]],
                      f"{i}.bias": net.params[f"{i}.bias"][[y[n], m]]}
            pair = rb.Network([*net.layers[:-1], Linear(net.units[i], 2)], params, net.input_shape)
            given = {**one, "a0": [a0[n:n + 1] for a0 in one["a0"]]}
            s[n, m] = rb.margin_bounds(pair, ball[n:n + 1], np.array([0]), "one-step", **given)[0, 1]
    alphas = {"alpha/margins": a["alpha-per-margin/margins"], "alpha-per-margin/margins": a["alpha/margins"]}
    expect(capsys, write(tmp_path, name, {"one-step/margins": s, **alphas}), "slopes shared between margins",
           ["one-step/margins", *alphas])


def test_the_other_side_of_a_tie_is_recognised(tmp_path, capsys):
    a = golden_cases.golden("hand")
    net, ball, y, _ = golden_cases.problem(a)
    slopes = [(u + l >= 0).astype(float) for l, u in rb.preactivation_bounds(net, ball, "crown-ibp")]
    arrays = {**outputs(a, net, ball, "crown-ibp", slopes=slopes), "crown-ibp/slopes/0": slopes[0]}
    expect(capsys, write(tmp_path, "hand", arrays), "tie at u = −l", really(a, arrays))


def test_ways_of_presenting_are_recognised_beside_a_convention(tmp_path, capsys):
    a = golden_cases.golden("dense")
    net, ball, y, _ = golden_cases.problem(a)
    others = np.arange(net.classes) != y[:, None]
    unclipped = rb.margin_bounds(net, rb.Ball(ball.x, ball.eps, domain=None), y, "crown")
    for key, value, words in [
            ("cap/margins", a["cap/margins"][others].reshape(len(y), -1), "column y left out"),
            ("cap/g", -a["cap/g"], "lower bounds of z_y − z_m"),
            ("cap/b", -a["cap/b"][others].reshape(len(y), -1), "column y left out; sign: lower bounds"),
            ("cap/loss", a["cap/loss"] * len(y), "summed over the examples"),
            ("cap/grad/2.weight", a["cap/grad/2.weight"] * len(y), "summed over the examples"),
            ("crown/margins", -unclipped, "clipping"),
            ("crown/margins", -unclipped, "lower bounds of z_y − z_m")]:
        expect(capsys, write(tmp_path, "dense", {key: value}), words, [key])


def test_a_plain_mistake_is_given_no_name(tmp_path, capsys):
    a = golden_cases.golden("dense")
    status, said = checked(capsys, write(tmp_path, "dense", {"one-step/margins": 1.01 * a["one-step/margins"]}))
    assert status == 1 and "<-" not in said["differ"]["one-step/margins"]


def test_a_check_leaves_the_library_and_the_reference_as_they_were(tmp_path, capsys):
    before = {**rb.METHODS, **golden_cases.VARIANTS, **golden_cases.golden("hand")}
    checked(capsys, write(tmp_path, "hand", {f"{v}/margins": np.ones((2, 2)) for v in golden_cases.VARIANTS}))
    after = {**rb.METHODS, **golden_cases.VARIANTS, **golden_cases.golden("hand")}
    assert [*before] == [*after] and all(after[name] is value for name, value in before.items())


def test_without_answers_the_right_number_is_not_told(capsys, tmp_path):
    (tmp_path / "hand.json").write_text(json.dumps({"ibp/margins": [[0, 7], [3, 0]], "crown/margins": [0, 3.6]}))
    _, told = checked(capsys, str(tmp_path / "hand.json"))
    _, hidden = checked(capsys, "--no-answers", str(tmp_path / "hand.json"))
    assert ("7.0, expected 4.0" in told["differ"]["ibp/margins"]
            and hidden["differ"]["ibp/margins"].endswith("at [0, 1]: 7.0"))
    assert "expected (2, 2)" in hidden["differ"]["crown/margins"]


def test_entries_are_held_to_a_share_of_their_own_arrays_largest():
    for size in (2e-3, 1.0, 1e6):
        a = np.array([0.0, size])
        assert conventions.difference(a + 1e-8 * size, a)[0] == pytest.approx(1e-8)


def test_one_file_that_differs_or_one_reference_that_lacks_an_array_fails_the_whole_check(tmp_path, capsys):
    a = golden_cases.golden("hand")
    good, bad = (write(tmp_path, name, {"ibp/margins": golden_cases.golden(name)["ibp/margins"] + off})
                 for name, off in (("dense", 0), ("hand", 1)))
    assert [checked(capsys, *files)[0] for files in ((good, good), (good, bad), (bad, good))] == [0, 1, 1]
    golden.write(tmp_path)
    write(tmp_path, "hand", {name: value for name, value in a.items() if name != "crown/loss"})
    status, said = checked(capsys, "--reference", tmp_path)
    assert status == 1 and said["missing"] == {"crown": "crown: loss"}
