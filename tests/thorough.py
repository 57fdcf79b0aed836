"""What is slow by nature: in full with THOROUGH=1, a few of each otherwise."""

import os


def often(few, many):
    return many if os.environ.get("THOROUGH", "0") not in ("", "0") else few
