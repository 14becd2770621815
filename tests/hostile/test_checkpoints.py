"""Checkpoints from strangers: no code of theirs runs, nothing outside of their folder is read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import here
from families import tiny
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engramcka.errors import EngramckaError
from engramcka.models import load_model

CANARY = "executed"
Change = Callable[[Path], Any]


class Payload:
    """Makes a file when it is unpickled, or when it is imported."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {CANARY}",)


CODE = f"open({CANARY!r}, 'w').close()\n"


def make_checkpoint(folder: Path) -> Path:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<pad>", "<s>", "</s>"])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.add_tokens(alphabet)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    tiny("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture
def checkpoint(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return Path(shutil.copytree(honest, tmp_path / "model"))


def document(name: str, **changes: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**found, **changes}))

    return change


def coded(name: str, **auto_map: str) -> Change:
    """A document that names code, which lies beside it."""

    def change(folder: Path) -> None:
        (folder / "code.py").write_text(CODE)
        (folder / "__init__.py").write_text(CODE)
        document(name, auto_map=auto_map)(folder)

    return change


def all_of(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def pickled(name: str) -> Change:
    """A pickle as PyTorch saves it, of a size that the weights could have."""
    return lambda folder: torch.save({"a": Payload(), "b": bytes(1 << 17)}, folder / name)


def raw_pickle(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes(pickle.dumps([Payload(), bytes(1 << 17)]))


def without_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def elsewhere(name: str) -> Change:
    """The weights are a file outside of the folder, as an index names it."""

    def change(folder: Path) -> None:
        os.replace(folder / "model.safetensors", folder.parent / "outside.safetensors")
        tensors = load_file(folder.parent / "outside.safetensors")
        at = name.format(outside=folder.parent)
        index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, at)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def instead(name: str, make: Change) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return change


DEEP = "[" * 100_000
CODED = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
REFUSED: dict[str, tuple[Change, str]] = {
    "a pickle for weights": (
        all_of(without_safetensors, pickled("pytorch_model.bin")), "more than tensors"),
    "an old pickle for weights": (
        all_of(without_safetensors, raw_pickle("pytorch_model.bin")), "more than tensors"),
    "code for an unknown model": (
        all_of(coded("config.json", **CODED), document("config.json", model_type="theirs")),
        "trust_remote_code"),
    "code for a tokenizer": (
        all_of(coded("tokenizer_config.json", AutoTokenizer=["code.Slow", "code.Fast"]),
               document("tokenizer_config.json", tokenizer_class="Theirs")), "trust_remote_code"),
    "weights above": (elsewhere("../outside.safetensors"), "outside of its folder"),
    "weights at an absolute place": (elsewhere("{outside}/outside.safetensors"), "outside of its"),
    "an index that is none": (
        instead("model.safetensors.index.json", lambda p: p.write_text("[]")), "no JSON object"),
    "an index of numbers": (
        document("model.safetensors.index.json", weight_map={"a": 1}), "no weight_map"),
    "an adapter of another model": (
        document("adapter_config.json", base_model_name_or_path="../other"), "an adapter beside"),
    "kernels from the hub": (
        document("config.json", _attn_implementation="evil/kernel"), "code from the hub"),
    "kernels inside": (
        document("config.json", text_config={"attn_implementation": "evil/kernel:f"}),
        "code from the hub"),
    "countless layers": (document("config.json", num_hidden_layers=10**9), "num_hidden_layers"),
    "a giant vocabulary": (document("config.json", vocab_size=10**11), "numbers, its files have"),
    "no heads": (document("config.json", num_attention_heads=0), "cannot be loaded|not a model"),
    "a config in deep lists": (
        instead("config.json", lambda p: p.write_text(DEEP)), "cannot be read"),
    "a config that is a pipe": (instead("config.json", os.mkfifo), "no config.json"),
    "weights that are a pipe": (instead("model.safetensors", os.mkfifo), "a pipe"),
    "a tokenizer that is a pipe": (instead("tokenizer.json", os.mkfifo), "a pipe"),
    "a template that is a device": (
        instead("chat_template.jinja", lambda p: p.symlink_to("/dev/zero")), "a pipe, a socket"),
    "a sparse tokenizer": (
        instead("tokenizer.json", lambda p: (p.touch(), os.truncate(p, 1 << 40))), "larger than"),
    "a tokenizer that is none": (
        instead("tokenizer.json", lambda p: p.write_text("{}")), "tokenizer cannot be loaded"),
    "a header past the end": (
        instead("model.safetensors", lambda p: p.write_bytes(b"\xff" * (1 << 17))),
        "cannot be loaded"),
}  # fmt: skip
HARMLESS: dict[str, Change] = {
    "a trainer's pickles": all_of(
        *map(pickled, ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"))
    ),
    "a pickle beside the weights": pickled("pytorch_model.bin"),
    "code for a model that transformers knows": coded("config.json", **CODED),
    "code for generation": coded("generation_config.json", AutoConfig="code.Config"),
    "a template that reaches for code": lambda folder: (folder / "chat_template.jinja").write_text(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system("
        f"'touch {CANARY}')" + " }}"
    ),
    "the name of another model": document(
        "config.json", _name_or_path="../../other", transformers_version="99.0", _commit_hash="x"
    ),
    "a custom generation loop": lambda folder: (
        (folder / "custom_generate").mkdir(),
        (folder / "custom_generate/generate.py").write_text(CODE),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_a_line(name: str, checkpoint: Path) -> None:
    change, says = REFUSED[name]
    change(checkpoint)
    with pytest.raises(EngramckaError, match=says) as error:
        load_model(str(checkpoint))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert not list(checkpoint.parent.glob(f"**/{CANARY}"))


@pytest.mark.parametrize("name", HARMLESS)
def test_it_is_loaded_and_nothing_of_it_runs(name: str, checkpoint: Path) -> None:
    before, _ = load_model(str(checkpoint))
    HARMLESS[name](checkpoint)
    model, tokenizer = load_model(str(checkpoint))
    assert tokenizer("a b", return_offsets_mapping=True)["offset_mapping"]
    same = zip(model.parameters(), before.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in same)
    assert not list(checkpoint.parent.glob(f"**/{CANARY}"))


def test_honest_pickled_weights_are_read(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    without_safetensors(checkpoint)
    torch.save(tensors, checkpoint / "pytorch_model.bin")
    model, _ = load_model(str(checkpoint))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in tensors.items())


def test_the_hubs_cache_is_read_through_its_links(checkpoint: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots/0123"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(checkpoint.iterdir()):
        os.replace(file, cache / f"blobs/{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    load_model(str(snapshot))


HF = """
[run]
dir = "run"
device = "cpu"

[data]
documents = 60
samples = 32
per_document = 5

[models.a]
source = "hf"
path = "model"

[[lens]]
models = ["a"]
"""


@pytest.mark.parametrize(
    "name", ["a pickle for weights", "code for an unknown model", "weights that are a pipe"]
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_the_commands_say_it_in_a_line(command: str, name: str, checkpoint: Path) -> None:
    change, says = REFUSED[name]
    change(checkpoint)
    Path("c.toml").write_text(HF)
    done = here(command, "c.toml", cwd=checkpoint.parent)
    assert "Traceback" not in done.stdout + done.stderr
    if command == "run":
        assert done.returncode in (1, 2)
        assert says in done.stderr.splitlines()[-1]
    assert not list(checkpoint.parent.glob(f"**/{CANARY}"))


EXTRAS: dict[str, Change] = {
    "a pickle": pickled("pytorch_model.bin"),
    "an adapter": document("adapter_config.json", base_model_name_or_path="../other"),
    "a tokenizer's code": coded("added_tokens.json", AutoTokenizer="code.Slow"),
    "other weights": lambda folder: (folder / "model-00001-of-00001.safetensors").touch(),
    "a pipe": lambda folder: os.mkfifo(folder / "chat_template.jinja"),
    "a link": lambda folder: (folder / "chat_template.jinja").symlink_to("/etc/hostname"),
}


@pytest.fixture(scope="module")
def trained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run, one curve of which is to be made again."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(finished / "run", folder / "run")
    shutil.copy(finished / "config.toml", folder)
    for result in (folder / "run/results.zarr/lens").glob("*"):
        shutil.rmtree(result) if result.is_dir() else None
    return folder


@pytest.mark.parametrize("name", EXTRAS)
def test_what_is_put_into_a_runs_checkpoint_is_not_read(name: str, trained: Path) -> None:
    # The curve with the memory off is read from the model itself, whichever of these it is.
    folders = [path.parent for path in (trained / "run/checkpoints").glob("*engram*/config.json")]
    before = {path for folder in folders for path in folder.iterdir()}
    for folder in folders:
        EXTRAS[name](folder)
    try:
        done = here("run", "config.toml", cwd=trained)
    finally:
        after = {path for folder in folders for path in folder.iterdir()}
        for path in after - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert done.returncode == 1, done.stderr
    assert "delete it" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(trained.glob(f"**/{CANARY}"))
