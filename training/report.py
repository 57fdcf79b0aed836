"""What a stage of training shows: progress bar, log line, sample grid, TensorBoard."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from evaluation.metrics import colour_shift, luma, mesh, psnr
from pictures import grid, labelled, resize, write_picture
from training import devices
from training.health import warning_for
from utils import UserError, write_text

SHOWN = 4  # validation pictures in a grid


class Report:
    """Shows a stage of `game`, up to update `total`, and measures it on the pictures `valid`, [(lr, hr)].

    Of several processes, which all hold the same weights, each measures and the first one writes.
    """

    def __init__(self, stage, game, total, valid, config):
        self.stage, self.game, self.total, self.valid, self.scale = stage, game, total, valid, config.MODEL.scale
        self.samples = Path(config.TRAIN.samples_dir, stage.grids)
        self.log = Path(config.TRAIN.checkpoint_dir, f"log_{stage.name}.jsonl")
        self.board = Path(config.TRAIN.checkpoint_dir, "tensorboard", stage.name)
        self.writes = devices.process()[0] == 0
        self.bicubics = [resize(lr, self.scale) for lr, _ in valid]
        self.bicubic_psnrs = [psnr(luma(sr), luma(hr), self.scale) for sr, (_, hr) in zip(self.bicubics, valid)]
        self.lines, self.tensorboard = [], None

    def begin(self):
        """Read the log of the run that this one goes on from; measure once where there is none."""
        self.first = self.game.updates_done()
        # Drawn on a terminal alone: a file gets the lines of the reports and no control characters.
        hidden = None if self.writes else True
        self.bar = tqdm(total=self.total, initial=self.first, desc=self.stage.name, unit="update", disable=hidden)
        if keras.backend.backend() == "tensorflow" and importlib.util.find_spec("tensorboard"):
            self.tensorboard = keras.callbacks.TensorBoard(self.board, write_graph=False)
            self.tensorboard.set_model(self.game)
        lrs, hrs = zip(*self.valid[:SHOWN])
        for pictures in (lrs, hrs):
            self.write_grid(f"_train_sample_{len(pictures[0])}", [[picture] for picture in pictures])
        self.lines = self.read_log()
        if devices.max_over_processes(not self.lines):  # validation is work for all processes together
            line = {"update": self.first, **self.validate(), "val_psnr_bicubic": float(np.mean(self.bicubic_psnrs))}
            self.lines = self.lines or [line]
        self.say(f"val_psnr {self.lines[-1]['val_psnr']:.4g}, bicubic {np.mean(self.bicubic_psnrs):.4g}")
        self.write_log()
        self.started = time.perf_counter()

    def read_log(self):
        """The log's lines up to the update that the run goes on from. Raises UserError where it is no log of ours."""
        try:
            lines = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
            return [line for line in lines if line["update"] <= self.first and line["val_psnr"] is not None]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.log}: is no log of ours ({error}); move it away") from error

    def write_grid(self, name, rows):
        """Write rows of pictures as one, in the first process."""
        if self.writes:
            write_picture(self.samples / f"{name}.png", grid(rows))

    def write_log(self):
        """Write all lines, atomically, in the first process."""
        if self.writes:
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in self.lines))

    def say(self, text):
        """Print a line of this stage, above its bar if one is drawn."""
        tqdm.write(f"{self.stage.name}: {text}")
        sys.stdout.flush()

    def end(self):
        """Leave the bar as it is."""
        self.bar.close()

    def progress(self, update, terms):
        """Move the bar to `update`. terms: {name: mean so far in this period}."""
        self.bar.set_postfix({name: f"{value:.4g}" for name, value in terms.items()}, refresh=False)
        self.bar.update(update - self.bar.n)

    def end_period(self, terms, updates):
        """Measure, and show what a period of so many `updates` gave; its line in the log.

        terms: {name: mean over the period}.
        """
        seconds = time.perf_counter() - self.started
        line = {"update": self.game.updates_done(), **terms, **self.validate()}
        line["learning_rate"] = float(keras.ops.convert_to_numpy(self.game.optimizer.learning_rate))
        line["updates_per_second"] = updates / seconds
        shown = "  ".join(f"{name} {value:.4g}" for name, value in line.items())
        self.say(shown)
        if self.tensorboard:
            self.tensorboard.on_epoch_end(line["update"], line)
        warning = warning_for([*self.lines, line])
        if warning:
            self.say(f"warning: {warning}")
        self.lines.append(line | ({"warning": warning} if warning else {}))
        self.write_log()
        self.started = time.perf_counter()
        return line

    def validate(self):
        """Means over the validation pictures: val_psnr (dB, Y, border cut by the scale), val_mesh, val_colour (levels).

        Draws a grid of the first pictures: bicubic, SR and HR.
        """
        srs = [self.game.super_resolve(lr) for lr, _ in self.valid]
        psnrs = [psnr(luma(sr), luma(hr), self.scale) for sr, (_, hr) in zip(srs, self.valid)]
        rows = []
        for (_, hr), bicubic, sr, before, after in zip(
            self.valid[:SHOWN], self.bicubics, srs, self.bicubic_psnrs, psnrs
        ):
            labels = [f"bicubic {before:.2f} dB", f"{self.stage.network} {after:.2f} dB", "HR"]
            rows.append([labelled(*pair) for pair in zip([bicubic, sr, hr], labels)])
        self.write_grid(f"train_{self.game.updates_done()}", rows)
        meshes = [mesh(sr, hr, self.scale) for sr, (_, hr) in zip(srs, self.valid)]
        shifts = [colour_shift(sr, bicubic) for sr, bicubic in zip(srs, self.bicubics)]
        means = {"val_psnr": psnrs, "val_mesh": meshes, "val_colour": shifts}
        return {name: float(np.mean(values)) for name, values in means.items()}
