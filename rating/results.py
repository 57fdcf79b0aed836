"""The results of a study as one dict, from which the report is written."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.published import MOS as PAPER
from rating.answers import Answers, collect, keep, opinions, screen, sets
from rating.manifest import Study
from rating.statistics import average_rank, compare_methods, mean_with_interval, strengths

LIMITS = {"rating": (1, 5), "pairs": (0, 1)}


def analyse(study: Study, rows: list[dict[str, Any]], everyone: bool = False) -> dict[str, Any]:
    """Return all results of a study from the rows of its store. everyone: keep raters who would be left out."""
    answers = collect(study, rows)
    screening = screen(study, answers)
    for line in screening:
        line["kept"] = everyone or not line["reasons"]
    used = keep(answers, {line["rater"] for line in screening if line["kept"]})
    result: dict[str, Any] = {
        "kind": study.kind,
        "seed": study.seed,
        "raters": len(used.raters),
        "raters_left_out": len(answers.raters) - len(used.raters),
        "answers": int((~np.isnan(used.first)).sum() + (~np.isnan(used.again)).sum()),
        "items": len(study.items),
        "screening": screening,
        "repeats": repeats(used),
        "screens": screens(study, rows, used.raters),
        "sets": [],
    }
    for name in sets(study):
        values = opinions(study, used.first, name)
        comparison = compare_methods(values, study.methods)
        methods = methods_of_set(study, used.first, name, values)
        result["sets"].append({"set": name, "pictures": values.shape[1], "methods": methods, "comparison": comparison})
    return without_nan(result)


def methods_of_set(study: Study, first: np.ndarray, name: str, values: np.ndarray) -> list[dict[str, Any]]:
    """Return [{"method", "mean", "low", "high", "rank", "distribution", "paper" or "strength"}] in the study's order.

    first: as in Answers. name: of the set. values: its opinions.
    """
    mean, low, high = mean_with_interval(values, LIMITS[study.kind], study.seed)
    rank = average_rank(values)
    counts, comparisons = distribution(study, first, name)
    rows = [
        {"method": method, "mean": mean[i], "low": low[i], "high": high[i], "rank": rank[i], "distribution": counts[i]}
        for i, method in enumerate(study.methods)
    ]
    if study.kind == "rating":
        for row in rows:
            row["paper"] = PAPER.get(name, {}).get(row["method"])
    else:
        for row, strength in zip(rows, strengths(len(study.methods), comparisons)):
            row["strength"] = strength
    return rows


def distribution(study: Study, first: np.ndarray, name: str) -> tuple[list[list[int]], list[tuple[int, int, int]]]:
    """Return how often each method of the set `name` got each answer, and [(first, second, value)] of its comparisons.

    The answers are the ratings 1 to 5, or in pairs: the other was closer, a tie, this one was closer.
    """
    counts = np.zeros((len(study.methods), 5 if study.kind == "rating" else 3), int)
    comparisons: list[tuple[int, int, int]] = []
    for number, item in enumerate(study.items):
        shown = [study.pictures[picture] for picture in item.shown]
        if shown[0]["set"] != name:
            continue
        first_place, second_place = (study.methods.index(picture["method"]) for picture in (shown[0], shown[-1]))
        for value in first[~np.isnan(first[:, number]), number].astype(int):
            if study.kind == "rating":
                counts[first_place, value - 1] += 1
            else:
                counts[first_place, 3 - value] += 1
                counts[second_place, value - 1] += 1
                comparisons.append((first_place, second_place, value))
    return counts.tolist(), comparisons


def repeats(answers: Answers) -> dict[str, Any]:
    """Compare second answers to an item with the first ones; return {"count", "same", "difference", "mean_shift"}."""
    shift = (answers.again - answers.first)[~np.isnan(answers.again - answers.first)]
    if not len(shift):
        return {"count": 0, "same": None, "difference": None, "mean_shift": None}
    return {
        "count": len(shift),
        "same": float((shift == 0).mean()),
        "difference": float(abs(shift).mean()),
        "mean_shift": float(shift.mean()),
    }


def screens(study: Study, rows: list[dict[str, Any]], raters: Sequence[int]) -> dict[str, Any]:
    """Return the pixel ratios and screens with their numbers of answers, and the share of cropped pictures."""
    rows = [row for row in rows if row["rater"] in raters]
    shown = {item.name: study.pictures[item.shown[0]] for item in study.items + study.examples}
    cropped = 0
    for row in rows:
        width, height = map(int, row["room"].split("x"))
        picture = shown[row["item"]]
        cropped += picture["width"] > width or picture["height"] > height
    ratios, sizes = (Counter(str(row[name]) for row in rows) for name in ("pixel_ratio", "screen"))
    return {"pixel_ratios": dict(ratios), "screens": dict(sizes), "cropped": cropped / max(len(rows), 1)}


def without_nan(value: Any) -> Any:
    """Return a copy of `value` with None for NaN, which JSON does not have, and Python's floats for NumPy's."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(value)
    return value
