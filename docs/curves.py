"""Draw the curves of a training from its logs.

python docs/curves.py checkpoints curves.png       the checkpoint folder, and the picture to write
"""

import json
import math
import sys
from pathlib import Path

from matplotlib.figure import Figure

STAGES = {"srgan_init": "warm-up", "srgan": "second stage"}
CURVES = {  # {title: terms of the log}
    "validation PSNR (dB)": ["val_psnr"],
    "mesh (levels)": ["val_mesh"],
    "MSE": ["mse"],
    "MSE of VGG19's features": ["vgg"],
    "losses of the game": ["gan", "d_loss"],
    "D(real) and D(fake)": ["d_real", "d_fake"],
}


def read(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def draw(folder, out):
    """Draw the curves of both stages from log_*.jsonl in `folder`, at most four in a row, to the picture `out`."""
    logs = {name: Path(folder, f"log_{name}.jsonl") for name in STAGES}
    panels = []  # (title, {term: [(update, value)]})
    for name, log in logs.items():
        lines = read(log) if log.exists() else []
        for title, terms in CURVES.items():
            points = {term: [(line["update"], line[term]) for line in lines if term in line] for term in terms}
            if any(points.values()):
                panels.append((f"{STAGES[name]}: {title}", points))
    columns = min(4, math.ceil(len(panels) / 2))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4 * columns, 3.2 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, curves) in zip(axes.flat, panels):
        for term, points in curves.items():
            axis.plot(*zip(*points), label=term, linewidth=1.5)
        axis.set(title=title, xlabel="update")
        axis.grid(alpha=0.3)
        if len(curves) > 1:
            axis.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    if len(sys.argv) != 3 or not list(Path(sys.argv[1]).glob("log_*.jsonl")):
        sys.exit(__doc__)
    draw(*sys.argv[1:])
