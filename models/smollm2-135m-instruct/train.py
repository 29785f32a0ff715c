#!/usr/bin/env python3
"""Trains the drafters of this folder from the model's own texts (self-distillation).

    pip install torch numpy gguf safetensors tokenizers
    python3 train.py SmolLM2-135M-Instruct.Q4_1.gguf --out OUT                    # a GPU, some hours
    python3 train.py SmolLM2-135M-Instruct.Q4_1.gguf --out OUT --texts 4 --steps 2 --length 64   # whether it runs

It writes mtp.safetensors, medusa.safetensors, early_exit.safetensors, token_rank.json and stats.json, in the formats that
README.md describes. Three parts: the model writes texts; drafters learn its distribution at every place of
them; held-out greedy texts tell how much they would keep, over places and over steps.
"""

import argparse
import json
import math
import pathlib

import gguf
import numpy
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.nn import functional as F

HEADS, CHAIN, EXITS = 4, 4, (6, 12)
TURN_START, TURN_END = 1, 2  # <|im_start|>, <|im_end|>


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps).to(x.dtype) * weight


def rotate(x, positions, base):
    """Neighbouring pairs of x, [row, position, head, dim], turned as at their positions, [position]."""
    frequency = base ** (-torch.arange(0, x.shape[-1], 2, device=x.device) / x.shape[-1])
    angle = (positions[:, None].float() * frequency)[None, :, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class Model:
    """The model that is drafted for: its weights do not change."""

    def __init__(self, path, device):
        reader = gguf.GGUFReader(path)
        field = lambda name: reader.get_field(name).contents()
        self.layers = field("llama.block_count")
        self.width = field("llama.embedding_length")
        self.heads = field("llama.attention.head_count")
        self.kv_heads = field("llama.attention.head_count_kv")
        self.eps = field("llama.attention.layer_norm_rms_epsilon")
        self.base = field("llama.rope.freq_base")
        self.head_dim = self.width // self.heads
        self.device = device
        self.weights = {
            t.name: torch.tensor(numpy.array(gguf.quants.dequantize(t.data, t.tensor_type))).to(device)
            for t in reader.tensors
        }
        self.embedding = self.weights["token_embd.weight"]
        self.output_norm = self.weights["output_norm.weight"]
        vocabulary = {token: i for i, token in enumerate(field("tokenizer.ggml.tokens"))}
        merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
        self.tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def layer(self, number):
        prefix = f"blk.{number}."
        return lambda name: self.weights[f"{prefix}{name}.weight"]

    def attend(self, weight, x, positions, past=None):
        """Adds attention to x, [row, position, width]; past holds keys and values, which grow."""
        rows, count, _ = x.shape
        normed = rms_norm(x, weight("attn_norm"), self.eps)
        split = lambda name, heads: (normed @ weight(name).T).view(rows, count, heads, self.head_dim)
        query = rotate(split("attn_q", self.heads), positions, self.base)
        key = rotate(split("attn_k", self.kv_heads), positions, self.base)
        value = split("attn_v", self.kv_heads)
        if past is not None:
            past.append((key, value))
            key, value = (torch.cat(parts, 1) for parts in zip(*past))
            past[:] = [(key, value)]
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=count > 1, enable_gqa=True
        )
        return x + mixed.transpose(1, 2).reshape(rows, count, -1) @ weight("attn_output").T

    def feed_forward(self, weight, x):
        normed = rms_norm(x, weight("ffn_norm"), self.eps)
        return x + (F.silu(normed @ weight("ffn_gate").T) * (normed @ weight("ffn_up").T)) @ weight("ffn_down").T

    def features(self, tokens, taps=()):
        """Residual stream after the last layer, and after those in taps."""
        x, kept = self.embedding[tokens], {}
        positions = torch.arange(tokens.shape[1], device=self.device)
        for number in range(self.layers):
            weight = self.layer(number)
            x = self.feed_forward(weight, self.attend(weight, x, positions))
            if number + 1 in taps:
                kept[number + 1] = x
        return x, kept

    def logits(self, features):
        return rms_norm(features, self.output_norm, self.eps) @ self.embedding.T


