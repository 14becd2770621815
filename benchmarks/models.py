"""What an Engram module costs: forward and backward of a backbone with it and without.

    python benchmarks/models.py [--preset moe-100m] [--base FOLDER_OR_GGUF] [--sequences 4]
                                [--rounds 7] [--threads 1] [--steps 0]

Both models live in one process and take turns; the share is the median over rounds of the ratio
within a round, so that a busy machine slows both alike. Since that is a small difference of two
large numbers, the modules are also timed alone, as a share of the backbone. On a CPU the time is
the process's own (one thread by default), which others on the machine do not add to. The backbone
is the same in all; the modules are its Engram partner's (two at 100m, rho 74 %). On a CPU freed
memory is kept between passes, as it is in our training. On a GPU the table is tried in host memory
too. Limits: 10 % on a CPU, 5 % on a GPU.

With --base, a checkpoint of your own is the backbone, and all of it is trained beside one module
before its third block, of the size that the template smollm2 has. The passes are counted without
the optimiser, whose work on the module's parameters is the module's own.

With --steps, whole training steps as well: the backbone under transformers' Trainer as it comes,
the backbone and the Engram model under ours (readings, expert counts, states and all), in turns.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from engramcka.config import EngramConfig, TrainingTable
from engramcka.models.build import prepare_base
from engramcka.models.engram import EngramForCausalLM, EngramModelConfig
from engramcka.models.loading import load_model
from engramcka.models.presets import find_preset, preset_config, preset_engram
from engramcka.training.loop import StepCallbacks, fit, freed_memory_kept
from engramcka.training.record import Progress
from engramcka.training.state import WorkFolder


def build(preset: str, engram: EngramConfig | None, device: str) -> PreTrainedModel:
    """The preset at its own vocabulary; token ids stand for themselves (hashing costs the same)."""
    vocab_size = find_preset(preset).vocab_size
    config = preset_config(preset, vocab_size)
    torch.manual_seed(0)
    if engram is None:
        return AutoModelForCausalLM.from_config(config).to(device).train()
    grafted = EngramModelConfig(
        text_config=config, engram=engram.model_dump(mode="json"), n_canonical_ids=vocab_size
    )
    model = EngramForCausalLM(grafted)
    model.hashing.token_map.copy_(torch.arange(vocab_size))
    return model.to(device).train()


GRAFTED = EngramConfig(layers=(3,), table_size=8192, d_mem=256, heads=4, orders=(2, 3))
"""The module of the template smollm2."""


def build_on(base: str, engram: EngramConfig | None, device: str) -> PreTrainedModel:
    """A checkpoint as it is, or with a memory grafted on; all of it learns."""
    model, tokenizer = load_model(base, dtype="float32")
    prepared = prepare_base(
        model, tokenizer, engram, 0, trained="all", start="identity", lora_rank=8
    )
    return prepared.to(device)


def step(model: PreTrainedModel, ids: torch.Tensor) -> Callable[[], None]:
    """One forward and backward pass, in bfloat16 autocast on a GPU."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        if ids.is_cuda:
            torch.cuda.synchronize()

    return run


def modules_alone(model: EngramForCausalLM, ids: torch.Tensor) -> Callable[[], None]:
    """Hashing, and forward and backward of every module on its own, on a made-up stream."""
    streams = model.config.backbone("hc_mult", 1)
    shape = (*ids.shape, model.config.hidden_size)
    shape = shape if streams == 1 else (*ids.shape, streams, model.config.hidden_size)
    hidden = torch.randn(shape, device=ids.device, requires_grad=True)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        rows = dict(
            zip(model.engrams, model.hashing(model.hashing.canonical(ids, None, None)), strict=True)
        )
        for name in rows:
            model.module(name).prefetch(rows[name])
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
            added = [hidden + model.module(name)(hidden, rows[name])[0] for name in rows]
        torch.autograd.backward(added, [torch.ones_like(y) for y in added])
        if ids.is_cuda:
            torch.cuda.synchronize()

    return run


