"""Data sets of the R package qcc, with which textbooks show control charts."""

import numpy as np


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


# orange juice cans that leaked, 30 samples of 50, and 24 samples after an adjustment
OJ = _numbers("12 15 8 10 4 7 16 9 14 10 5 6 17 12 22 8 10 5 13 11 20 18 24 15 9 12 7 13 9 6")
OJ2 = _numbers("9 6 12 5 6 4 6 3 7 6 2 4 3 6 5 4 8 5 6 7 5 6 3 5")
# faults on 26 samples of 100 circuit boards
CIRCUIT = _numbers("21 24 16 12 15 5 28 20 31 25 20 24 16 19 10 17 13 22 18 39 30 24 16 19 17 15")
# faults of computers, 20 samples of 5
PCM = _numbers("10 12 8 14 10 16 11 7 10 15 9 5 7 11 12 6 8 10 7 5")
# faults in dyed cloth, and its length
DYED = _numbers("14 12 20 11 7 10 21 16 19 23"), _numbers("10 8 13 10 9.5 10 12 10.5 12 12.5")
# viscosity of 20 batches
VISC = _numbers(
    "34.05 34.40 33.59 35.96 34.70 33.51 33.79 34.04 34.52 33.75"
    " 33.27 33.71 34.03 34.58 34.02 33.97 34.05 34.04 33.73 34.05"
)
