#!/usr/bin/env python3
"""Measure the server and the device that asks it; see scale.md, section "Server", for the commands.

speed     photos per second and latencies at 1, 8 and 64 clients (wrk), beside the bare cascade in the same run
overload  more clients than the queue holds, then one: 429, and recovery
schema    schemathesis over the server's own description, from the environment of --schemathesis
field     device and server in two network namespaces (root): link cut and device killed while photos flow
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.edge.cascade import load_cascade  # noqa: E402
from pipeline.files import write_json  # noqa: E402

TOKEN = "0123456789abcdef0123456789abcdef"
LUA = """
local photos = {}
for line in io.lines(os.getenv("PHOTOS")) do
  local file = io.open(line, "rb"); photos[#photos + 1] = file:read("*a"); file:close()
end
local headers = {["Content-Type"] = "image/jpeg", ["Authorization"] = "Bearer " .. os.getenv("OMMATIDIA_TOKEN")}
local n = 0
request = function()
  n = n % #photos + 1
  return wrk.format("POST", "/v1/classify", headers, photos[n])
end
done = function(summary, latency, requests)
  io.stderr:write(string.format(
    '{"requests": %d, "seconds": %.3f, "not_200": %d, "broken": %d, "p50_ms": %.1f, "p95_ms": %.1f, "p99_ms": %.1f}',
    summary.requests, summary.duration / 1e6, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000))
end
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "overload", "schema", "field"])
    parser.add_argument("--bundle", type=Path, required=True, help="what deploy.py wrote")
    parser.add_argument("--photos", type=Path, help="a folder of photos (all but schema)")
    parser.add_argument("--seconds", type=int, default=20, help="per number of clients (default 20)")
    parser.add_argument("--count", type=int, default=2000, help="field: photos (default 2000)")
    parser.add_argument("--faults", type=int, default=20, help="field: cuts, and kills (default 20)")
    parser.add_argument("--budget", type=float, default=4.0, help="field: MB of the spool (default 4)")
    parser.add_argument("--schemathesis", type=Path, help="schema: its program, of an environment of its own")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "serving.json")
    given = parser.parse_args()
    found = {"speed": speed, "overload": overload, "schema": schema, "field": field}[given.what](given)
    known = json.loads(given.out.read_text()) if given.out.is_file() else {}
    settings = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    write_json(given.out, {**known, given.what: {"settings": settings, **found}})
    print(json.dumps(found, indent=2))
    return 0


def chosen(folder: Path, n: int) -> list[Path]:
    """Photos spread over the folder, the same ones every time."""
    photos = sorted(folder.rglob("*.jpg"))
    return random.Random(0).sample(photos, min(n, len(photos)))


@contextmanager
def server(
    bundle: Path, *more: str, prefix: tuple[str, ...] = (), host: str = "127.0.0.1"
) -> Iterator[tuple[str, Any]]:
    """A server process and its address; it must end by itself when it is asked to."""
    command = [*prefix, sys.executable, str(ROOT / "serve.py"), "--bundle", str(bundle), "--host", host, *more]
    if "--port" not in more:
        command += ["--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMMATIDIA_TOKEN": TOKEN})
    assert process.stderr
    try:
        yield process.stderr.readline().split()[1], process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, process.stderr.read()
    finally:
        process.kill()


def wrk(url: str, photos: list[Path], clients: int, seconds: int) -> dict[str, Any]:
    """What wrk tells; photos/s of those that were answered."""
    with tempfile.TemporaryDirectory() as folder:
        script, listed = Path(folder, "post.lua"), Path(folder, "photos")
        script.write_text(LUA)
        listed.write_text("\n".join(map(str, photos)))
        command = [
            "wrk",
            "-t",
            "1",
            "-c",
            str(clients),
            "-d",
            f"{seconds}s",
            "--timeout",
            "60s",
            "-s",
            str(script),
            url,
        ]
        environment = {**os.environ, "PHOTOS": str(listed), "OMMATIDIA_TOKEN": TOKEN}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stderr)
    return {"clients": clients, "photos_per_s": (told["requests"] - told["not_200"]) / told["seconds"], **told}


def bare(bundle: Path, photos: list[Path], seconds: float) -> float:
    """Photos per second of the cascade alone, one after the other, one core."""
    cascade, data = load_cascade(bundle), [photo.read_bytes() for photo in photos]
    for photo in data[:5]:
        cascade.classify("", 5, photo)
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        cascade.classify("", 5, data[n % len(data)])
        n += 1
    return n / (time.perf_counter() - start)


def speed(given: argparse.Namespace) -> dict[str, Any]:
    """In turns, so that what else the machine does meets both alike."""
    photos, rows = chosen(given.photos, 200), []
    with server(given.bundle) as (url, _):
        wrk(url, photos, 1, 2)
        for clients in (1, 8, 64):
            before = bare(given.bundle, photos, given.seconds / 2)
            row = wrk(url, photos, clients, given.seconds)
            alone = statistics.mean([before, bare(given.bundle, photos, given.seconds / 2)])
            rows.append({**row, "bare_photos_per_s": alone, "ratio": row["photos_per_s"] / alone})
    return {"rows": rows}


