"""Train and evaluate SRGAN (Ledig et al. 2017).

python train.py --mode=srgan      both stages, resumed where they stopped
python train.py --mode=evaluate   the table of the paper, and grids; with --input, upscales pictures
"""

import contextlib
import json
import signal
from pathlib import Path

from config import command_line, decay_begins, last_part, prepare_environment

prepare_environment()
if __name__ == "__main__":  # --help and mistakes are answered before Keras is imported
    COMMAND = command_line()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while it is imported: no traceback

import keras
import numpy as np

import devices
from dataset import Crops, Pictures
from evaluate import evaluate, upscale_pictures
from losses import CONTENT_LOSSES
from model import VGG19, SRGAN_d, SRGAN_g, vgg_weights
from optimizers import Muon, Stable
from pictures import centre_crop, cut_to_multiple, find_pictures, read_picture, resize
from report import Report
from resume import generator_facts, load_state, only_run
from srgan import JIT, SRGAN
from teacher import Targets, Teacher
from utils import UserError, exit_status, load_weights, write_text

RISE = 100  # updates in which a stable learning rate rises from 0


def train(config, stages):
    """Run the stages in turn: "srgan_init" (the warm-up) and "srgan". Each resumes where it stopped.

    False if one was interrupted.
    """
    keras.utils.set_random_seed(config.TRAIN.seed)
    keras.config.set_dtype_policy(devices.precision(config.TRAIN.precision))
    settings, valid = config.TRAIN, validation_pictures(config)
    mse, layer, vgg_weight = CONTENT_LOSSES[settings.content_loss]
    needs_vgg = layer and "srgan" in stages  # asked for first: nothing is trained if it cannot be had
    vgg = VGG19(layer, vgg_weights(config.VGG.weights)) if needs_vgg else None
    teacher = load_teacher(config) if not settings.initial_generator or stages == ["srgan_init"] else None
    pictures = load_pictures(config)

    devices.say_if_no_gpu()
    generator = SRGAN_g(**generator_facts(config))
    discriminator = SRGAN_d(config.MODEL.variant, settings.crop, config.MODEL.discriminator_filters)
    if settings.initial_generator:
        load_weights(generator, settings.initial_generator, generator_facts(config))
    lock = only_run(settings.checkpoint_dir) if devices.process()[0] == 0 else contextlib.nullcontext()
    with lock, stop_signals() as stopped:
        if not settings.initial_generator or stages == ["srgan_init"]:
            game = SRGAN(generator, ema=settings.ema)
            targets = make_targets(teacher, pictures, config, stopped) if teacher else None
            if not train_stage("srgan_init", game, pictures, valid, config, stopped, targets):
                return False
            generator.set_weights(game.average.get_weights())
        if "srgan" in stages:
            game = SRGAN(generator, discriminator, vgg, (mse, vgg_weight, settings.adversarial_weight), settings.ema)
            if not train_stage("srgan", game, pictures, valid, config, stopped):
                return False
    return True


def warm_up_rate(settings):
    """A schedule even where it is constant: a plain number would be stored in the state and outlive a change."""
    rate, total = settings.learning_rate_init, max(1, settings.n_updates_init)
    if settings.schedule_init == "constant":
        return keras.optimizers.schedules.PiecewiseConstantDecay([total], [rate, rate])
    if settings.schedule_init == "stable":
        return Stable(rate, RISE, decay_begins("srgan_init", settings), total)
    return keras.optimizers.schedules.CosineDecay(rate, total, alpha=0.01)


