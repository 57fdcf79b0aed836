"""The two stages of training: their names, how long each is, and where its periods end.

A period is the training between two reports.
"""

import math
from typing import NamedTuple

from config import EARLIER


class Stage(NamedTuple):
    """The names that belong to a stage of training; those in files are TensorLayer's."""

    name: str  # in files: log_NAME.jsonl, g_NAME.weights.h5, NAME_state_UPDATE.weights.h5
    grids: str  # folder of its grids in TRAIN.samples_dir
    network: str  # the paper's name for the generator that it trains
    length: str  # option in TRAIN for the number of its updates
    rate: str  # option in TRAIN for its learning rate
    schedule: str  # option in TRAIN for how that changes


WARM_UP = Stage("srgan_init", "srgan_ginit", "SRResNet", "n_updates_init", "learning_rate_init", "schedule_init")
ADVERSARIAL = Stage("srgan", "srgan_gan", "SRGAN", "n_updates", "learning_rate", "schedule")
STAGES = (WARM_UP, ADVERSARIAL)

# The options that change nothing that is trained; those of VALID and EVALUATE do not either.
FREE = set("TRAIN.memory_gb TRAIN.report_every TRAIN.keep_states TRAIN.devices TRAIN.workers".split())
FREE |= set("TRAIN.checkpoint_dir TRAIN.samples_dir VGG.weights".split())
# The options that the warm-up does not read. The second stage depends on those of the warm-up too, where it begins.
NOT_OF_WARM_UP = set("TRAIN.learning_rate TRAIN.lr_decay TRAIN.schedule TRAIN.d_lr_ratio TRAIN.d_head_start".split())
NOT_OF_WARM_UP |= set("TRAIN.muon_lr_ratio TRAIN.label_smoothing TRAIN.content_loss VGG.reduce".split())
NOT_OF_WARM_UP |= {"TRAIN.adversarial_weight"}


def concerns(option: str, stage: Stage) -> bool:
    """Return whether what `stage` trains depends on `option`, such as "TRAIN.seed"; lengths only make it longer."""
    lengths = {f"TRAIN.{any_stage.length}" for any_stage in STAGES}
    free = option in FREE | lengths or option.split(".")[0] in ("VALID", "EVALUATE")
    return not free and not (stage is WARM_UP and option in NOT_OF_WARM_UP)


def network_name(stage: Stage, variant: str) -> str:
    """Return the paper's name for the generator that `stage` trains, with MODEL.variant."""
    return variant.upper() if variant in EARLIER and stage is WARM_UP else stage.network


class Plan(NamedTuple):
    """How many updates a stage has, and after which of them something changes; `total` where nothing does."""

    total: int
    freeze_bn_at: int  # from here on the generator's batch-normalization statistics are fixed
    teacher_until: int  # up to here the targets are a teacher's pictures instead of HR
    decay_at: int  # from here on the learning rate falls to 0; a longer run must resume from a state before it


def part_of(total: int, part: float) -> int:
    """Return how many updates the fraction `part` (0 to 1) of `total` updates is, rounded up."""
    # To six decimals first, because 100 * 0.07 is 7.000000000000001.
    return math.ceil(round(total * part, 6))


def end_of_period(update: int, every: int, plan: Plan) -> int:
    """Return where the period that begins at `update` ends: at a multiple of `every` or the next number in `plan`."""
    return min(end for end in (update - update % every + every, *plan) if end > update)
