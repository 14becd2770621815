"""``[models.NAME]``: where a model comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from engramcka.config.baselines import undrawable
from engramcka.config.memory_tables import EngramConfig, MemoryTable
from engramcka.config.tables import Label, Place, Seed, Table

CAPTURE_KEYS = ("points", "embedding", "streams")


def _one_of_the_streams(streams: str) -> str:
    if streams not in ("mean", "sum", "concat") and not (streams.isascii() and streams.isdecimal()):
        raise ValueError(
            f"found {streams!r}; allowed: 'mean', 'sum', 'concat', or a stream's number from '0'"
        )
    return streams


class CapturedModel(Table):
    """What every model that runs here has: a label, and where its hidden states are taken."""

    label: Label = Field("", description="name on axes and in tables; the table's name if empty")
    points: str = Field(
        "block",
        min_length=1,
        description="where hidden states are taken: block (the residual stream after it), "
        "attention or mlp (what they give), engram-in or engram-out (the stream before and after "
        "an Engram module), or a pattern over module names within a block, as `self_attn.o_proj`",
    )
    embedding: bool = Field(
        False, description="store what enters the first block too, as layer 0 (layer_00)"
    )
    text: Literal["as-is", "shuffled"] = Field(
        "as-is",
        description="what it reads: passages as they are, or with their words in a random order "
        "around the sampled ones, which stay in their places",
    )
    streams: Annotated[str, AfterValidator(_one_of_the_streams)] = Field(
        "mean",
        description="of several residual streams: mean, sum, concat, or one by its number from 0",
    )

    @property
    def capture(self) -> dict[str, Any]:
        """The keys that say what is taken, as JSON."""
        return self.model_dump(mode="json", include=set(CAPTURE_KEYS))


class TrainedHere(CapturedModel):
    """What every model that this run trains has."""

    seed: Seed | None = Field(
        None,
        description="of the weights that are drawn and the order of the text; run.seed if left out",
    )


class TrainedModel(TrainedHere):
    """``[models.NAME]`` with ``source = "train"``: built from a preset and trained in this run."""

    source: Literal["train"] = Field(description="where the model comes from")
    preset: str = Field(
        "moe-tiny", description="architecture by name, from moe-tiny to moe-27b and engram-40b"
    )
    engram: EngramConfig | None = Field(
        None, description="Engram modules grafted onto it; none if left out"
    )
    weights: Literal["trained", "random"] = Field(
        "trained", description="random: as its training begins, and it is not trained"
    )


def is_pattern(name: str) -> bool:
    """Whether it is a pattern; neither a hub name nor a branch or tag can have these signs."""
    return any(sign in name for sign in "*?[")


class GraftedModel(TrainedHere):
    """``[models.NAME]`` with ``source = "graft"``: a model that exists, with memory put into it.

    Text, steps and rates are those of ``[data]`` and ``[training]``; the tokenizer is the base's.
    """

    source: Literal["graft"] = Field(description="where the model comes from")
    base: str = Field(
        min_length=1, description='name of the model with source = "hf" that it is put into'
    )
    engram: EngramConfig | None = Field(
        None,
        description="Engram modules that are grafted on; left out: the base trained on the same "
        "text, to compare with",
    )
    train: Literal["memory", "all", "lora"] = Field(
        "memory",
        description="what learns: the memory alone, all weights, or the memory and low-rank "
        "updates of the base's linear layers (LoRA, by peft)",
    )
    start: Literal["identity", "paper"] = Field(
        "identity",
        description="identity: the memory's value projection starts at zero, so that step 0 is "
        "the base bit for bit; paper: drawn, as where a model is trained from the start",
    )
    lora_rank: int = Field(16, ge=1, description="rank of the low-rank updates")

    @model_validator(mode="after")
    def _learns(self) -> GraftedModel:
        if self.engram is None and self.train == "memory":
            raise ValueError(
                "train = 'memory' without an engram table: nothing would learn; name the base "
                "itself, or train = 'all' or 'lora'"
            )
        if "lora_rank" in self.model_fields_set and self.train != "lora":
            raise ValueError(
                f"lora_rank is of train = 'lora', and train is {self.train!r}; leave it out"
            )
        return self


class LoadedModel(CapturedModel):
    """``[models.NAME]`` with ``source = "hf"``: any causal LM that transformers knows."""

    source: Literal["hf"] = Field(description="where the model comes from")
    path: Place = Field(
        min_length=1,
        description="local folder, `.gguf` file or hub name; a glob of folders, as `run/step-*`, "
        "is a series over training, sorted by the number behind `step` in their names, or "
        "the last one",
    )
    adapter: Place | None = Field(
        None,
        description="local folder or hub name of an adapter (LoRA ..) that peft applies to the "
        "model of `path`; the base that the adapter itself names is not followed",
    )
    revision: str | tuple[str, ...] | None = Field(
        None,
        description="branch, tag or commit on the hub; several, or a glob over branches and tags, "
        "as `step*`, are a series over training, sorted as folders are",
    )
    weights: Literal["trained", "random"] = Field(
        "trained",
        description="trained: those that are stored; random: drawn as before a training, from "
        "`run.seed` and the name of the model, and those stored are not read",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of weights and hidden states; auto keeps the checkpoint's"
    )
    parallel: Literal["none", "auto", "tp"] = Field(
        "none",
        description="where a model that does not fit one GPU goes: auto spreads its blocks over "
        "the GPUs that one process sees (accelerate's device map); tp shares every block out over "
        "all ranks of torchrun or srun (transformers' tensor parallelism); none: on one device",
    )
    attn_implementation: str | None = Field(
        None,
        min_length=1,
        description="attention kernel, as eager, sdpa or flash_attention_2; transformers' choice "
        "if left out",
    )
    quantization: Literal["none", "8bit", "4bit"] = Field(
        "none",
        description="quantise weights while loading, by bitsandbytes; fp8, mxfp4, "
        "compressed-tensors and GGUF checkpoints are dequantised, others that are quantised are "
        "loaded as they are",
    )
    tables: Literal["memory", "file"] = Field(
        "memory",
        description="where memory tables stay: file reads the rows that are looked up from the "
        "safetensors files of a local folder, so that a table of 100 GB needs no memory",
    )
    trust_remote_code: bool = Field(
        False, description="run Python code that comes with the checkpoint"
    )
    engram: MemoryTable | None = Field(
        None,
        description="where its memory modules are; left out for those that are known",
    )

    @property
    def is_series(self) -> bool:
        """Whether it stands for several checkpoints."""
        return bool(self.revisions) or is_pattern(self.path)

    @property
    def is_trained(self) -> bool:
        """Whether it stands for one checkpoint with the weights that are stored there."""
        return not self.is_series and self.weights == "trained"

    @property
    def revisions(self) -> tuple[str, ...]:
        """Names and globs of the revisions of a series; none of one checkpoint."""
        if isinstance(self.revision, str):
            return (self.revision,) if is_pattern(self.revision) else ()
        return self.revision or ()

    @model_validator(mode="after")
    def _one_series(self) -> LoadedModel:
        if self.revision == ():
            raise ValueError("revision = [] names no checkpoint; leave it out, or name some")
        if self.revisions and is_pattern(self.path):
            raise ValueError("a glob in path and several revisions are two series; give one")
        if self.weights == "random" and self.is_series:
            raise ValueError("weights = 'random' of a series; name one checkpoint")
        if self.weights == "random" and (why := undrawable(self)):
            raise ValueError(f"weights = 'random' with {why}: leave one of them out")
        if self.tables == "file" and self.parallel == "tp":
            raise ValueError("parallel = 'tp' shares tables out over the ranks; leave tables out")
        if self.adapter is not None and self.parallel == "tp":
            raise ValueError(
                "parallel = 'tp' does not share out an adapter; merge it into its model, or use "
                "parallel = 'auto'"
            )
        if self.quantization != "none" and self.dtype == "float32":
            raise ValueError("quantization and dtype = 'float32' do not go together; use bfloat16")
        if self.quantization != "none" and self.parallel == "tp":
            raise ValueError(
                f"parallel = 'tp' does not share out weights that bitsandbytes quantises, found "
                f"quantization = {self.quantization!r}; leave one of them out"
            )
        return self


class PythonModel(CapturedModel):
    """``[models.NAME]`` with ``source = "python"``: a model that your own code makes."""

    source: Literal["python"] = Field(description="where the model comes from")
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = Field(
        description="`module:function`, called without arguments; returns (model, tokenizer)"
    )
    path: Place = Field(".", min_length=1, description="folder that the module is imported from")
    blocks: str | None = Field(
        None,
        min_length=1,
        description="its blocks: a pattern over module names, as `encoder.layers.*` (one that "
        "begins with ^ is a regular expression); found if left out, for models of transformers",
    )
    engram: MemoryTable | None = Field(
        None,
        description="where its memory modules are; left out for those that are known",
    )


class ImportedModel(Table):
    """``[models.NAME]`` with ``source = "activations"``: hidden states that were made elsewhere."""

    source: Literal["activations"] = Field(description="where the model comes from")
    label: Label = Field("", description="name on axes and in tables; the table's name if empty")
    path: Place = Field(
        min_length=1,
        description="an .npz, .safetensors, .h5 or .zarr with an array (samples, width) a layer, "
        "or a folder or glob of .npy files, one a layer; a .zarr may stand behind a URL, as "
        "s3://bucket/moe.zarr",
    )
    layers: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="names of the arrays, first layer first; if left out, all arrays by the number "
        "at the end of their names",
    )
    first_layer: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="layer number of the first array, 0 for the embedding; if left out, the "
        "numbers in the names, or 1 where `layers` names them; names that count from 0 (`arr_0`, "
        "`h0`) need it, 0 or 1",
    )
    layer_axis: Literal[0, 1] | None = Field(
        None,
        description="where one array of three dimensions holds all layers, the axis that counts "
        "them: 0 for (layers, samples, width), 1 for (samples, layers, width); layers are numbered "
        "from 1, or from `first_layer`",
    )
    samples: Place | None = Field(
        None,
        min_length=1,
        description="JSON lines, a row each, with document, start, end and other columns; without "
        "it, rows are compared in order, but those of a store of engramcka at its own samples",
    )

    @model_validator(mode="after")
    def _stacked_or_named(self) -> ImportedModel:
        if self.layer_axis is not None and self.layers is not None:
            raise ValueError("layer_axis and layers are two ways to name the layers; give one")
        return self


ModelTable = Annotated[
    TrainedModel | GraftedModel | LoadedModel | PythonModel | ImportedModel,
    Field(discriminator="source"),
]

MODEL_TABLES: dict[str, type[Table]] = {
    get_args(table.model_fields["source"].annotation)[0]: table
    for table in get_args(get_args(ModelTable)[0])
}
"""The table of every ``source``."""
