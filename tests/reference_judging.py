"""Slow plain twins of simscope.evaluate's judgement, written from the papers with loops."""

import cmath
import math
from itertools import combinations, permutations

import numpy as np


def best_matching_by_trying_all(found, truth, radius_nm):
    """(pairs, summed distance) of the best one-to-one matching, by listing every one there is."""
    distance = np.hypot(
        found["x_nm"][:, None] - truth["x_nm"], found["y_nm"][:, None] - truth["y_nm"]
    )
    allowed = distance <= radius_nm
    for count in range(min(distance.shape), 0, -1):
        sums = [
            distance[list(rows), list(columns)].sum()
            for rows in combinations(range(distance.shape[0]), count)
            for columns in permutations(range(distance.shape[1]), count)
            if allowed[list(rows), list(columns)].all()
        ]
        if sums:
            return count, min(sums)
    return 0, 0.0


def challenge_counts(found, truth, radius_nm, dim_photons):
    """(hits, extra, missed) as the 2016 challenge counts: nearest pairs first, dim ones dropped.

    True emitters at or below the limit leave the count of the missed, and what was paired with
    them that of the extra.
    """
    places = [
        np.column_stack([table[name] for name in ("frame", "x_nm", "y_nm")])
        for table in (found, truth)
    ]
    pairs = [
        (math.dist(one[1:], other[1:]), i, j)
        for i, one in enumerate(places[0])
        for j, other in enumerate(places[1])
        if one[0] == other[0]
    ]
    partner = {}
    for distance, i, j in sorted(pairs):
        if distance <= radius_nm and i not in partner and j not in partner.values():
            partner[i] = j
    dim = [j for j, light in enumerate(truth["photons"]) if light <= dim_photons]
    on_dim = sum(j in dim for j in partner.values())
    hits = len(partner) - on_dim
    return hits, len(found["x_nm"]) - hits - on_dim, len(truth["x_nm"]) - hits - len(dim)


def density_by_counting(truth, radius_nm):
    """Other true emitters per um^2 within a radius in the frame of each, ``(rows,)``."""
    rows = range(len(truth["x_nm"]))
    near = [
        sum(
            other != row
            and truth["frame"][other] == truth["frame"][row]
            and math.dist(
                (truth["x_nm"][row], truth["y_nm"][row]),
                (truth["x_nm"][other], truth["y_nm"][other]),
            )
            <= radius_nm
            for other in rows
        )
        for row in rows
    ]
    return np.array(near) / (math.pi * (radius_nm / 1000) ** 2)


def centroid_nm(image, row, column, window_px, pixel_nm):
    """(x, y, light) of the window around a pixel, pixels of the frame only, none below 0."""
    reach = window_px // 2
    light = x = y = 0.0
    for r in range(max(row - reach, 0), min(row + reach + 1, image.shape[0])):
        for c in range(max(column - reach, 0), min(column + reach + 1, image.shape[1])):
            value = max(image[r, c], 0.0)
            light, x, y = light + value, x + value * (c + 0.5), y + value * (r + 0.5)
    return x / light * pixel_nm, y / light * pixel_nm, light


def ring_correlation_by_sums(first, second):
    """Correlation over rings 1 to side / 2 of two square pictures, by Fourier sums written out."""
    side = len(first)
    turns = [[cmath.exp(-2j * math.pi * k * n / side) for n in range(side)] for k in range(side)]
    waves = np.array(turns)
    spectra = [waves @ picture @ waves.T for picture in (first, second)]
    sums = np.zeros((3, side))
    for row in range(side):
        for column in range(side):
            ring = round(math.hypot(min(row, side - row), min(column, side - column)))
            one, two = (spectrum[row, column] for spectrum in spectra)
            sums[:, ring] += ((one * two.conjugate()).real, abs(one) ** 2, abs(two) ** 2)
    rings = slice(1, side // 2 + 1)
    return sums[0, rings] / np.sqrt(sums[1, rings] * sums[2, rings])
