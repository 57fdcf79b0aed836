"""What happens to photographs before somebody wants them larger: blur, noise, sharpening, resampling and JPEG.

Functions on arrays that need only NumPy, SciPy and Pillow, so that the file can be used alone. A picture is (h, w, 3),
float in 0..255 unless a function says otherwise, and keeps its size. `random` is a NumPy Generator.
"""

import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage

# Sources: BSRGAN, Zhang et al. 2021; Real-ESRGAN, Wang et al. 2021; noise of sensors, Foi et al. 2008. What names none
# was chosen by looking at files of telephones and messengers.

# The ranges from which strengths are drawn evenly. Blur and noise are given in pixels and levels of the small picture,
# to which they are applied. Of a picture that is to be enlarged four times, blur of 0.5 pixels is blur of 2 in HR.
STRENGTHS = {
    "blur": (0.2, 1.1),  # pixels, standard deviation along each axis; BSRGAN: 0.1 to 2.8 in HR for 4x
    "angle": (0.0, math.pi),  # radians, direction of the longer axis; BSRGAN
    "shot": (0.0, 0.25),  # levels, variance of the noise divided by the level; Foi et al.
    "read": (0.0, 7.0),  # levels, standard deviation at black; Foi et al.; Real-ESRGAN: 1 to 30 in HR
    "grain": (0.4, 0.8),  # pixels, blur of noise that a sensor's colour filter or a denoiser leaves
    "sharpening": (0.2, 1.5),  # fraction of the difference from the blurred picture that is added
    "radius": (0.5, 1.2),  # pixels, standard deviation of sharpening's blur
    "factor": (0.6, 1.6),  # times the size, there and back; Real-ESRGAN: 0.15 to 1.5, twice
    "quality": (35.0, 97.0),  # libjpeg's quality, 1 to 100; BSRGAN and Real-ESRGAN: 30 to 95
}
# How probable each step is
CHANCES = {
    "clean": 0.15,
    "blur": 0.6,  # Real-ESRGAN: 0.8 to 1
    "isotropic": 0.5,  # Real-ESRGAN: 0.45 to 0.65
    "noise": 0.6,  # BSRGAN and Real-ESRGAN: 1
    "coloured": 0.6,  # Real-ESRGAN: 0.6, the rest grey
    "grain": 0.4,
    "sharpening": 0.25,
    "resampling": 0.3,
    "jpeg": 0.85,  # Real-ESRGAN: 1
    "chroma_halved": 0.8,  # telephones and messengers write 4:2:0, careful programs 4:4:4
    "jpeg_again": 0.25,  # Real-ESRGAN: 1; messengers compress a telephone's JPEG again
}
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX, Image.Resampling.LANCZOS)
# libjpeg's chroma is a part of blocks of 16x16, so a crop needs this many more pixels on each side.
MARGIN = 16


