"""Find the files to upscale, and decide where their results go."""

import errno
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pictures import walk
from upscaling.earlier_runs import Records
from upscaling.photo.reader import PHOTO_FORMATS
from upscaling.upscale_file import FILE_SUFFIXES, RESULT_SUFFIXES
from upscaling.video.writer import CONTAINERS
from utils import UserError

# Suffixes of pictures and videos that cannot be read; such files are only counted. Of a camera's raw file Pillow would
# read the small preview.
RAW = [".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"]
FOREIGN = [*RAW, ".jxl", ".jp2", ".psd", ".svg", ".tga", ".ppm", ".exr", ".avi", ".wmv", ".mpg", ".mts", ".3gp", ".flv"]


@dataclass
class Inputs:
    """What the inputs of a command name."""

    files: dict[Path, Path | None] = field(default_factory=dict)  # {path: the input folder that it is in, or None}
    named: set[Path] = field(default_factory=set)  # those of `files` that were named one by one
    foreign: Counter[str] = field(default_factory=Counter)  # {suffix: number of files in folders that cannot be read}
    failed: dict[str, list[Path]] = field(default_factory=dict)  # {a line about what cannot be read: its files}


def find_files(names: Iterable[str]) -> Inputs:
    """Find the inputs: files, folders and patterns. Raises UserError if one does not exist or a folder has no file."""
    inputs = Inputs()
    for source in names:
        if not source:  # a variable of a shell that is not set; as a path it would be the folder here
            raise UserError("INPUT is empty; name a file or a folder")
        exists = Path(source).exists()
        matches = [source] if exists else sorted(glob.glob(source, recursive=True))
        if not matches:
            raise UserError(f"{source}: no such file or folder")
        for match in map(Path, matches):
            suffix = match.suffix.lower()
            if match.is_dir():
                find_in_folder(match, inputs)
            elif suffix not in FOREIGN:
                inputs.files.setdefault(match, None)
                inputs.named |= {match} if exists else set()
            elif exists:
                line = f"{match}: {suffix} is not read; save it as one of {' '.join(RESULT_SUFFIXES)}"
                inputs.failed[line] = [match]
            else:
                inputs.foreign[suffix] += 1
    return inputs


def find_in_folder(folder: Path, inputs: Inputs) -> None:
    """Add all pictures and videos below `folder` to `inputs`. Raises UserError if there are none."""
    unreadable: list[OSError] = []
    paths = sorted(Path(root, name) for root, _, names in walk(folder, unreadable.append) for name in names)
    paths = [path for path in paths if path.name[0] != "." and path.suffix.lower() in [*FILE_SUFFIXES, *FOREIGN]]
    paths = [path for path in paths if is_file(path, unreadable.append)]
    for error in unreadable:
        inputs.failed[f"{error.filename}: cannot be read: {error.strerror}"] = [Path(error.filename)]
    files = [path for path in paths if path.suffix.lower() in FILE_SUFFIXES]
    foreign = Counter(path.suffix.lower() for path in paths if path.suffix.lower() in FOREIGN)
    if not files and not unreadable:
        others = f"; {counted(foreign)} cannot be read" if foreign else ""
        raise UserError(f"{folder}: no pictures in it ({' '.join(FILE_SUFFIXES)}){others}")
    inputs.foreign += foreign
    for path in files:
        inputs.files.setdefault(path, folder)


