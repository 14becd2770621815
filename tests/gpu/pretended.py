"""A pretended CUDA device on a machine without one: real numbers, tensors that say ``cuda:0``.

    with PretendedGpu() as gpu:
        model = on_gpu(model)
        ...
        gpu.waits, gpu.kernels, gpu.where_waited()

A tensor there wraps one on the CPU, which computes. Where a CPU tensor meets it, other than one
number, it raises as torch does. What is counted: kernels (operations that are no views), places
where the host waits for the device (a number read, `nonzero`, an index of booleans, a copy that
blocks), and bytes that are copied. Time, streams and the caching allocator are not pretended. Since
such tensors cannot be inference tensors, `torch.inference_mode` only turns gradients off inside.
"""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from pretended_cuda import GPU, pretended_cuda
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

# Operations of aten that start no kernel: views, and memory of any content.
NO_KERNEL = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select",
    "unsqueeze", "squeeze", "detach", "alias", "as_strided", "unbind", "split",
    "split_with_sizes", "diagonal", "empty", "empty_like", "new_empty", "narrow",
    "lift_fresh", "unfold", "empty_strided", "new_empty_strided", "_reshape_alias",
    "record_stream", "is_same_size", "squeeze_", "unsqueeze_", "transpose_", "t_", "detach_",
}  # fmt: skip
WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim",
    "unique_consecutive",
}  # fmt: skip
_READS = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__"}
_GIVES_NUMBERS = {"_local_scalar_dense", "equal", "is_same_size"}
_LIKE = {
    "zeros_like", "ones_like", "full_like", "new_zeros", "new_full", "new_ones", "rand_like",
    "randn_like",
}  # fmt: skip
_NO_DRIVER = (
    "driver",
    "not linked with support for cuda",
    "Could not run",
)  # C++ that asks before it dispatches


def place_of(what: str) -> str:
    """What happens, and where in our code or transformers'."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_stack(None)  # the innermost first
        if "tests/gpu" not in frame.f_code.co_filename
    ]
    own = [f for f in frames if "/engramcka/" in f[0] or "/transformers/" in f[0]]
    file, line = (own or frames)[0]
    return f"{what} at {'/'.join(file.split('/')[-2:])}:{line}"


class PretendedGpu:
    """Counts of what a GPU would have done; a context manager inside which there is one.

    Attributes:
        kernels: operations that are no views.
        waits: times that the host waited, by what for and where.
        copied: bytes, by "to gpu", "to host", with "pageable" where the memory was not pinned.
        attention: fused attention products, by "masked" and "causal".
        emptied: times that the allocator's cache was emptied.
        recorded: events so far.
        passed: of them, the number of the last that the host has waited for.
    """

    def __init__(self, total_bytes: int = 80 << 30) -> None:
        self.total_bytes = total_bytes
        self.pinned: dict[int, Tensor] = {}  # by address, kept so that none is used again
        self.recorded = self.passed = 0
        self.reset()

    def reset(self) -> None:
        """Count from nothing."""
        self.kernels, self.emptied = 0, 0
        self.places: Counter[str] = Counter()
        self.copied: Counter[str] = Counter()
        self.attention: Counter[str] = Counter()

    @property
    def waits(self) -> int:
        """Times that the host waited."""
        return sum(self.places.values())

    def wait(self, what: str, event: int | None = None) -> None:
        """The host waits here, for an event or for all that was begun."""
        self.passed = max(self.passed, self.recorded if event is None else event)
        self.places[place_of(what)] += 1

    def copy(self, source: Tensor, direction: str, host: Tensor | None, *, blocks: bool) -> None:
        """A copy between host and device, with the tensor on the host where there is one."""
        pinned = host is not None and host.untyped_storage().data_ptr() in self.pinned
        self.copied[direction if pinned else f"{direction}, pageable"] += source.nbytes
        if blocks or not pinned:
            self.wait(f"copy {direction}")

    def __enter__(self) -> PretendedGpu:
        global _gpu
        _gpu = self
        self._context = ExitStack()
        self._context.enter_context(pretended_cuda(self))
        self._context.enter_context(_Functions())
        return self

    def __exit__(self, *error: object) -> None:
        global _gpu
        self._context.close()
        _gpu = None


_gpu: PretendedGpu | None = None


def _now() -> PretendedGpu:
    assert _gpu is not None, "a tensor of the pretended GPU outlived it"
    return _gpu


class GpuTensor(Tensor):
    """A tensor that says it is on the GPU; ``inner`` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> GpuTensor:
        made: GpuTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
            requires_grad=False,
        )
        made.inner = inner
        return made

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        return f"GpuTensor({self.inner!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})

    def record_stream(self, stream: object) -> None: ...  # type: ignore[override]


