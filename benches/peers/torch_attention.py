#!/usr/bin/env python3
"""Attention of PyTorch on a CUDA machine, on the cases of `cargo xtask bench attention`.

    python3 torch_attention.py [--out FILE.json] [--seconds S] [--list] [CASE ...]

Runs FlashAttention, cuDNN and memory-efficient attention, each where PyTorch takes the case, prints a table, and
writes JSON in the form of the benchmark's own file. SUNFLECK_BENCH_PEERS=FILE.json makes the benchmark put the times
beside its own. Times are of CUDA events around several calls; each is a median. Calls take turns over copies of K and
V that together pass the caches, as they do in the benchmark.
"""

import argparse
import contextlib
import datetime
import json
import math
import re
import statistics
import sys

# Names as benches/attention/cases.rs makes them; a test compares the two lists.
CASES = [
    "prefill/f32/h32/d128/4096x4096",
    "prefill/f32/h32/d128/4096x4096/causal",
    "prefill/f16/h32/d128/4096x4096",
    "prefill/f16/h32/d128/4096x4096/causal",
    "prefill/f16/h32-8/d128/4096x4096/causal",
    "decode/f16/h32-8/d128/1x8192/causal",
    "decode/f16/h32-8/d128/16x8192/causal",
    "decode/f16/h32-8/d128/64x8192/causal",
]
# K and V of all copies together, in bytes, and the most copies: as in the benchmark.
STREAM_BYTES = 1 << 30
MAX_COPIES = 64
# Two right results differ by at most this normalised mean squared error, with outputs rounded to f16.
SAME = 1e-5
# Seconds of one sample: much longer than it takes to start calls.
SAMPLE_SECONDS = 0.02

NAME = re.compile(
    r"(?P<kind>prefill|decode)/(?P<element>f16|f32)/h(?P<heads>\d+)(?:-(?P<kv>\d+))?/d(?P<dim>\d+)"
    r"/(?P<queries>\d+)x(?P<keys>\d+)(?P<causal>/causal)?"
)


def parse(name):
    """A case by its name, with the fields that the benchmark's JSON has."""
    match = NAME.fullmatch(name)
    if match is None:
        sys.exit(f"error: {name!r} is no case; one is prefill/f16/h32-8/d128/4096x4096/causal")
    heads = int(match["heads"])
    case = {
        "name": name,
        "kind": match["kind"],
        "element": match["element"],
        "query_heads": heads,
        "kv_heads": int(match["kv"] or heads),
        "head_dim": int(match["dim"]),
        "queries": int(match["queries"]),
        "keys": int(match["keys"]),
        "causal": match["causal"] is not None,
    }
    queries, keys = case["queries"], case["keys"]
    # Bottom-right aligned: the last query sees every key.
    pairs = sum(max(0, keys - queries + i + 1) for i in range(queries)) if case["causal"] else queries * keys
    size = {"f16": 2, "f32": 4}[case["element"]]
    elements = case["head_dim"] * (queries * heads + keys * case["kv_heads"])
    case["flops"] = 4 * heads * case["head_dim"] * pairs
    case["bytes"] = 2 * elements * size
    return case


def tensors(torch, case):
    """The query, [1, head, query, dim], and copies of (key, value), each [1, kv_head, key, dim]."""
    dtype = {"f16": torch.float16, "f32": torch.float32}[case["element"]]
    generator = torch.Generator("cuda").manual_seed(1)

    def random(heads, rows):
        shape = (1, heads, rows, case["head_dim"])
        return torch.rand(shape, generator=generator, device="cuda", dtype=torch.float32).mul(2).sub(1).to(dtype)

    query = random(case["query_heads"], case["queries"])
    key, value = (random(case["kv_heads"], case["keys"]) for _ in range(2))
    copies = math.ceil(STREAM_BYTES / (2 * key.nbytes))
    copies = min(max(copies, 1), MAX_COPIES)
    return query, [(key, value)] + [(key.clone(), value.clone()) for _ in range(copies - 1)]


def mask_of(torch, case, dtype):
    """The additive bottom-right causal mask, where it is no special case that PyTorch has a word for."""
    queries, keys = case["queries"], case["keys"]
    hidden = torch.ones(queries, keys, dtype=torch.bool, device="cuda").triu(keys - queries + 1)
    return torch.zeros(queries, keys, dtype=dtype, device="cuda").masked_fill(hidden, -math.inf)


def call(torch, case, peer):
    """A function of query, key and value that computes the case with one of PyTorch's kernels."""
    from torch.nn.attention import SDPBackend, bias, sdpa_kernel

    backend = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    }[peer]
    options = {}
    if case["kv_heads"] != case["query_heads"]:
        options["enable_gqa"] = True
    queries, keys = case["queries"], case["keys"]
    mask = None
    if case["causal"] and queries == keys:
        options["is_causal"] = True
    elif case["causal"] and queries > 1:
        # PyTorch's own is_causal is aligned to the top left.
        if peer == "cudnn":
            mask = mask_of(torch, case, {"f16": torch.float16, "f32": torch.float32}[case["element"]])
        else:
            mask = bias.causal_lower_right(queries, keys)

    def attention(query, key, value):
        with sdpa_kernel([backend]):
            return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)

    return attention