def is_file(path: Path, onerror: Callable[[OSError], object]) -> bool:
    """Return whether `path` is a file, or a link to one. onerror: called with the error if that cannot be found out."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):  # a link to nothing, or in a circle
            onerror(error)
        return False


def counted(suffixes: Counter[str]) -> str:
    """Return {".psd": 3, ".avi": 1} as "3 .psd, 1 .avi"."""
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())


def leave_out_results(inputs: Inputs, records: Records) -> list[Path]:
    """Remove results of earlier runs from `inputs` and return them; one that is named without its source stays."""
    results, present = [], {os.path.realpath(path) for path in inputs.files}
    for path in list(inputs.files):
        sources, here = sources_of(path, records), os.path.realpath(path)
        others = {os.path.realpath(source) for source in sources} - {here}  # itself: of a source in an unknown folder
        if sources and (path not in inputs.named or others & present):
            del inputs.files[path]
            results.append(path)
    return results


def sources_of(path: Path, records: Records) -> list[Path]:
    """Return the files that the one at `path` is a result of, by its record or its name; none for most files."""
    identity = records.identity(path)
    if identity:
        return [records.source(path) or path.with_name(str(identity.get("source")))]
    named = re.fullmatch(r"(.+)_x\d+(\.\d+)?", path.stem)  # results of earlier versions have no record
    beside = [path.with_name(named[1] + suffix) for suffix in FILE_SUFFIXES] if named else []
    return [source for source in beside if source.is_file()]


def choose_targets(
    inputs: Inputs,
    output: Path | None = None,
    suffix: str = "_x4",
    rename: bool = False,
    photo_format: str | None = None,
) -> dict[Path, Path]:
    """Return {path: its result} for the files of `inputs`; those with the same result go to inputs.failed instead.

    output: the value of --output. suffix: for the names of results beside their sources, such as "_x4". rename: use
    `suffix` in `output` too. photo_format: of the results of pictures, such as "png"; None: that of the source, or PNG
    for formats that are not written (AVIF, HEIC) and names without a format.
    Raises UserError if `output` does not fit the files, or a file would be overwritten by its own result.
    """
    is_file = output and output.suffix.lower() in [*FILE_SUFFIXES, *FOREIGN] and not output.is_dir()
    file = output if is_file else None
    if file and (len(inputs.files) > 1 or file.suffix.lower() not in RESULT_SUFFIXES):
        raise UserError(f"{output}: one file for one picture, of {' '.join(RESULT_SUFFIXES)}; else name a folder")
    targets = {
        path: file or target_of(path, folder, output, suffix, rename, photo_format)
        for path, folder in inputs.files.items()
    }
    sources: dict[str, list[Path]] = {}  # {absolute path of a result: its sources}
    for path, target in targets.items():
        sources.setdefault(os.path.abspath(target), []).append(path)
    input_paths = {os.path.realpath(path) for path in inputs.files}
    advice = "choose another --output or --suffix"
    for path, *others in sources.values():
        target = targets[path]
        if others:
            names = ", ".join(map(str, [path, *others]))
            line = f"{names}: would all become {target}; upscale them one by one, each with an --output"
        elif os.path.exists(target) and target.samefile(path):
            raise UserError(f"{path}: would be overwritten; {advice}")
        elif os.path.realpath(target) in input_paths:
            line = f"{target}: would be overwritten by the result of {path}; {advice}"
        else:
            continue
        inputs.failed[line] = [path, *others]
        for failed in inputs.failed[line]:
            del targets[failed]
    return targets


def target_of(
    path: Path, folder: Path | None, output: Path | None, suffix: str, rename: bool, photo_format: str | None
) -> Path:
    """Return the path of the result of the file at `path`. folder: of the input that holds it; others: as above."""
    kind = path.suffix.lower()
    # What follows the dot of another name, such as 2024.06, is no format.
    stem, ending = (path.stem, path.suffix) if kind in FILE_SUFFIXES else (path.name, "")
    if kind not in CONTAINERS and (photo_format or kind not in PHOTO_FORMATS):
        ending = f".{photo_format or 'png'}"
    if output:
        target = output / path.relative_to(folder or path.parent)
        stem = stem + suffix if rename else stem
    elif folder:
        here = folder.resolve()  # "." has no name
        target = here.with_name(here.name + suffix) / path.relative_to(folder)
    else:
        target = path
        stem += suffix
    return target.with_name(stem + ending)
