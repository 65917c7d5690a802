"""The paper's Tables 1 and 2 from results of ours, beside published numbers (inputs/published.py).

    python -m trainers.table1                       the results in trainers/results
    python -m trainers.table1 RUN... RESULT.json... FOLDER...

A cell is standard / PGD / verified error in percent on the test set, the mean and the standard deviation over n seeds.
Tables are Markdown. CBP β₀→β₁ (Section 7) is CROWN-IBP mixed with IBP (3), β going from β₀ to β₁ with the ramp.
"""

import statistics
from dataclasses import dataclass

from .files import record
from .files.words import COLUMNS, MEASURED, heading, markdown, network, radius, same, schedule
from .inputs import arguments, published
from .inputs.arguments import argument

ERRORS = ("standard_error", "pgd_error", "verified_error")


@dataclass
class Args:
    """Tables 1 and 2 of the paper, from our runs, beside published numbers."""

    results: tuple = argument((), "run folders, results (NAME.json) or folders of them (default: trainers/results)",
                              positional=True, type=str)


def main(argv=None):
    """Prints the tables of each network that the results are of."""
    args = arguments.parse(Args, "trainers.table1", argv)
    print("\n\n".join(tables(map(record.finished, record.read(args.results or (record.RESULTS,))))))


def tables(records):
    """The tables as text, for each network: Table 1, the other methods, Table 2, and the schedules of the runs."""
    networks = {}
    for one in records:
        given = one["arguments"]
        cells = networks.setdefault((network(given), published_data(given)), {})
        cells.setdefault((heading(given), nearest(given["eps"], published_data(given))), []).append(one)
    for (name, data), cells in networks.items():
        for found in cells.values():
            check(found)
        yield "\n\n".join([f"Table 1. {name}: standard / PGD / verified error in %", table1(data, cells),
                           *others(cells), note(data), *complete(cells)])
        if data in published.LITERATURE:
            used = {letter for *_, letters in published.LITERATURE[data] for letter in letters.split(", ")}
            yield "\n\n".join([f"Table 2. Published errors on {data.upper()}, and those of {name}",
                               table2(data, name, cells),
                               "\n".join(f"({letter}) {published.SOURCES[letter]}" for letter in sorted(used))])
        yield ("The runs, with the mean verified error in their last epoch of training:\n"
               + "\n".join(schedules(cells)))


def published_data(given):
    """The data of a run as inputs/published.py names it; None in another norm, or for another set in MNIST's format."""
    other = given["norm"] != "inf" or given["data"] == "mnist" and given["data_dir"]
    return given["data"] if given["data"] in published.PAPER and not other else None


def note(data):
    """What the signs of Table 1 mean."""
    papers = (f" \"published\" are the paper's errors, of {published.NETWORKS[data]}; – where it has none."
              if data else "")
    return ("± is the sample standard deviation over the n seeds in brackets. ≈ is an estimate by random projections, "
            f"which certifies nothing.{papers}")


def nearest(eps, data):
    """The ε of the paper's tables that a run has, which the released settings have to seven digits; else its own."""
    return min((e for part in published.PAPER.get(data, {}).values() for e in part if abs(e - eps) < 1e-6), default=eps)


def check(records):
    """ValueError unless the runs of a cell differ in their seeds and nothing else."""
    first, seeds = records[0], [one["arguments"]["seed"] for one in records]
    for other in records[1:]:
        a, b = map(record.alike, (first, other))
        keys = [k for k in {**a, **b} if a.get(k) != b.get(k)]
        keys = [k for k in keys if k != "test_set" or k in a and k in b]  # which earlier versions did not note
        if keys:
            raise ValueError(f"{first['name']} and {other['name']} differ in {', '.join(keys)}; "
                             "expected runs that differ in their seeds")
        if not same(*(one["exact"] or one["result"] for one in (first, other))):
            raise ValueError(f"{first['name']} and {other['name']} were evaluated differently: expected the same "
                             f"{', '.join(MEASURED)}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{', '.join(one['name'] for one in records)}: expected runs of different seeds, "
                         f"got seeds {seeds}")


def table1(data, cells):
    """Rows ε, columns the paper's methods; the errors of each part of its Table 1 in their own row beneath ours."""
    rows, columns, parts = [], list(COLUMNS.values()), published.PAPER.get(data, {})
    for eps in sorted({*(eps for part in parts.values() for eps in part),
                       *(eps for column, eps in cells if column in columns)}):
        rows.append([radius(eps), "ours", *(cell(cells.get((column, eps))) for column in columns)])
        rows += [["", name, *map(triple, part[eps])] for name, part in parts.items() if eps in part]
    return markdown(["ε", "", *columns], rows)


