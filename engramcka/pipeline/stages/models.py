"""A model of the config, loaded, and the samples placed in its tokens. Knows no stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engramcka.config import Config, ImportedModel, LoadedModel, PythonModel
from engramcka.distributed import ALONE, World
from engramcka.errors import StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.members import Member, last_member
from engramcka.pipeline.pieces import Ranks
from engramcka.pipeline.stages.train import retraining_damaged
from engramcka.pipeline.units import Unit
from engramcka.stores import layout, manifest
from engramcka.stores.sealed import require_nothing_else

if TYPE_CHECKING:
    from engramcka.data import Passages

_LOAD_KEYS = (
    "path",
    "revision",
    "dtype",
    "trust_remote_code",
    "parallel",
    "attn_implementation",
    "quantization",
)


@dataclass(frozen=True)
class OpenModel:
    """A model in eval mode on the run's device."""

    model: Any
    tokenizer: Any
    where: dict[str, Any]  # JSON: the arguments that it was loaded with
    as_one: World = ALONE  # the ranks that hold it as one, and run all passes together

    @property
    def pad_id(self) -> int:
        """Token id to pad with; masked, so any will do."""
        return int(self.tokenizer.pad_token_id or 0)


def ranks_for(config: Config, name: str, ranks: Ranks) -> Ranks:
    """Who works with a model: those given, or all as one where the config says so."""
    return "as one" if _is_shared_out(config, name) else ranks


@contextmanager
def open_model(
    context: Context, name: str, unit: Unit | None, member: Member | None = None
) -> Iterator[OpenModel]:
    """Load a model of the config, for use in the `with` block alone.

    With parallel = "tp" all ranks hold it as one, and all of them must go through the block.

    Args:
        context: the run.
        name: of the model.
        unit: its training, for one of source "train".
        member: which of its checkpoints; the last if left out.

    Raises:
        ConfigError: it cannot be shared out over these ranks.
        StoreError: it is not trained yet, it is damaged, or there is nothing to load: imported
            activations.
    """
    if not _is_shared_out(context.config, name):
        yield _load(context, name, unit, member)
        return
    world = context.world
    _require_gpus(context)
    with world.as_one(context.device):
        opened = _load(context, name, unit, member)
        yield replace(opened, where={**opened.where, "ranks": world.size}, as_one=world)


def require_own_gpus(context: Context, member: Member) -> None:
    """Refuse ranks that each spread a model over GPUs of the others; all of them call this.

    Raises:
        ConfigError: two ranks see the same GPU.
    """
    table = member.table
    is_spread = isinstance(table, LoadedModel) and table.parallel == "auto"
    if is_spread and context.device == "cuda" and context.world.size > 1:
        import torch

        seen = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        context.world.require_own_gpus([str(gpu.uuid) for gpu in seen])


def _is_shared_out(config: Config, name: str) -> bool:
    table = config.models[name]
    return isinstance(table, LoadedModel) and table.parallel == "tp"


def _require_gpus(context: Context) -> None:
    """transformers shares a model out over GPUs wherever there are some."""
    import torch

    if context.device == "cpu" and torch.cuda.is_available():
        raise context.config.error(
            ("run", "device"),
            "found 'cpu', and parallel = 'tp' takes the GPUs of this machine",
            "allowed: 'auto' or 'cuda'",
        )


def _load(context: Context, name: str, unit: Unit | None, member: Member | None) -> OpenModel:
    from engramcka.models import load_model

    member = member or last_member(context.config, name)
    table = member.table
    if isinstance(table, ImportedModel):
        raise StoreError(f"model {name}: source = 'activations' has no weights to load")
    if isinstance(table, PythonModel):
        from engramcka.models.loading import call_function

        where: dict[str, Any] = {"function": table.function, "path": table.path}
        model, tokenizer = call_function(table.function, table.path, context.device)
        return OpenModel(model, tokenizer, where)
    if isinstance(table, LoadedModel):
        where = {key: getattr(table, key) for key in _LOAD_KEYS}
    else:
        assert unit is not None
        trained = context.run / layout.CHECKPOINTS / unit.name
        folder = trained / member.folder
        if not folder.is_dir():
            raise StoreError(f"{folder}: model {name} is not trained yet; run stage train first")
        with retraining_damaged(trained):
            manifest.require_whole(trained, unit.name)
        require_nothing_else(trained)
        where = {"path": str(folder), "dtype": "float32"}
    model, tokenizer = load_model(**where, device=context.device)
    return OpenModel(model, tokenizer, where)


def placed(context: Context, tokenizer: Any) -> Passages:
    """The run's samples in the tokens of one model."""
    from engramcka.data import place_samples

    data = context.config.data
    with context.pointing_at_keys():
        return place_samples(
            tokenizer,
            context.corpus,
            context.samples,
            data.max_length,
            positions=data.positions,
            count=data.samples,
            seed=context.config.run.seed,
            per_document=data.per_document,
            skip_first=data.skip_first,
        )