def photo(lr: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Degrade lr (h, w, 3) uint8 as a photograph may have been; the result is uint8 (h, w, 3), sometimes `lr` itself.

    The order is a camera's: optics, sensor, sharpening, file; resampling can happen at any place, and after it the
    second JPEG. Which steps are made, and how strong they are, is drawn with CHANCES and STRENGTHS.
    """
    if happens("clean", random):
        return lr
    in_order = {"blur": random_blur, "noise": random_noise, "sharpening": random_sharpening, "jpeg": random_jpeg}
    steps = [step for name, step in in_order.items() if happens(name, random)]
    if happens("resampling", random):
        steps.insert(random.integers(len(steps) + 1), random_resampling)
    if random_jpeg in steps and happens("jpeg_again", random):
        steps.append(random_jpeg)
    picture = lr.astype(np.float32)
    for step in steps:
        picture = step(picture, random)
    return to_uint8(picture)


def happens(step: str, random: np.random.Generator) -> bool:
    """Draw whether `step` of CHANCES is made."""
    return random.random() < CHANCES[step]


def drawn(strength: str, random: np.random.Generator) -> float:
    """Draw a value from the range of `strength` in STRENGTHS."""
    return random.uniform(*STRENGTHS[strength])


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Round and clip a picture of any shape to uint8."""
    return picture.round().clip(0, 255).astype(np.uint8)


# Steps with drawn strengths


def random_blur(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blur with drawn standard deviations, the same in all directions or not."""
    longer, angle = drawn("blur", random), drawn("angle", random)
    shorter = longer if happens("isotropic", random) else drawn("blur", random)
    return blur(picture, longer, shorter, angle)


def random_noise(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add sensor noise of drawn strength, coloured or grey, from pixel to pixel or with grain."""
    shot, read = drawn("shot", random), drawn("read", random)
    coloured = happens("coloured", random)
    grain = drawn("grain", random) if happens("grain", random) else 0.0
    return noise(picture, random, shot, read, coloured, grain)


def random_sharpening(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Sharpen with a drawn amount and radius."""
    return sharpen(picture, drawn("sharpening", random), drawn("radius", random))


def random_resampling(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Resize by a drawn factor and back, each with a drawn filter."""
    factor = drawn("factor", random)
    there, back = (FILTERS[index] for index in random.integers(len(FILTERS), size=2))
    return resample(picture, factor, there, back)


def random_jpeg(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Compress with a drawn quality, full or halved chroma, and a grid of blocks that begins anywhere."""
    quality = round(drawn("quality", random))
    halved = happens("chroma_halved", random)
    top, left = random.integers(MARGIN, size=2)
    return jpeg(picture, quality, halved, (int(top), int(left)))


# Steps


def blur(picture: np.ndarray, longer: float, shorter: float | None = None, angle: float = 0.0) -> np.ndarray:
    """Blur with a Gaussian whose standard deviations are `longer` pixels along `angle` (radians) and `shorter` across.

    shorter: by default the same, so that the blur is isotropic.
    """
    if shorter is None or shorter == longer:
        return ndimage.gaussian_filter(picture, longer, axes=(0, 1), truncate=3)
    radius = max(1, math.ceil(3 * max(longer, shorter)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-0.5 * ((along / longer) ** 2 + (across / shorter) ** 2))
    return ndimage.correlate(picture, (kernel / kernel.sum())[..., None])


def noise(
    picture: np.ndarray,
    random: np.random.Generator,
    shot: float,
    read: float,
    coloured: bool = True,
    grain: float = 0.0,
) -> np.ndarray:
    """Add noise with variance shot * level + read^2 (Foi et al. 2008).

    coloured: each channel has its own noise; otherwise all have the same. grain: standard deviation in pixels of a blur
    of the noise, which correlates neighbours but leaves the variance as it is.
    """
    height, width, channels = picture.shape
    field = random.standard_normal((height, width, channels if coloured else 1), np.float32)
    if grain:
        impulse = np.zeros(15)
        impulse[7] = 1
        # Blurring white noise along an axis multiplies its variance by the kernel's sum of squares; two axes multiply
        # its standard deviation by the same.
        remaining = np.sum(ndimage.gaussian_filter1d(impulse, grain) ** 2)
        field = ndimage.gaussian_filter(field, grain, axes=(0, 1)) / remaining
    level = picture if coloured else picture.mean(axis=-1, keepdims=True)
    return picture + field * np.sqrt(shot * level.clip(0, 255) + read**2).astype(np.float32)


def sharpen(picture: np.ndarray, amount: float, radius: float) -> np.ndarray:
    """Add `amount` times the difference from the picture blurred by `radius` pixels (unsharp masking)."""
    return picture + amount * (picture - blur(picture, radius))


def resample(picture: np.ndarray, factor: float, there: Image.Resampling, back: Image.Resampling) -> np.ndarray:
    """Resize by `factor` and back to the old size, rounding to uint8 in between as programs do."""
    height, width = picture.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    resized = Image.fromarray(to_uint8(picture)).resize(size, there).resize((width, height), back)
    return np.asarray(resized, np.float32)


def jpeg(picture: np.ndarray, quality: int, chroma_halved: bool = True, phase: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Compress and decompress as libjpeg does.

    quality: 1 to 100. chroma_halved: 4:2:0, otherwise 4:4:4. phase: by how many rows and columns the grid of blocks is
    moved, as if the picture were cut out of a larger one.
    """
    top, left = phase
    larger = np.pad(to_uint8(picture), ((top, 0), (left, 0), (0, 0)), mode="symmetric")
    file = io.BytesIO()
    Image.fromarray(larger).save(file, "JPEG", quality=quality, subsampling="4:2:0" if chroma_halved else "4:4:4")
    return np.asarray(Image.open(file), np.float32)[top:, left:]
