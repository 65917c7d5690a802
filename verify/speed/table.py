"""Tables as plain text that is also Markdown, and the one of the times."""

import statistics


def table(header, rows, left=("method", "model", "why")):
    """Lines of a table whose columns are aligned: those headed as in `left` to the left, the others to the right."""
    columns = [[str(cell) for cell in column] for column in zip(header, *rows)]
    for column in columns:
        width, align = max(3, *map(len, column)), str.ljust if column[0] in left else str.rjust
        column.insert(1, "-" * width if column[0] in left else "-" * (width - 1) + ":")
        column[:] = [align(cell, width) for cell in column]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in zip(*columns))


def report(rows, args, load):
    """Two tables of the rows, the times and what decides them, and what could not be timed."""
    of = [(row["model"] if row["of"] is None else "{} {}".format(*row["of"]), method_name(row)) for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row["ms"]))
    times = [(*case, *(number(row["ms"].get(name)) for name in names), f"{row['ratio']:.2f}" if row["ratio"] else "–")
             for case, row in zip(of, rows)]
    work = [(*case, row["batch"], number(row["gflop"]), f"{100 * row['share']:.0f} %",
             " / ".join(number(row["mb"].get(name)) for name in ("refbound", row["fastest"])))
            for case, row in zip(of, rows)]
    rate = statistics.median(row["sgemm"] for row in rows)
    notes = (f"Median ms of a step in {args.repeats} turns on {args.threads} threads; ratio: the fastest other's to "
             f"refbound's; sgemm: {rate:.0f} GFLOP/s (2048³, median of this run); MB: peak above the imports, "
             f"refbound's / the fastest other's. Load of the machine before the run: {load}.")
    failed = [f"not timed: {method_name(row)} on {row['model']}: {text}"
              for row in rows for text in row["failed"].values()]
    return "\n".join([table(["model", "method", *names, "ratio"], times), "",
                      table(["model", "method", "batch", "GFLOP", "of sgemm", "MB"], work), "", notes, *failed])


def method_name(row):
    """The method of a row, with its projections."""
    return row["method"] + (f", {row['projections']} projections" if row["projections"] else "")


def number(value):
    """Three digits that matter, or – for nothing."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
