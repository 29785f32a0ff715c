#!/usr/bin/env python3
"""Trains the drafters of this folder from the model's own texts (self-distillation).

    pip install torch numpy gguf safetensors tokenizers
    python3 train.py SmolLM2-135M-Instruct.Q4_1.gguf --out OUT                    # a GPU, about half an hour
    torchrun --nproc-per-node 2 train.py SmolLM2-135M-Instruct.Q4_1.gguf --out OUT               # two GPUs
    python3 train.py SmolLM2-135M-Instruct.Q4_1.gguf --out OUT --texts 8 --steps 2 --length 64   # whether it runs

It writes mtp.safetensors, medusa.safetensors, early_exit.safetensors, token_rank.json and stats.json, in the formats that
README.md describes. Three parts: the model writes texts, answers to tasks (training_tasks.json) and to questions that it makes
up; drafters learn its choices at every place of them; answers to the prompts in prompts.json, which are never
learnt from, tell how much they would keep, over places and over steps. --drafters goes on from those of a folder.
"""

import argparse
import json
import math
import os
import pathlib
import random
import re
import time

import gguf
import numpy
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import distributed, nn
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
        self.head = self.embedding.half() if device != "cpu" else self.embedding
        self.output_norm = self.weights["output_norm.weight"]
        vocabulary = {token: i for i, token in enumerate(field("tokenizer.ggml.tokens"))}
        merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
        self.tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self.tokenizer.decoder = decoders.ByteLevel()

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def layer(self, number):
        prefix = f"blk.{number}."
        return lambda name: self.weights[f"{prefix}{name}.weight"]

    def attend(self, weight, x, positions, cache=None):
        """Adds attention to x, [row, position, width]. With a cache (position, keys and values, [row * KV head,
        position, dim]) x is of that position alone, which is kept in it."""
        rows, count, _ = x.shape
        normed = rms_norm(x, weight("attn_norm"), self.eps)
        split = lambda name, heads: (normed @ weight(name).T).view(rows, count, heads, self.head_dim)
        query = rotate(split("attn_q", self.heads), positions, self.base).to(self.head.dtype)
        key = rotate(split("attn_k", self.kv_heads), positions, self.base).to(self.head.dtype)
        value = split("attn_v", self.kv_heads).to(self.head.dtype)
        if cache is None:
            mixed = F.scaled_dot_product_attention(
                query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True, enable_gqa=True
            ).transpose(1, 2)
        else:
            at, keys, values = cache
            keys[:, at] = key.view(-1, self.head_dim)
            values[:, at] = value.view(-1, self.head_dim)
            scores = query.view(rows * self.kv_heads, -1, self.head_dim) @ keys[:, : at + 1].transpose(1, 2)
            share = (scores.float() * self.head_dim**-0.5).softmax(-1)
            mixed = share.to(values.dtype) @ values[:, : at + 1]
        return x + mixed.reshape(rows, count, -1).to(x.dtype) @ weight("attn_output").T

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

    def normed(self, features):
        return rms_norm(features, self.output_norm, self.eps)

    def logits(self, normed):
        """[..., vocabulary] of features behind the norm of a head."""
        return (normed.to(self.head.dtype) @ self.head.T).float()


