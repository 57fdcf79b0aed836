"""A study on disk: its manifest, its pictures, and the order in which each rater sees them."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from utils import UserError

FORMAT = 1  # of study.json
REPEATS = 0.08  # fraction of the items that are shown twice, to see how consistent a rater is
KINDS = {"rating": "one picture at a time, rated 1 (bad) to 5 (excellent)", "pairs": "which is closer to the original?"}
# The answers of each kind, stored as numbers from 1 on; those to a pair as they are for one of its methods
ANSWERS = {"rating": ["1", "2", "3", "4", "5"], "pairs": ["other closer", "tie", "closer"]}


class Item(NamedTuple):
    """What is judged at once: a picture, or two of them with the original between."""

    name: str
    shown: list  # names of pictures: [picture], or [first, original, second]
    answer: int | None = None  # of an example, which is shown with its answer


class Showing(NamedTuple):
    """An item as it is shown to a rater."""

    item: Item
    repeat: int  # 0, or 1 the second time
    flipped: bool  # whether first and second of a pair have changed places


class Study(NamedTuple):
    """A study's manifest. pictures: {name: {"set", "picture", "method", "sha256", "width", "height"}}."""

    folder: Path
    kind: str
    seed: int
    methods: list
    pictures: dict
    items: list
    examples: list

    def path(self, name: str) -> Path:
        """Return the path of the picture with this opaque name."""
        return self.folder / "pictures" / f"{name}.png"

    @property
    def database(self) -> Path:
        """The path of the file with the ratings."""
        return self.folder / "ratings.sqlite"


def read_study(folder: str | Path) -> Study:
    """Read the study in `folder`. Raises UserError if there is none, or it cannot be read."""
    path = Path(folder, "study.json")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["kind"] not in KINDS:
            raise ValueError("another format")
        items, examples = ([Item(**item) for item in manifest[part]] for part in ("items", "examples"))
        kind, seed, methods, pictures = (manifest[name] for name in ("kind", "seed", "methods", "pictures"))
        return Study(Path(folder), kind, seed, methods, pictures, items, examples)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no study in it; python study.py make {folder}") from error
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {error}); restore it") from error


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_pictures(study: Study) -> None:
    """Raise UserError if a picture is missing or is not the one that the study was made with."""
    for name, picture in study.pictures.items():
        path = study.path(name)
        if not path.is_file() or sha256(path) != picture["sha256"]:
            raise UserError(f"{path}: missing, or not the picture the study was made with; restore it")


def fraction(*words: object) -> float:
    """Hash `words` to a number in [0, 1), the same on any machine and with any version of any library."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def showings(study: Study, rater: int) -> list[Showing]:
    """Return everything that rater number `rater` is shown, in order; it depends only on the seed and the number.

    The examples come first, then all items in random order. An item of the first third is repeated in the second half,
    so that at least a sixth of the study lies between the two.
    """

    def draw(item: Item, what: str) -> float:
        return fraction(study.seed, rater, item.name, what)

    def showing(item: Item, repeat: int = 0) -> Showing:
        return Showing(item, repeat, len(item.shown) > 1 and draw(item, f"side {repeat}") < 0.5)

    order = sorted(study.items, key=lambda item: draw(item, "order"))
    places = [(number / len(order), showing(item)) for number, item in enumerate(order)]
    early = sorted(order[: len(order) // 3], key=lambda item: draw(item, "repeated"))
    for item in early[: round(REPEATS * len(order))]:
        places.append(((1 + draw(item, "again")) / 2, showing(item, repeat=1)))
    examples = sorted(study.examples, key=lambda item: draw(item, "order"))
    return [showing(item) for item in examples] + [seen for _, seen in sorted(places, key=lambda place: place[0])]
