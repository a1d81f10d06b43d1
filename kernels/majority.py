"""Which label most of a set of voxels bear: labels of fine grids on coarse ones.

Of labels that are equally frequent the lowest wins, so nothing depends on the order of voxels.
"""

import numpy as np

from simscope.kernels.compiled import compiled


@compiled
def count_label(label, times, found, counts, kinds):
    """Number of different labels, once ``label`` is counted some more times among ``kinds``."""
    for k in range(kinds):
        if found[k] == label:
            counts[k] += times
            return kinds
    found[kinds], counts[kinds] = label, times
    return kinds + 1


@compiled
def most_frequent(found, counts, kinds):
    """The most frequent of the labels counted, 0 if there is none."""
    best, most = 0, 0
    for k in range(kinds):
        if counts[k] > most or (counts[k] == most and found[k] < best):
            best, most = found[k], counts[k]
    return best


@compiled
def project_labels(labels, out):
    """Fill ``out`` (y, x) with the most frequent label above 0 of each column of (z, y, x)."""
    planes = labels.shape[0]
    found, counts = np.empty(planes, np.int64), np.empty(planes, np.int64)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            kinds = 0
            for plane in range(planes):
                label = int(labels[plane, row, column])
                if label > 0:
                    kinds = count_label(label, 1, found, counts, kinds)
            out[row, column] = most_frequent(found, counts, kinds)


@compiled
def bin_labels(labels, per_pixel, out):
    """Fill pixels ``out`` (y, x) with the most frequent of their ``per_pixel**2`` fine labels."""
    cells = per_pixel * per_pixel
    found, counts = np.empty(cells, np.int64), np.empty(cells, np.int64)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            kinds = 0
            for i in range(cells):
                label = labels[row * per_pixel + i // per_pixel, column * per_pixel + i % per_pixel]
                kinds = count_label(int(label), 1, found, counts, kinds)
            out[row, column] = most_frequent(found, counts, kinds)
