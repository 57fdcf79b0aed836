"""The Upscaler that a command's options ask for: the Python interface, which upscale.py and demo.py use too.

from upscale import load

upscaler = load("srgan")  # or "srresnet", a filter such as "bicubic", or a file of your own
sr = upscaler(lr)  # lr: uint8 (h, w, 3) -> sr: uint8 (4*h, 4*w, 3)
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines import available_device
from methods.filters import FILTERS, enlarged_batch, with_back_projection
from tiles import mean_over_turns
from upscaling.interpolation import can_restore, mixed, restorer
from upscaling.network import DEVICES, ENGINES, Network, load_network
from upscaling.upscaler import Upscaler
from utils import UserError
from weights import model_path, read_metadata

FILTER_SCALE = 4  # the factor by which filters enlarge


def load(
    model: str = "srgan",
    scale: float | None = None,
    engine: str = "auto",
    tile: int | None = None,
    trust_pickle: bool = False,
    self_ensemble: bool = False,
    back_projections: int | None = None,
    strength: float = 1.0,
    restore: float | None = None,
    device: str | None = None,
) -> Upscaler:
    """Return the Upscaler of a trained network or of a filter.

    model: "srgan" (sharp, invents), "srresnet" (soft, true), "photo" (cleans), "srcnn" or "espcn" (small), a file of
    weights or one that export.py wrote, or one of FILTERS.
    scale: factor of the result, above 0, by default the network's. For another factor, its result is resampled.
    engine: "auto", "openvino", "keras" or "onnxruntime", as for load_network.
    tile: side of a tile in pixels, above 32; default: what free memory allows.
    trust_pickle: read a pickled g_srgan.npz of TensorLayer 1 or 2.
    self_ensemble: average the results for all flips and turns of a picture; better, but takes 8 times as long.
    back_projections: how often the result is corrected so that reducing it gives the picture again. Default: once for
    an SRGAN, whose white would otherwise be one level too dark, but not if it restores, and never for others.
    strength: how much of "srgan" is in the network, 0 to 1; the rest is "srresnet".
    restore: how much of the result is by the network for compressed and noisy pictures, 0 to 1; in between, both
    networks work. Default: what each picture needs (restoration.py), or 0 for a network without such a one beside it.
    device: of OpenVINO: "CPU", or Intel's "GPU" or "NPU"; a line is printed where there is none, and the CPU computes.
    The Upscaler can be pickled, for other processes and machines; these read the weights themselves.
    Raises UserError if the model is missing, damaged or no generator, and ValueError for other values.
    """
    if engine not in ENGINES or not 0 <= strength <= 1 or (back_projections or 0) < 0 or not 0 <= (restore or 0) <= 1:
        received = f"Received: engine={engine!r}, {strength=}, {back_projections=}, {restore=}"
        raise ValueError(
            f"engine must be in {ENGINES}, strength and restore in 0..1, back_projections 0 or more. {received}"
        )

    if device not in (None, *DEVICES) or device and engine not in ("auto", "openvino"):
        raise ValueError(f"device must be in {DEVICES}, for OpenVINO. Received: {device=}, {engine=}")
    device = available_device(device) if device and model not in FILTERS else None
    networks = Networks(model, engine, trust_pickle, self_ensemble, back_projections, strength, device)
    automatic = restore is None and model not in FILTERS and can_restore(model_path(model))
    return Upscaler(networks(restore or 0.0), scale, tile, networks if automatic else None)


@dataclass(eq=False)
class Networks:
    """The networks for load()'s arguments: call it with how much to restore, 0 to 1.

    Only its arguments are pickled; the weights are read where it is unpickled and a network used.
    """

    model: str
    engine: str
    trust_pickle: bool
    self_ensemble: bool
    back_projections: int | None
    strength: float
    device: str | None
    networks: dict[bool, Network] = field(default_factory=dict)  # {whether it restores: it}, those needed so far

    def __call__(self, restore: float) -> Network:
        """Return the network that restores so much. Raises UserError as load does."""
        networks = [self.network(restores) for restores in parts_that_restore(restore)]
        return Network(functools.partial(self.super_resolve, restore), networks[0].scale)

    def super_resolve(self, restore: float, lr: np.ndarray) -> np.ndarray:
        """Return sr of the network that restores so much."""
        srs = [part * self.network(restores)(lr) for restores, part in parts_that_restore(restore).items()]
        return sum(srs[1:], srs[0])

    def network(self, restores: bool) -> Network:
        """Return the network that restores, or the one that does not, which is loaded when it is needed first."""
        if restores not in self.networks:
            self.networks[restores] = self._load(restores)
        return self.networks[restores]

    def _load(self, restores: bool) -> Network:
        if self.model not in FILTERS:
            weights = model_path(self.model)
            with mixed(restorer(weights) if restores else weights, self.strength) as path:
                network = load_network(path, self.engine, trust_pickle=self.trust_pickle, device=self.device)
        elif self.strength < 1 or restores:
            raise UserError(f"{self.model}: a filter has no strength and restores nothing; leave the option out")
        else:
            enlarge = functools.partial(enlarged_batch, scale=FILTER_SCALE, name=self.model)
            network = Network(enlarge, FILTER_SCALE)
        if self.self_ensemble:
            network = Network(mean_over_turns(network), network.scale)
        corrections = self.back_projections
        if corrections is None:
            corrections = default_back_projections(self.model, restores)
        if corrections:
            network = Network(with_back_projection(network, corrections), network.scale)
        return network

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments; a path of one's own is made absolute, so that it holds in another folder too."""
        state = vars(self) | {"networks": {}}
        if self.model not in FILTERS and model_path(self.model) == Path(self.model):
            state["model"] = str(Path(self.model).absolute())
        return state


def parts_that_restore(restore: float) -> dict[bool, float]:
    """Return {whether a network restores: its part in a result that is restored so much}, without parts of 0."""
    return {restores: part for restores, part in ((False, 1 - restore), (True, restore)) if part}


def default_back_projections(model: str, restores: bool = False) -> int:
    """Return how often results of `model` are corrected by default. Raises UserError if the model is missing.

    A network for photographs cleans its source; a correction would bring the blocks of a JPEG back.
    """
    if restores or model in FILTERS:
        return 0
    metadata = read_metadata(model_path(model))
    return int(metadata.get("stage") == "srgan" and metadata.get("degradation") != "photo")
