"""Draw what the methods make of compressed and noisy pictures, at 3x: eight details of Set14, five kinds of files.

python benchmarks/details.py data/benchmark/Set14/HR FOLDER OUT [NAME=FILE.onnx]

Writes OUT/details.png and, of the first five pictures in FOLDER, OUT/files.png. NAME=FILE.onnx: a rival.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from photographs import METHODS, SCALE, load_rivals, timed, write_file, write_lr  # of this folder

import degradation
from evaluation.grids import grid, labelled
from pictures import centre_crop, cut_to_multiple, find_pictures, read_picture, resize, write_picture
from training.artefacts import video_frame
from upscaling.models import load
from upscaling.photo.reader import open_photo

SIDE, ZOOM, LARGEST = 72, 3, 768
DETAILS = [  # (what it is, number of the picture, left, top, level of benchmarks/photographs.py)
    ("baboon's whiskers, jpeg85", 1, 330, 390, "jpeg85"),
    ("skin, jpeg85", 6, 120, 140, "jpeg85"),
    ("comic's headdress, jpeg50", 5, 80, 96, "jpeg50"),
    ("letters, jpeg50", 13, 40, 230, "jpeg50"),
    ("barbara's face, jpeg50", 2, 440, 110, "jpeg50"),
    ("lenna's eyes, phone", 9, 236, 236, "phone"),
    ("zebra's back, phone", 14, 280, 100, "phone"),
    ("monarch's wing, old", 11, 330, 180, "old"),
]


def old_telephone(lr, random):
    noisy = degradation.noise(degradation.blur(lr, 0.7), random, shot=0.2, read=5.0, grain=0.6)
    return degradation.sharpen(noisy, 0.8, 1.0)


def messenger(lr, random):
    return degradation.jpeg(lr, 85, phase=(3, 5))


def scan(lr, random):
    faded = 40 + 0.75 * degradation.blur(lr, 0.5) * np.array([1.0, 0.96, 0.85])  # dark places grey, paper yellowish
    return degradation.noise(faded, random, shot=0.0, read=4.0, coloured=False, grain=0.8)


def frame(lr, random):
    """A frame of an H.264 video of low quality."""
    return video_frame(lr, "libx264", crf=30)


def night(lr, random):
    return 2.2 * degradation.noise(0.2 * lr, random, shot=0.15, read=3.0)


# {kind of file: (what has become of the picture before it is stored, quality of the JPEG; None: PNG)}
FILES = {
    "old telephone": (old_telephone, 60),
    "messenger": (messenger, 55),
    "scan": (scan, 80),
    "video frame": (frame, None),
    "night": (night, 75),
}


def methods_of(rivals):
    names = {"bicubic": "bicubic", "SRGAN": "--restore 0", "auto": "the default"}
    methods = {label: load(**METHODS[name]) for name, label in names.items()}
    return methods | load_rivals(rivals)


def row(path, methods, left, top, first, hr=None):
    """Return the labelled cells of one file, and of hr if there is one. first: the label of the first cell."""
    photo = open_photo(path)
    lr = next(iter(photo)).picture
    cells = {name: timed(upscale, photo, lr)[0] for name, upscale in methods.items()}
    if hr is not None:
        cells["HR"] = hr
    details = {name: sr[top : top + SIDE, left : left + SIDE] for name, sr in cells.items()}
    labels = [f"{first}: bicubic", *list(details)[1:]]
    return [labelled(resize(detail, ZOOM, "nearest"), label) for detail, label in zip(details.values(), labels)]


def main(benchmark, folder, out, *rivals):
    methods, rows = methods_of(rivals), []
    with tempfile.TemporaryDirectory() as temporary:
        for text, number, left, top, level in DETAILS:
            hr = cut_to_multiple(read_picture(find_pictures(benchmark)[number - 1]), SCALE)
            rows.append(row(write_lr(hr, level, number - 1, temporary), methods, left, top, text, hr))
        write_picture(Path(out, "details.png"), grid(rows))
        rows = []
        for number, (text, (degrade, quality)) in enumerate(FILES.items()):
            hr = cut_to_multiple(centre_crop(read_picture(find_pictures(folder)[number]), LARGEST), SCALE)
            lr = degrade(resize(hr, 1 / SCALE).astype(np.float32), np.random.default_rng(number))
            path = write_file(lr, quality, temporary)
            rows.append(row(path, methods, hr.shape[1] // 2 - SIDE // 2, hr.shape[0] // 2 - SIDE // 2, text))
        write_picture(Path(out, "files.png"), grid(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
