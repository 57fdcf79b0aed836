"""How far something long is: a bar on a terminal, a line a minute elsewhere."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Tells how many steps are done, how many a second, and how much time is left.

    On a terminal (stderr) it is a bar; elsewhere, as in a log file, a line a minute (stdout). name: in front of each.
    total: number of steps. done: those of an earlier run. unit: what a step is called. silent: whether nothing is
    printed, as by all processes but the first.
    """

    def __init__(self, name: str, total: int, done: int = 0, unit: str = "update", silent: bool = False) -> None:
        self.name, self.total, self.unit, self.silent = name, total, unit, silent
        # None: tqdm draws only on a terminal, so that a log file has no control characters in it.
        self.bar = tqdm(total=total, initial=done, desc=name, unit=unit, disable=True if silent else None)
        self.done, self.time = done, 0.0  # at the last line; before it at the first update, which compiling precedes

    def update(self, done: int, terms: Mapping[str, float] | None = None) -> None:
        """Tell that `done` steps are done. terms: {name: value}, told beside them."""
        written = {name: f"{value:.4g}" for name, value in (terms or {}).items()}
        if not self.bar.disable:
            self.bar.set_postfix(written, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        if not self.time:
            self.done, self.time = done, time.monotonic()
        seconds = time.monotonic() - self.time
        if self.silent or seconds < SECONDS_BETWEEN_LINES or done <= self.done:
            return
        rate = (done - self.done) / seconds
        values = "".join(f"  {name} {value}" for name, value in written.items())
        left = tqdm.format_interval((self.total - done) / rate)
        say(self.name, f"{self.unit} {done} of {self.total}{values}  {rate:.2g} {self.unit}s a second  {left} left")
        self.done, self.time = done, time.monotonic()

    def close(self) -> None:
        """Finish the bar, and leave it on the screen."""
        self.bar.close()


def say(name: str, text: str) -> None:
    """Print `name` and `text` on a line of their own, above the bar if one is drawn."""
    tqdm.write(f"{name}: {text}")
    sys.stdout.flush()