def wrap(value: Any) -> Any:
    """A tensor on the GPU; anything else as it is."""
    is_plain = isinstance(value, Tensor) and not isinstance(value, GpuTensor)
    return GpuTensor(value) if is_plain else value


def unwrap(value: Any) -> Any:
    """Its values on the CPU."""
    return value.inner if isinstance(value, GpuTensor) else value


def on_gpu(model: nn.Module) -> nn.Module:
    """The model itself, its weights on the GPU."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(wrap(weight.data), requires_grad=False)
        for name, buffer in module._buffers.items():
            module._buffers[name] = wrap(buffer)
    return model


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _host_tensors(values: Any) -> list[Tensor]:
    """Tensors on the CPU that are more than a number, which torch would take."""
    return [
        leaf
        for leaf in tree_leaves(values)
        if isinstance(leaf, Tensor) and not isinstance(leaf, GpuTensor) and leaf.dim()
    ]


def _rewrap(found: Any, given: Any) -> Any:
    """Results on the GPU; what was changed in place is the same tensor."""
    same = {id(leaf.inner): leaf for leaf in tree_leaves(given) if isinstance(leaf, GpuTensor)}
    return tree_map(lambda out: same.get(id(out), wrap(out)), found)


def _require_one_device(values: Any, name: str) -> None:
    if _host_tensors(values):
        raise RuntimeError(f"Expected all tensors to be on the same device: cuda:0 and cpu, {name}")


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation of aten one of whose tensors is on the GPU."""
    gpu, name = _now(), func._schema.name.split("::")[1]
    if name == "copy_":
        return _copy_into(*args, **kwargs)
    if name == "_to_copy":
        return _moved(args[0], kwargs.get("device"), kwargs.get("dtype"), kwargs=kwargs)
    if name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"):
        _index(gpu, args)
    else:
        _require_one_device((args, kwargs), name)
    if name in WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        gpu.wait(name)
    gpu.kernels += name not in NO_KERNEL
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if name == "bmm" and func._overloadname.startswith("dtype"):  # 16-bit products, wider sums
        wide = [value.inner.to(args[2]) for value in args[:2]]
        out = kwargs.get("out")
        found = torch.bmm(*wide, out=None if out is None else out.inner)
        return wrap(found) if out is None else out
    if name == "histc" and not args[0].is_floating_point():  # of integers a GPU only has it
        counted = func(args[0].inner.double(), *args[1:], **kwargs)
        return wrap(counted.to(args[0].dtype))
    found = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    return found if name in _GIVES_NUMBERS else _rewrap(found, (args, kwargs))


def _index(gpu: PretendedGpu, args: Any) -> None:
    """Count what an index with tensors costs, and refuse devices that do not go together."""
    if not isinstance(args[0], GpuTensor):
        raise RuntimeError("indices should be on the same device as the indexed tensor (cpu)")
    for index in args[1] or ():
        if not isinstance(index, Tensor):
            continue
        if index.dtype in (torch.bool, torch.uint8):
            gpu.wait("index of booleans")
        if not isinstance(index, GpuTensor):
            gpu.copy(index, "to gpu", index, blocks=True)
    _require_one_device(args[2:], "index_put")


