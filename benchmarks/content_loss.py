"""The slides' question: what does the content loss do? The same short second stage with each of them.

    python benchmarks/content_loss.py --set TRAIN.hr_img_path=/my/photos

Each run starts from the shipped SRResNet and makes 1,000 updates of batch 8: two to three hours for all on two cores.
Every --set is passed to each run. The same command resumes. Writes checkpoints/content_loss/ and samples/content_loss/,
with table.md and grid.png in the latter.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import import_keras
from training.command_line import command_line

import_keras()

from evaluation.grids import grid, labelled
from evaluation.tables import as_markdown
from losses import CONTENT_LOSSES
from pictures import read_picture, write_picture
from srgan import super_resolve
from train import main
from training.checkpoints import generator_path
from training.stages import ADVERSARIAL
from utils import write_text
from weights import PRETRAINED, load_generator

SRRESNET = PRETRAINED / "srresnet.weights.h5"
SETTINGS = {
    "TRAIN.initial_generator": SRRESNET,
    "TRAIN.n_updates": 1000,
    "TRAIN.batch_size": 8,
    "TRAIN.report_every": 100,
    "TRAIN.ema": 0.98,
}
SAMPLES = Path("samples/content_loss")
DETAILS = {"Set5/HR/img_003.png": (96, 110), "Set14/HR/img_005.png": (60, 70), "Set14/HR/img_014.png": (150, 330)}
SIDE = 96  # of a detail, in pixels


def settings(loss, arguments):
    """Return the command line of one run; `arguments` come last, so that they override the others."""
    here = {
        "TRAIN.content_loss": loss,
        "TRAIN.checkpoint_dir": Path("checkpoints/content_loss", loss),
        "TRAIN.samples_dir": SAMPLES / loss,
    }
    return [word for key, value in (SETTINGS | here).items() for word in ("--set", f"{key}={value}")] + arguments


def table(results):
    """Return a Markdown table of {content loss: rows of results.json}, after SRResNet, from which each run started."""
    metrics = ("psnr", "ssim", "niqe", "mesh", "colour", "vgg19")
    first, shown = next(iter(results.values())), []
    for name in dict.fromkeys(row["set"] for row in first):
        chosen = {"none (SRResNet)": next(r for r in first if (r["set"], r["method"]) == (name, "SRResNet"))}
        for loss, rows in results.items():
            chosen[loss] = next(r for r in rows if (r["set"], r["method"]) == (name, "SRGAN"))
        for loss, row in chosen.items():
            shown.append({"set": name, "method": loss} | {metric: row.get(metric) for metric in metrics})
    return as_markdown(shown).replace("| method |", "| content loss |", 1) + "\n"


def details(generators, benchmark):
    """Return a grid with one row per detail and one column per generator, HR last."""
    rows = []
    for path, (top, left) in DETAILS.items():
        lr = read_picture(benchmark / path.replace("HR", "LRx4"))
        pictures = {loss: super_resolve(generator, lr) for loss, generator in generators.items()}
        pictures["HR"] = read_picture(benchmark / path)
        part = slice(top, top + SIDE), slice(left, left + SIDE)
        rows.append([labelled(picture[part].repeat(2, 0).repeat(2, 1), loss) for loss, picture in pictures.items()])
    return grid(rows)


if __name__ == "__main__":
    results, generators = {}, {}
    for content_loss in CONTENT_LOSSES:
        mode, source, config = command_line(settings(content_loss, sys.argv[1:]))
        status = main(mode, source, config)
        if status:
            sys.exit(status)
        results[content_loss] = json.loads((SAMPLES / content_loss / "evaluate/results.json").read_text())
        generators.setdefault("SRResNet", load_generator(SRRESNET))
        path = generator_path(config.TRAIN.checkpoint_dir, ADVERSARIAL)
        generators[content_loss] = load_generator(path)
    write_text(SAMPLES / "table.md", table(results))
    write_picture(SAMPLES / "grid.png", details(generators, Path(config.EVALUATE.benchmark_dir)))
    print(f"table and grid: {SAMPLES}")
