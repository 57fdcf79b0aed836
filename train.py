"""Train and evaluate SRGAN (Ledig et al. 2017).

python train.py --mode=srgan      both stages, resumed where they stopped
python train.py --mode=evaluate   the table of the paper, and grids; with --input, upscales pictures
"""

import contextlib
import json
import signal
from pathlib import Path

from config import command_line, load_keras, prepare_environment

prepare_environment()
if __name__ == "__main__":  # --help and mistakes are answered before Keras is imported
    COMMAND = command_line()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while it is imported: no traceback
load_keras()

import keras
import numpy as np

import upscale
from dataset import Crops, load_pictures, name_skipped, validation_pictures
from evaluate import best_weights, evaluate
from losses import CONTENT_LOSSES
from model import SRGAN_d, SRGAN_g
from srgan import JIT, SRGAN
from training import devices
from training.checkpoints import generator_settings, load_state, lock_folder, save_networks, save_state
from training.health import require_finite
from training.optimizers import adversarial_optimizer, warm_up_optimizer
from training.report import Report
from training.stages import ADVERSARIAL, WARM_UP, decays_from, fixed_from, periods, taught_until
from training.teacher import Targets, Teacher
from utils import UserError, exit_status, write_text
from weights import load_vgg19, load_weights

# What all processes are told by the one that knows most: go on, stop and save, or end with an error.
GO_ON, STOP, PICTURES_GONE = 0, 1, 2


def train(config, stages):
    """Run `stages`, WARM_UP, ADVERSARIAL or both, in turn, each from where it stopped; False if one is stopped."""
    settings = config.TRAIN
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(devices.precision(settings.precision))

    # Everything that the user may have to mend is asked for before anything is trained or written.
    valid = validation_pictures(config.VALID.hr_img_path, config.VALID.count, config.VALID.crop, config.MODEL.scale)
    mse_weight, layer, vgg_weight = CONTENT_LOSSES[settings.content_loss]
    vgg = load_vgg19(layer, config.VGG.weights) if layer and ADVERSARIAL in stages else None
    teacher = None
    if settings.teacher and WARM_UP in stages:
        teacher = Teacher(settings.teacher, config.MODEL.scale, settings.teacher_ensemble == "yes")
    pictures = load_pictures(settings.hr_img_path, config.MODEL.scale, settings.crop, settings.memory_gb * 1e9)
    devices.warn_of_unused_gpu()

    # The two players.
    generator = SRGAN_g(**generator_settings(config))
    discriminator = SRGAN_d(config.MODEL.variant, settings.crop, config.MODEL.discriminator_filters)
    devices.synchronize_statistics(generator, discriminator)
    if settings.initial_generator:
        load_weights(generator, settings.initial_generator, generator_settings(config))

    lock = lock_folder(settings.checkpoint_dir) if devices.is_first() else contextlib.nullcontext()
    with lock, stop_signals() as stops:
        # The warm-up: the generator alone, by pixel MSE. Its running average goes into the game.
        if WARM_UP in stages:
            targets = None
            if teacher:
                targets = Targets(pictures, teacher, Path(settings.checkpoint_dir, "teacher"), settings.memory_gb * 1e9)
                targets.make(stops)
            game = SRGAN(generator, ema=settings.ema)
            if not train_stage(WARM_UP, game, pictures, valid, config, stops, targets):
                return False
            generator.set_weights(game.average.get_weights())

        # The game: generator against discriminator.
        if ADVERSARIAL in stages:
            weights = (mse_weight, vgg_weight, settings.adversarial_weight)
            game = SRGAN(generator, discriminator, vgg, weights, settings.ema)
            if not train_stage(ADVERSARIAL, game, pictures, valid, config, stops):
                return False
    return True