def others(cells):
    """The methods that are no column of Table 1, if there are any: a row for each, with the bounds that verified it."""
    rows = [[column, radius(eps), cell(found), ", ".join((found[0]["exact"] or found[0]["result"])["method"])]
            for (column, eps), found in cells.items() if column not in COLUMNS.values()]
    return [markdown(["other methods", "ε", "standard / PGD / verified", "by"], rows)] if rows else []


def complete(cells):
    """The networks of which every image was decided, if there are any: a row for each, and for the mean of several."""
    rows = []
    for (column, eps), found in sorted(cells.items(), key=lambda cell: cell[0][1]):
        decided = [one for one in found if exact(one)]
        for runs in [[one] for one in decided] + [decided] * (len(decided) > 1):
            results = [one["exact"] or one["result"] for one in runs]
            pgd, verified = ([result[key] for result in results] for key in ("pgd_error", "verified_error"))
            name = f"mean of {len(runs)}" if len(runs) > 1 else f"seed {runs[0]['arguments']['seed']}"
            rows.append([radius(eps), f"{column}, {name}", spread(pgd), exact(*runs), spread(verified),
                         missed(pgd, [one["complete"]["exact_error"] for one in runs], verified)])
    title = ("Every image decided (verify.complete): errors of networks in %, "
             "and the share of verified − PGD that PGD missed")
    return [f"{title}\n\n{markdown(['ε', 'network', 'PGD', 'exact', 'verified', 'missed'], rows)}"] if rows else []


def missed(pgd, exact, verified):
    """The share of verified − PGD that lies between PGD and the exact error, of the means of each."""
    if None in pgd or sum(pgd) == sum(verified):
        return "–"
    return f"{100 * (sum(exact) - sum(pgd)) / (sum(verified) - sum(pgd)):.0f} %"


def exact(*records):
    """The exact error, or the mean of several; an interval where images are unknown, None if not all were decided."""
    done = [record.get("complete") for record in records]
    if all(done):
        least, unknown = (statistics.mean(values) for values in zip(
            *((one["exact_error"], 100 * one["unknown"] / one["images"]) for one in done)))
        return " to ".join(dict.fromkeys((f"{least:.2f}", f"{least + unknown:.2f}")))


def table2(data, name, cells):
    """The literature, and IBP and OURS here, by ε."""
    literature = published.LITERATURE[data]
    every = sorted({eps for _, _, errors, _ in literature for eps in errors})
    rows = [[method, size, source, *(triple(errors.get(eps)) for eps in every)]
            for method, size, errors, source in literature]
    rows += [[f"{column}, here", name.split(", ")[1], "", *(cell(cells.get((column, eps))) for eps in every)]
             for column in ("IBP", "OURS") if any((column, eps) in cells for eps in every)]
    return markdown(["method", "network", "source", *(f"ε = {radius(eps)}" for eps in every)], rows)


def cell(records):
    """Mean and spread of the errors of runs that differ in their seeds."""
    if not records:
        return "–"
    found = [one["exact"] or one["result"] for one in records]
    about = "≈" if any(result["estimate"] for result in found) else ""
    parts = [spread([result[key] for result in found]) for key in ERRORS]
    return f"{parts[0]} / {parts[1]} / {about}{parts[2]} ({len(found)})"


def spread(values):
    """Mean ± standard deviation of a sample, of one value itself."""
    if None in values:
        return "–"
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def triple(errors):
    """Published errors; – for those that are not known."""
    return " / ".join("–" if e is None else f"{e:.2f}" for e in errors) if errors else "–"


def schedules(cells):
    """How the runs were trained, a line for all that were trained alike."""
    alike = {}
    for (column, _), records in cells.items():
        for one in records:
            alike.setdefault(schedule(one["arguments"]), {}).setdefault(column, []).append(one)
    for text, columns in alike.items():
        yield f"- {text}"
        for column, runs in columns.items():
            of_eps = ", ".join(radius(eps) + in_training([one for one in runs if one["arguments"]["eps"] == eps])
                               for eps in sorted({one["arguments"]["eps"] for one in runs}))
            minutes = statistics.mean(one["result"]["training_seconds"] / 60 for one in runs)
            many = f"{len(runs)} runs, {minutes:.1f} minutes each" if len(runs) > 1 else f"1 run, {minutes:.1f} minutes"
            yield f"  - {column}: ε {of_eps}; {many}"


def in_training(runs):
    """The mean verified error in the last epoch of training, at its ε; nothing for runs that did not log it."""
    last = [column[-1] for one in runs if (column := one["log"].get("verified_error"))]
    return f" ({statistics.mean(last):.1f} %)" if last else ""


if __name__ == "__main__":
    arguments.run(main)
