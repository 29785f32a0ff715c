"""Writes tests/model/dequantised.json: blocks of random bytes, and what another implementation makes of them.

    pip install gguf && python3 tests/support/dequantised.py > tests/model/dequantised.json

The other implementation is the Python package `gguf` of the llama.cpp project. Values are f32, given as their
bits, so that the comparison is exact. Scales are finite: their exponent is never the largest.
"""

import json
import random

import numpy
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

# Bytes of a block, and where its f16 numbers lie.
BLOCKS = {
    Type.Q4_0: (18, [0]),
    Type.Q4_1: (20, [0, 2]),
    Type.Q5_0: (22, [0]),
    Type.Q5_1: (24, [0, 2]),
    Type.Q8_0: (34, [0]),
    Type.Q4_K: (144, [0, 2]),
    Type.Q5_K: (176, [0, 2]),
    Type.Q6_K: (210, [208]),
    Type.BF16: (64, []),
    Type.F16: (64, range(0, 64, 2)),
}


def block(source, size, halves):
    data = bytearray(source.randbytes(size))
    for at in halves:
        # Sign, exponent 1 to 30, mantissa.
        bits = source.randrange(2) << 15 | source.randrange(1, 31) << 10 | source.randrange(1024)
        data[at : at + 2] = bits.to_bytes(2, "little")
    return bytes(data)


def finite(source, size):
    """Upper halves of finite f32s."""
    halves = [source.randrange(2) << 15 | source.randrange(1, 255) << 7 | source.randrange(128) for _ in range(size // 2)]
    return b"".join(half.to_bytes(2, "little") for half in halves)


def main():
    source = random.Random(6)
    cases = []
    for kind, (size, halves) in BLOCKS.items():
        count = 1 if size > 100 else 2
        if kind == Type.BF16:
            stored = finite(source, size)
        else:
            stored = b"".join(block(source, size, halves) for _ in range(count))
        values = dequantize(numpy.frombuffer(stored, dtype=numpy.uint8), kind).astype(numpy.float32)
        bits = values.reshape(-1).view(numpy.uint32)
        cases.append({"type": kind.name, "stored": stored.hex(), "bits": [f"{int(word):08x}" for word in bits]})
    print("[")
    print(",\n".join(json.dumps(case) for case in cases))
    print("]")


main()
