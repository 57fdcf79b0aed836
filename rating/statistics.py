"""Means with intervals, ranks and tests.

Own code, because the libraries of the field answer other questions: sureal's intervals are for these very pictures, and
scikit-posthocs takes means that are equal but for rounding as different. docs/STUDY.md has both measured.

Throughout, values is (raters, pictures, methods), NaN where a rater has not judged.
"""

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

DRAWS = 2000  # number of bootstrap resamples


def average(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Return np.nanmean, without its warning if all values are NaN."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        return np.nanmean(values, axis)


def resample_counts(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw `count` of `count` things with replacement; return how often each was drawn, (DRAWS, count)."""
    drawn = rng.integers(count, size=(DRAWS, count)) + count * np.arange(DRAWS)[:, None]
    return np.bincount(drawn.ravel(), minlength=DRAWS * count).reshape(DRAWS, count).astype(float)


def resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the methods' means, (DRAWS, methods), when raters and pictures are both drawn with replacement.

    Source: Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1.
    """
    raters, pictures, methods = values.shape
    rng = np.random.default_rng(seed)
    rater_counts, picture_counts = resample_counts(rng, raters), resample_counts(rng, pictures)

    def total(x: np.ndarray) -> np.ndarray:
        of_raters = (rater_counts @ x.reshape(raters, -1)).reshape(DRAWS, pictures, methods)
        return np.einsum("dp,dpm->dm", picture_counts, of_raters)

    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0 if a resample contains no rating of a method
        return total(np.where(known, values, 0)) / total(known.astype(float))


def variance_of_mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each method's mean and its degrees of freedom, with random raters and pictures.

    By a two-way analysis of variance: the variances between raters and between pictures both contain the noise of
    single ratings, which is therefore subtracted once. The degrees of freedom are Satterthwaite's.
    """
    raters, pictures, _ = values.shape
    by_rater, by_picture = average(values, 1), average(values, 0)
    of_raters = np.nanvar(by_rater, axis=0, ddof=1) / raters
    of_pictures = np.nanvar(by_picture, axis=0, ddof=1) / pictures
    noise = values - by_rater[:, None] - by_picture + average(values, (0, 1))
    of_noise = np.nansum(noise**2, (0, 1)) / ((raters - 1) * (pictures - 1)) / (raters * pictures)
    variance = np.maximum(of_raters + of_pictures - of_noise, np.maximum(of_raters, of_pictures))
    spread = of_raters**2 / (raters - 1) + of_pictures**2 / (pictures - 1)
    fewest = min(raters, pictures) - 1
    freedom = np.divide(variance**2, spread, out=np.full_like(spread, fewest), where=spread > 0)
    return variance, np.maximum(freedom, fewest)


def mean_with_interval(
    values: np.ndarray, limits: tuple[float, float], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (mean, low, high), each (methods,): 95 % intervals for other raters and pictures of the same kind.

    A bootstrap over raters and pictures together. By itself it counts the noise of single ratings three times (Owen
    2007) and is too narrow for few raters or pictures. So its deviations are scaled to variance_of_mean, and its
    percentiles are those of Student's t (Hesterberg 2015, What Teachers Should Know About the Bootstrap, 2.5).
    The interval is NaN with fewer than two raters or pictures, of all or of a method. limits: the ends of the scale.
    """
    mean = average(values, (0, 1))
    unknown = np.isnan(values)
    values = values[~unknown.all((1, 2))][:, ~unknown.all((0, 2))]  # those with an answer
    if min(values.shape[:2]) < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of a method with too few answers
        variance, freedom = variance_of_mean(values)
        deviations = resampled_means(values, seed) - mean
        spread = np.nanstd(deviations, axis=0)
        deviations *= np.sqrt(np.divide(variance, spread**2, out=np.zeros_like(spread), where=spread > 0))
        tails = stats.norm.cdf(stats.t.ppf(0.025, freedom))
        low = np.array([np.nanquantile(column, tail) for column, tail in zip(deviations.T, tails)])
        high = np.array([np.nanquantile(column, 1 - tail) for column, tail in zip(deviations.T, tails)])
    return mean, np.clip(mean + low, *limits), np.clip(mean + high, *limits)


def average_rank(values: np.ndarray) -> np.ndarray:
    """Return each method's average rank, (methods,), over pictures that a rater judged by every method; 1 is best."""
    rows = values.reshape(-1, values.shape[-1])
    rows = rows[~np.isnan(rows).any(1)]
    return average(stats.rankdata(-rows, axis=1), 0) if len(rows) else np.full(values.shape[-1], np.nan)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return the p values of several tests (tests,), corrected by Holm's step-down procedure (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return adjusted


def signed_rank_test(difference: np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test without zeros; exact for up to 13 raters, even with ties.

    SciPy's own is exact with ties as well, but then takes half a second.
    """
    difference = difference[difference != 0]
    if not len(difference):
        return 1.0
    if len(difference) > 13:
        return float(stats.wilcoxon(difference).pvalue)
    ranks = np.sign(difference) * stats.rankdata(abs(difference))
    signs = {"permutation_type": "samples", "n_resamples": 2**13, "vectorized": True}
    return float(stats.permutation_test((ranks,), np.sum, **signs).pvalue)


def compare_methods(values: np.ndarray, methods: Sequence[str]) -> dict[str, Any] | None:
    """Apply Friedman's test, then Wilcoxon's signed-rank test to every two methods with Holm's correction.

    The raters' mean opinions are compared, because the ratings of one rater are not independent. Returns {"raters",
    "chi2", "p", "pairs": [{"methods", "difference", "p", "p_holm"}]}, or None with fewer than three raters or methods.
    """
    means = average(values, 1)
    means = means[~np.isnan(means).any(1)]
    if len(means) < 3 or len(methods) < 3:
        return None
    # Both tests see rounded numbers, so that rounding errors do not make equal means differ.
    ranked = np.round(means, 9)
    chi2, p = stats.friedmanchisquare(*ranked.T) if np.ptp(ranked, axis=1).any() else (0.0, 1.0)  # 0 / 0 if all tie
    pairs = list(itertools.combinations(range(len(methods)), 2))
    differences = [np.round(means[:, a] - means[:, b], 9) for a, b in pairs]
    p_values = [signed_rank_test(difference) for difference in differences]
    tests = [
        {"methods": [methods[a], methods[b]], "difference": difference.mean(), "p": p_value, "p_holm": adjusted}
        for (a, b), difference, p_value, adjusted in zip(pairs, differences, p_values, holm(p_values))
    ]
    return {"raters": len(means), "chi2": float(chi2), "p": float(p), "pairs": tests}


def strengths(count: int, comparisons: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return the Bradley-Terry strengths of `count` methods, (count,), with mean 0, computed by choix.

    A method that is 1 stronger is preferred 73 % of the time. comparisons: [(first, second, value)] with value 1
    (first), 2 (a tie) or 3 (second). A tie is half a win for each, so every comparison is entered twice, and the prior
    is doubled to match. alpha = 0.01 keeps the strength of a method that always wins finite.
    """
    import choix

    wins = []
    for first, second, value in comparisons:
        wins += {1: [(first, second)] * 2, 2: [(first, second), (second, first)], 3: [(second, first)] * 2}[value]
    result = choix.opt_pairwise(count, wins, alpha=2 * 0.01)
    return result - result.mean()
