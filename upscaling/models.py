"""The Upscaler that a command's options ask for: the Python interface, which upscale.py and demo.py use too.

from upscale import load

upscaler = load("srgan")  # or "srresnet", a filter such as "bicubic", or a file of your own
sr = upscaler(lr)  # lr: uint8 (h, w, 3) -> sr: uint8 (4*h, 4*w, 3)
"""

import functools

from engines import available_device
from methods.filters import FILTERS, enlarged_batch, with_back_projection
from tiles import mean_over_turns
from upscaling.interpolation import can_restore, mixed
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
    restore: how much of the network is trained for compressed and noisy pictures, 0 to 1. Default: what each picture
    needs (restoration.py), or 0 for a network without such a one beside it.
    device: of OpenVINO: "CPU", or Intel's "GPU" or "NPU"; a line is printed where there is none, and the CPU computes.
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

    @functools.lru_cache(maxsize=1)  # each needs gigabytes for large tiles
    def loaded(restore: float) -> Network:
        network = network_of(model, engine, trust_pickle, strength, restore, device)
        if self_ensemble:
            network = Network(mean_over_turns(network), network.scale)
        corrections = default_back_projections(model, restore) if back_projections is None else back_projections
        if corrections:
            network = Network(with_back_projection(network, corrections), network.scale)
        return network

    if restore is not None or model in FILTERS or not can_restore(model_path(model)):
        return Upscaler(loaded(restore or 0.0), scale, tile)
    factor, errors = loaded(0.0).scale, loaded(0.0).errors  # those of all four files

    def network_that_restores(restore: float) -> Network:
        return Network(lambda lr: loaded(restore).function(lr), factor, errors)

    return Upscaler(network_that_restores(0.0), scale, tile, network_that_restores)


def network_of(
    model: str, engine: str, trust_pickle: bool, strength: float, restore: float, device: str | None
) -> Network:
    """Return the network alone; arguments as for load. Raises UserError as load does."""
    if model in FILTERS:
        if strength < 1 or restore:
            raise UserError(f"{model}: a filter has no strength and restores nothing; leave the option out")
        return Network(functools.partial(enlarged_batch, scale=FILTER_SCALE, name=model), FILTER_SCALE)
    with mixed(model_path(model), strength, restore) as path:
        return load_network(path, engine, trust_pickle=trust_pickle, device=device)


def default_back_projections(model: str, restore: float = 0.0) -> int:
    """Return how often results of `model` are corrected by default. Raises UserError if the model is missing.

    A network for photographs cleans its source; a correction would bring the blocks of a JPEG back.
    """
    if restore or model in FILTERS:
        return 0
    metadata = read_metadata(model_path(model))
    return int(metadata.get("stage") == "srgan" and metadata.get("degradation") != "photo")