def train_stage(stage, game, pictures, valid, config, stops, targets=None):
    """Train `game` up to the stage's last update. False if it was stopped: `stops` holds something then.

    targets: the teacher's pictures, which take HR's place in the first part of the warm-up.
    """
    settings = config.TRAIN
    total, fixed, taught = settings[stage.length], fixed_from(stage, settings), taught_until(stage, settings)
    optimizer = warm_up_optimizer(settings) if stage is WARM_UP else adversarial_optimizer(settings)
    game.compile(optimizer=optimizer, jit_compile=JIT)
    build(game, pictures.crop // pictures.scale)
    if load_state(stage, game, config) and settings.initial_generator:
        print(
            f"{stage.name}: {settings.initial_generator} was read when it began; "
            "to begin anew, set TRAIN.checkpoint_dir"
        )

    done = game.updates_done()
    report = Report(stage, game, total, valid, config)
    report.begin()
    report.say(f"after update {done} of {total}, {pictures.usable} pictures")
    if done < total and devices.is_first():
        write_text(Path(settings.checkpoint_dir, "config.json"), json.dumps(config, indent=2) + "\n")

    # A period ends at each report, and where something changes: its first update is that of the change.
    for first, last in periods(done, total, settings.report_every, [fixed, taught, decays_from(stage, settings)]):
        if first >= fixed:
            game.fix_statistics()
        shown = targets if first < taught else None
        share = devices.process()
        crops = Crops(pictures, settings.batch_size, settings.seed, first, last, settings.workers, share, shown)
        outcome, terms = train_period(game, crops, report, stops)
        name_skipped(pictures)
        if outcome == PICTURES_GONE:
            raise crops.failures[0] if crops.failures else UserError("another process stopped, and says why")

        # A loss that is NaN ends the run here, before anything good is overwritten.
        require_finite(stage, game, terms)
        if game.updates_done() == last:
            line = report.end_period(terms, last - first)
            if devices.is_first():
                save_networks(stage, game, line, config)
        if devices.is_first():
            save_state(stage, game, config)  # last: a run that is killed before goes on from the state before
        if outcome == STOP:
            report.end()
            report.say(f"stopped at update {game.updates_done()} of {total}; the same command goes on from there")
            return False
    report.end()
    return True


def train_period(game, crops, report, stops):
    """Train on all of `crops`, or until there is a reason to end: (GO_ON, STOP or PICTURES_GONE, mean loss terms)."""

    def outcome():
        mine = PICTURES_GONE if crops.failures else STOP if stops else GO_ON
        return devices.max_over_processes(mine)

    def after_update(batch, logs):
        terms = {name: float(logs[name]) for name in game.terms}
        report.progress(crops.first + batch + 1, terms)
        diverged = not np.isfinite(list(terms.values())).all()
        game.stop_training = outcome() != GO_ON or diverged

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=after_update)
    logs = game.fit(crops, verbose=0, shuffle=False, callbacks=[watch]).history
    return outcome(), {name: values[-1] for name, values in logs.items() if name != "loss"}


def build(game, side):
    """Give `game` all its variables. side: of an LR crop in pixels."""
    game(np.zeros((1, side, side, 3), np.uint8))
    game.optimizer.build(game.trainable_variables)


@contextlib.contextmanager
def stop_signals():
    """Yield a list that is no longer empty once Ctrl-C or SIGTERM has come; a second Ctrl-C stops at once."""
    stops = []

    def remember(number, frame):
        stops.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def upscale_pictures(source, config):
    """Upscale a picture or a folder into samples/upscaled by upscale.py, with the best weights there are."""
    command = [source, f"--output={config.TRAIN.samples_dir}/upscaled", f"--model={best_weights(config)}"]
    if config.EVALUATE.trust_pickle == "yes":
        command.append("--trust-pickle")
    return upscale.main(upscale.command_line(command))


def run(mode, source, config):
    """Run one mode; 0, or the exit status of what went wrong."""
    if mode == "evaluate":
        return upscale_pictures(source, config) if source else evaluate(config)
    stages = [WARM_UP] if mode == "srresnet" else [WARM_UP, ADVERSARIAL]
    if mode == "srgan" and config.TRAIN.initial_generator:
        stages = [ADVERSARIAL]
    with devices.distributed(config.TRAIN.devices, config.TRAIN.batch_size):
        if not train(config, stages):
            return 130
    keras.config.set_dtype_policy("float32")  # as --mode=evaluate measures
    return evaluate(config) if devices.is_first() else 0


def main(mode, source, config):
    """Run one mode; the exit status, and one line where it is not 0."""
    return exit_status("train.py", lambda: run(mode, source, config))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    devices.exit_process(main(*COMMAND))
