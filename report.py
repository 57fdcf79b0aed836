"""What a stage of training shows and leaves behind: progress bar, log line, sample grid, checkpoints."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import devices
from metrics import luma, psnr
from pictures import grid, resize, write_picture
from resume import save_state
from srgan import super_resolve
from utils import Diverged, UserError, generator_path, save_weights, write_text

# when a run is called unhealthy
WON, WON_REPORTS = (0.99, 0.01), 5  # mean D(real) above and D(fake) below, for so many reports
COLLAPSED = 5.0  # dB of validation PSNR below the stage's start


def unhealthy(lines):
    """What is wrong with a stage by the lines of its log, and what to do; None where nothing is.

    Lines: dicts in order, with update, val_psnr and in the second stage d_real and d_fake. A discriminator that is
    mostly right is no fault: GANs train with D(real) 0.9 and D(fake) 0.1.
    """
    if lines[0]["val_psnr"] - lines[-1]["val_psnr"] > COLLAPSED:
        fall = f"validation fell from {lines[0]['val_psnr']:.1f} to {lines[-1]['val_psnr']:.1f} dB"
        return f"{fall}: the generator collapses; look at the grid, stop it, and start again with a lower learning rate"
    last = [line for line in lines[-WON_REPORTS:] if "d_real" in line]
    if len(last) == WON_REPORTS and all(line["d_real"] > WON[0] and line["d_fake"] < WON[1] for line in last):
        lost = f"the discriminator has won: D(real) > {WON[0]} and D(fake) < {WON[1]} for {WON_REPORTS} reports"
        return f"{lost}; a longer warm-up, a lower TRAIN.learning_rate or fewer MODEL.discriminator_filters help"
    return None


class Report:
    """What a stage shows and leaves behind: progress bar, log line, sample grid, checkpoints."""

    def __init__(self, stage, game, total, valid, config):
        self.stage, self.game, self.valid, self.config = stage, game, valid, config
        self.updates = int(keras.ops.convert_to_numpy(game.updates))
        self.writes = devices.process()[0] == 0  # of several processes, which all hold the same weights, one
        self.folder = Path(config.TRAIN.checkpoint_dir)
        self.samples = Path(config.TRAIN.samples_dir, "srgan_ginit" if stage == "srgan_init" else "srgan_gan")
        self.log = self.folder / f"log_{stage}.jsonl"
        self.started = time.perf_counter()
        interval = 0.5 if sys.stdout.isatty() else 60
        self.first = self.updates  # the bar counts this run's updates alone, or its ETA would be wrong
        left, terms = total - self.first, list(game.terms)
        self.bar = keras.utils.Progbar(left, interval=interval, stateful_metrics=terms, unit_name="update")
        self.tensorboard = None
        if keras.backend.backend() == "tensorflow" and importlib.util.find_spec("tensorboard"):
            self.tensorboard = keras.callbacks.TensorBoard(self.folder / "tensorboard" / stage, write_graph=False)
            self.tensorboard.set_model(game)
        for side, column in ((valid[0][0].shape[0], 0), (valid[0][1].shape[0], 1)):
            self.write_grid(f"_train_sample_{side}", [[pair[column]] for pair in valid[:4]])
        self.lines = self.read_log()
        if devices.greatest(not self.lines):  # none validates alone
            line = {"update": self.updates, "val_psnr": self.validate()}
            self.lines = self.lines or [line]
        self.write_log()

    def read_log(self):
        try:
            lines = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
            return [line for line in lines if line["update"] <= self.updates and line["val_psnr"] is not None]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.log}: is no log of ours ({error}); move it away") from error

    def write_grid(self, name, rows):
        if self.writes:
            write_picture(self.samples / f"{name}.png", grid(rows))

    def write_log(self):
        if self.writes:
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in self.lines))

    def progress(self, updates, logs, stop):
        """Show the period's update number `updates`; tell fit() to end the period where `stop` is true."""
        done = self.updates - self.first + updates
        terms = [(name, float(logs[name])) for name in self.game.terms]
        self.bar.update(done, terms)
        diverged = not all(np.isfinite(value) for _, value in terms)  # end_period says so
        self.game.stop_training = bool(stop) or diverged

    def end_period(self, terms, last):
        """Report the period if it reached update `last`, and save the state; `terms` are its mean loss terms."""
        before, self.updates = self.updates, int(keras.ops.convert_to_numpy(self.game.updates))
        self.refuse_nan(terms)
        if self.updates == last:
            self.write(terms, last - before)
        if self.writes:
            with devices.alone():
                save_state(self.stage, self.game, self.updates, self.config)

    def refuse_nan(self, terms):
        """Raise Diverged where training has diverged, before anything good is overwritten."""
        bad = [name for name, value in terms.items() if not np.isfinite(value)]
        variables = (keras.ops.convert_to_numpy(variable) for variable in self.game.variables)
        if bad or not all(np.isfinite(variable).all() for variable in variables):
            key = "TRAIN.learning_rate_init" if self.stage == "srgan_init" else "TRAIN.learning_rate"
            raise Diverged(
                f"{self.stage}: {bad[0] if bad else 'a weight'} is not finite at update {self.updates}; "
                f"the checkpoint before it is kept; lower {key}"
            )

    def validate(self):
        """Mean PSNR (dB) of the validation pictures, with a grid of the first ones."""
        scale = self.config.MODEL.scale
        srs = [super_resolve(self.game.average, lr) for lr, _ in self.valid]
        rows = [[resize(lr, scale), sr, hr] for (lr, hr), sr in zip(self.valid[:4], srs)]
        self.write_grid(f"train_{self.updates}", rows)
        return float(np.mean([psnr(luma(sr), luma(hr), scale) for sr, (_, hr) in zip(srs, self.valid)]))

    def write(self, terms, updates):
        """Validate, and write what a period of `updates` gave."""
        seconds = time.perf_counter() - self.started
        line = {"update": self.updates, **terms, "val_psnr": self.validate()}
        line["learning_rate"] = float(keras.ops.convert_to_numpy(self.game.optimizer.learning_rate))
        line["updates_per_second"] = updates / seconds
        shown = "  ".join(f"{name} {value:.4g}" for name, value in line.items())
        print(f"\n{self.stage}: {shown}", flush=True)
        if self.tensorboard:
            self.tensorboard.on_epoch_end(self.updates, line)
        if self.writes:
            self.save_networks(line)
        if warning := unhealthy([*self.lines, line]):
            line = line | {"warning": warning}
            print(f"{self.stage}: warning: {warning}", flush=True)
        self.lines.append(line)
        self.write_log()
        self.started = time.perf_counter()

    @devices.alone()
    def save_networks(self, measured):
        facts = {
            "model": dict(self.config.MODEL),
            "preset": self.config.preset,
            "stage": self.stage,
            "content_loss": self.config.TRAIN.content_loss if self.stage == "srgan" else "mse",
            "updates": self.updates,
            "data": self.config.TRAIN.hr_img_path,
            "seed": self.config.TRAIN.seed,
            "versions": {"keras": keras.__version__, "backend": keras.backend.backend(), "numpy": np.__version__},
            "measured": measured,
        }
        save_weights(self.game.average, generator_path(self.folder, self.stage), facts)
        if self.game.discriminator:
            save_weights(self.game.discriminator, self.folder / "d_srgan.weights.h5", facts)
