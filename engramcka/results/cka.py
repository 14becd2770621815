"""CKA maps: a `SimilarityMap` with what the estimators of HSIC have beside it."""

from __future__ import annotations

from dataclasses import dataclass

from engramcka.results.map import SimilarityMap


@dataclass(frozen=True, eq=False)
class CkaMap(SimilarityMap):
    """CKA of every layer of one model (y, rows) with every layer of another (x, columns)."""

    measure: str = "cka"  # or cka-rbf, by the kernel
    estimator: str = "unknown"  # minibatch | debiased | biased | unknown (an imported map)
    kernel: str = "linear"
    batch_size: int | None = None  # samples a batch at most, for the minibatch estimator
    batches: str = ""  # random | in-order, for the minibatch estimator
    n_batches: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(measure="cka" if self.kernel == "linear" else f"cka-{self.kernel}")

    @property
    def title(self) -> str:
        """The same for any kernel."""
        return "CKA"

    @property
    def way(self) -> tuple[str, str]:
        """Its estimator and its kernel."""
        return self.estimator, self.kernel
