"""How methods fare on pictures as people have them: five levels, from clean to old, made from HR with fixed seeds.

    python benchmarks/photographs.py [--sets Set14 BSD100 valid] [--levels clean jpeg50] [--methods SRGAN photo auto]
                                     [--model NAME=FILE] [--rival NAME=FILE] [--grids FOLDER]
                                     [--set VGG.weights=FILE]

Prints PSNR, SSIM, NIQE, the distance of VGG19's features from HR's, and seconds a picture: means over a set. --methods:
see METHODS; a number is `upscale.py --restore NUMBER`, auto its default, which looks at the file. --model: a weights
file of one's own. --rival: a network in an ONNX file, lr (N, h, w, 3) RGB in 0..255 to sr four times as large, such as
Real-ESRGAN x4plus, run by OpenVINO like ours; or RealESRGAN_x4plus.pth, run by its own package (pip install torch
torchvision realesrgan basicsr).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

if any(word.endswith(".pth") for word in sys.argv):
    import torchvision  # noqa: F401  # after TensorFlow, PyTorch 2.14 crashes

from engines import import_keras
from training.command_line import command_line

import_keras()

import numpy as np
from PIL import Image

import degradation
from dataset import validation_pictures
from evaluate import measure_all
from evaluation.benchmark import benchmark_sets
from evaluation.grids import comparison
from evaluation.perceptual import perceptual_distances
from evaluation.tables import as_markdown, table_row
from pictures import as_colour, resize, write_picture
from training.artefacts import video_frame
from training.teacher import Teacher
from upscaling.models import load
from upscaling.photo.reader import open_photo
from upscaling.upscale_file import restored_upscaler
from upscaling.upscaler import Upscaler

SCALE = 4
COLUMNS = ("psnr", "ssim", "niqe", "vgg19", "seconds")


def clean(hr, random):
    return resize(hr, 1 / SCALE)


def phone(hr, random):
    """Blur of 2 pixels of HR, a little noise."""
    lr = resize(degradation.blur(hr.astype(np.float32), 2.0), 1 / SCALE)
    return degradation.noise(lr, random, shot=0.08, read=2.0)


def old(hr, random):
    """Blur of 3 and 2.2 pixels of HR, reduced bilinearly, noise."""
    lr = resize(degradation.blur(hr.astype(np.float32), 3.0, 2.2), 1 / SCALE, "bilinear")
    return degradation.noise(lr, random, shot=0.2, read=6.0)


def noisy(hr, random):
    """Grainy noise of 4 levels, as of a night picture, without compression."""
    return degradation.noise(clean(hr, random), random, shot=0.0, read=4.0, grain=0.5)


def resized(hr, random):
    """A JPEG of quality 50 that a web site has made smaller, stored without loss."""
    large = degradation.to_uint8(degradation.jpeg(resize(hr, 1.5 / SCALE), 50))
    height, width, _ = clean(hr, random).shape
    return np.asarray(Image.fromarray(large).resize((width, height), Image.Resampling.LANCZOS))


def twice(hr, random):
    """A JPEG of quality 60 that was cut and stored again as one of 90."""
    return degradation.jpeg(clean(hr, random), 60, phase=(3, 5))


def frame(hr, random):
    """A frame of an H.264 video, stored without loss."""
    return video_frame(clean(hr, random), "libx264", crf=24)


# {level: (function of hr and a random generator, quality of the JPEG that is made of its result; None: PNG)}
LEVELS = {"clean": (clean, None), "jpeg85": (clean, 85), "jpeg50": (clean, 50), "phone": (phone, 75), "old": (old, 60)}
MORE_LEVELS = {f"jpeg{quality}": (clean, quality) for quality in (70, 90, 95)}
MORE_LEVELS |= {"noisy": (noisy, None), "resized": (resized, None), "twice": (twice, 90), "frame": (frame, None)}
METHODS = {
    "bicubic": {"model": "bicubic"},
    "SRResNet": {"model": "srresnet", "restore": 0.0},
    "SRGAN": {"model": "srgan", "restore": 0.0},
    "photo": {"model": "srgan", "restore": 1.0},
    "auto": {"model": "srgan"},
}


def load_methods(options):
    """Return {name: function of lr (h, w, 3)}, bicubic first."""
    methods = {"bicubic": load("bicubic")}
    for name in options.methods:
        methods[name] = load(**METHODS[name]) if name in METHODS else load("srgan", restore=float(name))
    for name, _, path in (text.partition("=") for text in options.model):
        methods[name] = load(path, back_projections=0)
    return methods | load_rivals(options.rival)


def load_rivals(rivals):
    """Return {name: function of lr (h, w, 3)} of texts NAME=FILE."""
    names = (text.partition("=")[::2] for text in rivals)
    return {name: real_esrgan(path) if path.endswith(".pth") else Teacher(path, SCALE) for name, path in names}


def real_esrgan(path):
    """Return Real-ESRGAN's package with the weights in `path`, a function of lr (h, w, 3) uint8 RGB."""
    from torchvision.transforms import functional

    # basicsr looks for it where it was in 2022.
    sys.modules["torchvision.transforms.functional_tensor"] = functional
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from realesrgan import RealESRGANer

    network = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=64, num_block=23, num_grow_ch=32, scale=SCALE)
    package = RealESRGANer(scale=SCALE, model_path=path, model=network, half=False)
    return lambda lr: package.enhance(lr[..., ::-1])[0][..., ::-1]  # it takes and returns BGR


