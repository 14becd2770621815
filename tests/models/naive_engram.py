"""The Engram module once more, slow and plain: Python integers and float64 NumPy, from the paper.

One token at a time, one head at a time; shares no code with the package.
"""

from __future__ import annotations

import math

import numpy as np


def signed64(value: int) -> int:
    """A Python integer as int64 arithmetic would have left it."""
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value


def rows(ids, multipliers, primes, orders, heads, pad_id):
    """Row numbers [token][table] in the joint table, for one sequence of canonical ids."""
    offsets = [sum(primes[:i]) for i in range(len(primes))]
    found = []
    for t in range(len(ids)):
        at_t = []
        for i, n in enumerate(orders):
            mix = 0
            for lag in range(n):
                x = ids[t - lag] if t - lag >= 0 else pad_id
                mix = signed64(mix ^ signed64(x * multipliers[lag]))
            for k in range(heads):
                table = i * heads + k
                at_t.append(offsets[table] + mix % primes[table])
        found.append(at_t)
    return found


def rms_norm(x, weight, eps=1e-6):
    return x / math.sqrt(float(np.mean(x * x)) + eps) * weight


def sigmoid(s):
    return 1.0 / (1.0 + math.exp(-s))


def engram(hidden_tmd, row_numbers, weights, gating, convolution, dilation):
    """Y (T, M, D) for one sequence of M-stream hidden states; weights: name -> float64 array."""
    n_tokens, streams, width = hidden_tmd.shape
    values = np.zeros((n_tokens, streams, width))
    for t in range(n_tokens):
        memory = np.concatenate([weights["table"][r] for r in row_numbers[t]])
        value = weights["value"] @ memory
        for m in range(streams):
            if gating == "none":
                values[t, m] = value
                continue
            key = weights["key"][m] @ memory
            query = rms_norm(hidden_tmd[t, m], weights["query_norm"][m])
            s = float(query @ rms_norm(key, weights["key_norm"][m])) / math.sqrt(width)
            if gating == "signed-sqrt":
                s = math.copysign(math.sqrt(max(abs(s), 1e-6)), s)
            values[t, m] = sigmoid(s) * value
    if not convolution:
        return values
    out = np.zeros_like(values)
    taps = weights["conv"].shape[-1]
    for t in range(n_tokens):
        for m in range(streams):
            total = np.zeros(width)
            for j in range(taps):
                source = t - (taps - 1 - j) * dilation
                if source >= 0:
                    normed = rms_norm(values[source, m], weights["conv_norm"][m])
                    total += weights["conv"][m, :, j] * normed
            out[t, m] = total / (1.0 + np.exp(-total)) + values[t, m]
    return out
