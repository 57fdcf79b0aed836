"""Make a study: the methods' pictures under opaque names, and the manifest that says which is which."""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as iio
import numpy as np

from pictures import cut_to_multiple, find_pictures, read_picture, resize
from rating.manifest import FORMAT, fraction
from utils import PARTIAL, UserError, make_folder, reason, remove_partial_files

EXAMPLES = 20  # largest number of pictures to learn the scale from (paper, section 3.3: 20)
SCALE = 4  # factor by which the examples of "bad" are reduced and enlarged
PLAIN = re.compile(r"\w[\w .+()-]{0,59}")  # names that a table, a file and a page can show


class Scene(NamedTuple):
    """One picture of a set, by every method."""

    set: str
    picture: str
    load: Callable  # returns {method: uint8 (h, w) or (h, w, 3)}


def scenes_of_folders(folders: Mapping[str, str | Path]) -> list[Scene]:
    """Return the scenes of {method: folder}. Pictures with the same name belong together; subfolders are sets.

    Raises UserError if a folder is unreadable, or a method lacks a picture or has two of one name in different formats.
    """
    by_name: dict[Path, dict[str, Path]] = {}
    for method, written in folders.items():
        folder = Path(os.path.expanduser(written))  # leaves a name that begins with ~ but names no user as it is
        if folder.is_file():
            raise UserError(f"{folder}: is a file; name a folder of pictures")
        for path in find_pictures(folder):
            if path.is_dir():
                raise UserError(f"{path}: no picture but a folder, which is empty or cannot be read")
            paths = by_name.setdefault(path.relative_to(folder).with_suffix(""), {})
            if method in paths:
                raise UserError(f"{path}: {paths[method].name} has the same name; which of them is meant?")
            paths[method] = path
    scenes = []
    for name, paths in sorted(by_name.items()):
        for method in folders:
            if method not in paths:
                raise UserError(f"{folders[method]}: {name} is missing; each method needs the same pictures")
        inside, *rest = name.parts if len(name.parts) > 1 else ("pictures", *name.parts)
        scenes.append(Scene(inside, "/".join(rest), functools.partial(read_all, paths)))
    return scenes


