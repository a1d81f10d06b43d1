"""Goodness of fit: p values of samples against laws, tails counted by themselves."""

import numpy as np
from scipy import stats

CLASSES = 4000
LEAST = 10.0  # counts expected in a class of a chi-square test
TAIL = 1e-5


def merged(observed, expected, least=LEAST):
    """Classes joined from the left until each expects ``least`` counts, both tails pooled."""
    classes = [[0.0, 0.0]]
    for o, e in zip(observed, expected, strict=True):
        if classes[-1][1] >= least:
            classes.append([0.0, 0.0])
        classes[-1][0] += o
        classes[-1][1] += e
    if len(classes) > 1 and classes[-1][1] < least:
        o, e = classes.pop()
        classes[-1][0] += o
        classes[-1][1] += e
    return np.array(classes).T


def fit_of_counts(counts, law):
    """p value of whole numbers against a law of ``scipy.stats``, by chi-square.

    Classes are single counts where at most 4000 lie within 6 standard deviations or so.
    """
    low, high = law.ppf([1e-9, 1 - 1e-9])
    edges = np.arange(low, high + 1, max(1, (high - low) // CLASSES))  # class: edge < n <= next
    expected = np.diff(law.cdf(np.r_[-1, edges, np.inf])) * counts.size
    observed = np.histogram(counts, np.r_[-np.inf, edges + 0.5, np.inf])[0].astype(float)
    observed, expected = merged(observed, expected)
    if observed.size == 1:
        return 1.0
    return stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


def fit_of_values(values, law):
    """p value of real numbers against a law of ``scipy.stats``, by Kolmogorov and Smirnov."""
    cumulative = np.sort(law.cdf(values))
    rank = np.arange(values.size)
    distance = np.maximum(cumulative - rank / values.size, (rank + 1) / values.size - cumulative)
    return stats.kstwobign.sf(distance.max() * np.sqrt(values.size))


def fit_of_tails(values, law, tail=TAIL):
    """p values of how many values lie beyond the quantiles at ``tail``: binomial, two-sided.

    A tail of a discrete law holds what lies beyond its quantile; one without probability is left
    out.
    """
    low, high = law.ppf([tail, 1 - tail])
    beyond = ((values < low).sum(), _below(law, low)), ((values > high).sum(), law.sf(high))
    return [stats.binomtest(int(n), values.size, p).pvalue for n, p in beyond if p > 0]


def _below(law, value):
    discrete = hasattr(law.dist, "pmf")
    return law.cdf(value - 1) if discrete else law.cdf(value)