def adversarial_rate(settings):
    """The rate falls once, at half (paper: after 1e5 of 2e5 updates; TensorLayer: decay_every n_epoch / 2)."""
    rates = [settings.learning_rate, settings.learning_rate * settings.lr_decay]
    return keras.optimizers.schedules.PiecewiseConstantDecay([settings.n_updates // 2], rates)


def first_fixed(settings, total, warm_up):
    """The update after which the generator's batch normalization keeps its statistics."""
    if not settings.fixed_statistics:
        return total
    return last_part(total, settings.fixed_statistics) if warm_up else 0


def train_stage(stage, game, pictures, valid, config, stopped, targets=None):
    """Train `game` up to the stage's last update, a report every `report_every`. False if it was `stopped`.

    targets: what takes HR's place in the first `teacher_part` of the stage.
    """
    settings = config.TRAIN
    warm_up = stage == "srgan_init"
    total = settings.n_updates_init if warm_up else settings.n_updates
    fixed = first_fixed(settings, total, warm_up)
    taught = last_part(total, 1 - settings.teacher_part) if targets else 0
    rate = warm_up_rate(settings) if warm_up else adversarial_rate(settings)
    game.compile(optimizer=optimizer(settings, rate, warm_up), jit_compile=JIT)
    build(game, pictures.crop // pictures.scale)
    if load_state(stage, game, config) and settings.initial_generator:
        print(f"{stage}: {settings.initial_generator} was read when it began; to begin anew, set TRAIN.checkpoint_dir")
    report = Report(stage, game, total, valid, config)
    print(f"{stage}: after update {report.updates} of {total}, {pictures.usable} pictures")
    if report.updates < total and report.writes:
        write_text(Path(settings.checkpoint_dir, "config.json"), json.dumps(config, indent=2) + "\n")
    while report.updates < total:
        first = report.updates
        if first >= fixed and not game.fixed_statistics:
            game.fix_statistics()
        ends = [total, first - first % settings.report_every + settings.report_every]
        ends += [fixed, taught, decay_begins(stage, settings)]
        last = min(update for update in ends if update > first)
        share, now = devices.process(), targets if first < taught else None
        crops = Crops(pictures, settings.batch_size, settings.seed, first, last, settings.workers, share, now)

        def stop():  # 2: a picture is gone, 1: asked to; what one process knows holds for all
            return devices.greatest(2 if crops.failures else len(stopped[:1]))

        watch = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: report.progress(batch + 1, logs, stop())
        )
        logs = game.fit(crops, verbose=0, shuffle=False, callbacks=[watch]).history
        if pictures.skipped:
            print()  # the progress bar has not ended its line
            name_skipped(pictures)
        if stop() == 2:
            raise crops.failures[0] if crops.failures else UserError("another process stopped, and says why")
        report.end_period({name: values[-1] for name, values in logs.items() if name != "loss"}, last)
        if stop() == 1:
            print(f"\nstopped at update {report.updates} of {total} ({stage}); the same command goes on from there")
            return False
    return True


def optimizer(settings, rate, warm_up):
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate)
    if settings.optimizer == "muon" and warm_up:
        return Muon(rate, adam_lr_ratio=settings.adam_lr_ratio)
    return keras.optimizers.Adam(rate, beta_1=settings.beta1)


def build(game, side):
    """Give `game` all its variables; side: of an LR crop."""
    game(np.zeros((1, side, side, 3), np.uint8))
    game.optimizer.build(game.trainable_variables)


def load_pictures(config):
    settings = config.TRAIN
    paths = find_pictures(settings.hr_img_path)
    devices.same(len(paths), f"{settings.hr_img_path}: {len(paths)} pictures here, more where another process runs")
    print(f"reading {len(paths)} pictures")
    pictures = Pictures(paths, config.MODEL.scale, settings.crop, settings.memory_gb * 1e9)
    name_skipped(pictures)
    return pictures


def load_teacher(config):
    """TRAIN.teacher, None where it names none; asked for before anything is trained."""
    settings = config.TRAIN
    return (
        Teacher(settings.teacher, config.MODEL.scale, settings.teacher_ensemble == "yes") if settings.teacher else None
    )


def make_targets(teacher, pictures, config, stopped):
    """The teacher's pictures of all training pictures, kept in the checkpoint folder."""
    settings = config.TRAIN
    targets = Targets(pictures, teacher, Path(settings.checkpoint_dir, "teacher"), settings.memory_gb * 1e9)
    print(f"the teacher's pictures of {pictures.usable}: {targets.folder}", flush=True)
    targets.make(stopped, devices.process())
    devices.same(0, "")  # all processes have made theirs
    return targets


def name_skipped(pictures):
    """Print the pictures found to be unusable since the last time, a line each."""
    while pictures.skipped:
        print(f"left out: {pictures.skipped.pop(0)}")


def validation_pictures(config):
    """[(lr, hr)]: centre crops of the first pictures of the validation folder."""
    valid, scale = [], config.MODEL.scale
    for path in find_pictures(config.VALID.hr_img_path)[: config.VALID.count]:
        hr = cut_to_multiple(centre_crop(read_picture(path), config.VALID.crop), scale)
        if min(hr.shape[:2]) < 4 * scale:
            raise UserError(f"{path}: {hr.shape[1]}x{hr.shape[0]} is too small to validate with")
        valid.append((resize(hr, 1 / scale), hr))
    return valid


@contextlib.contextmanager
def stop_signals():
    """A list that is no longer empty once Ctrl-C or SIGTERM has come; a second Ctrl-C stops at once."""
    stopped = []

    def ask(number, frame):
        stopped.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(mode, source, config):
    """Run one mode; 0, or what went wrong."""
    if mode == "evaluate":
        return upscale_pictures(source, config) if source else evaluate(config)
    with devices.distributed(config.TRAIN.devices, config.TRAIN.batch_size):
        if not train(config, ["srgan_init", "srgan"] if mode == "srgan" else ["srgan_init"]):
            return 130
    keras.config.set_dtype_policy("float32")  # as --mode=evaluate measures
    return evaluate(config) if devices.process()[0] == 0 else 0


def main(mode, source, config):
    """Run one mode; the exit status, and one line where it is not 0."""
    return exit_status("train.py", lambda: run(mode, source, config))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    devices.leave(main(*COMMAND))