def reference(torch, case, query, key, value):
    """The same in f32 and plain steps, for the first head of each group."""
    group = case["query_heads"] // case["kv_heads"]
    scores = query[:, ::group].float() @ key.float().transpose(2, 3) / math.sqrt(case["head_dim"])
    if case["causal"]:
        scores += mask_of(torch, case, torch.float32)
    return scores.softmax(-1) @ value.float()


def difference(torch, case, attention, query, key, value):
    """Normalised mean squared error of the peer on a part of the heads, which bounds the memory."""
    group = case["query_heads"] // case["kv_heads"]
    output = attention(query, key, value)[:, ::group].float()
    error = size = 0.0
    for head in range(case["kv_heads"]):
        one = slice(head, head + 1)
        right = reference(torch, {**case, "query_heads": 1, "kv_heads": 1}, query[:, head * group : head * group + 1],
                          key[:, one], value[:, one])
        error += (output[:, one] - right).square().sum().item()
        size += right.square().sum().item()
    return error / size


def recorded(torch, attention, query, caches, calls):
    """Something that runs `calls` calls: a CUDA graph, so that starting them costs the host nothing, or the calls."""

    def plain():
        for i in range(calls):
            attention(query, *caches[i % len(caches)])

    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            plain()
        torch.cuda.synchronize()
        return graph.replay, "graph"
    except RuntimeError:
        torch.cuda.synchronize()
        return plain, "calls"


def timed(torch, work):
    """Seconds between CUDA events around `work`."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1e-3


def measure(torch, case, peer, query, caches, seconds):
    """What one peer takes for a case, in the form of a side of the benchmark's JSON, or why it does not."""
    attention = call(torch, case, peer)
    try:
        error = difference(torch, case, attention, query, *caches[0])
    except (RuntimeError, ValueError) as refusal:
        return {"refused": str(refusal).strip().splitlines()[-1]}
    if not error <= SAME:  # NaN is not
        return {"refused": f"its result is another: normalised mean squared error {error:.1e}"}

    def few():
        for i in range(5):
            attention(query, *caches[i % len(caches)])

    few()
    estimate = timed(torch, few) / 5
    # Whole rounds over the copies, so that each replay reads them all.
    rounds = max(1, round(SAMPLE_SECONDS / estimate / len(caches)))
    calls = min(rounds * len(caches), 4096) if estimate < SAMPLE_SECONDS else 1
    work, how = recorded(torch, attention, query, caches, calls)
    work()
    torch.cuda.synchronize()
    samples = []
    while len(samples) < 5 or sum(samples) < seconds and len(samples) < 200:
        samples.append(timed(torch, work))
    per_call = sorted(sample / calls for sample in samples)
    lower, median, upper = statistics.quantiles(per_call, n=4, method="inclusive")
    return {
        "seconds": {"median": median, "min": per_call[0], "lower_quartile": lower, "upper_quartile": upper},
        "clock": f"CUDA events, {how}",
        "warning": None,
        "flops_per_second": case["flops"] / median,
        "bytes_per_second": case["bytes"] / median,
        "nmse_to_reference": error,
        "samples": [{"calls": calls, "wall": None, "gpu": sample} for sample in samples],
    }


def machine(torch):
    """The names and values that stand above a table."""
    driver = None
    with contextlib.suppress(Exception):
        import subprocess

        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "adapter": torch.cuda.get_device_name(),
        "driver": driver,
        "backend": f"CUDA {torch.version.cuda}",
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names of cases (default: those of --list)")
    parser.add_argument("--out", help="the JSON file to write")
    parser.add_argument("--seconds", type=float, default=0.3, help="of samples a case and peer (default: 0.3)")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    arguments = parser.parse_args()
    cases = [parse(name) for name in arguments.cases or CASES]
    if arguments.list:
        print("\n".join(case["name"] for case in cases))
        return
    try:
        import torch
    except ImportError:
        sys.exit("error: PyTorch is not installed for this python3")
    if not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no CUDA device here")
    # f32 means f32: no products in TF32 behind its back, which the tolerance would let pass.
    torch.set_float32_matmul_precision("highest")

    report = {"machine": machine(torch), "note": None, "cases": []}
    for name, value in report["machine"].items():
        print(f"{name:<9} {value}")
    measured = 0
    for case in cases:
        with torch.inference_mode():
            query, caches = tensors(torch, case)
            peers = {
                peer: measure(torch, case, peer, query, caches, arguments.seconds)
                for peer in ("flash", "cudnn", "efficient")
            }
        report["cases"].append({**case, "cache_copies": len(caches), "peers": peers})
        for peer, side in peers.items():
            if "refused" in side:
                print(f"{case['name']:<42} {peer:<10} {side['refused']}")
                continue
            measured += 1
            milliseconds = side["seconds"]["median"] * 1e3
            print(f"{case['name']:<42} {peer:<10} {milliseconds:.4f} ms  {side['flops_per_second'] / 1e12:.1f} TFLOP/s")
        del query, caches
        torch.cuda.empty_cache()
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
            file.write("\n")
    if measured == 0:
        sys.exit("error: no peer took any case")


if __name__ == "__main__":
    main()
