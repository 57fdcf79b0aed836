"""The paper's table: every method on every benchmark set, with grids to look at."""

import csv
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

import upscale
from evaluation.metrics import PERCEPTUAL_LAYERS, feature_distance, luma, niqe, psnr, shaved, ssim, ssim_daala
from pictures import cut_to_multiple, find_pictures, grid, labelled, read_picture, resize, write_picture
from srgan import super_resolve
from training.checkpoints import generator_path, generator_settings
from training.stages import STAGES
from utils import UserError, write_text
from weights import PRETRAINED, load_generator, load_vgg19, read_metadata

# Table 2 of the paper: PSNR in dB and SSIM (daala) on Y, 4 pixels of border cut
PAPER = {
    "Set5": {
        "nearest": (26.26, 0.7552),
        "bicubic": (28.43, 0.8211),
        "SRResNet": (32.05, 0.9019),
        "SRGAN": (29.40, 0.8472),
    },
    "Set14": {
        "nearest": (24.64, 0.7100),
        "bicubic": (25.99, 0.7486),
        "SRResNet": (28.49, 0.8184),
        "SRGAN": (26.02, 0.7397),
    },
    "BSD100": {
        "nearest": (25.02, 0.6606),
        "bicubic": (25.94, 0.6935),
        "SRResNet": (27.58, 0.7620),
        "SRGAN": (25.16, 0.6688),
    },
}
KERNELS = ["nearest", "bicubic", "lanczos"]


def evaluate(config):
    """Measure all methods on all sets, print the table, write it and the grids below samples/evaluate; 0."""
    folder = Path(config.TRAIN.samples_dir, "evaluate")
    networks, missing = load_networks(config)
    distances = perceptual_distances(config, missing)
    rows = []
    for name, pictures in benchmark_sets(config):
        scores = {method: [] for method in [*KERNELS, *networks, "HR"]}
        for path, lr, hr in pictures:
            srs = {kernel: resize(lr, config.MODEL.scale, kernel) for kernel in KERNELS}
            srs |= {method: super_resolve_any(network, lr) for method, network in networks.items()}
            for method, sr in [*srs.items(), ("HR", hr)]:
                scores[method].append(measure(sr, hr, config.MODEL.scale))
            for distance, between in distances.items():
                for method, value in zip(srs, between(map(floats, srs.values()), floats(hr))):
                    scores[method][-1][distance] = float(value)
            write_picture(folder / f"{name}_{path.stem}.png", comparison(srs, hr, scores))
            if not rows and path == pictures[0][0]:
                write_tensorlayer_files(folder, lr, hr, srs)
        rows += [table_row(name, method, values, config.MODEL.scale) for method, values in scores.items()]
    write_table(folder / "results", rows, missing)
    return 0


def load_networks(config):
    """({method: generator}, [a line for each method without weights])."""
    networks, missing = {}, []
    for stage in STAGES:
        method, path = stage.network, weights_of(stage, config)
        if path is None:
            where = generator_path(config.TRAIN.checkpoint_dir, stage)
            missing.append(f"{method}: no row, for there are no weights yet ({where}); python train.py makes them")
            continue
        scale = read_metadata(path).get("model", {}).get("scale", config.MODEL.scale)
        if scale != config.MODEL.scale:
            raise UserError(f"{path}: upscales {scale}x; this run asks for MODEL.scale={config.MODEL.scale}")
        networks[method] = load_generator(path, config.EVALUATE.trust_pickle == "yes", generator_settings(config))
        print(f"{method}: {path}, {read_metadata(path).get('updates', 'an unknown number of')} updates")
    return networks, missing


def weights_of(stage, config):
    """The weights a row is made from: those named, else those trained here, else those shipped that fit; or None."""
    method = stage.network
    named = config.EVALUATE[method.lower()]
    if named:
        return Path(named)
    trained = generator_path(config.TRAIN.checkpoint_dir, stage)
    shipped = PRETRAINED / f"{method.lower()}.weights.h5"
    fits = shipped.exists() and read_metadata(shipped)["model"]["scale"] == config.MODEL.scale
    return trained if trained.exists() else shipped if fits else None


def super_resolve_any(generator, lr):
    """super_resolve for colour (h, w, 3) and grey (h, w) alike."""
    if lr.ndim == 3:
        return super_resolve(generator, lr)
    return super_resolve(generator, np.repeat(lr[..., None], 3, -1)).mean(-1).round().astype(np.uint8)


def benchmark_sets(config):
    """[(set, [(path, lr, hr)])] of the benchmark folder; LR is read where it lies beside HR, else reduced."""
    scale, sets = config.MODEL.scale, []
    found = [folder for folder in Path(config.EVALUATE.benchmark_dir).glob("*") if (folder / "HR").is_dir()]
    if not found:
        raise UserError(f"{config.EVALUATE.benchmark_dir}: no set in it (a folder with HR/ inside)")
    known = list(PAPER)
    for folder in sorted(found, key=lambda f: (known.index(f.name) if f.name in known else len(known), f.name)):
        pictures = []
        for path in find_pictures(folder / "HR"):
            hr = cut_to_multiple(read_picture(path, grey=True), scale)
            ready = folder / f"LRx{scale}" / path.name
            if min(hr.shape[:2]) < 11 + 2 * scale:
                raise UserError(f"{path}: {hr.shape[1]}x{hr.shape[0]} is too small to measure SSIM on")
            lr = read_picture(ready, grey=True) if ready.exists() else resize(hr, 1 / scale)
            if hr.shape[:2] != (scale * lr.shape[0], scale * lr.shape[1]):
                raise UserError(f"{ready}: is not 1/{scale} of {path.name} in size; delete it to have it made")
            pictures.append((path, lr, hr))
        sets.append((folder.name, pictures))
    return sets


