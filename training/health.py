"""Signs that training goes wrong: those that end it, and those that are worth a warning."""

import keras
import numpy as np

from utils import Diverged

WON_REAL, WON_FAKE, WON_REPORTS = 0.99, 0.01, 5  # mean D(real) above and D(fake) below, for so many reports
COLLAPSED = 5.0  # dB of validation PSNR below the stage's start


def warning_for(lines):
    """What is wrong with a stage by the lines of its log, and what to do; None where nothing is.

    lines: dicts in order, with update, val_psnr and in the second stage d_real and d_fake. A discriminator that is
    mostly right is no fault: GANs train with D(real) 0.9 and D(fake) 0.1.
    """
    start, end = lines[0]["val_psnr"], lines[-1]["val_psnr"]
    if start - end > COLLAPSED:
        return (
            f"validation fell from {start:.1f} to {end:.1f} dB: the generator collapses; look at the grid, stop it, "
            "and start again with a lower learning rate"
        )
    last = [line for line in lines[-WON_REPORTS:] if "d_real" in line]
    if len(last) == WON_REPORTS and all(line["d_real"] > WON_REAL and line["d_fake"] < WON_FAKE for line in last):
        return (
            f"the discriminator has won: D(real) > {WON_REAL} and D(fake) < {WON_FAKE} for {WON_REPORTS} reports; "
            "a longer warm-up, a lower TRAIN.learning_rate or fewer MODEL.discriminator_filters help"
        )
    return None


def require_finite(stage, game, terms):
    """Raise Diverged where a loss term or a weight is infinite or NaN, before anything good is overwritten.

    terms: {name: mean over the period}.
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
