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
from rating.manifest import ANSWERS, Study, read_study
from rating.results import analyse
from rating.store import Store
from utils import UserError, atomic_write, make_folder, write_text

ENOUGH_RATERS = 15  # ITU-R BT.500
HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Rating study</title>
<style>
body {{max-width: 1000px; margin: 2em auto; padding: 0 1em; font: 16px/1.5 system-ui, sans-serif}}
img {{max-width: 100%}} table {{border-collapse: collapse; margin: 1em 0}}
th, td {{padding: 2px 10px; border-bottom: 1px solid #ccc; text-align: left}}
</style></head>
<body>
{body}
</body></html>
"""
NOTES = """- Intervals are for other raters and other pictures of the same kind: a bootstrap over both together. There \
is none with fewer than two of either.
- The tests compare the raters' means, so they are about other raters but these very pictures.
- A set of few pictures says little about other pictures, however many people rate it."""
NOTE = {  # of one kind of study
    "rating": "- The paper's numbers come from 26 other people, other screens and other pictures in between: compare "
    "orders and distances, not the numbers themselves.",
    "pairs": "- Strength is Bradley and Terry's: a method that is 1 stronger is preferred 73 % of the time.",
}


def write_report(folder: str | Path, everyone: bool = False) -> tuple[Path, int, int]:
    """Write FOLDER/report from the ratings so far, and return (report.html, the numbers of answers and of raters).

    everyone: nobody is left out. Raises UserError without ratings.
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
    picture, text = draw(results["sets"], study.kind), as_markdown(results)
    with atomic_write(target / "report.png") as temporary:
        temporary.write_bytes(picture)
    write_text(target / "report.md", text)
    body = markdown.markdown(text, extensions=["tables"])
    inside = f'src="data:image/png;base64,{base64.b64encode(picture).decode()}"'
    write_text(target / "report.html", HTML.format(body=body.replace('src="report.png"', inside)))
    write_text(target / "report.json", json.dumps(results, indent=1) + "\n")
    write_text(target / "methods.csv", as_csv(methods_table(results)))
    write_text(target / "ratings.csv", as_csv(ratings_table(study, rows)))
    return target / "report.html", results["answers"], results["raters"]


def number(value: float | None) -> str:
    """Return a number for a table, empty for None."""
    return "" if value is None else f"{value:.2f}"


def probability(p: float) -> str:
    """Return a p-value with the sign that follows the letter p."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["", *(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def as_markdown(results: dict[str, Any]) -> str:
    """Return the report as Markdown. results: from analyse()."""
    kind = results["kind"]
    lines = [
        f"# {'Mean opinion' if kind == 'rating' else 'Preference'}",
        "",
        f"{results['raters']} raters ({results['raters_left_out']} more left out, see below), "
        f"{results['items']} items, {results['answers']} answers; seed {results['seed']}.",
        "",
        "![Distribution, mean and rank of each method](report.png)",
    ]
    for result in results["sets"]:
        lines += ["", f"## {result['set']}, {result['pictures']} pictures", *means(result, kind)]
        lines += comparison(result["comparison"])
    lines += ["## How to read this", "", NOTES, NOTE[kind]]
    if results["raters"] < ENOUGH_RATERS:
        lines.append(f"- There are few raters ({results['raters']}): ITU-R BT.500 asks for {ENOUGH_RATERS} or more.")
    lines += ["", "## Raters", *screening(results["screening"]), *repeats_and_screens(results)]
    return "\n".join(lines) + "\n"


def means(result: dict[str, Any], kind: str) -> list[str]:
    """Return the lines of the table of means, the best method first."""
    mean, last = ("mean opinion", "paper") if kind == "rating" else ("share preferred", "strength")
    rows = []
    for row in sorted(result["methods"], key=lambda row: -(row["mean"] or 0)):
        interval = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        numbers = number(row["mean"]), interval, number(row[last]), number(row["rank"])
        rows.append([row["method"], *numbers, *row["distribution"]])
    return table(["method", mean, "95 % interval", last, "average rank", *ANSWERS[kind]], rows)


def comparison(tests: dict[str, Any] | None) -> list[str]:
    """Return the lines on Friedman's test and on the tests of each pair of methods."""
    if tests is None:
        return ["No tests: they need at least three raters who judged every method, and three methods.", ""]
    lines = [f"Friedman's test over {tests['raters']} raters: chi2 = {tests['chi2']:.2f}, p {probability(tests['p'])}."]
    rows = []
    for pair in tests["pairs"]:
        p_values = [probability(pair[name]).removeprefix("= ") for name in ("p", "p_holm")]
        differ = "yes" if pair["p_holm"] < 0.05 else "no"
        rows.append([" - ".join(pair["methods"]), f"{pair['difference']:+.2f}", *p_values, differ])
    enough = enough_to_differ(len(rows))
    if tests["raters"] < enough:
        lines += ["", f"Two of these methods can differ at 5 % only with {enough} raters or more."]
    return lines + table(["methods", "difference", "p (Wilcoxon)", "p (Holm)", "differ at 5 %"], rows)


def enough_to_differ(pairs: int) -> int:
    """Return the fewest raters n with whom Wilcoxon's p, at least 2 / 2^n, can be below 5 % after Holm over `pairs`."""
    return 2 + math.floor(math.log2(pairs / 0.05))


def screening(lines: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of raters: what they were screened by, and who was left out."""
    rows = []
    for line in lines:
        values = [number(line[name]) for name in ("nearest", "hr", "repeated", "correlation")]
        stays = "yes" if line["kept"] else "no"
        if line["reasons"]:
            stays += f"{', though' if line['kept'] else ':'} {'; '.join(line['reasons'])}"
        rows.append([line["rater"], f"{line['judged']:.0%}", *values, stays])
    return table(["rater", "judged", "nearest", "HR", "repeats differ by", "correlation", "kept"], rows)


def repeats_and_screens(results: dict[str, Any]) -> list[str]:
    """Return the lines on the items shown twice and on the raters' screens."""
    repeated, screens = results["repeats"], results["screens"]
    lines = []
    if repeated["count"]:
        lines += [
            f"Shown twice: {repeated['count']} items; {repeated['same']:.0%} got the same answer again, the mean "
            f"difference is {repeated['difference']:.2f} and the mean shift {repeated['mean_shift']:+.2f}.",
            "",
        ]
    for title, counts in (("Device pixels per CSS pixel", screens["pixel_ratios"]), ("Screens", screens["screens"])):
        lines.append(f"{title}: {', '.join(f'{name} ({count} answers)' for name, count in counts.items())}.")
    return lines + [f"Pictures that did not fit and were cropped: {screens['cropped']:.0%}."]


def methods_table(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of methods.csv."""
    answers = [answer.replace(" ", "_") for answer in ANSWERS[results["kind"]]]
    return [
        {"set": result["set"]}
        | {name: value for name, value in row.items() if name != "distribution"}
        | dict(zip(answers, row["distribution"]))
        for result in results["sets"]
        for row in result["methods"]
    ]


def ratings_table(study: Study, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of ratings.csv: every answer but those to examples, with the methods' names and raters' numbers.

    The two methods of a pair are separated by " | ".
    """
    shown = {item.name: [study.pictures[name] for name in item.shown] for item in study.items}
    result = []
    for row in rows:
        if row["item"] in shown:
            first, *_ = pictures = shown[row["item"]]
            methods = " | ".join(picture["method"] for picture in pictures[::2])  # without the original between them
            described = {"rater": row["rater"], "set": first["set"], "picture": first["picture"], "method": methods}
            result.append(described | {name: value for name, value in row.items() if name not in ("rater", "item")})
    return result