def _copy_into(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    gpu = _now()
    if isinstance(target, GpuTensor) and isinstance(source, GpuTensor):
        gpu.kernels += 1
    elif isinstance(target, GpuTensor):
        gpu.copy(source, "to gpu", source, blocks=not non_blocking)
    elif isinstance(source, GpuTensor):
        gpu.copy(unwrap(source), "to host", target, blocks=not non_blocking)
    unwrap(target).copy_(unwrap(source))
    return target


def _moved(value: Tensor, device: Any, dtype: Any, *, kwargs: dict[str, Any]) -> Any:
    """A tensor on another device or of another dtype, as ``Tensor.to`` gives it."""
    gpu, blocks = _now(), not kwargs.get("non_blocking", False)
    to_gpu = _is_gpu(device) if device is not None else isinstance(value, GpuTensor)
    dtype = dtype or value.dtype
    if not isinstance(value, GpuTensor):
        if to_gpu:
            gpu.copy(value, "to gpu", value, blocks=blocks)
            return wrap(value.detach().to(dtype, copy=True))
        with torch._C.DisableTorchFunction():
            return value.to(device=device, dtype=dtype)
    if not to_gpu:
        gpu.copy(value.inner, "to host", None, blocks=blocks)
        return value.inner.to(dtype, copy=True)
    gpu.kernels += 1
    return wrap(value.inner.to(dtype, copy=True))


class _Functions(TorchFunctionMode):
    """Functions of torch that do not come to `_dispatch` as they should."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu, kwargs = _now(), dict(kwargs or {})
        name = getattr(func, "__name__", "")
        ours = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, GpuTensor)]
        if func is Tensor.to:
            return self._to(args, kwargs)
        if func is Tensor.copy_:
            return _copy_into(*args, **kwargs)
        if func is Tensor.pin_memory:
            pinned = args[0].clone()
            gpu.pinned[pinned.untyped_storage().data_ptr()] = pinned
            return pinned
        if ours and func in (Tensor.numpy, Tensor.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if ours and name in _READS:
            gpu.wait(name)
            return func(args[0].inner)
        if ours and func in (Tensor.__getitem__, Tensor.__setitem__):
            return self._item(func, args)
        if ours and func is nn.functional.scaled_dot_product_attention:
            masked = kwargs.get("attn_mask") is not None
            gpu.attention["masked" if masked else "causal"] += 1
            return self._computed(func, args, kwargs, name)
        if ours and (func is torch.segment_reduce or name in _LIKE):
            return self._computed(
                func, args, {**kwargs, "device": None} if name in _LIKE else kwargs, name
            )
        if _is_gpu(kwargs.get("device")):
            gpu.kernels += not name.endswith(("empty", "empty_like"))
            kwargs["device"] = torch.device("cpu")
            found = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
            return tree_map(wrap, found)
        is_pinned = kwargs.pop("pin_memory", False)
        try:
            found = func(*args, **kwargs)
        except RuntimeError as error:
            if not any(words in str(error) for words in _NO_DRIVER):
                raise
            if name in WAITS:
                gpu.wait(name)
            return self._computed(func, args, kwargs, name)
        if is_pinned:
            gpu.pinned[found.untyped_storage().data_ptr()] = found
        return found

    @staticmethod
    def _computed(func: Any, args: Any, kwargs: dict[str, Any], name: str) -> Any:
        _require_one_device((args, kwargs), name)
        _now().kernels += 1
        found = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
        return _rewrap(found, (args, kwargs))

    @staticmethod
    def _to(args: Any, kwargs: dict[str, Any]) -> Any:
        value, *others = args
        device, dtype = kwargs.get("device"), kwargs.get("dtype")
        for other in others:
            if isinstance(other, Tensor):
                device, dtype = other.device, other.dtype
            elif isinstance(other, torch.dtype):
                dtype = other
            elif isinstance(other, str | torch.device):
                device = other
        to_gpu = isinstance(value, GpuTensor) if device is None else _is_gpu(device)
        is_there = to_gpu and isinstance(value, GpuTensor) and dtype in (None, value.dtype)
        if is_there and not kwargs.get("copy"):
            return value
        return _moved(value, device, dtype, kwargs=kwargs)

    @staticmethod
    def _item(func: Any, args: Any) -> Any:
        gpu, (target, index, *rest) = _now(), args
        tensors = [leaf for leaf in tree_leaves(index) if isinstance(leaf, Tensor)]
        _index(gpu, (target, tensors))
        gpu.kernels += bool(tensors or rest)
        if rest:
            _require_one_device(rest, "setitem")
            target.inner[tree_map(unwrap, index)] = unwrap(rest[0])
            return None
        return wrap(target.inner[tree_map(unwrap, index)])