@torch.no_grad()
def write_texts(model, prompts, temperatures, length):
    """Continues token lists to `length` tokens, all at once; a temperature of 0 is greedy. Returns tokens and the mask of
    those that the model wrote. What follows the end of a turn is neither."""
    count = len(prompts)
    tokens = torch.zeros(count, length, dtype=torch.long, device=model.device)
    written = torch.zeros(count, length, dtype=torch.bool, device=model.device)
    done = torch.zeros(count, dtype=torch.bool, device=model.device)
    temperature = torch.tensor(temperatures, device=model.device)[:, None]
    shape = count * model.kv_heads, length, model.head_dim
    caches = [[torch.zeros(shape, dtype=model.head.dtype, device=model.device) for _ in "kv"] for _ in range(model.layers)]
    given = torch.full((count, length), -1)
    for row, prompt in enumerate(prompts):
        given[row, : min(len(prompt), length)] = torch.tensor(prompt[:length])
    given = given.to(model.device)
    tokens[:, 0] = given[:, 0]
    for position in range(length - 1):
        x = model.embedding[tokens[:, position : position + 1]]
        place = torch.tensor([position], device=model.device)
        for number in range(model.layers):
            weight = model.layer(number)
            x = model.feed_forward(weight, model.attend(weight, x, place, (position, *caches[number])))
        best, ids = model.logits(model.normed(x[:, 0])).topk(50)
        sampled = ids.gather(1, torch.multinomial((best / temperature.clamp(min=1e-3)).softmax(-1), 1))
        chosen = torch.where(temperature == 0, ids[:, :1], sampled)[:, 0]
        forced = given[:, position + 1]
        own = (forced < 0) & ~done
        tokens[:, position + 1] = torch.where(forced >= 0, forced, torch.where(done, 0, chosen))
        written[:, position + 1] = own
        done |= own & ((chosen == TURN_END) | (chosen == 0))
    return tokens, written


