"""How methods fare on pictures as people have them: five levels, from clean to old, made from HR with fixed seeds.

    python benchmarks/photographs.py [--sets Set14 BSD100 valid] [--levels clean jpeg50] [--model NAME=FILE]
                                     [--rival NAME=FILE.onnx] [--grids FOLDER] [--set VGG.weights=FILE]

Prints PSNR, SSIM, NIQE, the distance of VGG19's features from HR's, and seconds a picture: means over a set. --model: a
weights file beside the shipped ones. --rival: a network in an ONNX file, lr (N, h, w, 3) RGB in 0..255 to sr four times
as large, such as Real-ESRGAN x4plus; it is run by OpenVINO like ours.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import command_line
from engines import load_keras, prepare_environment

prepare_environment()
load_keras()

import numpy as np

import degradation
from dataset import validation_pictures
from evaluate import measure_all
from evaluation.benchmark import benchmark_sets
from evaluation.grids import comparison
from evaluation.perceptual import perceptual_distances
from evaluation.tables import as_markdown, table_row
from pictures import as_colour, resize, write_picture
from training.teacher import Teacher
from upscaling.upscaler import load

SCALE = 4
COLUMNS = ("psnr", "ssim", "niqe", "vgg19", "seconds")


def clean(hr, random):
    return resize(hr, 1 / SCALE)


def jpeg(quality):
    return lambda hr, random: degradation.jpeg(clean(hr, random), quality)


def phone(hr, random):
    """Blur of 2 pixels of HR, a little noise, JPEG 75."""
    lr = resize(degradation.blur(hr.astype(np.float32), 2.0), 1 / SCALE)
    return degradation.jpeg(degradation.noise(lr, random, shot=0.08, read=2.0), 75)


def old(hr, random):
    """Blur of 3 and 2.2 pixels of HR, reduced bilinearly, noise, JPEG 60."""
    lr = resize(degradation.blur(hr.astype(np.float32), 3.0, 2.2), 1 / SCALE, "bilinear")
    return degradation.jpeg(degradation.noise(lr, random, shot=0.2, read=6.0), 60)


LEVELS = {"clean": clean, "jpeg85": jpeg(85), "jpeg50": jpeg(50), "phone": phone, "old": old}
EXTRA = {"jpeg70": jpeg(70), "jpeg90": jpeg(90), "jpeg95": jpeg(95)}


def hr_sets(config, wanted, remarks):
    """Yield (name, [(stem, hr)]) of the sets in EVALUATE.benchmark_dir and of the validation pictures."""
    for name, pictures in benchmark_sets(config.EVALUATE.benchmark_dir, SCALE, remarks):
        if name in wanted:
            yield name, [(path.stem, as_colour(hr)) for path, _, hr in pictures]
    if "valid" in wanted:
        valid = config.VALID
        pairs = validation_pictures(valid.hr_img_path, valid.count, valid.crop, SCALE)
        yield "valid", [(str(index), hr) for index, (_, hr) in enumerate(pairs)]


def timed(upscale, lr):
    start = time.perf_counter()
    return upscale(lr), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["Set14", "BSD100", "valid"])
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=[*LEVELS, *EXTRA])
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--only", action="store_true", help="without the shipped networks")
    parser.add_argument("--grids", metavar="FOLDER")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    config = command_line(["--mode=evaluate", *(word for value in options.set for word in ("--set", value))])[2]

    methods = {"bicubic": load("bicubic")}
    if not options.only:
        methods |= {"SRResNet": load("srresnet"), "SRGAN": load("srgan")}
    for name, _, path in (text.partition("=") for text in options.model):
        methods[name] = load(path, back_projections=0)
    methods |= {name: Teacher(path, SCALE) for name, _, path in (text.partition("=") for text in options.rival)}

    remarks, rows = [], []
    distances = perceptual_distances(config.VGG.weights, remarks)
    for name, pictures in hr_sets(config, options.sets, remarks):
        for level in options.levels:
            scores = {method: [] for method in methods}
            for index, (stem, hr) in enumerate(pictures):
                lr = degradation.to_uint8((LEVELS | EXTRA)[level](hr, np.random.default_rng(index)))
                results = {method: timed(upscale, lr) for method, upscale in methods.items()}
                srs = {method: sr for method, (sr, _) in results.items()}
                values = measure_all(srs, hr, srs["bicubic"], SCALE, distances)
                for method, (_, seconds) in results.items():
                    scores[method].append(values[method] | {"seconds": seconds})
                if options.grids:
                    write_picture(Path(options.grids, f"{name}_{level}_{stem}.png"), comparison(srs, hr, scores, srs))
            of_level = [table_row(f"{name} {level}", method, values, SCALE) for method, values in scores.items()]
            rows += [{key: row[key] for key in ("set", "method", *COLUMNS) if key in row} for row in of_level]
            print(as_markdown(rows[-len(methods) :]), flush=True)
    print("\n".join(remarks))


if __name__ == "__main__":
    main()
