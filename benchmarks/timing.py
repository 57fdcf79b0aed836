"""Time functions that take turns, so that other work on the machine slows all of them."""

import time

import numpy as np


def median_seconds(functions, rounds):
    """Call {name: function} in turn, once to prepare and then `rounds` times; return {name: median seconds}."""
    seconds = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}
