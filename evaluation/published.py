"""The results that the SRGAN paper and other papers report."""

# {set: {method: (PSNR in dB, SSIM by daala)}}: table 2 of the paper, 4x, on the Y channel, 4 pixels cut at the border
PAPER: dict[str, dict[str, tuple[float, float]]] = {
    "Set5": {
        "nearest": (26.26, 0.7552),
        "bicubic": (28.43, 0.8211),
        "SRCNN": (30.07, 0.8627),
        "SelfExSR": (30.33, 0.8720),
        "DRCN": (31.52, 0.8938),
        "ESPCN": (30.76, 0.8784),
        "SRResNet": (32.05, 0.9019),
        "SRGAN": (29.40, 0.8472),
    },
    "Set14": {
        "nearest": (24.64, 0.7100),
        "bicubic": (25.99, 0.7486),
        "SRCNN": (27.18, 0.7861),
        "SelfExSR": (27.45, 0.7972),
        "DRCN": (28.02, 0.8074),
        "ESPCN": (27.66, 0.8004),
        "SRResNet": (28.49, 0.8184),
        "SRGAN": (26.02, 0.7397),
    },
    "BSD100": {
        "nearest": (25.02, 0.6606),
        "bicubic": (25.94, 0.6935),
        "SRCNN": (26.68, 0.7291),
        "SelfExSR": (26.83, 0.7387),
        "DRCN": (27.21, 0.7493),
        "ESPCN": (27.02, 0.7442),
        "SRResNet": (27.58, 0.7620),
        "SRGAN": (25.16, 0.6688),
    },
}

# {set: {method: PSNR in dB}}: methods that the paper leaves out, from their own papers (VDSR: Kim et al. 2016, table 2)
ELSEWHERE: dict[str, dict[str, float]] = {
    "Set5": {"VDSR": 31.35},
    "Set14": {"VDSR": 28.01},
    "BSD100": {"VDSR": 27.29},
}

# {set: {method: mean opinion score}}: table 2 of the paper, and table 1 for the variants of its last four
MOS: dict[str, dict[str, float]] = {
    "Set5": {
        "nearest": 1.28,
        "bicubic": 1.97,
        "SRCNN": 2.57,
        "SelfExSR": 2.65,
        "DRCN": 3.26,
        "ESPCN": 2.89,
        "SRResNet": 3.37,
        "SRGAN": 3.58,
        "HR": 4.32,
        "SRResNet-VGG22": 3.46,
        "SRGAN-MSE": 3.77,
        "SRGAN-VGG22": 3.78,
    },
    "Set14": {
        "nearest": 1.20,
        "bicubic": 1.80,
        "SRCNN": 2.26,
        "SelfExSR": 2.34,
        "DRCN": 2.84,
        "ESPCN": 2.52,
        "SRResNet": 2.98,
        "SRGAN": 3.72,
        "HR": 4.32,
        "SRResNet-VGG22": 3.15,
        "SRGAN-MSE": 3.43,
        "SRGAN-VGG22": 3.57,
    },
    "BSD100": {
        "nearest": 1.11,
        "bicubic": 1.47,
        "SRCNN": 1.87,
        "SelfExSR": 1.89,
        "DRCN": 2.12,
        "ESPCN": 2.01,
        "SRResNet": 2.29,
        "SRGAN": 3.56,
        "HR": 4.46,
    },
}