def read_all(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Read {method: path} as {method: uint8 (h, w) or (h, w, 3)}. Raises UserError if their sizes differ."""
    pictures = {method: read_picture(path, grey=True) for method, path in paths.items()}
    first, (height, width, *_) = next((method, picture.shape) for method, picture in pictures.items())
    for method, picture in pictures.items():
        if picture.shape[:2] != (height, width):
            size = "{1}x{0}".format(*picture.shape)
            raise UserError(f"{paths[method]}: {size}, {first} has {width}x{height}; all methods need one size")
    return pictures


def scenes_of_examples(folder: str | Path) -> list[Scene]:
    """Return scenes to learn the scale from: nearest is bad, HR is excellent (paper, section 3.3)."""
    paths = find_pictures(folder)[:EXAMPLES]
    return [Scene("examples", path.stem, functools.partial(read_example, path)) for path in paths]


def read_example(path: Path) -> dict[str, np.ndarray]:
    """Return {"nearest": sr, "HR": hr} of an example, uint8 (h, w, 3). Raises UserError if it cannot be used."""
    hr = cut_to_multiple(read_picture(path), SCALE)
    if not hr.size:
        raise UserError(f"{path}: is too small for an example")
    return {"nearest": resize(resize(hr, 1 / SCALE), SCALE, "nearest"), "HR": hr}


def drawn(scenes: Sequence[Scene], count: int, seed: int) -> list[Scene]:
    """Return `count` scenes of each set, drawn by `seed`, in their old order; all of them if `count` is 0."""
    chosen = []
    for name in dict.fromkeys(scene.set for scene in scenes):
        members = [scene for scene in scenes if scene.set == name]
        lots = sorted(members, key=lambda scene: fraction(seed, scene.set, scene.picture))
        chosen += [scene for scene in members if scene in lots[: count or None]]
    return chosen


def check_new(folder: str | Path) -> None:
    """Raise UserError if `folder` exists, because a study is never overwritten."""
    if os.path.lexists(folder):
        raise UserError(f"{folder}: exists already and is left as it is; choose another name")


def check_names(kind: str, scenes: Sequence[Scene], methods: Collection[str]) -> None:
    """Raise UserError if a name cannot be shown, or methods are missing that this kind of study needs."""
    for name in [*methods, *{scene.set for scene in scenes}]:
        if not PLAIN.fullmatch(name):
            raise UserError(f"{name}: the name of a method or set may have only letters, digits, spaces and ._+-()")
    needed = 2 if kind == "rating" else 3
    if len(methods) < needed:
        raise UserError(f"{', '.join(methods)}: a study of this kind needs at least {needed} methods, including HR")
    if kind == "pairs" and "HR" not in methods:
        raise UserError("pairs are compared with the original: add HR=FOLDER")


def make_study(
    folder: Path, kind: str, seed: int, scenes: Sequence[Scene], sources: Mapping[str, str], examples: Sequence[Scene]
) -> int:
    """Write a study to `folder`, all of it or nothing; return the number of items.

    sources: {method: where its pictures come from}. Raises UserError if `folder` exists or cannot be written.
    """
    check_new(folder)
    check_names(kind, scenes, sources)
    make_folder(folder.parent)
    remove_partial_files(folder.parent)
    temporary = folder.with_name(f"{PARTIAL}{os.getpid()}-{folder.name[-60:]}")
    pictures: dict[str, Any] = {}
    try:
        make_folder(temporary / "pictures")
        items = [item for scene in scenes for item in items_of(kind, write_scene(temporary, scene, pictures))]
        shown = [item for scene in examples for item in examples_of(kind, write_scene(temporary, scene, pictures))]
        manifest = {
            "format": FORMAT,
            "kind": kind,
            "seed": seed,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "sources": sources,
            "methods": [method for method in sources if kind == "rating" or method != "HR"],
            "pictures": pictures,
            "items": items,
            "examples": shown,
        }
        (temporary / "study.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        os.rename(temporary, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(items)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that pictures may depend on, as far as they are installed."""
    installed = {"python": platform.python_version()}
    for package in ("keras", "numpy", "pillow", "scipy"):
        with contextlib.suppress(PackageNotFoundError):  # pictures from folders need no Keras
            installed[package] = version(package)
    return installed


def write_scene(folder: Path, scene: Scene, pictures: dict[str, Any]) -> dict[str, str]:
    """Write the pictures of a scene as PNG under random names, add them to `pictures`, and return {method: name}."""
    names = {}
    for method, picture in scene.load().items():
        name = names[method] = secrets.token_hex(8)
        content = iio.imwrite("<bytes>", picture, plugin="pillow", extension=".png")
        (folder / "pictures" / f"{name}.png").write_bytes(content)
        described = {"set": scene.set, "picture": scene.picture, "method": method}
        height, width = picture.shape[:2]
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "width": width, "height": height}
        pictures[name] = described | facts
    return names


def items_of(kind: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the items of a scene: each picture, or each pair with the original. names: {method: name}."""
    if kind == "rating":
        return [{"name": name, "shown": [name]} for name in names.values()]
    pairs = itertools.combinations([name for method, name in names.items() if method != "HR"], 2)
    return [{"name": f"{first}-{second}", "shown": [first, names["HR"], second]} for first, second in pairs]


def examples_of(kind: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the examples of a scene with their answers: nearest is 1, HR is 5; in a pair the original is closer."""
    nearest, hr = names["nearest"], names["HR"]
    if kind == "rating":
        return [{"name": nearest, "shown": [nearest], "answer": 1}, {"name": hr, "shown": [hr], "answer": 5}]
    return [{"name": f"{nearest}-{hr}", "shown": [nearest, hr, hr], "answer": 3}]