def write_lr(hr, level, seed, folder):
    """Write the small picture of a level as a file, as somebody would have it, and return its path."""
    degrade, quality = (LEVELS | MORE_LEVELS)[level]
    return write_file(degrade(hr, np.random.default_rng(seed)), quality, folder)


def write_file(lr, quality, folder):
    """Write lr (h, w, 3), in 0..255, as a JPEG of this quality, or as PNG if it is None, and return its path."""
    path = Path(folder, "lr.jpg" if quality else "lr.png")
    options = {"quality": quality, "subsampling": "4:2:0"} if quality else {}
    Image.fromarray(degradation.to_uint8(lr)).save(path, **options)
    return path


def timed(upscale, photo, lr):
    """Return (sr of lr, seconds). photo: the file, from which an automatic method chooses."""
    start = time.perf_counter()
    if isinstance(upscale, Upscaler):
        upscale, _, _ = restored_upscaler(photo, upscale)
    return upscale(lr), time.perf_counter() - start


def hr_sets(config, wanted, remarks):
    """Yield (name, [(stem, hr)]) of the sets in EVALUATE.benchmark_dir and of the validation pictures."""
    for name, pictures in benchmark_sets(config.EVALUATE.benchmark_dir, SCALE, remarks):
        if name in wanted:
            yield name, [(path.stem, as_colour(hr)) for path, _, hr in pictures]
    if "valid" in wanted:
        valid = config.VALID
        pairs = validation_pictures(valid.hr_img_path, valid.count, valid.crop, SCALE)
        yield "valid", [(str(index), hr) for index, (_, hr) in enumerate(pairs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["Set14", "BSD100", "valid"])
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=[*LEVELS, *MORE_LEVELS])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--grids", metavar="FOLDER")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    config = command_line(["--mode=evaluate", *(word for value in options.set for word in ("--set", value))])[2]

    methods = load_methods(options)
    remarks, rows = [], []
    distances = perceptual_distances(config.VGG.weights, remarks)
    for name, pictures in hr_sets(config, options.sets, remarks):
        for level in options.levels:
            scores = {method: [] for method in methods}
            for index, (stem, hr) in enumerate(pictures):
                with tempfile.TemporaryDirectory() as folder:
                    photo = open_photo(write_lr(hr, level, index, folder))
                    lr = next(iter(photo)).picture
                    results = {method: timed(upscale, photo, lr) for method, upscale in methods.items()}
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
