"""Stands for a compiler in a test of `src/service.rs`: answers with the question, and dies of "die"."""

import json
import sys

print("ready", flush=True)
for line in sys.stdin:
    question = json.loads(line)
    if question == "die":
        sys.exit(3)
    print(json.dumps(question), flush=True)
