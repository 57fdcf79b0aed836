"""Draw the curves of a training from its logs.

python docs/curves.py checkpoints curves.png       the folder that training wrote, the picture to make
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

STAGES = {"srgan_init": "warm-up", "srgan": "second stage"}
CURVES = [  # title, terms of the log, logarithmic
    ("validation PSNR (dB)", ["val_psnr"], False),
    ("MSE", ["mse"], True),
    ("losses of the game", ["gan", "d_loss"], False),
    ("D(real) and D(fake)", ["d_real", "d_fake"], False),
]


def read(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def draw(folder, out):
    """One row of curves a stage, from its log_*.jsonl in `folder`."""
    logs = {name: Path(folder, f"log_{name}.jsonl") for name in STAGES}
    logs = {name: read(log) for name, log in logs.items() if log.exists()}
    figure, axes = pyplot.subplots(len(logs), len(CURVES), figsize=(15, 3.2 * len(logs)), squeeze=False)
    for row, (name, lines) in zip(axes, logs.items()):
        for axis, (title, terms, logarithmic) in zip(row, CURVES):
            for term in terms:
                points = [(line["update"], line[term]) for line in lines if term in line]
                if points:
                    axis.plot(*zip(*points), label=term, linewidth=1.5)
            axis.set(title=f"{STAGES[name]}: {title}", xlabel="update", yscale="log" if logarithmic else "linear")
            axis.grid(alpha=0.3)
            axis.set_visible(bool(axis.lines))
            if len(axis.lines) > 1:
                axis.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    if len(sys.argv) != 3 or not list(Path(sys.argv[1]).glob("log_*.jsonl")):
        sys.exit(__doc__)
    draw(*sys.argv[1:])