def seconds(run: Callable[[], None], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


class Moments(TrainerCallback):
    """When each step ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.ends = clock, list[float]()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.note()

    def note(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(self.clock())

    def seconds(self) -> list[float]:
        """Of each step but the first."""
        return [after - before for before, after in itertools.pairwise(self.ends)]


def plain_steps(model: PreTrainedModel, ids: torch.Tensor, steps: int, moments: Moments) -> None:
    """Training under Trainer with its own AdamW (a fused one), no logs and no saves."""
    sequences = ids.cpu().repeat(steps, 1)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=len(ids),
        bf16=ids.is_cuda,
        use_cpu=not ids.is_cuda,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=ids.is_cuda,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=TensorDataset(sequences),
        data_collator=lambda rows: dict.fromkeys(
            ("input_ids", "labels"), torch.stack([row[0] for row in rows])
        ),
        callbacks=[moments],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def our_steps(model: PreTrainedModel, ids: torch.Tensor, steps: int, moments: Moments) -> None:
    """Training as the train stage does it."""
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingTable(steps=steps, batch_size=len(ids), sequence_length=ids.shape[1])
        fit(
            model, ids.cpu().repeat(steps, 1).numpy(), options, seed=0, device=ids.device.type,
            work=WorkFolder(Path(folder) / "trained", {}), progress=Progress(),
            callbacks=StepCallbacks((), lambda model, step: 0.0, moments.note),
        )  # fmt: skip


def compare_training(
    models: dict[str, PreTrainedModel], ids: torch.Tensor, steps: int, rounds: int
) -> None:
    """Print tokens a second, from the fastest and the median step, and the share of plain's."""
    clock = time.perf_counter if ids.is_cuda else time.process_time
    loops = {"backbone, plain Trainer": (plain_steps, "backbone")}
    loops |= {f"{name}, ours": (our_steps, name) for name in models}
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, (loop, model) in loops.items():
            moments = Moments(clock)
            loop(models[model], ids, steps, moments)
            found[name] += moments.seconds()
    plain = min(found["backbone, plain Trainer"])
    for name, times in found.items():
        rates = (ids.numel() / of for of in (min(times), statistics.median(times)))
        best, middle = rates
        share = plain / min(times)
        print(f"{name:32} {best:9.0f} tokens/s  median {middle:9.0f}  {share:7.1%} of plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="moe-100m")
    parser.add_argument("--base", help="a checkpoint's folder or .gguf file, in place of a preset")
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="training steps a round, 2 or more")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    partner = GRAFTED if options.base else preset_engram(options.preset.replace("moe", "engram"))
    assert partner is not None
    variants: dict[str, EngramConfig | None] = {"backbone": None, "engram": partner}
    if device == "cuda":
        variants["engram, host table"] = partner.model_copy(update={"host_memory": True})
    size = (options.sequences, options.tokens)
    models = {
        name: build_on(options.base, e, device)
        if options.base
        else build(options.preset, e, device)
        for name, e in variants.items()
    }
    ids = torch.randint(0, models["backbone"].config.vocab_size, size, device=device)
    runs = {name: step(model, ids) for name, model in models.items()}
    for name, model in models.items():
        if isinstance(model, EngramForCausalLM):
            runs[f"{name}: modules alone"] = modules_alone(model, ids)
    times: dict[str, list[float]] = {name: [] for name in runs}
    clock = time.perf_counter if device == "cuda" else time.process_time
    with freed_memory_kept():
        for run in runs.values():
            run()
        for _ in range(options.rounds):
            for name, run in runs.items():
                times[name].append(seconds(run, clock))
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    what = options.base or options.preset
    print(f"{what}, {size[0]} x {size[1]} tokens, {where}, {options.threads} threads")
    for name, found in times.items():
        ratio = statistics.median(t / b for t, b in zip(found, times["backbone"], strict=True))
        rate = size[0] * size[1] / statistics.median(found)
        share = ratio if "alone" in name else ratio - 1
        print(f"{name:32} {min(found):8.3f} s  {rate:9.0f} tokens/s  {share:+7.1%}")
    if options.steps:
        compare_training(models, ids, options.steps, options.rounds)


if __name__ == "__main__":
    main()
