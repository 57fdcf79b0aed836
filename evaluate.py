"""Measure every method on every benchmark set: the paper's table, and grids to look at."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from easydict import EasyDict

from config import EARLIER
from evaluation.benchmark import benchmark_sets
from evaluation.grids import comparison
from evaluation.metrics import colour_shift, luma, mesh, niqe, psnr, shaved, ssim, ssim_daala
from evaluation.perceptual import Distance, as_batch, perceptual_distances
from evaluation.tables import table_row, whole_table, write_table
from methods.filters import enlarged
from pictures import as_colour, write_picture
from srgan import super_resolve
from training.checkpoints import generator_path, generator_settings
from training.stages import STAGES, Stage, network_name
from utils import UserError
from weights import PRETRAINED, load_generator, read_metadata

# {method: (filter, back-projections)}
MAIN_FILTERS = {name: (name, 0) for name in ("nearest", "bicubic", "lanczos")}
ALL_FILTERS = MAIN_FILTERS | {"bicubic + IBP": ("bicubic", 5), "NEDI": ("nedi", 0), "NEDI + IBP": ("nedi", 5)}
ALL_NOTE = """Published: not measured here; the paper's numbers, for VDSR its own paper's. IBP: five back-projections.
NEDI is below bicubic: it takes LR for samples of HR, but LR was blurred before it was sampled."""
HISTORY = ("nearest", "bicubic", "NEDI", "SRCNN", "ESPCN", "SRResNet", "SRGAN")  # in the grids with --all

# lr uint8 (h, w) or (h, w, 3) -> sr uint8 of the same kind
SuperResolve = Callable[[np.ndarray], np.ndarray]


def evaluate(config: EasyDict) -> int:
    """Measure all methods on all sets, print the table, and write it and the grids; return exit status 0.

    They are written to the folder evaluate in TRAIN.samples_dir, or to evaluate_all for all methods. Raises UserError
    if weights do not fit or there is nothing to measure.
    """
    scale, everything = config.MODEL.scale, config.EVALUATE.methods == "all"
    folder = Path(config.TRAIN.samples_dir, "evaluate_all" if everything else "evaluate")
    networks, remarks = load_networks(config)
    filters = MAIN_FILTERS
    if everything:
        filters = ALL_FILTERS
        networks = load_earlier(scale, remarks) | networks
        remarks.append(ALL_NOTE)
    columns = [method for method in HISTORY if everything or method != "nearest"]
    # The paper's table has no distances of features, and they take most of the time.
    distances: dict[str, Distance] | None = None if config.EVALUATE.distances and not everything else {}
    rows: list[dict[str, Any]] = []
    for name, pictures in benchmark_sets(config.EVALUATE.benchmark_dir, scale, remarks):
        if distances is None:  # once there is something to measure, since VGG19 may have to be downloaded
            distances = perceptual_distances(config.VGG.weights, remarks)
        scores: dict[str, list[dict[str, float]]] = {method: [] for method in [*filters, *networks, "HR"]}
        for path, lr, hr in pictures:
            srs = every_method(lr, scale, networks, filters)
            for method, values in measure_all(srs, hr, srs["bicubic"], scale, distances).items():
                scores[method].append(values)
            scores["HR"].append(measure(hr, hr, srs["bicubic"], scale))
            write_picture(folder / f"{name}_{path.stem}.png", comparison(srs, hr, scores, columns))
            if not rows and path == pictures[0][0]:
                write_tensorlayer_files(folder, lr, hr, srs)
        of_set = [table_row(name, method, values, scale) for method, values in scores.items()]
        rows += whole_table(of_set, scale) if everything else of_set
    write_table(folder / "results", rows, remarks)
    return 0


# What is compared


def load_networks(config: EasyDict) -> tuple[dict[str, SuperResolve], list[str]]:
    """Return ({method: network}, remarks), with one remark for each method that has no weights.

    Raises UserError if weights cannot be loaded or upscale by another factor than MODEL.scale.
    """
    networks: dict[str, SuperResolve] = {}
    remarks = []
    self_ensemble = config.EVALUATE.self_ensemble
    if self_ensemble:
        remarks.append("EVALUATE.self_ensemble=yes: SRResNet and SRGAN are means over the flips and turns of LR.")
    for stage in STAGES:
        path = weights_of(stage, config)
        if path is None:
            made = f"python train.py makes {generator_path(config.TRAIN.checkpoint_dir, stage)}"
            remarks.append(f"{stage.network}: no row, because there are no weights yet; {made}")
            continue
        scale = scale_of(path)
        if scale not in (None, config.MODEL.scale):
            raise UserError(f"{path}: upscales {scale}x; this run asks for MODEL.scale={config.MODEL.scale}")
        generator = load_generator(path, trust_pickle=config.EVALUATE.trust_pickle, model=generator_settings(config))
        name = method_name(stage, path)
        networks[name] = functools.partial(super_resolve_any, generator, self_ensemble)
        print(f"{name}: {path}, {read_metadata(path).get('updates', 'an unknown number of')} updates")
    return networks, remarks


def load_earlier(scale: int, remarks: list[str]) -> dict[str, SuperResolve]:
    """Return {method: network} of the networks before SRResNet whose shipped weights are there and fit `scale`.

    Adds a line to `remarks` for those that have none. Raises UserError if weights cannot be loaded.
    """
    networks: dict[str, SuperResolve] = {}
    missing = []
    for name in EARLIER:
        path = PRETRAINED / f"{name}.weights.h5"
        if path.exists() and scale_of(path) == scale:
            networks[name.upper()] = functools.partial(super_resolve_any, load_generator(path), False)
        else:
            missing.append(name.upper())
    if missing:
        remarks.append(f"{', '.join(missing)}: no weights of ours for {scale}x in {PRETRAINED.name}/")
    return networks


def weights_of(stage: Stage, config: EasyDict) -> Path | None:
    """Return the path of a stage's weights, or None if there are none.

    These are the weights that the configuration names, otherwise those in TRAIN.checkpoint_dir, otherwise the shipped
    ones if they have the right scale.
    """
    named = config.EVALUATE[stage.network.lower()]
    if named:
        return Path(named)
    trained = generator_path(config.TRAIN.checkpoint_dir, stage)
    if trained.exists():
        return trained
    shipped = PRETRAINED / f"{stage.network.lower()}.weights.h5"
    return shipped if shipped.exists() and scale_of(shipped) == config.MODEL.scale else None


def scale_of(path: Path) -> int | None:
    """Return the factor of the weights at `path`, or None if their metadata are missing or do not name it."""
    return read_metadata(path).get("model", {}).get("scale")


def method_name(stage: Stage, path: Path) -> str:
    """Return the name of the method whose weights, made by `stage`, are at `path`."""
    return network_name(stage, read_metadata(path).get("model", {}).get("variant", "paper"))


def every_method(
    lr: np.ndarray,
    scale: int,
    networks: Mapping[str, SuperResolve],
    filters: Mapping[str, tuple[str, int]] = MAIN_FILTERS,
) -> dict[str, np.ndarray]:
    """Upscale lr with all filters and networks; return {method: sr}.

    lr and the results: uint8, all grey (h, w) or all colour (h, w, 3). networks: from load_networks. filters: {method:
    (name of a filter, number of back-projections)}.
    """
    srs = {method: enlarged(lr, scale, name, times) for method, (name, times) in filters.items()}
    return srs | {method: network(lr) for method, network in networks.items()}


def super_resolve_any(generator: keras.Model, self_ensemble: bool, lr: np.ndarray) -> np.ndarray:
    """Super-resolve a uint8 picture, colour (h, w, 3) or grey (h, w), to uint8 of the same kind."""
    sr = super_resolve(generator, as_colour(lr), self_ensemble)
    return sr if lr.ndim == 3 else sr.mean(-1).round().astype(np.uint8)


# What is measured


def measure(sr: np.ndarray, hr: np.ndarray, bicubic: np.ndarray, scale: int) -> dict[str, float]:
    """Return {metric: value} of a picture, with `scale` pixels cut at the border.

    sr, hr, bicubic: uint8 (h, w) or (h, w, 3). PSNR, SSIM and mesh compare sr with hr, colour compares it with bicubic,
    and NIQE looks only at sr.
    """
    y_sr, y_hr = luma(sr), luma(hr)
    return {
        "psnr": psnr(y_sr, y_hr, scale),
        "ssim": ssim(y_sr, y_hr, scale),
        "ssim_daala": ssim_daala(y_sr, y_hr, scale),
        "niqe": niqe(shaved(luma(as_colour(sr)), scale)),
        "mesh": mesh(sr, hr, scale),
        "colour": colour_shift(sr, bicubic),
    }


def measure_all(
    srs: Mapping[str, np.ndarray], hr: np.ndarray, bicubic: np.ndarray, scale: int, distances: Mapping[str, Distance]
) -> dict[str, dict[str, float]]:
    """Return {method: {metric: value}} of one picture: what measure() returns, and the distances of features.

    srs: {method: picture}. distances: from perceptual_distances.
    """
    values = {method: measure(sr, hr, bicubic, scale) for method, sr in srs.items()}
    for metric, distance in distances.items():
        for method, value in zip(srs, distance(map(as_batch, srs.values()), as_batch(hr))):
            values[method][metric] = float(value)
    return values


# What is looked at


def write_tensorlayer_files(folder: Path, lr: np.ndarray, hr: np.ndarray, srs: dict[str, np.ndarray]) -> None:
    """Write valid_lr, valid_hr, valid_bicubic and valid_gen.png, the files that TensorLayer's evaluate() writes.

    srs: {method: uint8 (h, w) or (h, w, 3)}; valid_gen is SRGAN's, otherwise SRResNet's, otherwise missing.
    """
    pictures = {"lr": lr, "hr": hr, "bicubic": srs["bicubic"]}
    best = next((srs[stage.network] for stage in reversed(STAGES) if stage.network in srs), None)
    if best is not None:
        pictures["gen"] = best
    for name, picture in pictures.items():
        write_picture(folder / f"valid_{name}.png", picture)


def best_weights(config: EasyDict) -> Path | str:
    """Return the weights to upscale with: SRGAN's, otherwise SRResNet's, see weights_of; "srgan" if there are none."""
    candidates = [weights_of(stage, config) for stage in reversed(STAGES)]
    return next((path for path in candidates if path), "srgan")