def overload(given: argparse.Namespace) -> dict[str, Any]:
    """64 clients before a queue of 8, then one."""
    photos = chosen(given.photos, 200)
    with server(given.bundle, "--queue", "8", "--max-photos", "8") as (url, _):
        before = wrk(url, photos, 4, given.seconds // 2)
        flooded = wrk(url, photos, 64, given.seconds)
        after = wrk(url, photos, 4, given.seconds // 2)
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    statuses = {line.split('"')[1]: int(float(line.split()[1])) for line in lines if "requests_total{" in line}
    return {"before": before, "flooded": flooded, "after": after, "statuses": statuses}


def schema(given: argparse.Namespace) -> dict[str, Any]:
    """What schemathesis says of the description and the answers."""
    with server(given.bundle, "--max-mb", "1") as (url, _):
        command = [
            str(given.schemathesis.absolute()),
            "run",
            f"{url}/openapi.json",
            "-H",
            f"Authorization: Bearer {TOKEN}",
        ]
        command += ["--no-color", "--seed", "1"]
        with tempfile.TemporaryDirectory() as folder:  # it leaves its notes where it runs
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return {"exit_code": done.returncode, "told": [line for line in done.stdout.splitlines() if line.strip("= ")][-3:]}


# field --------------------------------------------------------------------------------------------------------------

NAMESPACES = ("ommatidia_device", "ommatidia_server")
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def network() -> Iterator[None]:
    """Two namespaces that see each other and nothing else."""
    ends = ("omm0", "omm1")
    try:
        for name in NAMESPACES:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            ends[0],
            "netns",
            NAMESPACES[0],
            "type",
            "veth",
            "peer",
            "name",
            ends[1],
            "netns",
            NAMESPACES[1],
        )
        for name, end, address in zip(NAMESPACES, ends, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
        yield
    finally:
        for name in NAMESPACES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def certificate(folder: Path) -> tuple[Path, Path]:
    """For the server's address, made on the spot."""
    pem, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=test", "-addext", f"subjectAltName=IP:{ADDRESSES[1]}", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", pem], check=True, capture_output=True)
    return pem, key


def weigh(folder: Path, most: list[int], ended: threading.Event) -> None:
    """The largest sum of the spool's files, looked at 200 times a second."""
    while not ended.wait(0.005):
        size = 0
        for path in folder.glob("r.jsonl.spool*"):
            try:
                size += path.stat().st_size
            except FileNotFoundError:
                continue
        most[0] = max(most[0], size)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Whole rows of a results file that may be growing."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def field(given: argparse.Namespace) -> dict[str, Any]:
    """Every photo once, with the answer of the whole bundle; the spool within its budget."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as name, network():
        folder = Path(name)
        for i, photo in enumerate(chosen(given.photos, given.count)):
            (folder / "photos").mkdir(exist_ok=True)
            shutil.copyfile(photo, folder / "photos" / f"{i:04}.jpg")
        pem, key = certificate(folder)
        command = [sys.executable, str(given.bundle / "classify.py"), str(folder / "photos"), "--threads", "1"]
        subprocess.run([*command, "--out", str(folder / "alone.jsonl")], check=True, capture_output=True)
        wanted = {row["path"]: row for row in rows_of(folder / "alone.jsonl")}
        command += ["--out", str(folder / "r.jsonl"), "--main", f"https://{ADDRESSES[1]}:8443"]
        command += ["--budget", str(given.budget), "--drop", "oldest"]
        command = ["ip", "netns", "exec", NAMESPACES[0], *command]
        environment = {**os.environ, "OMMATIDIA_TOKEN": TOKEN, "SSL_CERT_FILE": str(pem), "OMMATIDIA_DEVICE": "bench"}
        most, ended = [0], threading.Event()
        watcher = threading.Thread(target=weigh, args=(folder, most, ended))
        watcher.start()
        start, kills, cuts, seen, outputs = time.monotonic(), 0, 0, 0, []
        in_namespace, tls = ("ip", "netns", "exec", NAMESPACES[1]), ("--tls", str(pem), str(key), "--port", "8443")
        with server(given.bundle, "--stages", "main", *tls, prefix=in_namespace, host=ADDRESSES[1]):
            while True:
                device = subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
                while device.poll() is None:
                    time.sleep(0.02)
                    if (there := len(rows_of(folder / "r.jsonl"))) < seen + given.count // (3 * given.faults):
                        continue
                    seen = there
                    if cuts < given.faults and cuts <= kills:
                        ip("-n", NAMESPACES[0], "link", "set", "omm0", "down")
                        time.sleep(draw.uniform(0.2, 2))
                        ip("-n", NAMESPACES[0], "link", "set", "omm0", "up")
                        cuts += 1
                    elif kills < given.faults:
                        device.kill()
                        device.wait()
                        kills += 1
                told, wrong = device.communicate()
                if device.returncode >= 0:
                    outputs.append([device.returncode, *told.splitlines(), *wrong.splitlines()[-2:]])
                    if device.returncode in (0, 1) or len(outputs) > 5:
                        break
        ended.set()
        watcher.join()
        rows = rows_of(folder / "r.jsonl")
    times = ("decode_ms", "preprocess_ms", "infer_ms")
    plain = [{key: value for key, value in row.items() if key not in times} for row in rows]
    same = sum(row == {k: v for k, v in wanted[row["path"]].items() if k not in times} for row in plain)
    return {
        "photos": given.count, "rows": len(rows), "paths": len({row["path"] for row in rows}), "same_as_alone": same,
        "statuses": dict(Counter(row["status"] for row in rows)), "stages": dict(Counter(row["stage"] for row in rows)),
        "cuts": cuts, "kills": kills, "seconds": time.monotonic() - start, "ends": outputs,
        "budget_bytes": int(given.budget * 1e6), "most_bytes": most[0],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