@torch.no_grad()
def write_texts(model, prompts, temperatures, length):
    """Continues token lists to `length` tokens, all at once; a temperature of 0 is greedy. Returns tokens and the mask of
    those that the model wrote. What follows the end of a turn is neither."""
    count = len(prompts)
    tokens = torch.zeros(count, length, dtype=torch.long, device=model.device)
    written = torch.zeros(count, length, dtype=torch.bool, device=model.device)
    done = torch.zeros(count, dtype=torch.bool, device=model.device)
    temperature = torch.tensor(temperatures, device=model.device)[:, None]
    pasts = [[] for _ in range(model.layers)]
    given = torch.full((count, length), -1, device=model.device)
    for row, prompt in enumerate(prompts):
        prompt = prompt[: length // 2]
        given[row, : len(prompt)] = torch.tensor(prompt)
    tokens[:, 0] = given[:, 0]
    for position in range(length - 1):
        x = model.embedding[tokens[:, position : position + 1]]
        at = torch.tensor([position], device=model.device)
        for number in range(model.layers):
            weight = model.layer(number)
            x = model.feed_forward(weight, model.attend(weight, x, at, pasts[number]))
        best, ids = model.logits(x[:, 0]).topk(50)
        sampled = ids.gather(1, torch.multinomial((best / temperature.clamp(min=1e-3)).softmax(-1), 1))
        chosen = torch.where(temperature == 0, ids[:, :1], sampled)[:, 0]
        forced = given[:, position + 1]
        own = (forced < 0) & ~done
        tokens[:, position + 1] = torch.where(forced >= 0, forced, torch.where(done, 0, chosen))
        written[:, position + 1] = own
        done |= own & ((chosen == TURN_END) | (chosen == 0))
    return tokens, written


def user_turns(model, system, count, length):
    """Questions that the model makes up: it is left to write the user's turn (Xu et al. 2024, Magpie)."""
    opening = system + [TURN_START] + model.encode("user\n")
    tokens, written = write_texts(model, [opening] * count, [0.95] * count, length)
    answer = model.encode("\n") + [TURN_START] + model.encode("assistant\n")
    turns = []
    for row, mask in zip(tokens.tolist(), written.tolist()):
        words = [token for token, own in zip(row, mask) if own and token not in (TURN_END, 0)]
        turns.append(opening + words + [TURN_END] + answer)
    return turns


class Residual(nn.Module):
    """x + SiLU(x W^T + b), which begins as x."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return x + F.silu(self.linear(x))


class Mtp(nn.Module):
    """One layer that begins as the model's last, behind a projection of a feature and an embedding."""

    NAMES = "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_up ffn_down".split()

    def __init__(self, model):
        super().__init__()
        self.model = [model]  # not a parameter
        copy = lambda weight: nn.Parameter(weight.clone())
        last = model.layer(model.layers - 1)
        self.layer = nn.ParameterDict({name: copy(last(name)) for name in self.NAMES})
        self.hidden_norm = copy(torch.ones_like(model.output_norm))
        self.embed_norm = copy(torch.ones_like(model.output_norm))
        self.output_norm = copy(model.output_norm)
        both = torch.eye(model.width, device=model.device).repeat(1, 2)
        self.proj = nn.Parameter(0.7 * both + 0.01 * torch.randn_like(both))

    def step(self, hidden, tokens, drafted, past):
        """Step `drafted` of a chain at every position at once: hidden is [row, position, width], tokens the one after each.
        past has keys and values of the steps before; step 0's are those of committed positions."""
        model = self.model[0]
        weight = lambda name: self.layer[name]
        rows, count, _ = hidden.shape
        embedded = model.embedding[tokens]
        norm = lambda x, weight: rms_norm(x, weight, model.eps)
        x = torch.cat([norm(hidden, self.hidden_norm), norm(embedded, self.embed_norm)], -1) @ self.proj.T
        normed = norm(x, weight("attn_norm"))
        positions = torch.arange(count, device=x.device) + 1 + drafted
        split = lambda name, heads: (normed @ weight(name).T).view(rows, count, heads, model.head_dim)
        group = model.heads // model.kv_heads
        turn = lambda x: rotate(x, positions, model.base).transpose(1, 2)
        query = turn(split("attn_q", model.heads))
        key = turn(split("attn_k", model.kv_heads)).repeat_interleave(group, 1)
        value = split("attn_v", model.kv_heads).transpose(1, 2).repeat_interleave(group, 1)
        past.append((key, value))
        # Committed positions up to its own, and of the drafted steps those of its own chain.
        scale = model.head_dim**-0.5
        scores = query @ past[0][0].transpose(-1, -2) * scale
        scores = scores.masked_fill(torch.ones(count, count, device=x.device, dtype=torch.bool).triu(1), -math.inf)
        own = [(query * key).sum(-1, keepdim=True) * scale for key, _ in past[1:]]
        share = torch.cat([scores, *own], -1).softmax(-1)
        mixed = share[..., :count] @ past[0][1]
        for i, (_, value) in enumerate(past[1:]):
            mixed = mixed + share[..., count + i : count + i + 1] * value
        x = x + mixed.transpose(1, 2).reshape(rows, count, -1) @ weight("attn_output").T
        return model.feed_forward(weight, x)


class Drafters(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = [model]
        self.medusa = nn.ModuleList(Residual(model.width) for _ in range(HEADS))
        self.exits = nn.ModuleList(Residual(model.width) for _ in EXITS)
        self.exit_norms = nn.ParameterList(nn.Parameter(model.output_norm.clone()) for _ in EXITS)
        self.mtp = Mtp(model)

    def guesses(self, tokens, features, taps):
        """(name, how many tokens further than the model's own guess, what goes into the head) of every drafter."""
        model = self.model[0]
        normed = rms_norm(features, model.output_norm, model.eps)
        for i, head in enumerate(self.medusa):
            yield f"medusa{i + 1}", i + 1, head(normed)
        for i, layer in enumerate(EXITS):
            yield f"exit{layer}", 0, self.exits[i](rms_norm(taps[layer], self.exit_norms[i], model.eps))
        hidden, past = features, []
        for i in range(CHAIN):
            following = F.pad(tokens[:, 1 + i :], (0, 1 + i))
            hidden = self.mtp.step(hidden, following, i, past)
            yield f"mtp{i + 1}", i + 1, rms_norm(hidden, self.mtp.output_norm, model.eps)


def train(model, drafters, texts, steps, batch, rate):
    parameters = [p for p in drafters.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 100) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))
    )
    tokens, written = texts
    for step in range(steps):
        chosen = torch.randint(len(tokens), (batch,))
        own, mask = tokens[chosen].to(model.device), written[chosen].to(model.device)
        with torch.no_grad():
            features, taps = model.features(own, EXITS)
            wanted = model.logits(features).softmax(-1)
        loss = 0
        for name, ahead, x in drafters.guesses(own, features, taps):
            # At position t the distribution at t + ahead is wanted, where the token after that was the model's.
            count = own.shape[1] - ahead - 1
            there = mask[:, ahead + 1 :]
            guess = (x[:, :count][there] @ model.embedding.T).log_softmax(-1)
            goal = wanted[:, ahead : ahead + count][there]
            # Further tokens count less, as they are reached less often.
            loss = loss - (goal * guess).sum(-1).mean() * 0.85 ** max(0, ahead - 1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step + 1 == steps:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def evaluate(model, drafters, texts):
    """Hit rates of every head, and what chains keep: as a mean over places and over the steps of a speculative loop."""
    tokens, written = (part.to(model.device) for part in texts)
    features, taps = model.features(tokens, EXITS)
    greedy = model.logits(features).argmax(-1)
    hits, best = {}, {}
    for name, ahead, x in drafters.guesses(tokens, features, taps):
        count = tokens.shape[1] - ahead - 1
        top = (x[:, :count] @ model.embedding.T).topk(10).indices
        hit = top == greedy[:, ahead : ahead + count, None]
        hits[name] = hit[written[:, ahead + 1 :]].float().cumsum(-1).clamp(max=1).mean(0).tolist()
        best[name] = top[..., 0]
    chains = {}
    for family, length in (("mtp", CHAIN), ("medusa", HEADS)):
        places, steps = [], []
        for row, (text, own) in enumerate(zip(tokens.tolist(), written.tolist())):
            if True not in own:
                continue
            first, end = own.index(True), len(own) - own[::-1].index(True)
            kept = {}
            for place in range(first - 1, end - 1):
                count = 0
                while count < length and place + 2 + count < end:
                    if best[f"{family}{count + 1}"][row, place] != text[place + 2 + count]:
                        break
                    count += 1
                kept[place] = count
            places += [count for place, count in kept.items() if place + 1 + length < end]
            place = first - 1
            while place + 2 < end:
                steps.append(kept[place])
                place += kept[place] + 1
        mean = lambda counts: sum(counts) / max(1, len(counts))
        chains[family] = {"kept_by_place": mean(places), "kept_by_step": mean(steps)}
    return {"topk_acc": hits, "chains": chains}


def save(drafters, out):
    half = lambda tensor: tensor.detach().to(torch.float16).cpu().contiguous()
    linear = lambda name, block: {f"{name}.linear.weight": block.linear.weight, f"{name}.linear.bias": block.linear.bias}
    medusa, exits = {}, {}
    for i, head in enumerate(drafters.medusa):
        medusa |= linear(f"medusa.{i}", head)
    for layer, block, norm in zip(EXITS, drafters.exits, drafters.exit_norms):
        exits |= linear(f"exit.{layer}", block) | {f"exit.{layer}.norm.weight": norm}
    mtp = dict(drafters.mtp.layer.items())
    for name in ("hidden_norm", "embed_norm", "proj", "output_norm"):
        mtp[name] = getattr(drafters.mtp, name)
    mtp = {f"mtp.{name}.weight": weight for name, weight in mtp.items()}
    for name, tensors in (("mtp", mtp), ("medusa", medusa), ("early_exit", exits)):
        save_file({key: half(value) for key, value in tensors.items()}, out / f"{name}.safetensors")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", help="the GGUF file")
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--texts", type=int, default=45_000, help="texts that the model writes")
    arguments.add_argument("--held-out", type=int, default=64, help="greedy texts to measure on")
    arguments.add_argument("--length", type=int, default=384, help="tokens of a text, its prompt included")
    arguments.add_argument("--together", type=int, default=1024, help="texts written at once")
    arguments.add_argument("--steps", type=int, default=4900)
    arguments.add_argument("--batch", type=int, default=48)
    arguments.add_argument("--rate", type=float, default=6e-4)
    arguments = arguments.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    model = Model(arguments.model, "cuda" if torch.cuda.is_available() else "cpu")
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    system = [TURN_START] + model.encode(f"system\n{system}") + [TURN_END] + model.encode("\n")

    def texts(count, greedy):
        parts = []
        for first in range(0, count, arguments.together):
            size = min(arguments.together, count - first)
            # Half of what is learnt from is greedy, half between temperatures of 0.4 and 0.9.
            warm = 0.4 + 0.5 * torch.rand(size)
            warm = torch.where(torch.rand(size) < (1.0 if greedy else 0.5), torch.zeros(size), warm)
            turns = user_turns(model, system, size, arguments.length // 2)
            parts.append([part.cpu() for part in write_texts(model, turns, warm.tolist(), arguments.length)])
            print(f"{first + size} of {count} texts", flush=True)
        return [torch.cat(part) for part in zip(*parts)]

    learnt, held_out = texts(arguments.texts, False), texts(min(arguments.held_out, arguments.texts), True)
    counts = torch.bincount(learnt[0][learnt[1]], minlength=len(model.embedding))
    rank = counts.argsort(descending=True)[:32_768].tolist()
    (arguments.out / "token_rank.json").write_text(json.dumps(rank))
    drafters = Drafters(model).to(model.device)
    train(model, drafters, learnt, arguments.steps, arguments.batch, arguments.rate)
    stats = evaluate(model, drafters, held_out)
    (arguments.out / "stats.json").write_text(json.dumps(stats))
    print(json.dumps(stats["chains"], indent=1))
    save(drafters, arguments.out)


if __name__ == "__main__":
    main()
