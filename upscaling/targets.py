"""Which files are upscaled, and where their results go."""

import glob
import os
from collections import Counter
from pathlib import Path

from pictures import walk
from upscaling.files import FILE_SUFFIXES
from upscaling.photo_reader import PHOTO_FORMATS
from utils import UserError

FOREIGN = [".heic", ".heif", ".avif", ".jxl", ".avi"]  # no folder is called like this, and no such file is written


def find_files(inputs, failed):
    """{path of a picture or video: the folder it was found in, or None} for files, folders and patterns.

    failed: a list, to which a line is added for each folder that may not be read. Raises UserError where an input is
    nothing, or a folder without pictures.
    """
    found = {}
    for source in inputs:
        matches = [Path(source)] if Path(source).exists() else [Path(match) for match in sorted(glob.glob(source))]
        if not matches:
            raise UserError(f"{source}: no such file or folder")
        for match in matches:
            files = find_in_folder(match, failed) if match.is_dir() else {match: None}
            for path, folder in files.items():
                found.setdefault(path, folder)
    return found


def find_in_folder(folder, failed):
    """{path: folder} for all pictures and videos below `folder`; errors as of find_files."""
    unreadable = []
    files = [Path(root, name) for root, _, names in walk(folder, unreadable.append) for name in names]
    failed += [f"{error.filename}: cannot be read: {error.strerror}" for error in unreadable]
    named = [path for path in sorted(files) if path.suffix.lower() in FILE_SUFFIXES and path.name[0] != "."]
    found = {path: folder for path in named if path.is_file()}
    if not found and not unreadable:
        raise UserError(f"{folder}: no pictures in it ({' '.join(FILE_SUFFIXES)})")
    return found


def choose_targets(files, output, suffix, photo_format=None):
    """{path: its result} for the files that find_files gives.

    output: --output, a Path or None. suffix: for the names of results beside their sources, such as "_x4".
    photo_format: of the results of pictures, as "png"; None: their own.
    Raises UserError where two results would be one file, or a source be overwritten.
    """
    is_file_name = output and output.suffix.lower() in FILE_SUFFIXES and not output.is_dir()
    if output and not output.is_dir() and (len(files) > 1 and is_file_name or output.suffix.lower() in FOREIGN):
        raise UserError(f"{output}: one file for one picture, of {' '.join(FILE_SUFFIXES)}; else name a folder")
    if is_file_name:
        targets = {path: output for path in files}
    else:
        targets = {path: target_of(path, folder, output, suffix, photo_format) for path, folder in files.items()}
    results = Counter(map(os.path.abspath, targets.values()))
    for path, target in list(targets.items()):
        if os.path.abspath(path) in results and path != target:  # it is a result of an earlier run
            del targets[path]
        elif results[os.path.abspath(target)] > 1:
            raise UserError(f"{path}: another picture would become {target}, too; upscale them one by one")
        elif target.exists() and target.samefile(path):
            raise UserError(f"{path}: would be overwritten; choose another --output")
    return targets


def target_of(path, folder, output, suffix, photo_format):
    """Where the result of the file at `path`, found in `folder` or None, goes; arguments as of choose_targets."""
    if output is None and folder is None:
        target = path.with_stem(path.stem + suffix)
    else:
        here = folder and folder.resolve()  # "." has no name
        root = output or here.with_name(here.name + suffix)
        target = root / path.relative_to(folder or path.parent)
    if photo_format and path.suffix.lower() in PHOTO_FORMATS:
        target = target.with_suffix(f".{photo_format}")
    return target
