"""Train the network with which restoration.py tells how much noise and compression have changed a picture.

    python -m training.artefacts PHOTOS artefacts.npz [--draws 14]

PHOTOS: a folder with clean pictures. Each is degraded --draws times, each time in other ways, and for each picture one
drawing is made up. The network learns to tell the error from the degraded picture's statistics alone.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import av
import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import median_filter
from tqdm import tqdm

import degradation
import restoration
from pictures import as_colour, find_pictures, read_picture
from utils import Parser, UserError, atomic_write, exit_status

Step = Callable[[np.ndarray], np.ndarray]
Codec = Literal["libx264", "libvpx-vp9"]  # by FFmpeg's names

WINDOW = 320  # largest side in pixels of what is degraded
FILTERS = [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX, Image.Resampling.BILINEAR]
VIDEO: dict[Codec, tuple[int, int]] = {"libx264": (12, 33), "libvpx-vp9": (18, 51)}  # {codec: range of crf}
UNITS = (64, 32)  # of the hidden layers
EPOCHS = 60


def resized(picture: np.ndarray, width: int, height: int, kind: Image.Resampling) -> np.ndarray:
    """Resize (h, w, 3), float in 0..255, without rounding."""
    channels = (Image.fromarray(picture[..., channel]).resize((width, height), kind) for channel in range(3))
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 255)


def small_picture(hr: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return hr (h, w, 3) reduced by 1 to 4, or a part of that, as float in 0..255."""
    factor = max(1, min(int(random.integers(1, 5)), min(hr.shape[:2]) // 90))
    height, width = (length // factor for length in hr.shape[:2])
    lr = resized(hr.astype(np.float32), width, height, FILTERS[random.integers(3)])
    side = random.integers(112, WINDOW)
    top, left = (random.integers(max(1, length - side)) for length in lr.shape[:2])
    return lr[top : top + side, left : left + side]


def drawing(random: np.random.Generator) -> np.ndarray:
    """Return a made-up drawing with text, uint8 (h, w, 3): flat places and sharp edges, which no photograph has."""
    width, height = (int(length) for length in random.integers(200, 400, size=2))
    image = Image.new("RGB", (width, height), random_colour(random) if random.random() < 0.5 else "white")
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(12)):
        (left, top), (across, down) = random.integers((width, height)), random.integers(5, 150, size=2)
        shape = draw.rectangle if random.random() < 0.5 else draw.ellipse
        shape((left, top, left + across, top + down), fill=random_colour(random), outline=random_colour(random))
    for _ in range(random.integers(25)):
        text = "".join(map(chr, random.integers(32, 123, size=random.integers(5, 40))))
        font = ImageFont.load_default(int(random.integers(9, 30)))
        draw.text(tuple(random.integers((width, height))), text, fill=random_colour(random), font=font)
    return np.asarray(image)


def random_colour(random: np.random.Generator) -> tuple[int, ...]:
    """Draw a colour."""
    return tuple(random.integers(256, size=3).tolist())


def degraded(clean: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (a degraded picture as uint8, what it would be without noise and compression) of `clean` (h, w, 3).

    Blur, sharpening and resampling change both, since what they take away is no error that could be removed.
    """
    pictures = clean, clean

    def happens(chance: float) -> bool:
        return bool(random.random() < chance)

    def to_both(step: Step) -> tuple[np.ndarray, np.ndarray]:
        return step(pictures[0]), step(pictures[1])

    def to_picture(step: Step) -> tuple[np.ndarray, np.ndarray]:
        return step(pictures[0]).clip(0, 255), pictures[1]

    if happens(0.12):
        return degradation.to_uint8(clean), clean
    if happens(0.4):
        deviation = random.uniform(0.25, 1.1)
        pictures = to_both(lambda picture: degradation.blur(picture, deviation))
    if happens(0.4):
        pictures = to_picture(lambda picture: noisy(picture, random))
        if happens(0.3):
            deviation, median = random.uniform(0.4, 0.8), happens(0.5)
            pictures = to_both(lambda picture: denoised(picture, deviation, median))
    if happens(0.25):
        amount, radius = random.uniform(0.2, 1.5), random.uniform(0.5, 1.2)
        pictures = to_both(lambda picture: degradation.sharpen(picture, amount, radius).clip(0, 255))
    if happens(0.65):
        pictures = to_picture(lambda picture: compressed(picture, random))
    if happens(0.3):
        factor, kind = random.uniform(0.55, 1.6), FILTERS[random.integers(len(FILTERS))]
        height, width = (max(88, round(length * factor)) for length in clean.shape[:2])
        pictures = to_both(lambda picture: resized(picture, width, height, kind))
    if happens(0.3):
        pictures = to_picture(lambda picture: compressed(picture, random))
    if happens(0.05):
        colours = int(random.integers(64, 257))
        pictures = to_picture(lambda picture: with_palette(picture, colours))
    return degradation.to_uint8(pictures[0]), pictures[1]


def noisy(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add noise of a sensor, or white noise."""
    if random.random() < 0.6:
        shot, read = random.uniform(0, 0.25), random.uniform(0, 8)
    else:
        shot, read = 0.0, random.uniform(0.5, 4)
    grain = random.uniform(0.4, 0.9) if random.random() < 0.4 else 0.0
    return degradation.noise(picture, random, shot, read, bool(random.random() < 0.6), grain)


def denoised(picture: np.ndarray, deviation: float, median: bool) -> np.ndarray:
    """Smooth a picture by a median of 3x3 pixels, or a blur."""
    return median_filter(picture, (3, 3, 1)) if median else degradation.blur(picture, deviation)


def compressed(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Compress and decompress as JPEG, mostly, as WebP, as AVIF, or in a video."""
    kind = random.choice(["JPEG", "WEBP", "AVIF", "libx264", "libvpx-vp9"], p=[0.6, 0.1, 0.08, 0.14, 0.08])
    if kind == "JPEG":
        quality, halved = round(97 - 77 * random.random() ** 1.5), bool(random.random() < 0.75)  # most above 50
        return degradation.jpeg(picture, quality, halved, tuple(random.integers(16, size=2).tolist()))
    if kind in VIDEO:
        crf, count, step = random.integers(*VIDEO[kind]), random.integers(1, 6), random.integers(4)
        return video_frame(picture, kind, int(crf), int(count), int(step))
    file = io.BytesIO()
    Image.fromarray(degradation.to_uint8(picture)).save(file, kind, quality=int(random.integers(20, 97)))
    return np.asarray(Image.open(file).convert("RGB"), np.float32)


def with_palette(picture: np.ndarray, colours: int) -> np.ndarray:
    """Reduce a picture to a GIF's colours."""
    image = Image.fromarray(degradation.to_uint8(picture)).quantize(colours)
    return np.asarray(image.convert("RGB"), np.float32)


def video_frame(picture: np.ndarray, codec: Codec, crf: int, count: int = 6, step: int = 1) -> np.ndarray:
    """Return the last of `count` frames of a video in which the picture moves by `step` pixels from frame to frame.

    crf: constant quality of the codec. What is beyond even sides stays as it is.
    """
    result = degradation.to_uint8(picture)
    height, width = (length // 2 * 2 for length in result.shape[:2])
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as video:
        stream = video.add_stream(codec, 24, options={"crf": str(crf), "b:v": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for later in reversed(range(count)):
            moved = np.roll(result[:height, :width], later * step, axis=1)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(moved))))
        video.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as video:
        *_, last = video.decode(video=0)
        result[:height, :width] = last.to_ndarray(format="rgb24")
    return result.astype(np.float32)


def sample(hr: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return (the statistics of hr's degraded picture, the logarithm of its error)."""
    clean = small_picture(hr, random)
    if random.random() < 0.07:
        clean = (clean @ restoration.TO_YCBCR[:, :1]).repeat(3, axis=2)
    picture, reference = degraded(clean, random)
    error = (picture - reference) @ restoration.TO_YCBCR[:, 0]
    return restoration.statistics(picture), float(np.log(np.sqrt(np.mean(error**2)) + restoration.ERROR_OFFSET))


def fitted(inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Train the network, and return its arrays as restoration.py reads them."""
    normalization = keras.layers.Normalization()
    normalization.adapt(inputs)
    dense = [keras.layers.Dense(units, "relu") for units in UNITS] + [keras.layers.Dense(1)]
    model = keras.Sequential([normalization, *dense])
    steps = EPOCHS * -(-len(inputs) // 128)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.05), "mse")
    model.fit(inputs, targets, 128, EPOCHS, verbose=0)
    arrays: dict[str, np.ndarray] = {}
    for number, layer in enumerate(dense):
        kernel, bias = (keras.ops.convert_to_numpy(weights) for weights in (layer.kernel, layer.bias))
        if number == 0:  # which normalizes too
            mean, variance = (keras.ops.convert_to_numpy(x) for x in (normalization.mean, normalization.variance))
            kernel = kernel / np.sqrt(variance).reshape(-1, 1)
            bias = bias - mean.ravel() @ kernel
        arrays |= {f"kernel{number}": kernel, f"bias{number}": bias}
    return arrays


def train(photos: str, out: Path, draws: int) -> int:
    """Train on the pictures below `photos`, and write the network to `out`; return the exit status.

    Raises UserError if a picture is unreadable or all are too small.
    """
    samples = []
    for index, path in enumerate(tqdm(find_pictures(photos), unit="picture")):
        hr, random = as_colour(read_picture(path)), np.random.default_rng([0, index])
        if min(hr.shape[:2]) >= restoration.SMALLEST:
            samples += [sample(picture, random) for picture in [hr] * draws + [drawing(random)]]
    if not samples:
        raise UserError(f"{photos}: no picture is as large as {restoration.SMALLEST}x{restoration.SMALLEST}")
    inputs, targets = (np.array(part, np.float32) for part in zip(*samples))
    keras.utils.set_random_seed(0)
    arrays = fitted(inputs, targets)
    with atomic_write(out) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return 0


def command_line() -> argparse.Namespace:
    """Return the options of the command."""
    parser = Parser(description=__doc__)
    parser.add_argument("photos", metavar="PHOTOS", help="folder of clean pictures")
    parser.add_argument("out", metavar="artefacts.npz", type=Path)
    parser.add_argument("--draws", type=int, default=14)
    return parser.parse_args()


if __name__ == "__main__":
    options = command_line()
    sys.exit(exit_status("artefacts.py", lambda: train(**vars(options))))
