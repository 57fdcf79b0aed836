"""What raters answered, as arrays; and which raters are left out of the report, with the reason."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from rating.manifest import Study
from rating.statistics import average

ENOUGH = 0.5  # of the items must have been judged
NEAREST, HR = 2, 4  # a rater's mean opinion of nearest must be below 2 and that of HR above 4
REPEATED = {"rating": 1, "pairs": 0.75}  # by which two answers to one item differ at most, on average
CORRELATION = 0.75  # of a rater's opinions with the mean of the others'


class Answers(NamedTuple):
    """first, again: (raters, items) as the items of the study lie; NaN where there is no answer."""

    raters: list  # numbers
    first: np.ndarray
    again: np.ndarray


def collect(study: Study, rows: Sequence[dict[str, Any]]) -> Answers:
    """The Answers in the rows of the store; those to the examples left out, raters without any too."""
    column = {item.name: number for number, item in enumerate(study.items)}
    rows = [row for row in rows if row["item"] in column]
    raters = sorted({row["rater"] for row in rows})
    line = {rater: number for number, rater in enumerate(raters)}
    answers = np.full((2, len(raters), len(study.items)), np.nan)
    for row in rows:
        answers[row["repeat"], line[row["rater"]], column[row["item"]]] = row["value"]
    return Answers(raters, *answers)


def keep(answers: Answers, kept: Collection[int]) -> Answers:
    """The Answers of the raters whose numbers are in `kept`."""
    lines = [number for number, rater in enumerate(answers.raters) if rater in kept]
    return Answers([answers.raters[line] for line in lines], answers.first[lines], answers.again[lines])


def sets(study: Study) -> list[str]:
    """The names of the sets in the order of the items."""
    return list(dict.fromkeys(study.pictures[item.shown[0]]["set"] for item in study.items))


def opinions(study: Study, first: np.ndarray, name: str) -> np.ndarray:
    """(raters, pictures, methods) of the set called `name`: ratings, or in pairs how often a method was preferred.

    The latter: of a rater's comparisons of a method with the others, on one picture, the share won; a tie is a half.
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
    """(raters,): the mean of a method over all sets; None where the study has no such method."""
    if method not in study.methods:
        return None
    column = study.methods.index(method)
    return average(np.concatenate([opinions(study, first, name)[..., column] for name in sets(study)], 1), 1)


def correlation_with_others(first: np.ndarray) -> np.ndarray:
    """(raters,): of a rater's opinions with the mean of all the others'; NaN where it cannot be told."""
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
    """[{"rater", "judged", "nearest", "hr", "repeated", "correlation", "reasons"}]; a rater without reasons is kept.

    Of pairs, "nearest" is the share that it won, and must be below a half.
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
