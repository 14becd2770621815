"""CKA maps beside the other packages: time, memory and error; the exact estimator; the plot.

    python benchmarks/similarity.py [--rounds 5] [--threads 2] [--only peers errors debiased gpu]
    python benchmarks/similarity.py --only store        65,536 samples from a Zarr store: minutes
    python benchmarks/similarity.py --only plot         docs/images/cka-estimators.png

All take turns in one process, so that a busy machine slows all alike; the ratio is of the least
times, and the median ratio within a round stands beside it. Peers: pip install "engramcka[peers]".
Goals: 0.6 of pytorch-cka's time and not more memory; error at most 1e-6; `debiased` within 1.3
times the half-Gram products alone and 1 GiB beyond the inputs, 2 GiB in all from a store.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engramcka import cka_map

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "similarity")]
import reference  # noqa: E402

from engramcka.similarity.split_products import PARTS  # noqa: E402

WORKS = {"A": (30, 4096, 256, 256), "B": (12, 8192, 768, 512)}  # layers, samples, width, batch
PLOT = Path(__file__).parents[1] / "docs" / "images" / "cka-estimators.png"
Layers = list[torch.Tensor]


class Replay(nn.Module):
    """A model whose layers' outputs are there already, so that a peer times nothing but CKA."""

    def __init__(self, features: Layers) -> None:
        super().__init__()
        self.features = features
        self.blocks = nn.ModuleList(nn.Identity() for _ in features)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        first, last = int(samples[0, 0]), int(samples[-1, 0]) + 1
        for features, block in zip(self.features, self.blocks, strict=True):
            block(features[first:last])
        return samples

    @property
    def names(self) -> list[str]:
        return [f"blocks.{index}" for index in range(len(self.features))]


def pytorch_cka(y: Layers, x: Layers, batch: int) -> np.ndarray:
    from cka import compute_cka

    models = Replay(y), Replay(x)
    loader = list(torch.arange(len(y[0]))[:, None].split(batch))
    names = {"layers": models[0].names, "model2_layers": models[1].names}
    return compute_cka(*models, [loader], device="cpu", progress=False, **names)[0].numpy()


def torch_cka(y: Layers, x: Layers, batch: int) -> np.ndarray:
    from torch_cka import CKA

    models = Replay(y), Replay(x)
    loader = [(part,) for part in torch.arange(len(y[0]))[:, None].split(batch)]

    class Loader(list):
        dataset = "samples"

    names = {"model1_layers": models[0].names, "model2_layers": models[1].names}
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        compared = CKA(*models, device="cpu", **names)
        compared.compare(Loader(loader), Loader(loader))
    return compared.export()["CKA"].numpy()


def ours(y: Layers, x: Layers, batch: int) -> np.ndarray:
    return cka_map(y, x, batch_size=batch).similarity


def ours_debiased(y: Layers, x: Layers, batch: int) -> np.ndarray:
    return cka_map(y, x, estimator="debiased").similarity


PACKAGES = {
    "pytorch-cka": pytorch_cka,
    "engramcka": ours,
    "torch-cka": torch_cka,  # a hundred times slower: its errors only
    "engramcka, debiased": ours_debiased,
}


