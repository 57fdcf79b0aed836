"""Simulated raters, and studies without the files of pictures, which a report does not need."""

import json
import sqlite3
from pathlib import Path

import numpy as np

from rating.manifest import FORMAT, read_study, showings
from rating.store import Store

SPREAD = (0.3, 0.4, 0.6)  # standard deviations between raters, pictures and single ratings


def simulated_ratings(rng, levels, raters, pictures, spread=SPREAD):
    """Return ratings 1 to 5 around the methods' `levels`, (raters, pictures, methods).

    Each rater is more or less strict, and each method does better on some pictures than on others.
    """
    leaning = spread[0] * rng.normal(size=(raters, 1, 1))
    suited = spread[1] * rng.normal(size=(1, pictures, len(levels)))
    single = spread[2] * rng.normal(size=(raters, pictures, len(levels)))
    return np.clip(np.rint(np.asarray(levels) + leaning + suited + single), 1, 5)


def write_manifest(folder, kind, methods, sets):
    """Write a manifest without picture files; return the Study. sets: {name: count}."""
    pictures, items = {}, []
    for name, count in sets.items():
        for number in range(count):
            names = [f"{name}-{number}-{method}" for method in methods]
            for method, picture in zip(methods, names):
                described = {"set": name, "picture": f"{number}", "method": method}
                pictures[picture] = described | {"sha256": "", "width": 8, "height": 8}
            if kind == "rating":
                items += [{"name": picture, "shown": [picture]} for picture in names]
            else:
                pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
                items += [{"name": f"{a}-{b}", "shown": [a, a, b]} for a, b in pairs]
    manifest = {"format": FORMAT, "kind": kind, "seed": 0, "methods": methods, "pictures": pictures}
    Path(folder).mkdir()
    Path(folder, "study.json").write_text(json.dumps(manifest | {"items": items, "examples": []}))
    return read_study(folder)


def store_ratings(study, judge):
    """Write the ratings of all raters for everything they are shown, in a single transaction.

    judge: (rater from 1 on, item, repeat) -> value, or None if the rater has not got that far.
    """
    store = Store(study.database)
    store.add_raters(judge.raters)
    store.close()
    with sqlite3.connect(study.database) as connection:
        for rater in range(1, judge.raters + 1):
            for item, repeat, _ in showings(study, rater):
                value = judge(rater, item, repeat)
                if value is not None:
                    row = (rater, item.name, repeat, value, 2.5, 1.0, "1920x1080", "1920x900", "2000-01-01")
                    connection.execute("INSERT INTO ratings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()


class Judge:
    """Simulated raters of a study. values: {set: (raters, pictures, methods)}; a repeat differs by at most 1."""

    def __init__(self, study, values, rng):
        self.study, self.values, self.rng = study, values, rng
        self.raters = len(next(iter(values.values())))

    def __call__(self, rater, item, repeat):
        picture = self.study.pictures[item.shown[0]]
        method = self.study.methods.index(picture["method"])
        value = self.values[picture["set"]][rater - 1, int(picture["picture"]), method]
        return int(np.clip(value + repeat * self.rng.integers(-1, 2), 1, 5))