class Tasks:
    """Prompts for the model, from the templates of training_tasks.json and from the model itself."""

    def __init__(self, model, path, size, length):
        self.model, self.size, self.length = model, size, length
        self.tasks = json.loads(path.read_text())
        self.filled = {"text": [], "code": []}
        system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        self.system = [TURN_START] + model.encode(f"system\n{system}") + [TURN_END] + model.encode("\n")
        self.opening = self.system + [TURN_START] + model.encode("user\n")
        self.answer = [TURN_END] + model.encode("\n") + [TURN_START] + model.encode("assistant\n")

    def prompt(self, text):
        """A user's turn and the beginning of the answer, as tokens."""
        return self.opening + self.model.encode(text) + self.answer

    def fill(self, template):
        """A template with something in place of each {slot}."""
        choose = lambda slot: random.choice(self.tasks["slots"].get(slot[1], [slot[0]]))
        template = re.sub(r"\{(\w+)\}", choose, template)
        for slot, texts in self.filled.items():
            template = template.replace("{" + slot + "}", random.choice(texts) if texts else "")
        return template

    def write(self, prompts, temperatures, length):
        parts = []
        for first in range(0, len(prompts), self.size):
            some = slice(first, first + self.size)
            parts.append([part.cpu() for part in write_texts(self.model, prompts[some], temperatures[some], length)])
        return [torch.cat(part) for part in zip(*parts)]

    def words(self, tokens, written):
        """What the model wrote of each row, as text without the end of its turn."""
        own = [[t for t, mine in zip(*row) if mine and t not in (TURN_END, 0)] for row in zip(tokens.tolist(), written.tolist())]
        return self.model.tokenizer.decode_batch(own)

    def write_slots(self, count):
        """Texts and pieces of code for prompts, of 30 to 130 tokens."""
        for slot, name in (("text", "texts"), ("code", "codes")):
            prompts = [self.prompt(self.fill(random.choice(self.tasks[name]))) for _ in range(count)]
            for text in self.words(*self.write(prompts, [0.7] * count, self.length * 3 // 4)):
                if slot == "code":
                    parts = text.split("```")
                    text = f"```{parts[1]}```" if len(parts) > 2 else ""
                else:
                    ids = self.model.encode(text)[: random.randrange(60, 130)]
                    text = self.model.tokenizer.decode(ids)
                    text = text[: text.rfind(".") + 1]
                if 30 <= len(self.model.encode(text)) <= 130:
                    self.filled[slot].append(text.strip())

    def prompts(self, count):
        """A quarter of them are questions that the model makes up, left to write the user's turn (Xu et al. 2024, Magpie)."""
        made_up = count // 4
        turns = self.write([self.opening] * made_up, [0.95] * made_up, self.length // 3)
        kinds = list(self.tasks["prompts"].values())
        prompts = [self.prompt(text) for text in self.words(*turns)]
        for i in range(count - made_up):
            prompts.append(self.prompt(self.fill(random.choice(kinds[i % len(kinds)]))))
        random.shuffle(prompts)
        return prompts

    def texts(self, count):
        """Answers, of which four in five are greedy and the rest drawn at temperatures from 0.4 to 0.9."""
        warm = [0.0 if random.random() < 0.8 else random.uniform(0.4, 0.9) for _ in range(count)]
        return self.write(self.prompts(count), warm, self.length)


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

    def guesses(self, tokens, features, taps, families):
        """(name, how many tokens further than the model's own guess, what goes into the head) of every drafter."""
        model = self.model[0]
        normed = model.normed(features)
        for i, head in enumerate(self.medusa if "medusa" in families else ()):
            yield f"medusa{i + 1}", i + 1, head(normed)
        for i, layer in enumerate(EXITS if "exit" in families else ()):
            yield f"exit{layer}", 0, self.exits[i](rms_norm(taps[layer], self.exit_norms[i], model.eps))
        hidden, past = features, []
        for i in range(CHAIN if "mtp" in families else 0):
            following = F.pad(tokens[:, 1 + i :], (0, 1 + i))
            hidden = self.mtp.step(hidden, following, i, past)
            yield f"mtp{i + 1}", i + 1, rms_norm(hidden, self.mtp.output_norm, model.eps)

    def load(self, folder):
        """Goes on from drafters that `save` wrote."""
        medusa, exits, mtp = (load_file(folder / f"{name}.safetensors") for name in ("medusa", "early_exit", "mtp"))
        state = {}
        for name, value in medusa.items():
            _, i, _, kind = name.split(".")
            state[f"medusa.{i}.linear.{kind}"] = value
        for i, layer in enumerate(EXITS):
            for kind in ("weight", "bias"):
                state[f"exits.{i}.linear.{kind}"] = exits[f"exit.{layer}.linear.{kind}"]
            state[f"exit_norms.{i}"] = exits[f"exit.{layer}.norm.weight"]
        for name, value in mtp.items():
            name = name.removeprefix("mtp.").removesuffix(".weight")
            state[f"mtp.layer.{name}" if name in Mtp.NAMES else f"mtp.{name}"] = value
        self.load_state_dict({name: value.float() for name, value in state.items()})


CHUNK = 4096


def chunk_loss(guess, goal, share, head):
    """Cross-entropy of a chunk of guesses, [row, width] behind their norms, with the model's own choices: half against its
    distribution, half against its likeliest token. Returns losses, the gradient for the guesses, and hits."""
    wanted, guessed = (goal @ head.T).float(), (guess @ head.T).float()
    likeliest = wanted.argmax(-1, keepdim=True)
    one = (torch.arange(wanted.shape[-1], device=wanted.device) == likeliest).float()
    aim = 0.5 * wanted.softmax(-1) + 0.5 * one
    norm = guessed.logsumexp(-1, keepdim=True)
    loss = norm[:, 0] - (aim * guessed).sum(-1)
    gradient = ((guessed - norm).exp() - aim).to(head.dtype) @ head
    return loss * share, gradient.float() * share[:, None], guessed.argmax(-1) == likeliest[:, 0]


class HeadLoss(torch.autograd.Function):
    """The weighted mean of chunk_loss, in chunks, as logits of all rows would not fit."""

    compute = staticmethod(chunk_loss)

    @staticmethod
    def forward(ctx, guess, goal, share, head):
        losses, gradients, hits = [], [], []
        share = share / share.sum().clamp(min=1e-6)
        for first in range(0, len(guess), CHUNK):
            parts = [part[first : first + CHUNK] for part in (guess.to(head.dtype), goal.to(head.dtype), share)]
            count = len(parts[0])
            parts = [F.pad(part, (0, 0) * (part.dim() - 1) + (0, CHUNK - count)) for part in parts]
            for kept, part in zip((losses, gradients, hits), HeadLoss.compute(*parts, head)):
                kept.append(part[:count])
        ctx.save_for_backward(torch.cat(gradients))
        hits = torch.cat(hits)
        ctx.mark_non_differentiable(hits)
        return torch.cat(losses).sum(), hits

    @staticmethod
    def backward(ctx, gradient, _):
        return ctx.saved_tensors[0] * gradient, None, None, None


def train(model, drafters, texts, options, rank, world):
    families = options.families
    parameters = [p for name, p in drafters.named_parameters() if name.split(".")[0].rstrip("s").split("_")[0] in families]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, betas=(0.9, 0.95), weight_decay=0.01)
    tokens, written = (part.to(model.device) for part in texts)
    start, progress, losses = time.monotonic(), 0.0, {}
    step = 0
    while progress < 1:
        rate = min(1, (step + 1) / 100) * (0.03 + 0.485 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = options.rate * rate
        chosen = torch.randint(len(tokens), (options.batch,), device=model.device)
        own, mask = tokens[chosen], written[chosen]
        with torch.no_grad():
            features, taps = model.features(own, EXITS)
            normed = model.normed(features)
        loss, alive = 0, None
        for name, ahead, x in drafters.guesses(own, features, taps, families):
            # At position t the choice at t + ahead is wanted, where the token after that was the model's.
            count = own.shape[1] - ahead - 1
            there = mask[:, ahead + 1 :]
            # A chain's later tokens matter where the earlier ones were right.
            share = torch.ones_like(there, dtype=torch.float)
            if name.startswith("mtp") and alive is not None:
                share = 0.2 + 0.8 * alive[:, :count].float()
            part, hits = HeadLoss.apply(x[:, :count][there], normed[:, ahead : ahead + count][there], share[there], model.head)
            if name.startswith("mtp"):
                hit = torch.zeros_like(there)
                hit[there] = hits
                alive = hit if alive is None else alive[:, :count] & hit
            # Further tokens count less, as they are reached less often.
            loss = loss + part * 0.85 ** max(0, ahead - 1)
            losses.setdefault(name, []).append(part.detach())
        optimiser.zero_grad()
        loss.backward()
        if world > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters])
            distributed.all_reduce(flat)
            for p, part in zip(parameters, flat.div_(world).split([p.numel() for p in parameters])):
                p.grad.copy_(part.view_as(p))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if step % 10 == 0 or step == options.steps:
            passed = torch.tensor(max(step / options.steps, (time.monotonic() - start) / options.seconds), device=model.device)
            if world > 1:
                distributed.all_reduce(passed, distributed.ReduceOp.MAX)
            progress = passed.item()
        if rank == 0 and (step % 200 == 0 or progress >= 1):
            shown = {name: round(torch.stack(parts).mean().item(), 3) for name, parts in losses.items()}
            print(f"step {step}, {progress:.0%}: {shown}", flush=True)
            losses = {}


@torch.no_grad()
def evaluate(model, drafters, texts, families):
    """Hit rates of every head, and what chains keep: as a mean over places and over the steps of a speculative loop."""
    tokens, written = (part.to(model.device) for part in texts)
    hits, best = {}, {}
    for rows in torch.arange(len(tokens)).split(16):
        own, mask = tokens[rows], written[rows]
        features, taps = model.features(own, EXITS)
        greedy = torch.stack([model.logits(model.normed(row)).argmax(-1) for row in features])
        for name, ahead, x in drafters.guesses(own, features, taps, families):
            count = own.shape[1] - ahead - 1
            top = torch.stack([model.logits(row).topk(10).indices for row in x[:, :count]])
            hit = top == greedy[:, ahead : ahead + count, None]
            hits.setdefault(name, []).append(hit[mask[:, ahead + 1 :]].float().cumsum(-1).clamp(max=1))
            best.setdefault(name, []).extend(top[..., 0].tolist())
    chains = {}
    for family, length in (("mtp", CHAIN), ("medusa", HEADS)):
        if family not in families:
            continue
        places, steps = [], []
        for row, (text, own) in enumerate(zip(tokens.tolist(), written.tolist())):
            if True not in own:
                continue
            first, end = own.index(True), len(own) - own[::-1].index(True)
            kept = {}
            for place in range(first - 1, end - 1):
                count = 0
                while count < length and place + 2 + count < end:
                    if best[f"{family}{count + 1}"][row][place] != text[place + 2 + count]:
                        break
                    count += 1
                kept[place] = count
            places += [count for place, count in kept.items() if place + 1 + length < end]
            place = first - 1
            while place + 2 < end:
                steps.append(kept[place])
                place += kept[place] + 1
        mean = lambda counts: sum(counts) / max(1, len(counts))
        reached = [mean([count > i for count in places]) for i in range(length)]
        chains[family] = {"kept_by_place": mean(places), "kept_by_step": mean(steps), "survival": reached}
    return {"topk_acc": {name: torch.cat(parts).mean(0).tolist() for name, parts in hits.items()}, "chains": chains}


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
    here = pathlib.Path(__file__).parent
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", help="the GGUF file")
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--drafters", type=pathlib.Path, help="a folder of drafters to go on from")
    arguments.add_argument("--families", nargs="+", default=["mtp", "medusa", "exit"], choices=["mtp", "medusa", "exit"])
    arguments.add_argument("--tasks", type=pathlib.Path, default=here / "training_tasks.json")
    arguments.add_argument("--held-out", type=pathlib.Path, default=here / "prompts.json", help="prompts to measure on")
    arguments.add_argument("--texts", type=int, default=48_000, help="texts that the model writes, on each GPU")
    arguments.add_argument("--length", type=int, default=320, help="tokens of a text, its prompt included")
    arguments.add_argument("--together", type=int, default=4096, help="texts written at once")
    arguments.add_argument("--steps", type=int, default=12_000)
    arguments.add_argument("--seconds", type=float, default=math.inf, help="end earlier, after so long in training")
    arguments.add_argument("--batch", type=int, default=48, help="texts of a step, on each GPU")
    arguments.add_argument("--rate", type=float, default=6e-4)
    arguments = arguments.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    if world > 1:
        torch.cuda.set_device(rank)
        distributed.init_process_group("nccl", device_id=torch.device(device))
    if device != "cpu":
        torch.set_float32_matmul_precision("high")
        HeadLoss.compute = staticmethod(torch.compile(chunk_loss))
    torch.manual_seed(1)
    model = Model(arguments.model, device)
    drafters = Drafters(model).to(device)
    if arguments.drafters:
        drafters.load(arguments.drafters)
    torch.manual_seed(1 + rank)
    random.seed(1 + rank)
    clock = time.monotonic()
    say = lambda text: print(f"{time.monotonic() - clock:.0f} s: {text}", flush=True) if rank == 0 else None
    tasks = Tasks(model, arguments.tasks, arguments.together, arguments.length)
    prompts = [tasks.prompt(prompt["text"]) for prompt in json.loads(arguments.held_out.read_text())]
    # 128 tokens of answer behind the longest prompt; a shorter one's answer is longer.
    held_out = tasks.write(prompts, [0.0] * len(prompts), max(map(len, prompts)) + 128)
    for row, prompt in enumerate(prompts):
        held_out[1][row, len(prompt) + 128 :] = False
    before = evaluate(model, drafters, held_out, arguments.families)["chains"]
    say(f"held-out answers are written; before training, chains keep {json.dumps(before)}")
    tasks.write_slots(min(arguments.together, arguments.texts))
    say(f"{len(tasks.filled['text'])} texts and {len(tasks.filled['code'])} pieces of code for prompts")
    learnt = tasks.texts(arguments.texts)
    say(f"{arguments.texts} texts, {int(learnt[1].sum())} tokens of the model")
    if rank == 0:
        counts = torch.bincount(learnt[0][learnt[1]], minlength=len(model.embedding))
        ranked = counts.argsort(descending=True)[:32_768].tolist()
        (arguments.out / "token_rank.json").write_text(json.dumps(ranked))
        for text in tasks.model.tokenizer.decode_batch(learnt[0][:4].tolist()):
            print(text, flush=True)
    train(model, drafters, learnt, arguments, rank, world)
    if rank == 0:
        save(drafters, arguments.out)
        stats = evaluate(model, drafters, held_out, arguments.families)
        (arguments.out / "stats.json").write_text(json.dumps(stats))
        say(json.dumps(stats["chains"], indent=1))
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