def related(layers: int, n: int, width: int, seed: int = 0) -> tuple[Layers, Layers]:
    """Two models whose layers share half of their variance."""
    random = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, width, generator=random)

    def model() -> Layers:
        maps = [torch.randn(width, width, generator=random) / width**0.5 for _ in range(layers)]
        return [shared @ one + torch.randn(n, width, generator=random) for one in maps]

    return model(), model()


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_mib(work: str, package: str, threads: int) -> float:
    """Memory a map needs beyond its inputs, MiB, in a process of its own; Linux only."""
    code = (
        f"import sys, torch; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import similarity as s; torch.set_num_threads({threads})\n"
        f"s.PACKAGES[{package!r}](*s.related(2, 64, 16), 32)\n"  # what is loaded at first use
        f"layers, n, width, batch = s.WORKS[{work!r}]; y, x = s.related(layers, n, width)\n"
        f"s.reset_peak(); before = s.status('VmRSS'); s.PACKAGES[{package!r}](y, x, batch)\n"
        "print((s.status('VmHWM') - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def reset_peak() -> None:
    ctypes.CDLL(None).malloc_trim(0)  # give back what making the inputs took
    Path("/proc/self/clear_refs").write_text("5")


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def half_gram(features: torch.Tensor, size: int) -> None:
    """The products that any way by Gram matrices needs: the upper half, tile by tile."""
    out = features.new_empty((len(features), size, size))
    for i in range(0, features.shape[1], size):
        for j in range(i, features.shape[1], size):
            torch.bmm(features[:, i : i + size], features[:, j : j + size].mT, out=out)


def gemm_rate() -> float:
    """Float32 operations a second of a large product."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(5))


def peers(rounds: int) -> None:
    print("\n## A map between two sets of layers, fp32, minibatch unbiased HSIC\n")
    print("| work | package | least s | share of pytorch-cka's | median share | MiB | GEMM floor |")
    print("|---|---|---|---|---|---|---|")
    rate = gemm_rate()
    for name, (layers, n, width, batch) in WORKS.items():
        y, x = related(layers, n, width)
        runs = {
            package: partial(run, y, x, batch)
            for package, run in PACKAGES.items()
            if package in ("pytorch-cka", "engramcka")
        }
        times: dict[str, list[float]] = {package: [] for package in runs}
        for _ in range(rounds + 1):
            for package, run in runs.items():
                times[package].append(seconds(run))
        floor = 2 * layers * n * batch * width / rate  # half of the whole Gram matrices
        for package in runs:
            own, other = times[package][1:], times["pytorch-cka"][1:]
            median = statistics.median(a / b for a, b in zip(own, other, strict=True))
            print(
                f"| {name} | {package} | {min(own):.3f} | {min(own) / min(other):.2f} | "
                f"{median:.2f} | {peak_mib(name, package, torch.get_num_threads()):.0f} | "
                f"{floor / min(own):.0%} |",
                flush=True,
            )


def errors() -> None:
    from hidden_states import KINDS

    print("\n## Largest error against float64 NumPy; 400 and 1,030 samples, widths 3, 64 and 500\n")
    print("| case | pytorch-cka | torch-cka | minibatch | debiased | biased |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        cells = {}
        for n in (400, 1030):
            random = np.random.default_rng(n)
            shared = random.standard_normal((n, 8))
            y, x = ([kind(a) for a in _cases(random, shared)] for _ in range(2))
            tensors = [[_tensor(a) for a in side] for side in (y, x)]
            for peer in (pytorch_cka, torch_cka):
                expected = reference.cka_matrix(y, x, batch_size=200)
                if peer is pytorch_cka:  # it clips by design
                    expected = expected.clip(0, 1)
                cells.setdefault(peer.__name__, []).append(
                    _error(lambda peer=peer, t=tensors: peer(*t, 200), expected)
                )
            for estimator in ("minibatch", "debiased", "biased"):
                options = {"estimator": estimator, "batch_size": 200}
                expected = reference.cka_matrix(y, x, **options)
                cells.setdefault(estimator, []).append(
                    _error(lambda y=y, x=x, o=options: cka_map(y, x, **o).similarity, expected)
                )
        row = [max(cell, key=_badness) for cell in cells.values()]
        print(f"| {kind.__name__} | " + " | ".join(row) + " |", flush=True)


def _cases(random: np.random.Generator, shared: np.ndarray) -> list[np.ndarray]:
    n = len(shared)
    return [
        (shared @ random.standard_normal((8, w)) / 2 + random.standard_normal((n, w))).astype(
            np.float32
        )
        for w in (3, 64, 500)
    ]


def _tensor(values: np.ndarray) -> torch.Tensor:
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def _error(run: Callable[[], np.ndarray], expected: np.ndarray) -> str:
    try:
        found = run()
    except (AssertionError, ValueError, RuntimeError) as error:
        return type(error).__name__
    wrong = np.abs(found - expected).max()
    return "NaN" if np.isnan(wrong) else f"{wrong:.0e}"


def _badness(cell: str) -> float:
    with contextlib.suppress(ValueError):
        return float(cell) if cell != "NaN" else 1e300
    return float("inf")


def debiased(rounds: int) -> None:
    print("\n## `debiased`, 8,192 samples, 12 + 12 layers of width 768\n")
    y, x = related(12, 8192, 768)
    features = torch.stack(y + x)
    floors, times = [], []
    for _ in range(rounds):
        floors.append(seconds(partial(half_gram, features, 256)))
        times.append(seconds(lambda: cka_map(y, x, estimator="debiased")))
    mib = peak_mib("B", "engramcka, debiased", torch.get_num_threads())
    median = statistics.median(a / b for a, b in zip(times, floors, strict=True))
    print(
        f"{min(times):.2f} s, {min(times) / min(floors):.2f} of the half-Gram products alone "
        f"({min(floors):.2f} s; median {median:.2f}); {mib:.0f} MiB beyond the inputs"
    )


def store() -> None:
    import zarr

    print("\n## `debiased`, 65,536 samples, 12 + 12 layers of width 768 from a Zarr store\n")
    with tempfile.TemporaryDirectory() as folder:
        group = zarr.open_group(folder, mode="w")
        random = np.random.default_rng(0)
        for name in [f"{side}{layer}" for side in "yx" for layer in range(12)]:
            array = group.create_array(
                name, shape=(65536, 768), chunks=(2048, 768), dtype="float32", compressors=None
            )
            for start in range(0, 65536, 2048):
                array[start : start + 2048] = random.standard_normal((2048, 768), np.float32)
        y, x = ([group[f"{side}{layer}"] for layer in range(12)] for side in "yx")
        reset_peak()
        spent = seconds(lambda: print(cka_map(y, x, estimator="debiased").route, "route"))
    print(f"{spent:.0f} s; {status('VmHWM') / 1024:.0f} MiB in all")


def gpu() -> None:
    if not torch.cuda.is_available():
        print("\nNo GPU here: its figures are left out.")
        return
    print(f"\n## `debiased`, 65,536 samples, 30 + 30 layers of width 2560, {_card()}\n")
    print("| precision | s | share of the measured matmul rate | largest error |")
    print("|---|---|---|---|")
    random = torch.Generator("cuda").manual_seed(0)
    y, x = (
        [torch.randn(65536, 2560, device="cuda", generator=random).half() for _ in range(30)]
        for _ in range(2)
    )
    few = [[a[:2048] for a in side[:4]] for side in (y, x)]
    exact = reference.cka_matrix(
        *[[a.cpu().numpy() for a in side] for side in few], estimator="debiased"
    )
    a = torch.randn(8192, 8192, device="cuda")
    for precision, products, matrix in (("highest", PARTS - 1, a.bfloat16()), ("float32", 1, a)):
        matrix @ matrix
        spent = min(seconds(lambda m=matrix: m @ m) for _ in range(5))
        rate = 2 * 8192**3 / spent / products
        error = cka_map(*few, estimator="debiased", precision=precision).similarity - exact
        spent = seconds(lambda p=precision: cka_map(y, x, estimator="debiased", precision=p))
        least = min(60 * 65536**2 * 2560, 2 * 65536 * 2560**2 * (900 + 60))
        print(
            f"| {precision} | {spent:.1f} | {least / rate / spent:.0%} | {abs(error).max():.0e} |"
        )


def _card() -> str:
    return torch.cuda.get_device_name()


def plot() -> None:
    """Mean and spread of each estimator against n and against batch size; truths 0 and 0.31."""
    import matplotlib.pyplot as plt

    random = np.random.default_rng(0)
    width, repeats = 256, 12
    maps = random.standard_normal((2, 4, width)) * 0.15
    related_truth = reference.population_cka(*maps)

    def draw(n: int, share: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
        z = [random.standard_normal((n, 4)) for _ in range(repeats)]
        return tuple(
            [share * a @ one + random.standard_normal((n, width)) for a in z] for one in maps
        )

    def estimates(n: int, share: float, **options: object) -> np.ndarray:
        return np.diag(cka_map(*draw(n, share), **options).similarity)

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    counts = [64, 128, 256, 512, 1024, 2048, 4096]
    sizes = [8, 16, 32, 64, 128, 256, 512, 1024]
    for share, truth, style in ((1.0, related_truth, "-"), (0.0, 0.0, "--")):
        for estimator, color in (("biased", "C1"), ("debiased", "C0")):
            _band(
                panels[0],
                counts,
                [estimates(n, share, estimator=estimator) for n in counts],
                color,
                style,
                estimator,
            )
        _band(
            panels[1],
            sizes,
            [estimates(1024, share, batch_size=b) for b in sizes],
            "C2",
            style,
            "minibatch, n = 1,024",
        )
        for panel in panels:
            panel.axhline(truth, color="black", linewidth=0.6)
    panels[0].set(xscale="log", xlabel="samples", ylabel=f"CKA, width {width}")
    panels[1].set(xscale="log", xlabel="batch size")
    for panel in panels:
        panel.legend(frameon=False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})
    print(f"Wrote {PLOT.relative_to(Path.cwd())}; truths 0 and {related_truth:.3f}")


def _band(panel, at, values, color, style, label):
    mean = np.array([v.mean() for v in values])
    spread = np.array([v.std() for v in values])
    label = label if style == "-" else None
    panel.plot(at, mean, style, color=color, label=label)
    panel.fill_between(at, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("peers", "errors", "debiased", "gpu", "store", "plot")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts[:4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {options.threads} threads", end="; ")
    print(f"float32 GEMM {gemm_rate() / 1e9:.0f} GFLOP/s")
    for part in options.only:
        arguments = (options.rounds,) if part in ("peers", "debiased") else ()
        globals()[part](*arguments)


if __name__ == "__main__":
    main()
