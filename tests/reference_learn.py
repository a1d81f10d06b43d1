"""Losses of networks written plainly from their papers, one emitter and one pixel at a time."""

import math


def decode_loss(probability, values, widths, emitters):
    """Speiser et al. 2021, Methods, "Loss": minus log likelihood of one frame's emitters.

    ``probability`` (y, x); ``values`` and ``widths`` (parameters, y, x), places counted from the
    frame's corner; ``emitters`` (emitters, parameters). The mixture runs over the whole frame.
    """
    pixels = [(y, x) for y in range(len(probability)) for x in range(len(probability[0]))]
    mean = sum(float(probability[p]) for p in pixels)
    variance = sum(float(probability[p]) * (1 - float(probability[p])) for p in pixels)
    loss = (len(emitters) - mean) ** 2 / (2 * variance) + math.log(2 * math.pi * variance) / 2
    for emitter in emitters:
        likelihood = 0.0
        for pixel in pixels:
            density = float(probability[pixel]) / mean
            for parameter, true in enumerate(emitter):
                width = float(widths[(parameter, *pixel)])
                miss = (float(true) - float(values[(parameter, *pixel)])) / width
                density *= math.exp(-(miss**2) / 2) / (width * math.sqrt(2 * math.pi))
            likelihood += density
        loss -= math.log(likelihood)
    return loss
