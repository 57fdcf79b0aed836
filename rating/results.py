"""The results of a study as one dict, from which the report is written; and which raters are left out, and why.

Answers are arrays (raters, items) in the study's order, NaN where there is none: `first`, and `again` to the repeats.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluation.published import MOS as PAPER
from rating.manifest import ANSWERS, Study
from rating.statistics import average, average_rank, compare_methods, mean_with_interval, strengths

LIMITS = {"rating": (1, 5), "pairs": (0, 1)}
# What is required of a rater
ENOUGH = 0.5  # at least this fraction of the items is judged
NEAREST = {"rating": 2, "pairs": 0.5}  # the mean opinion of nearest is below this
HR = 4  # the mean opinion of HR is above this
REPEATED = {"rating": 1, "pairs": 0.75}  # two answers to one item differ by no more than this on average
CORRELATION = 0.75  # the rater's opinions correlate at least so much with the mean of the others'


class Votes(NamedTuple):
    """The answers on one set, by method. A pair is a vote on each of the two: 1 other closer, 2 tie, 3 closer."""

    picture: np.ndarray  # (votes,): numbers from 0 on
    method: np.ndarray  # (votes,): numbers in the study's order
    value: np.ndarray  # (raters, votes)


def collect(study: Study, rows: Sequence[dict[str, Any]]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return (raters, first, again) of the rows of the store, without answers to examples and raters with no others."""
    column = {item.name: number for number, item in enumerate(study.items)}
    rows = [row for row in rows if row["item"] in column]
    raters = sorted({row["rater"] for row in rows})
    answers = np.full((2, len(raters), len(study.items)), np.nan)
    for row in rows:
        answers[row["repeat"], raters.index(row["rater"]), column[row["item"]]] = row["value"]
    return raters, *answers


def votes_by_set(study: Study, first: np.ndarray) -> dict[str, Votes]:
    """Return {set: Votes} in the order of the items."""
    columns: dict[str, list] = {}
    for item, answers in zip(study.items, first.T):
        shown = [study.pictures[name] for name in item.shown]
        values = [answers] if study.kind == "rating" else [4 - answers, answers]
        for picture, value in zip(shown[::2], values):  # without the original between two
            column = picture["picture"], study.methods.index(picture["method"]), value
            columns.setdefault(picture["set"], []).append(column)
    sets = {}
    for name, of_set in columns.items():
        pictures, methods, votes = zip(*of_set)
        numbers = {picture: number for number, picture in enumerate(dict.fromkeys(pictures))}
        sets[name] = Votes(np.array([numbers[picture] for picture in pictures]), np.array(methods), np.array(votes).T)
    return sets


def opinions(study: Study, votes: Votes) -> np.ndarray:
    """Return each rater's opinions, (raters, pictures, methods); NaN if there is none.

    An opinion is a rating, or in pairs the share of its comparisons on this picture that the method has won; a tie
    counts as a half.
    """
    value = votes.value if study.kind == "rating" else (votes.value - 1) / 2
    shape = len(value), votes.picture.max() + 1, len(study.methods)
    total, count = np.zeros(shape), np.zeros(shape)
    for column, picture, method in zip(value.T, votes.picture, votes.method):
        total[:, picture, method] += np.nan_to_num(column)
        count[:, picture, method] += ~np.isnan(column)
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)


def correlation_with_others(first: np.ndarray) -> np.ndarray:
    """Return the correlation of each rater's opinions with the mean of the others', (raters,); NaN if undefined."""
    result = np.full(len(first), np.nan)
    for rater, own in enumerate(first):
        others = average(np.delete(first, rater, axis=0), 0)
        both = ~np.isnan(own) & ~np.isnan(others)
        if both.sum() > 2 and np.ptp(own[both]) > 0 and np.ptp(others[both]) > 0:
            result[rater] = np.corrcoef(own[both], others[both])[0, 1]
    return result


