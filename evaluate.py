"""The paper's table: every method on every benchmark set, with grids to look at."""

import importlib.util
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from evaluation.metrics import (
    PERCEPTUAL_LAYERS,
    colour_shift,
    feature_distance,
    luma,
    mesh,
    niqe,
    psnr,
    shaved,
    ssim,
    ssim_daala,
)
from evaluation.published import PAPER
from evaluation.tables import table_row, write_table
from pictures import as_colour, cut_to_multiple, find_pictures, grid, labelled, read_picture, resize, write_picture
from srgan import super_resolve
from training.checkpoints import generator_path, generator_settings
from training.stages import STAGES
from utils import UserError
from weights import PRETRAINED, load_generator, load_vgg19, read_metadata

KERNELS = ["nearest", "bicubic", "lanczos"]
SMALLEST = 11  # pixels: the window of MATLAB's SSIM


def evaluate(config):
    """Measure all methods on all sets, print the table, write it and the grids below samples/evaluate; 0."""
    folder, scale = Path(config.TRAIN.samples_dir, "evaluate"), config.MODEL.scale
    networks, remarks = load_networks(config)
    distances = perceptual_distances(config.VGG.weights, remarks)
    rows = []
    for name, pictures in benchmark_sets(config.EVALUATE.benchmark_dir, scale, remarks):
        scores = {method: [] for method in [*KERNELS, *networks, "HR"]}
        for path, lr, hr in pictures:
            pictures_by_method = every_method(lr, scale, networks, hr)
            srs = {method: sr for method, sr in pictures_by_method.items() if method != "HR"}
            for method, sr in pictures_by_method.items():
                scores[method].append(measure(sr, hr, srs["bicubic"], scale))
            for distance, between in distances.items():
                for method, value in zip(srs, between(map(as_batch, srs.values()), as_batch(hr))):
                    scores[method][-1][distance] = float(value)
            write_picture(folder / f"{name}_{path.stem}.png", comparison(srs, hr, scores))
            if not rows and path == pictures[0][0]:
                write_tensorlayer_files(folder, lr, hr, srs)
        rows += [table_row(name, method, values, scale) for method, values in scores.items()]
    write_table(folder / "results", rows, remarks)
    return 0


# What is compared


def load_networks(config):
    """({method: generator}, [a line for each method without weights])."""
    networks, missing = {}, []
    for stage in STAGES:
        path = weights_of(stage, config)
        if path is None:
            made = f"python train.py makes {generator_path(config.TRAIN.checkpoint_dir, stage)}"
            missing.append(f"{stage.network}: no row, for there are no weights yet; {made}")
            continue
        metadata = read_metadata(path)
        scale = metadata.get("model", {}).get("scale", config.MODEL.scale)
        if scale != config.MODEL.scale:
            raise UserError(f"{path}: upscales {scale}x; this run asks for MODEL.scale={config.MODEL.scale}")
        trusted = config.EVALUATE.trust_pickle == "yes"
        networks[stage.network] = load_generator(path, trusted, generator_settings(config))
        print(f"{stage.network}: {path}, {metadata.get('updates', 'an unknown number of')} updates")
    return networks, missing


def weights_of(stage, config):
    """The weights of a stage's row: those named, else those trained here, else those shipped that fit; or None."""
    named = config.EVALUATE[stage.network.lower()]
    if named:
        return Path(named)
    trained = generator_path(config.TRAIN.checkpoint_dir, stage)
    if trained.exists():
        return trained
    shipped = PRETRAINED / f"{stage.network.lower()}.weights.h5"
    fits = shipped.exists() and read_metadata(shipped)["model"]["scale"] == config.MODEL.scale
    return shipped if fits else None


def every_method(lr, scale, networks, hr):
    """{method: its picture} for lr, uint8, grey or colour: the kernels, the networks, and HR."""
    srs = {kernel: resize(lr, scale, kernel) for kernel in KERNELS}
    srs |= {method: super_resolve_any(network, lr) for method, network in networks.items()}
    return srs | {"HR": hr}


def super_resolve_any(generator, lr):
    """super_resolve for colour (h, w, 3) and grey (h, w) alike."""
    if lr.ndim == 3:
        return super_resolve(generator, lr)
    return super_resolve(generator, as_colour(lr)).mean(-1).round().astype(np.uint8)


def benchmark_sets(folder, scale, remarks):
    """Yield (set, [(path, lr, hr)]) for each set in the benchmark folder, the paper's first.

    A picture that cannot be measured is left out, with a line in `remarks`. Raises UserError where none is left.
    """
    sets = [path for path in Path(folder).glob("*") if (path / "HR").is_dir()]
    if not sets:
        raise UserError(f"{folder}: no set in it (a folder with HR/ inside)")
    known = list(PAPER)
    sets.sort(key=lambda path: (known.index(path.name) if path.name in known else len(known), path.name))
    measurable = 0
    for path in sets:
        pictures = []
        for hr_path in find_pictures(path / "HR"):
            try:
                pictures.append((hr_path, *benchmark_pair(hr_path, path / f"LRx{scale}" / hr_path.name, scale)))
            except UserError as error:
                remarks.append(f"left out: {error}")
        measurable += len(pictures)
        if pictures:
            yield path.name, pictures
    if not measurable:
        raise UserError(f"{folder}: no picture in it can be measured; the first: {remarks[-1]}")


