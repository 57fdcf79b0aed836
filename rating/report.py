"""Write the report of a study: Markdown, a single HTML file, a figure, CSV and JSON."""

import base64
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import markdown

from evaluation.tables import as_csv
from rating.figure import draw
from rating.manifest import Study, read_study
from rating.results import analyse
from rating.store import Store
from utils import UserError, atomic_write, make_folder, write_text

ENOUGH_RATERS = 15  # ITU-R BT.500
STYLE = """body {max-width: 1000px; margin: 2em auto; padding: 0 1em; font: 16px/1.5 system-ui, sans-serif}
img {max-width: 100%} table {border-collapse: collapse; margin: 1em 0}
th, td {padding: 2px 10px; border-bottom: 1px solid #ccc; text-align: left}"""


def write_report(folder: str | Path, everyone: bool = False) -> tuple[Path, int, int]:
    """Write FOLDER/report from the ratings so far, and return (report.html, the numbers of answers and of raters).

    everyone: keep raters who would be left out. Raises UserError without ratings.
    """
    study = read_study(folder)
    if not study.database.is_file():
        raise UserError(f"{folder}: nobody has rated yet; python study.py serve {folder}")
    store = Store(study.database)
    rows = store.ratings()
    store.close()
    results = analyse(study, rows, everyone)
    if not results["screening"]:
        raise UserError(f"{folder}: no ratings yet, except of the examples; python study.py serve {folder}")
    if not results["raters"]:
        reasons = "; ".join(sorted({reason for line in results["screening"] for reason in line["reasons"]}))
        raise UserError(f"{folder}: every rater would be left out ({reasons}); --everyone keeps them")
    target = study.folder / "report"
    make_folder(target)
    picture = draw(results["sets"], study.kind)
    with atomic_write(target / "report.png") as temporary:
        temporary.write_bytes(picture)
    text = as_markdown(results)
    write_text(target / "report.md", text)
    write_text(target / "report.html", as_html(text, picture))
    write_text(target / "report.json", json.dumps(results, indent=1) + "\n")
    write_text(target / "methods.csv", as_csv(methods_table(results)))
    write_text(target / "ratings.csv", as_csv(ratings_table(study, rows)))
    return target / "report.html", results["answers"], results["raters"]


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for a table, empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["", *(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def as_markdown(results: dict[str, Any]) -> str:
    """Return the report as Markdown. results: from analyse()."""
    rating = results["kind"] == "rating"
    lines = [f"# {'Mean opinion' if rating else 'Preference'}", ""]
    left_out = results["raters_left_out"]
    lines += [
        f"{results['raters']} raters ({left_out} more left out, see below), {results['items']} items, "
        f"{results['answers']} answers; seed {results['seed']}.",
        "",
        "![Distribution, mean and rank of each method](report.png)",
    ]
    for result in results["sets"]:
        lines += ["", f"## {result['set']}, {result['pictures']} pictures", *means(result, rating)]
        lines += comparison(result["comparison"])
    lines += ["## How to read this", "", *notes(results, rating), "", "## Raters", *screening(results["screening"])]
    return "\n".join(lines + repeats_and_screens(results)) + "\n"


def means(result: dict[str, Any], rating: bool) -> list[str]:
    """Return the lines of the table of means, the best method first."""
    shown = ["1", "2", "3", "4", "5"] if rating else ["other closer", "tie", "closer"]
    kind = ["mean opinion", "95 % interval", "paper"] if rating else ["share preferred", "95 % interval", "strength"]
    rows = []
    for row in sorted(result["methods"], key=lambda row: -(row["mean"] or 0)):
        interval = "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
        last = number(row["paper"] if rating else row["strength"])
        rows.append([row["method"], number(row["mean"]), interval, last, number(row["rank"]), *row["distribution"]])
    return table(["method", *kind, "average rank", *shown], rows)


def comparison(found: dict[str, Any] | None) -> list[str]:
    """Return the lines on Friedman's test and on the tests of each pair of methods."""
    if found is None:
        return ["No tests: they need at least three raters who judged every method, and three methods.", ""]
    lines = [
        f"Friedman's test over {found['raters']} raters: chi2 = {number(found['chi2'])}, p {probability(found['p'])}."
    ]
    rows = [
        [
            " - ".join(pair["methods"]),
            f"{pair['difference']:+.2f}",
            probability(pair["p"]).removeprefix("= "),
            probability(pair["p_holm"]).removeprefix("= "),
            "yes" if pair["p_holm"] < 0.05 else "no",
        ]
        for pair in found["pairs"]
    ]
    enough = enough_to_differ(len(rows))
    if found["raters"] < enough:
        lines += ["", f"Two of these methods can differ at 5 % only with {enough} raters or more."]
    return lines + table(["methods", "difference", "p (Wilcoxon)", "p (Holm)", "differ at 5 %"], rows)


def enough_to_differ(pairs: int) -> int:
    """Return the fewest raters n with whom Wilcoxon's p, at least 2 / 2^n, can be below 5 % after Holm over `pairs`."""
    return 2 + math.floor(math.log2(pairs / 0.05))


def probability(p: float | None) -> str:
    """Return a p-value as text that follows the letter p."""
    if p is None:
        return "not defined"
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}"


def notes(results: dict[str, Any], rating: bool) -> list[str]:
    """Return the list of what may be concluded from the results."""
    lines = [
        "- Intervals are for other raters and other pictures of the same kind: a bootstrap over both together. There "
        "is none with fewer than two of either.",
        "- The tests compare the raters' means, so they are about other raters but these very pictures.",
        "- A set of few pictures says little about other pictures, however many people rate it.",
    ]
    if rating:
        lines.append(
            "- The paper's numbers come from 26 other people, other screens and other pictures in between: compare "
            "orders and distances, not the numbers themselves."
        )
    else:
        lines.append("- Strength is Bradley and Terry's: a method that is 1 stronger is preferred 73 % of the time.")
    if results["raters"] < ENOUGH_RATERS:
        lines.append(f"- There are few raters ({results['raters']}): ITU-R BT.500 asks for {ENOUGH_RATERS} or more.")
    return lines


def screening(lines: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of raters: what they were screened by, and who was left out."""
    header = ["rater", "judged", "nearest", "HR", "repeats differ by", "correlation", "kept"]
    rows = []
    for line in lines:
        values = [number(line[name]) for name in ("nearest", "hr", "repeated", "correlation")]
        reasons = "; ".join(line["reasons"])
        kept = "yes"
        if reasons:
            kept = f"yes, though {reasons}" if line["kept"] else f"no: {reasons}"
        rows.append([line["rater"], f"{line['judged']:.0%}", *values, kept])
    return table(header, rows)


def repeats_and_screens(results: dict[str, Any]) -> list[str]:
    """Return the lines on the items shown twice and on the raters' screens."""
    repeated, screens = results["repeats"], results["screens"]
    lines = []
    if repeated["count"]:
        lines += [
            f"Shown twice: {repeated['count']} items; {repeated['same']:.0%} got the same answer again, the mean "
            f"difference is {number(repeated['difference'])} and the mean shift {repeated['mean_shift']:+.2f}.",
            "",
        ]
    for title, counts in (("Device pixels per CSS pixel", screens["pixel_ratios"]), ("Screens", screens["screens"])):
        lines.append(f"{title}: {', '.join(f'{name} ({count} answers)' for name, count in counts.items())}.")
    return lines + [f"Pictures that did not fit and were cropped: {screens['cropped']:.0%}."]


def as_html(text: str, picture: bytes) -> str:
    """Return the report as a single HTML file. text: the Markdown. picture: the figure as PNG."""
    body = markdown.markdown(text, extensions=["tables"])
    data = base64.b64encode(picture).decode()
    body = body.replace('src="report.png"', f'src="data:image/png;base64,{data}"')
    head = f'<meta charset="utf-8"><title>Rating study</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def methods_table(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of methods.csv."""
    labels = ["1", "2", "3", "4", "5"] if results["kind"] == "rating" else ["other_closer", "tie", "closer"]
    rows = []
    for result in results["sets"]:
        for row in result["methods"]:
            flat = {name: value for name, value in row.items() if name != "distribution"}
            rows.append({"set": result["set"]} | flat | dict(zip(labels, row["distribution"])))
    return rows


def ratings_table(study: Study, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of ratings.csv: every answer but those to examples, with the methods' names and raters' numbers.

    The two methods of a pair are separated by " | ".
    """
    shown = {item.name: [study.pictures[name] for name in item.shown] for item in study.items}
    result = []
    for row in rows:
        if row["item"] in shown:
            pictures = shown[row["item"]]
            methods = " | ".join(picture["method"] for picture in pictures[::2])  # without the original between them
            described = {"set": pictures[0]["set"], "picture": pictures[0]["picture"], "method": methods}
            answer = {name: value for name, value in row.items() if name not in ("rater", "item")}
            result.append({"rater": row["rater"]} | described | answer)
    return result