def screen(study: Study, raters: list[int], first: np.ndarray, again: np.ndarray) -> list[dict[str, Any]]:
    """Check every rater; return [{"rater", "judged", "nearest", "hr", "repeated", "correlation", "reasons"}].

    reasons: to be left out. In pairs, "nearest" is the share of comparisons that nearest has won.
    """
    rating, nothing = study.kind == "rating", np.full(len(raters), np.nan)
    of_methods = np.concatenate([opinions(study, votes) for votes in votes_by_set(study, first).values()], 1)
    means = {method: average(of_methods[..., number], 1) for number, method in enumerate(study.methods)}
    columns = {
        "judged": (~np.isnan(first)).mean(1),
        "nearest": means.get("nearest", nothing),
        "hr": means.get("HR", nothing),
        "repeated": average(abs(first - again), 1),
        "correlation": correlation_with_others(first) if rating else nothing,
    }
    low, steady = NEAREST[study.kind], REPEATED[study.kind]
    rules = {
        f"judged fewer than {ENOUGH:.0%} of the items": columns["judged"] < ENOUGH,
        f"nearest at {low:g} or above": columns["nearest"] >= low,
        f"HR at {HR} or below": columns["hr"] <= HR,
        f"repeats differ by more than {steady} on average": columns["repeated"] > steady,
        f"correlation with the others below {CORRELATION}": columns["correlation"] < CORRELATION,
    }
    return [
        {"rater": rater}
        | {name: values[line] for name, values in columns.items()}
        | {"reasons": [text for text, broken in rules.items() if broken[line]]}
        for line, rater in enumerate(raters)
    ]


def analyse(study: Study, rows: list[dict[str, Any]], everyone: bool = False) -> dict[str, Any]:
    """Return all results of a study from the rows of its store. everyone: nobody is left out."""
    raters, first, again = collect(study, rows)
    screening = screen(study, raters, first, again) if raters else []
    for line in screening:
        line["kept"] = everyone or not line["reasons"]
    stay = np.array([line["kept"] for line in screening], bool)
    first, again = first[stay], again[stay]
    remaining = [line["rater"] for line in screening if line["kept"]]
    result: dict[str, Any] = {
        "kind": study.kind,
        "seed": study.seed,
        "raters": len(remaining),
        "raters_left_out": len(raters) - len(remaining),
        "answers": int((~np.isnan([first, again])).sum()),
        "items": len(study.items),
        "screening": screening,
        "repeats": repeats(again - first),
        "screens": screens(study, [row for row in rows if row["rater"] in remaining]),
        "sets": [],
    }
    for name, votes in votes_by_set(study, first).items():
        values = opinions(study, votes)
        methods = methods_of_set(study, name, votes, values)
        comparison = compare_methods(values, study.methods)
        result["sets"].append({"set": name, "pictures": values.shape[1], "methods": methods, "comparison": comparison})
    return without_nan(result)


def methods_of_set(study: Study, name: str, votes: Votes, values: np.ndarray) -> list[dict[str, Any]]:
    """Return [{"method", "mean", "low", "high", "rank", "distribution", "paper" or "strength"}] in the study's order.

    name: of the set. values: its opinions.
    """
    columns = [*mean_with_interval(values, LIMITS[study.kind], study.seed), average_rank(values)]
    rows = [dict(zip(("method", "mean", "low", "high", "rank"), row)) for row in zip(study.methods, *columns)]
    for number, row in enumerate(rows):
        mine = votes.value[:, votes.method == number]
        row["distribution"] = [int((mine == value).sum()) for value, _ in enumerate(ANSWERS[study.kind], 1)]
    if study.kind == "rating":
        for row in rows:
            row["paper"] = PAPER.get(name, {}).get(row["method"])
    else:  # the two votes of a pair stand side by side
        pairs = zip(votes.method[::2].tolist(), votes.method[1::2].tolist(), votes.value[:, 1::2].T)
        comparisons = [(a, b, int(value)) for a, b, column in pairs for value in column[~np.isnan(column)]]
        for row, strength in zip(rows, strengths(len(rows), comparisons)):
            row["strength"] = strength
    return rows


def repeats(shift: np.ndarray) -> dict[str, Any]:
    """Describe how far second answers lie from the first ones: {"count", "same", "difference", "mean_shift"}."""
    shift = shift[~np.isnan(shift)]
    if not len(shift):
        return {"count": 0, "same": None, "difference": None, "mean_shift": None}
    means = {"same": (shift == 0).mean(), "difference": abs(shift).mean(), "mean_shift": shift.mean()}
    return {"count": len(shift)} | means


def screens(study: Study, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the pixel ratios and screens with their numbers of answers, and the share of cropped pictures."""
    shown = {item.name: study.pictures[item.shown[0]] for item in study.items + study.examples}
    cropped = 0
    for row in rows:
        width, height = map(int, row["room"].split("x"))
        picture = shown[row["item"]]
        cropped += picture["width"] > width or picture["height"] > height
    ratios, sizes = (dict(Counter(str(row[name]) for row in rows)) for name in ("pixel_ratio", "screen"))
    return {"pixel_ratios": ratios, "screens": sizes, "cropped": cropped / max(len(rows), 1)}


def without_nan(value: Any) -> Any:
    """Return a copy of `value` with None for NaN, which JSON does not have, and Python's floats for NumPy's."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    if isinstance(value, float):  # np.float64 is one too
        return None if np.isnan(value) else float(value)
    return value
