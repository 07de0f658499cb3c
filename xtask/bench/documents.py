# documents.py ROUNDS: makes, writes and reads documents, in the standard library's JSON. Ends with its standard input.
import json
import resource
import sys
import time

start = time.monotonic_ns()
for round in range(int(sys.argv[1])):
    document = [{"id": n, "name": f"name {n}", "tags": [str(n + tag) for tag in range(5)]} for n in range(200)]
    assert json.loads(json.dumps(document)) == document
elapsed = time.monotonic_ns() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(f"worked_ns {elapsed} cpu_ns {int((usage.ru_utime + usage.ru_stime) * 1e9)}", flush=True)
sys.stdin.read()
