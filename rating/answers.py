"""The raters' answers as arrays, and which raters are left out of the report, with the reasons."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from rating.manifest import Study
from rating.statistics import average

# What is required of a rater
ENOUGH = 0.5  # at least this fraction of the items is judged
NEAREST, HR = 2, 4  # the mean opinion of nearest is below 2 and that of HR above 4
REPEATED = {"rating": 1, "pairs": 0.75}  # two answers to one item differ by no more than this on average
CORRELATION = 0.75  # the rater's opinions correlate at least so much with the mean of the others'


class Answers(NamedTuple):
    """The answers of all raters, the items in the study's order; NaN for a missing answer."""

    raters: list  # their numbers
    first: np.ndarray  # (raters, items)
    again: np.ndarray  # (raters, items), to the repeats


def collect(study: Study, rows: Sequence[dict[str, Any]]) -> Answers:
    """Return the Answers in the rows of the store, without those to the examples and raters who have no others."""
    column = {item.name: number for number, item in enumerate(study.items)}
    rows = [row for row in rows if row["item"] in column]
    raters = sorted({row["rater"] for row in rows})
    line = {rater: number for number, rater in enumerate(raters)}
    answers = np.full((2, len(raters), len(study.items)), np.nan)
    for row in rows:
        answers[row["repeat"], line[row["rater"]], column[row["item"]]] = row["value"]
    return Answers(raters, *answers)


def keep(answers: Answers, kept: Collection[int]) -> Answers:
    """Return the Answers of the raters whose numbers are in `kept`."""
    lines = [number for number, rater in enumerate(answers.raters) if rater in kept]
    return Answers([answers.raters[line] for line in lines], answers.first[lines], answers.again[lines])


def sets(study: Study) -> list[str]:
    """Return the names of the sets in the order of the items."""
    return list(dict.fromkeys(study.pictures[item.shown[0]]["set"] for item in study.items))


def opinions(study: Study, first: np.ndarray, name: str) -> np.ndarray:
    """Return each rater's opinions of the set `name`, (raters, pictures, methods); NaN if there is none.

    first: as in Answers. An opinion is a rating, or in pairs the share of its comparisons on this picture that the
    method has won; a tie counts as a half.
    """
    pictures: dict[str, int] = {}
    cells = []
    for number, item in enumerate(study.items):
        shown = [study.pictures[picture] for picture in item.shown]
        if shown[0]["set"] == name:
            row = pictures.setdefault(shown[0]["picture"], len(pictures))
            cells.append((number, row, study.methods.index(shown[0]["method"]), False))
            if study.kind == "pairs":
                cells.append((number, row, study.methods.index(shown[2]["method"]), True))
    total = np.zeros((len(first), len(pictures), len(study.methods)))
    count = np.zeros_like(total)
    for number, row, method, second in cells:
        value = first[:, number]
        if study.kind == "pairs":
            value = (value - 1) / 2 if second else (3 - value) / 2
        known = ~np.isnan(value)
        total[known, row, method] += value[known]
        count[known, row, method] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def mean_opinion(study: Study, first: np.ndarray, method: str) -> np.ndarray | None:
    """Return each rater's mean opinion of `method` over all sets, (raters,); None if the study lacks the method."""
    if method not in study.methods:
        return None
    column = study.methods.index(method)
    return average(np.concatenate([opinions(study, first, name)[..., column] for name in sets(study)], 1), 1)


def correlation_with_others(first: np.ndarray) -> np.ndarray:
    """Return the correlation of each rater's opinions with the mean of the others', (raters,); NaN if undefined."""
    result = np.full(len(first), np.nan)
    for rater, own in enumerate(first):
        others = np.delete(first, rater, axis=0)
        if len(others):
            others = average(others, 0)
            both = ~np.isnan(own) & ~np.isnan(others)
            if both.sum() > 2 and np.ptp(own[both]) > 0 and np.ptp(others[both]) > 0:
                result[rater] = np.corrcoef(own[both], others[both])[0, 1]
    return result


def screen(study: Study, answers: Answers) -> list[dict[str, Any]]:
    """Check every rater against the requirements; one without "reasons" to be left out is kept.

    Returns [{"rater", "judged", "nearest", "hr", "repeated", "correlation", "reasons"}]. In pairs, "nearest" is the
    share of comparisons that nearest has won, which must be below a half.
    """
    rating, nothing = study.kind == "rating", np.full(len(answers.raters), np.nan)
    nearest, hr = (mean_opinion(study, answers.first, method) for method in ("nearest", "HR"))
    columns = {
        "judged": (~np.isnan(answers.first)).mean(1),
        "nearest": nothing if nearest is None else nearest,
        "hr": nothing if hr is None or not rating else hr,
        "repeated": average(abs(answers.first - answers.again), 1),
        "correlation": correlation_with_others(answers.first) if rating else nothing,
    }
    low, steady = NEAREST if rating else 0.5, REPEATED[study.kind]
    rules = {
        f"judged fewer than {ENOUGH:.0%} of the items": columns["judged"] < ENOUGH,
        f"nearest at {low:g} or above": columns["nearest"] >= low,
        f"HR at {HR} or below": columns["hr"] <= HR,
        f"repeats differ by more than {steady} on average": columns["repeated"] > steady,
        f"correlation with the others below {CORRELATION}": columns["correlation"] < CORRELATION,
    }
    return [
        {"rater": rater}
        | {name: None if np.isnan(values[line]) else float(values[line]) for name, values in columns.items()}
        | {"reasons": [reason for reason, broken in rules.items() if broken[line]]}
        for line, rater in enumerate(answers.raters)
    ]
