"""What says that memory ran out, in whichever words, and what does not."""

import pytest
import torch

from engramcka.ram import out_of_memory

WORDS = [
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "HIP out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
def test_out_of_memory_in_the_words_of_every_library(words: str, kind: type[Exception]) -> None:
    error = RuntimeError(words) if kind is RuntimeError else torch.AcceleratorError(words, 2)
    assert out_of_memory(error)
    assert not out_of_memory(ValueError(words))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED",
        "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
    ],
)
def test_other_errors_are_none(words: str) -> None:
    assert not out_of_memory(RuntimeError(words))
    assert not out_of_memory(torch.AcceleratorError(words, 700))


def test_memory_errors_of_python_and_torch() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
