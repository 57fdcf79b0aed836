"""Signs that training is going wrong: those that end it, and those that deserve a warning."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from training.stages import Stage
from utils import Diverged

# The discriminator has won if its mean output is above WON_REAL for HR and below WON_FAKE for SR in WON_REPORTS reports
WON_REAL, WON_FAKE, WON_REPORTS = 0.99, 0.01, 5
COLLAPSED = 5.0  # the generator has collapsed if the validation PSNR is this many dB below that at the stage's start


def warning_for(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what is wrong with a stage according to its log, and what to do about it; None if nothing is.

    lines: the lines of the log, with "update", "val_psnr" and in the second stage "d_real" and "d_fake". A
    discriminator that is mostly right is no problem: GANs train well with D(real) = 0.9 and D(fake) = 0.1.
    """
    start, end = lines[0]["val_psnr"], lines[-1]["val_psnr"]
    if start - end > COLLAPSED:
        return (
            f"validation fell from {start:.1f} to {end:.1f} dB: the generator collapses; look at the grid, stop the "
            "training, and start again with a lower learning rate"
        )
    last = [line for line in lines[-WON_REPORTS:] if "d_real" in line]
    if len(last) == WON_REPORTS and all(line["d_real"] > WON_REAL and line["d_fake"] < WON_FAKE for line in last):
        return (
            f"the discriminator has won: D(real) > {WON_REAL} and D(fake) < {WON_FAKE} for {WON_REPORTS} reports; "
            "a longer warm-up, a lower TRAIN.learning_rate or fewer MODEL.discriminator_filters help"
        )
    return None


def require_finite(stage: Stage, game: keras.Model, terms: Mapping[str, float]) -> None:
    """Raise Diverged if a loss term or a weight is infinite or NaN; call it before a checkpoint is overwritten.

    game: an SRGAN. terms: {name: mean over the period}.
    """
    bad = [name for name, value in terms.items() if not np.isfinite(value)]
    weights = (keras.ops.convert_to_numpy(variable) for variable in game.variables)
    if not bad and not all(np.isfinite(weight).all() for weight in weights):
        bad = ["a weight"]
    if bad:
        raise Diverged(
            f"{stage.name}: {bad[0]} is not finite at update {game.updates_done()}; the checkpoint before it is kept; "
            f"lower TRAIN.{stage.rate}"
        )
