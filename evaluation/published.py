"""The results that the paper reports."""

# {set: {method: (PSNR in dB, SSIM by daala)}}: table 2 of the paper, 4x, on the Y channel, 4 pixels cut at the border
PAPER: dict[str, dict[str, tuple[float, float]]] = {
    "Set5": {
        "nearest": (26.26, 0.7552),
        "bicubic": (28.43, 0.8211),
        "SRResNet": (32.05, 0.9019),
        "SRGAN": (29.40, 0.8472),
    },
    "Set14": {
        "nearest": (24.64, 0.7100),
        "bicubic": (25.99, 0.7486),
        "SRResNet": (28.49, 0.8184),
        "SRGAN": (26.02, 0.7397),
    },
    "BSD100": {
        "nearest": (25.02, 0.6606),
        "bicubic": (25.94, 0.6935),
        "SRResNet": (27.58, 0.7620),
        "SRGAN": (25.16, 0.6688),
    },
}
