"""The results that the SRGAN paper and other papers report, 4x, on the Y channel, 4 pixels cut at the border."""

SETS = ("Set5", "Set14", "BSD100")

# {method: (PSNR in dB, SSIM by daala, mean opinion score) on each of SETS}: table 2 of the paper
TABLE_2 = {
    "nearest": ((26.26, 0.7552, 1.28), (24.64, 0.7100, 1.20), (25.02, 0.6606, 1.11)),
    "bicubic": ((28.43, 0.8211, 1.97), (25.99, 0.7486, 1.80), (25.94, 0.6935, 1.47)),
    "SRCNN": ((30.07, 0.8627, 2.57), (27.18, 0.7861, 2.26), (26.68, 0.7291, 1.87)),
    "SelfExSR": ((30.33, 0.8720, 2.65), (27.45, 0.7972, 2.34), (26.83, 0.7387, 1.89)),
    "DRCN": ((31.52, 0.8938, 3.26), (28.02, 0.8074, 2.84), (27.21, 0.7493, 2.12)),
    "ESPCN": ((30.76, 0.8784, 2.89), (27.66, 0.8004, 2.52), (27.02, 0.7442, 2.01)),
    "SRResNet": ((32.05, 0.9019, 3.37), (28.49, 0.8184, 2.98), (27.58, 0.7620, 2.29)),
    "SRGAN": ((29.40, 0.8472, 3.58), (26.02, 0.7397, 3.72), (25.16, 0.6688, 3.56)),
}
# {method: mean opinion scores}: of HR in table 2; of variants of the last two in table 1, which leaves out BSD100
OPINIONS = {
    "HR": (4.32, 4.32, 4.46),
    "SRResNet-VGG22": (3.46, 3.15),
    "SRGAN-MSE": (3.77, 3.43),
    "SRGAN-VGG22": (3.78, 3.57),
}
# {method: PSNR in dB on each of SETS}: of a method that the paper leaves out, Kim et al. 2016, table 2
OTHERS = {"VDSR": (31.35, 28.01, 27.29)}

# {set: {method: (PSNR, SSIM)}}, {set: {method: PSNR}} and {set: {method: mean opinion score}}
PAPER: dict[str, dict[str, tuple[float, float]]] = {}
ELSEWHERE: dict[str, dict[str, float]] = {}
MOS: dict[str, dict[str, float]] = {}
for column, name in enumerate(SETS):
    PAPER[name] = {method: results[column][:2] for method, results in TABLE_2.items()}
    ELSEWHERE[name] = {method: results[column] for method, results in OTHERS.items()}
    MOS[name] = {method: results[column][2] for method, results in TABLE_2.items()}
    MOS[name] |= {method: scores[column] for method, scores in OPINIONS.items() if column < len(scores)}
