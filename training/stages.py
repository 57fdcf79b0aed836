"""The two stages of training: how each is called, how long it is, and where its periods end."""

import math
from typing import NamedTuple


class Stage(NamedTuple):
    """A stage and its names; those in files are TensorLayer's."""

    name: str  # in files: log_NAME.jsonl, g_NAME.weights.h5, NAME_state_UPDATE.weights.h5
    grids: str  # the folder of its grids below TRAIN.samples_dir
    network: str  # what the paper calls the generator that it leaves
    length: str  # the option that says how many updates it has
    rate: str  # the option that says its learning rate


WARM_UP = Stage("srgan_init", "srgan_ginit", "SRResNet", "n_updates_init", "learning_rate_init")
ADVERSARIAL = Stage("srgan", "srgan_gan", "SRGAN", "n_updates", "learning_rate")
STAGES = (WARM_UP, ADVERSARIAL)


def part_of(total, part):
    """How many of `total` updates the first `part` of them (0 to 1) is, rounded up."""
    return math.ceil(round(total * part, 6))


def fixed_from(stage, settings):
    """The update after which the generator's batch normalization keeps its statistics.

    settings: TRAIN of the configuration. Infinite where they are never fixed.
    """
    if not settings.fixed_statistics:
        return math.inf
    return part_of(settings.n_updates_init, 1 - settings.fixed_statistics) if stage is WARM_UP else 0


def taught_until(stage, settings):
    """The update after which HR returns in the teacher's place; 0 where there is no teacher."""
    if stage is not WARM_UP or not settings.teacher:
        return 0
    return part_of(settings.n_updates_init, settings.teacher_part)


def decays_from(stage, settings):
    """The update after which the learning rate only falls, so that a longer run must begin before it; or infinite."""
    if stage is not WARM_UP or settings.schedule_init != "stable":
        return math.inf
    return part_of(settings.n_updates_init, 1 - settings.decay_part)


def periods(done, total, every, marks):
    """Yield (first, last) update of each period between `done` and `total`.

    A period ends at each multiple of `every`, at each of `marks`, and at `total`.
    """
    while done < total:
        ends = [total, done - done % every + every, *marks]
        last = min(update for update in ends if update > done)
        yield done, last
        done = last
