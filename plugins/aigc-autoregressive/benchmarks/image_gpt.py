"""Tokens a second of `ImageGPT` and of a plain GPT of as many weights, in training and in sampling.

    python benchmarks/image_gpt.py [--width 384] [--depth 6] [--heads 6] [--codes 1024] [--side 16] [--batch 8]
        [--rounds 9] [--threads 1] [--transformers]

The plain GPT has learned positions, layer norms and MLPs with GELU, and one matrix for embeddings and logits.
`ImageGPT` has two and no biases; its MLPs are as wide as makes the numbers of weights equal, to the next 32. The plain
GPT's sampling keeps keys and values in the simplest way, by joining them, and draws with `torch.multinomial`.

All models take turns, step by step. Time is processor time of the whole process; ratios are medians over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.memory import keep_memory
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.transformers import ImageGPT, sample_image_gpt

KINDS: dict[str, dict[str, Any]] = {
    "rope and swiglu": {},
    "rope, swiglu and qk_norm": {"qk_norm": True},
    "learned and gelu": {"position": "learned", "mlp": "gelu"},
}
Past = tuple[Tensor, Tensor]


class PlainBlock(nn.Module):
    """The textbook's block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Return features, and keys and values of all tokens."""
        batch, length, width = x.shape
        parts = self.qkv(self.norm_1(x)).split(width, dim=2)
        q, k, v = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norm_2(x)))), (k, v)


class PlainGPT(nn.Module):
    """The textbook's language model."""

    def __init__(self, codes: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(codes + 1, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, pasts: list[Past | None], first: int = 0) -> tuple[Tensor, list[Past | None]]:
        """Return logits of the next tokens, and keys and values."""
        x = self.tokens(tokens) + self.positions.weight[first : first + tokens.shape[1]]
        new: list[Past | None] = []
        for block, past in zip(self.blocks, pasts, strict=True):
            x, kept = block(x, past)
            new.append(kept)
        return self.norm(x) @ self.tokens.weight[:-1].T, new

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        start = torch.full_like(tokens[:, :1], self.tokens.num_embeddings - 1)
        logits, _ = self(torch.cat([start, tokens[:, :-1]], dim=1), [None] * len(self.blocks))
        return functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    @torch.no_grad()
    def sample(self, count: int, length: int) -> Tensor:
        """Return tokens."""
        last = torch.full((count, 1), self.tokens.num_embeddings - 1)
        pasts: list[Past | None] = [None] * len(self.blocks)
        found = []
        for place in range(length):
            logits, pasts = self(last, pasts, place)
            last = torch.multinomial(logits[:, -1].softmax(-1), 1)
            found.append(last)
        return torch.cat(found, dim=1)


def hugging_face(plain: PlainGPT, length: int, heads: int) -> Callable[[int], object]:
    """Return `generate` of a GPT-2 of the shape of a plain GPT, for a number of samples."""
    from transformers import GPT2Config, GPT2LMHeadModel

    codes, width = plain.tokens.weight.shape
    config = GPT2Config(
        vocab_size=codes,
        n_positions=length + 1,
        n_embd=width,
        n_layer=len(plain.blocks),
        n_head=heads,
        bos_token_id=codes - 1,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).eval()
    drawn = {"do_sample": True, "top_k": 0, "max_new_tokens": length, "min_new_tokens": length, "pad_token_id": 0}

    def sample(count: int) -> object:
        start = torch.full((count, 1), codes - 1)
        return model.generate(
            start, attention_mask=torch.ones_like(start), cache_implementation="static", disable_compile=True, **drawn
        )

    return sample


def equal_size(num_weights: int, codes: int, size: tuple[int, int], **options: Any) -> ImageGPT:
    """Return an `ImageGPT` whose MLPs are as wide as brings it nearest to a number of weights."""
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in ImageGPT(codes, size, mlp_width=hidden, **options).parameters())
            for hidden in (32, 64)
        ]
    steps = round((num_weights - counts[0]) / (counts[1] - counts[0]))
    return ImageGPT(codes, size, mlp_width=32 * (1 + steps), **options)


def training_step(model: nn.Module, loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], None]:
    """Return a step of AdamW on a batch of tokens."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)

    def step(tokens: Tensor) -> None:
        loss(tokens).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(run: Callable[[], object]) -> float:
    """Return processor seconds."""
    began = time.process_time()
    run()
    return time.process_time() - began


def report(title: str, runs: dict[str, Callable[[], object]], tokens: int, rounds: int) -> None:
    """Print tokens a second of all, and their ratios to the first one, measured in turns."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(seconds(run))
    plain = found[next(iter(runs))]
    print(f"| {title} | tokens/s | against the plain GPT |")
    print("|---|---|---|")
    for name, times in found.items():
        ratio = statistics.median(p / t for p, t in zip(plain, times, strict=True))
        print(f"| {name} | {tokens / statistics.median(times):.0f} | {ratio:.2f} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    for name, default in [("width", 384), ("depth", 6), ("heads", 6), ("codes", 1024), ("side", 16), ("batch", 8)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--transformers", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line())
    keep_memory()  # as `aigc fit` does
    torch.manual_seed(0)
    length, size = options.side**2, (options.side, options.side)
    shape = {"width": options.width, "depth": options.depth, "num_heads": options.heads}
    plain = PlainGPT(options.codes, length, options.width, options.depth, options.heads)
    num_weights = sum(parameter.numel() for parameter in plain.parameters())
    ours = {
        f"image_gpt, {title}": equal_size(num_weights, options.codes, size, **shape, **more)
        for title, more in KINDS.items()
    }
    for name, model in {"plain GPT": plain, **ours}.items():
        print(f"{name}: {sum(parameter.numel() for parameter in model.parameters()):,} weights")
    tokens = torch.randint(options.codes, (options.batch, length))
    steps = {"plain GPT": training_step(plain, plain.loss)}
    draws: dict[str, Callable[[], object]] = {"plain GPT": lambda: plain.sample(options.batch, length)}
    for name, model in ours.items():
        steps[name] = training_step(model, lambda tokens, model=model: -model.log_prob(tokens).mean())
        draws[name] = lambda model=model: sample_image_gpt(model, range(options.batch))
    if options.transformers:
        generate = hugging_face(plain, length, options.heads)
        draws["transformers, generate"] = lambda: generate(options.batch)
    training = {name: (lambda step=step: step(tokens)) for name, step in steps.items()}
    report("training", training, tokens.numel(), options.rounds)
    report("sampling", draws, tokens.numel(), max(1, options.rounds // 3))


if __name__ == "__main__":
    main()