def measure(sr, hr, scale):
    """PSNR (dB), SSIM of MATLAB and of daala on luma, and NIQE; a border of `scale` pixels cut."""
    own = {"niqe": niqe(shaved(luma(colour(sr)), scale))}
    sr, hr = luma(sr), luma(hr)
    return {"psnr": psnr(sr, hr, scale), "ssim": ssim(sr, hr, scale), "ssim_daala": ssim_daala(sr, hr, scale)} | own


def perceptual_distances(config, missing):
    """{metric: function of some srs and hr, (1, h, w, 3) in [-1, 1] -> a number each}; `missing` is told of others."""
    distances = {}
    try:
        vgg = load_vgg19(PERCEPTUAL_LAYERS, config.VGG.weights)
        distances["vgg19"] = lambda srs, hr: by_features(vgg, srs, hr)
    except UserError as error:
        missing.append(f"VGG19: no column; {error}")
    if importlib.util.find_spec("lpips"):  # not among the requirements: it brings PyTorch
        try:
            distances["lpips"] = lpips_distance()
        except OSError as error:
            missing.append(f"LPIPS: no column; AlexNet cannot be downloaded ({error})")
    return distances


def by_features(vgg, srs, hr):
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


def floats(picture):
    """A uint8 picture, grey or colour -> (1, h, w, 3) in [-1, 1]."""
    return colour(picture)[None].astype(np.float32) / 127.5 - 1


def comparison(srs, hr, scores):
    """One picture: LR-bicubic, the networks and HR side by side, under each an enlarged detail."""
    shown = {method: sr for method, sr in srs.items() if method not in ("nearest", "lanczos")}
    labels = [f"{method} {scores[method][-1]['psnr']:.2f} dB" for method in shown] + ["HR"]
    pictures = [colour(picture) for picture in [*shown.values(), hr]]
    zoom = max(1, round(hr.shape[1] / 64))
    side = min(hr.shape[1] // zoom, hr.shape[0])
    error = uniform_filter((luma(srs["bicubic"]) - luma(hr)) ** 2, side)  # the detail that bicubic loses most of
    inner = error[side // 2 : hr.shape[0] - side // 2 + 1, side // 2 : hr.shape[1] - side // 2 + 1]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    details = [resize(p[top : top + side, left : left + side], zoom, "nearest") for p in pictures]
    return grid([[labelled(p, text) for p, text in zip(pictures, labels)], details])


def colour(picture):
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)


def write_tensorlayer_files(folder, lr, hr, srs):
    """valid_lr, valid_hr, valid_bicubic and valid_gen.png, as TensorLayer's evaluate() names them."""
    best = [srs[method] for method in ("SRGAN", "SRResNet") if method in srs][:1]
    for name, picture in zip(("lr", "hr", "bicubic", "gen"), [lr, hr, srs["bicubic"], *best]):
        write_picture(folder / f"valid_{name}.png", picture)


def table_row(name, method, values, scale):
    """The means of a method on a set, NaN left out, beside the paper's numbers; None where there is no number."""
    row = {"set": name, "method": method, "pictures": len(values)}
    for metric in values[0]:
        mean = np.nanmean([value[metric] for value in values])
        row[metric] = round(float(mean), 5) if np.isfinite(mean) else None
    published = PAPER.get(name, {}).get(method) if scale == 4 else None
    return row | dict(zip(("paper_psnr", "paper_ssim_daala"), published or (None, None)))


def write_table(path, rows, missing):
    """Print the rows and write them as path.md, path.csv and path.json."""
    columns = {  # of the printed table: key and decimals
        "PSNR (dB)": ("psnr", 2),
        "paper's PSNR": ("paper_psnr", 2),
        "SSIM (daala)": ("ssim_daala", 4),
        "paper's SSIM": ("paper_ssim_daala", 4),
        "SSIM (MATLAB)": ("ssim", 4),
        "NIQE": ("niqe", 2),
        "VGG19": ("vgg19", 4),
        "LPIPS": ("lpips", 4),
    }
    columns = {title: cell for title, cell in columns.items() if any(cell[0] in row for row in rows)}
    lines = [f"| set | method | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for row in rows:
        cells = ["" if row.get(key) is None else f"{row[key]:.{digits}f}" for key, digits in columns.values()]
        lines.append(f"| {row['set']} | {row['method']} | {' | '.join(cells)} |")
    note = "Y channel, border cut by the scale, mean over the pictures of a set."
    text = "\n".join([*lines, "", note, *missing]) + "\n"
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    for suffix, content in ((".md", text), (".csv", table.getvalue()), (".json", json.dumps(rows, indent=2) + "\n")):
        write_text(path.with_suffix(suffix), content)
    print(f"\n{text}\ngrids and table: {path.parent}")


def upscale_pictures(source, config):
    """Upscale a picture or a folder into samples/upscaled by upscale.py, with the best weights there are."""
    weights = [weights_of(stage, config) for stage in STAGES]
    best = next((path for path in reversed(weights) if path), "srgan")
    command = [source, f"--output={config.TRAIN.samples_dir}/upscaled", f"--model={best}"]
    return upscale.main(upscale.command_line(command + ["--trust-pickle"] * (config.EVALUATE.trust_pickle == "yes")))
