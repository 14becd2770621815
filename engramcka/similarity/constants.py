"""Numbers that the engine and its slow second way in NumPy (`terms`) must have alike. No torch."""

RMS_EPSILON = 1e-6
"""Added to the mean square, as Llama's norm does."""

CONSTANT = 1e-14
"""Share of its mean below which a dimension's standard deviation is rounding."""

FAR = 10.0
"""Times the layer's median distance from its centre: from there a sample is massive."""

MEDIAN_SAMPLES = 1024
"""Samples whose distances decide the bandwidth of the RBF kernel."""

CENTRE_SAMPLES = 128
"""Samples of which a layer's centre and its median distance from it are taken."""

CENTRE_EVERY = 8
"""Of them each that is enough for the centre, whose medians cost more than all the rest."""

CENTRE_FEWEST = 16
"""Samples below which their median distance says little."""
