"""The networks before SRResNet, each written once: SRCNN, ESPCN, VDSR and DRCN.

They enlarge only Y; the colours are bicubic. Red, green and blue are each Y plus a part of Cb and Cr, so what the
network changes in Y is added to the bicubic picture. A new network is one function, one line in NETWORKS, and its name
in config.EARLIER. This file needs no library; `p` makes the primitives, Keras' layers in methods/networks.py and
OpenVINO's nodes in upscaling:

conv(side, filters, activation, start)   a convolution with zero padding, which may be called more than once
luma(x), bicubic(x, scale)               Y (N, h, w, 1) of a picture; the picture enlarged
depth_to_space(x, scale)                 (N, h, w, scale^2) -> (N, scale*h, scale*w, 1)
weighted_mean(outputs)                   the mean of DRCN's outputs, with weights that are learnt
output(x)                                x in the type of the networks' outputs
"""

from collections.abc import Callable
from typing import Any

Tensor = Any
RECURSIONS = 16  # of DRCN


def super_resolve(p: Any, variant: str, lr: Tensor, scale: int) -> Tensor:
    """Enlarge lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3), in [-1, 1], with the network that `variant` names."""
    bicubic = p.bicubic(lr, scale)  # (N, scale*h, scale*w, 3)
    enlarged = p.luma(bicubic)  # (N, scale*h, scale*w, 1)
    return bicubic + (p.output(NETWORKS[variant](p, p.luma(lr), enlarged, scale)) - enlarged)


# Each maps y (N, h, w, 1), and the same enlarged bicubically (N, scale*h, scale*w, 1), to Y of sr, all in [-1, 1].


def SRCNN(p: Any, y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """Three convolutions on the enlarged picture: patches, mapping, reconstruction.

    Source: Dong et al. 2016, sec. 4.3.1: 64 and 32 filters of 9-5-5.
    """
    x = p.conv(9, 64, "relu")(enlarged)
    x = p.conv(5, 32, "relu")(x)
    return p.conv(5, 1)(x)


def ESPCN(p: Any, y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """Three convolutions on the small picture, and a sub-pixel convolution. Source: Shi et al. 2016, sec. 3.2."""
    x = p.conv(5, 64, "tanh")(y)
    x = p.conv(3, 32, "tanh")(x)
    return p.depth_to_space(p.conv(3, scale**2)(x), scale)


def VDSR(p: Any, y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """Twenty 3x3 convolutions that predict what is missing in the enlarged picture. Source: Kim et al. 2016a.

    The last one starts with zeros, and so training starts from the bicubic picture.
    """
    x = enlarged
    for _ in range(19):
        x = p.conv(3, 64, "relu")(x)
    return enlarged + p.output(p.conv(3, 1, start="zeros")(x))


def DRCN(p: Any, y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """One convolution applied 16 times, with an output each time, and their weighted mean. Source: Kim et al. 2016b."""
    x = p.conv(3, 256, "relu")(enlarged)
    x = p.conv(3, 256, "relu")(x)
    recursion = p.conv(3, 256, "relu", start="unchanged")
    reconstruction, last = p.conv(3, 256, "relu"), p.conv(3, 1, start="zeros")
    outputs = []
    for _ in range(RECURSIONS):
        x = recursion(x)
        outputs.append(last(reconstruction(x)))
    return enlarged + p.weighted_mean(outputs)


NETWORKS: dict[str, Callable[[Any, Tensor, Tensor, int], Tensor]] = {
    "srcnn": SRCNN,
    "espcn": ESPCN,
    "vdsr": VDSR,
    "drcn": DRCN,
}
