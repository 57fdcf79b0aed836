"""Distances of sr from hr as networks see them: in the features of VGG19, and LPIPS."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from losses import FEATURE_LAYERS, feature_distance
from pictures import as_colour, to_float
from utils import UserError
from weights import load_vgg19

# (several sr, one hr) -> the distance of each sr from hr; all pictures are (1, h, w, 3) in [-1, 1]
Distance = Callable[[Iterable[np.ndarray], np.ndarray], Iterable[float]]


def perceptual_distances(vgg_weights: str, remarks: list[str]) -> dict[str, Distance]:
    """Return {metric: distance} of the perceptual distances that can be computed here.

    Adds a line to `remarks` for each one whose network cannot be loaded.
    """
    distances: dict[str, Distance] = {}
    try:
        vgg = load_vgg19(FEATURE_LAYERS, vgg_weights)
        distances["vgg19"] = lambda srs, hr: distances_of_features(vgg, srs, hr)
    except UserError as error:
        remarks.append(f"VGG19: no column; {error}")
    if importlib.util.find_spec("lpips"):  # optional, because it needs PyTorch
        try:
            distances["lpips"] = lpips_distance()
        except OSError as error:
            remarks.append(f"LPIPS: no column; AlexNet cannot be downloaded ({error})")
    return distances


def distances_of_features(vgg: keras.Model, srs: Iterable[np.ndarray], hr: np.ndarray) -> Iterator[Any]:
    """Yield the distance of each sr from hr in the features of VGG19, a scalar; all are (1, h, w, 3) in [-1, 1].

    The pictures are taken one at a time, because VGG19 needs 2 kB of memory per pixel.
    """
    wanted = vgg(hr)
    for sr in srs:
        yield feature_distance(vgg(sr), wanted)[0]


def lpips_distance() -> Distance:
    """Return LPIPS with AlexNet (Zhang et al. 2018), computed by the authors' package.

    Raises OSError if AlexNet has to be downloaded and cannot be.
    """
    import lpips
    import torch

    network = lpips.LPIPS(net="alex", verbose=False)

    def distance(srs: Iterable[np.ndarray], hr: np.ndarray) -> list[float]:
        with torch.no_grad():
            wanted = torch.from_numpy(np.moveaxis(hr, -1, 1))  # (1, 3, h, w)
            return [network(torch.from_numpy(np.moveaxis(sr, -1, 1)), wanted).item() for sr in srs]

    return distance


def as_batch(picture: np.ndarray) -> np.ndarray:
    """Convert a uint8 picture (h, w) or (h, w, 3) to a batch (1, h, w, 3), float32 in [-1, 1]."""
    return to_float(as_colour(picture))[None]
