"""A build backend that builds nothing but tells in one line how the project is used, for `pip install .`.

pyproject.toml names it: without one pip takes setuptools, which would advise on how to make a package.
"""

import sys


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Exit with 1 and one line; pip calls this one first."""
    sys.exit("SRGAN is not a package: pip install -r requirements-upscale.txt, then PYTHONPATH as in README.md")


build_wheel = build_editable = build_sdist = get_requires_for_build_wheel  # which pip looks for
get_requires_for_build_editable = get_requires_for_build_sdist = get_requires_for_build_wheel
