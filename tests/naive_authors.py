"""What the Engram authors' demonstration computes, slow and plain, from facts about it.

Python integers for the row numbers, torch's own layers in any dtype for the module. Shares no code
with the package. The facts: keys of tokens that are no text are their vocabulary entries, blocks
count from 0, each head takes the next prime that no head before it has, from its order's size on;
the gate's norms have the dtype's own eps, the convolution's 1e-5.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import torch
import torch.nn.functional as F
from sympy import nextprime
from torch import Tensor


def fold(text: str) -> str:
    """Compatibility form, no accents, lower case, one space for white space, none at the ends."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    text = "".join(c for c in text if unicodedata.category(c) != "Mn").lower()
    out = ""
    for character in text:
        if character in " \t\r\n":
            out += "" if out.endswith(" ") else " "
        else:
            out += character
    return out if out == " " else out.strip()


def canonical_ids(tokenizer) -> list[int]:
    numbers: dict[str, int] = {}
    found = []
    for i in range(len(tokenizer)):
        text = tokenizer.decode([i], skip_special_tokens=False)
        is_text = "\ufffd" not in text
        key = (fold(text) or text) if is_text else tokenizer.convert_ids_to_tokens(i)
        if key not in numbers:
            numbers[key] = len(numbers)
        found.append(numbers[key])
    return found


def primes(sizes, heads: int, blocks) -> dict[int, list[list[int]]]:
    """Block from 0 -> order -> head."""
    taken: set[int] = set()
    found: dict[int, list[list[int]]] = {}
    for block in blocks:
        found[block] = []
        for size in sizes:
            last, of_order = size - 1, []
            for _ in range(heads):
                last = nextprime(last)
                while last in taken:
                    last = nextprime(last)
                taken.add(last)
                of_order.append(int(last))
            found[block].append(of_order)
    return found


def multipliers(n_ids: int, block: int, longest: int, seed: int) -> list[int]:
    half = max(1, (2**63 - 1) // n_ids // 2)
    drawn = np.random.default_rng(seed + 10007 * block).integers(0, half, longest, dtype=np.int64)
    return [2 * int(number) + 1 for number in drawn]


def rows(ids, block, *, canonical, pad_id, sizes, heads, blocks, seed) -> list[list[int]]:
    """Row number in each head's own table [token][table], for token ids of one sequence."""
    longest = len(sizes) + 1
    factors = multipliers(max(canonical) + 1, block, longest, seed)
    table = primes(sizes, heads, blocks)[block]
    before = [canonical[pad_id]] * (longest - 1)
    line = before + [canonical[i] for i in ids]
    found = []
    for t in range(longest - 1, len(line)):
        mix, at_t = line[t] * factors[0], []
        for lag in range(1, longest):
            mix ^= line[t - lag] * factors[lag]  # below 2**63 by the choice of the factors
            at_t += [mix % prime for prime in table[lag - 1]]
        found.append(at_t)
    return found


def module(hidden: Tensor, memory: Tensor, weights: dict[str, Tensor], dilation: int) -> Tensor:
    """What is added to streams (B, T, M, D) for looked-up rows (B, T, E); all biases are zero."""
    streams, width = hidden.shape[2:]
    parts = []
    for m in range(streams):
        key = F.rms_norm(memory @ weights["key"][m].T, (width,), weights["key_norm"][m])
        query = F.rms_norm(hidden[:, :, m], (width,), weights["query_norm"][m])
        score = (key * query).sum(-1, keepdim=True) / width**0.5
        score = score.abs().clamp_min(1e-6).sqrt() * score.sign()
        gated = torch.sigmoid(score) * (memory @ weights["value"].T)
        normed = F.rms_norm(gated, (width,), weights["conv_norm"][m], eps=1e-5)
        kernel = weights["conv"][m][:, None]
        reach = (kernel.shape[-1] - 1) * dilation
        convolved = F.conv1d(
            F.pad(normed.transpose(1, 2), (reach, 0)), kernel, dilation=dilation, groups=width
        )
        parts.append(gated + F.silu(convolved.transpose(1, 2)))
    return torch.stack(parts, 2)