def benchmark_pair(hr_path, lr_path, scale):
    """(lr, hr), uint8, grey or colour. LR is read where it lies beside HR, else reduced. Raises UserError."""
    hr = cut_to_multiple(read_picture(hr_path, grey=True), scale)
    if min(hr.shape[:2]) < SMALLEST + 2 * scale:
        raise UserError(f"{hr_path}: {hr.shape[1]}x{hr.shape[0]} is too small to measure SSIM on")
    lr = read_picture(lr_path, grey=True) if lr_path.exists() else resize(hr, 1 / scale)
    if hr.shape[:2] != (scale * lr.shape[0], scale * lr.shape[1]):
        raise UserError(f"{lr_path}: is not 1/{scale} of {hr_path.name} in size; delete it to have it made")
    return lr, hr


# What is measured


def measure(sr, hr, bicubic, scale):
    """{metric: number} of sr, uint8: against hr, against bicubic, and by itself; a border of `scale` pixels cut."""
    y_sr, y_hr = luma(sr), luma(hr)
    return {
        "psnr": psnr(y_sr, y_hr, scale),
        "ssim": ssim(y_sr, y_hr, scale),
        "ssim_daala": ssim_daala(y_sr, y_hr, scale),
        "niqe": niqe(shaved(luma(as_colour(sr)), scale)),
        "mesh": mesh(sr, hr, scale),
        "colour": colour_shift(sr, bicubic),
    }


def perceptual_distances(vgg_weights, remarks):
    """{metric: function of some srs and hr, (1, h, w, 3) in [-1, 1] -> a number each}.

    `remarks` gets a line for each that is missing.
    """
    distances = {}
    try:
        vgg = load_vgg19(PERCEPTUAL_LAYERS, vgg_weights)
        distances["vgg19"] = lambda srs, hr: distances_of_features(vgg, srs, hr)
    except UserError as error:
        remarks.append(f"VGG19: no column; {error}")
    if importlib.util.find_spec("lpips"):  # not among the requirements: it brings PyTorch
        try:
            distances["lpips"] = lpips_distance()
        except OSError as error:
            remarks.append(f"LPIPS: no column; AlexNet cannot be downloaded ({error})")
    return distances


def distances_of_features(vgg, srs, hr):
    """Yield the distance of each sr from hr; one at a time, for VGG19 takes 2 kB a pixel."""
    wanted = vgg(hr)
    for sr in srs:
        yield feature_distance(vgg(sr), wanted)[0]


def lpips_distance():
    """LPIPS with AlexNet (Zhang et al. 2018), by the package of its authors."""
    import lpips
    import torch

    network = lpips.LPIPS(net="alex", verbose=False)

    def distance(srs, hr):
        with torch.no_grad():
            hr = torch.from_numpy(np.moveaxis(hr, -1, 1))
            return [network(torch.from_numpy(np.moveaxis(sr, -1, 1)), hr).item() for sr in srs]

    return distance


def as_batch(picture):
    """A uint8 picture, grey or colour -> (1, h, w, 3) in [-1, 1]."""
    return as_colour(picture)[None].astype(np.float32) / 127.5 - 1


# What is looked at


def comparison(srs, hr, scores):
    """One picture: LR-bicubic, the networks and HR side by side, under each an enlarged detail."""
    shown = {method: sr for method, sr in srs.items() if method not in ("nearest", "lanczos")}
    labels = [f"{method} {scores[method][-1]['psnr']:.2f} dB" for method in shown] + ["HR"]
    pictures = [as_colour(picture) for picture in [*shown.values(), hr]]
    zoom = max(1, round(hr.shape[1] / 64))
    top, left, side = hardest_detail(srs["bicubic"], hr, hr.shape[1] // zoom)
    details = [resize(p[top : top + side, left : left + side], zoom, "nearest") for p in pictures]
    return grid([[labelled(p, text) for p, text in zip(pictures, labels)], details])


def hardest_detail(bicubic, hr, side):
    """(top, left, side) of the square window, `side` pixels at most, in which bicubic has lost most."""
    side = min(side, *hr.shape[:2])
    error = uniform_filter((luma(bicubic) - luma(hr)) ** 2, side)  # at the middle of each window
    inner = error[side // 2 : hr.shape[0] - side // 2 + 1, side // 2 : hr.shape[1] - side // 2 + 1]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    return top, left, side


def write_tensorlayer_files(folder, lr, hr, srs):
    """valid_lr, valid_hr, valid_bicubic and valid_gen.png, as TensorLayer's evaluate() names them."""
    pictures = {"lr": lr, "hr": hr, "bicubic": srs["bicubic"]}
    best = next((srs[stage.network] for stage in reversed(STAGES) if stage.network in srs), None)
    if best is not None:
        pictures["gen"] = best
    for name, picture in pictures.items():
        write_picture(folder / f"valid_{name}.png", picture)


def best_weights(config):
    """The weights to upscale with: SRGAN's, else SRResNet's, trained here or shipped; or "srgan"."""
    found = [weights_of(stage, config) for stage in reversed(STAGES)]
    return next((path for path in found if path), "srgan")
