"""What the log says of a run that goes wrong."""

import pytest

from training.health import WON_REPORTS, warning_for

START = {"update": 0, "val_psnr": 28.0}
LINE = {"update": 1000, "val_psnr": 27.0, "d_real": 0.995, "d_fake": 0.005}


@pytest.mark.parametrize(
    "lines, named",
    [
        ([START], None),
        ([START, LINE | {"val_psnr": 23.1}], None),
        ([START, LINE | {"val_psnr": 22.9}], "from 28.0 to 22.9 dB"),
        ([START, *[LINE] * (WON_REPORTS - 1)], None),
        ([START, *[LINE] * WON_REPORTS], "discriminator has won"),
        ([START, *[LINE] * (WON_REPORTS - 1), LINE | {"d_fake": 0.02}], None),
        ([START, LINE | {"d_real": 0.9}, *[LINE] * (WON_REPORTS - 1)], None),
        ([START, *[{"update": 1000, "val_psnr": 30.0, "mse": 0.1}] * WON_REPORTS], None),
    ],
)
def test_a_collapse_and_a_discriminator_that_won_are_named(lines, named):
    warning = warning_for(lines)
    assert warning is None if named is None else named in warning
