"""Numbers that the engine and its slow second way in NumPy (`terms`) must have alike. No torch."""

RMS_EPSILON = 1e-6
"""Added to the mean square, as Llama's norm does."""

CONSTANT = 1e-14
"""Share of its mean below which a dimension's standard deviation is rounding."""
