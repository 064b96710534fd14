"""Loads, overloads, fuzzes and kills `facefind serve` on this machine, and reports how it does.

- load: requests of one picture each, a fixed number at a time, in turns with `FaceDetector.stream`
  on the same bytes. The share is the service's pictures a second over the detector's, the CPU time
  of the clients taken out of the service's wall time (over all cores); and the detector's CPU time
  a picture over the service's, which says as much of a machine that others use, too.
- overload: ten times as many clients as the queue holds, for --seconds; then how fast the service
  answers again. Anything but 200 and 503 is a failure; its memory is read all the while.
- fuzz: --requests malformed requests of a seed; the service must answer a good one after.
- kill: SIGKILL to one of two workers under load; how many requests are lost, and when it is back.

    python benchmarks/serve.py load --rounds 5
    python benchmarks/serve.py overload --seconds 60
    python benchmarks/serve.py fuzz --requests 10000 --seed 0
    python benchmarks/serve.py kill
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import random
import resource
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from reference import malformed_requests

from facefind import FaceDetector, images
from facefind.runtimes.cpu import logical_cpus

SIZE = (480, 640)
WRONG = {"500", "TimeoutError"}


def main() -> None:
    options = arguments()
    pictures = jpegs(options.images)
    globals()[options.what](options, pictures)


def load(options: argparse.Namespace, pictures: list[bytes]) -> None:
    """Throughput and latency, in turns with the detector's own."""
    detector = FaceDetector()
    list(detector.stream(pictures))
    shares, raw, latencies, base, costs = [], [], [], [], []
    with service(options) as (port, process):
        clients(port, pictures, options.clients, seconds=2)
        for _ in range(options.rounds):
            started, spent = time.perf_counter(), time.process_time()
            done = 0
            while time.perf_counter() - started < options.seconds:
                done += len(list(detector.stream(pictures)))
            own = done / (time.perf_counter() - started)
            cost = (time.process_time() - spent) / done
            spent = cpu_seconds(process.pid)
            run = clients(port, pictures, options.clients, options.seconds)
            assert set(run["statuses"]) == {"200"}, run["statuses"]
            count = run["statuses"]["200"]
            costs.append((cost, (cpu_seconds(process.pid) - spent) / count))
            base.append(own)
            raw.append(count / run["wall"])
            shares.append(count / (run["wall"] - run["cpu"] / len(logical_cpus())) / own)
            latencies += run["latencies"]
            print(f"detector {own:.1f}/s, service {raw[-1]:.1f}/s, share {shares[-1]:.3f}")
        idle = clients(port, pictures, 1, options.seconds)
    print(
        f"\nmedians: detector {statistics.median(base):.1f}/s, service "
        f"{statistics.median(raw):.1f}/s, share without the clients' CPU time "
        f"{statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
    )
    own, served = (1000 * statistics.median(column) for column in zip(*costs, strict=True))
    ratio = statistics.median(a / b for a, b in costs)
    print(f"CPU time a picture: detector {own:.1f} ms, service {served:.1f} ms, share {ratio:.3f}")
    print(f"{options.clients} clients: {spread(latencies)}")
    print(f"1 client: {spread(idle['latencies'])}")


def overload(options: argparse.Namespace, pictures: list[bytes]) -> None:
    """Ten times as many clients as the queue holds, then few again."""
    with service(options, "--max-queue", "32") as (port, process):
        before = clients(port, pictures, 2, 3)
        memory: list[int] = []
        ended = threading.Event()
        watch = threading.Thread(target=watch_memory, args=(process.pid, memory, ended))
        watch.start()
        during = clients(port, pictures, 320, options.seconds, patient=True)
        ended.set()
        watch.join()
        over = time.perf_counter()
        usual = 1.5 * statistics.median(before["latencies"])
        while min(clients(port, pictures, 2, 0.01)["latencies"]) > usual:
            assert time.perf_counter() - over < 30, "not back to normal after 30 s"
        back = time.perf_counter() - over
    third = len(memory) // 3
    print(f"statuses {during['statuses']}, in {during['wall']:.1f} s")
    print(f"answered with 200: {spread(during['latencies'])}")
    print(
        f"memory in MB: median of the second third {statistics.median(memory[third : 2 * third])}, "
        f"of the last {statistics.median(memory[2 * third :])}, most {max(memory)}"
    )
    print(f"latency back to normal {back:.2f} s after")
    assert set(during["statuses"]) <= {"200", "503"}


def fuzz(options: argparse.Namespace, pictures: list[bytes]) -> None:
    """Malformed requests, then a good one."""
    chance = random.Random(options.seed)
    with service(options, "--header-timeout", "1", "--body-timeout", "1") as (port, process):
        answers: Counter[str] = Counter()
        started = time.perf_counter()
        memory = [resident(process.pid)]
        with ThreadPoolExecutor(16) as senders:
            for _ in range(0, options.requests, 500):
                some = [malformed_requests.make(chance, pictures) for _ in range(500)]
                for request, status in zip(
                    some, senders.map(partial(send, port), some), strict=True
                ):
                    answers[status] += 1
                    if status in WRONG:
                        print(f"{status}: {request[:300]!r}... of {len(request)} bytes")
                memory.append(resident(process.pid))
        spent = time.perf_counter() - started
        good = clients(port, pictures, 1, 1)
        assert process.poll() is None
    print(f"{options.requests} requests of seed {options.seed} in {spent:.0f} s: {dict(answers)}")
    print(f"memory in MB along the way: {memory}")
    print(f"then: {good['statuses']}")
    assert set(good["statuses"]) == {"200"}
    assert not WRONG & set(answers)


def kill(options: argparse.Namespace, pictures: list[bytes]) -> None:
    """SIGKILL to one of two workers."""
    with service(options, "--workers", "2") as (port, process):
        while b"facefind_model_loads 2.0" not in metrics(port):
            time.sleep(0.2)  # until both are ready
        before = clients(port, pictures, options.clients, 5)
        first = workers_of(process.pid)

        def end_worker() -> None:
            time.sleep(3)
            os.kill(first[0], signal.SIGKILL)
            times.append(time.perf_counter())
            while len(now := workers_of(process.pid)) < 2 or first[0] in now:
                time.sleep(0.05)
            times.append(time.perf_counter())

        times: list[float] = []
        killer = threading.Thread(target=end_worker)
        killer.start()
        run = clients(port, pictures, options.clients, max(10, options.seconds))
        killer.join()
        print(f"before, with two workers: {rate(before)}; then, {rate(run)}")
        print(f"statuses {run['statuses']} (lost: a connection that ended without an answer)")
        print(f"a worker is in its place {times[1] - times[0]:.1f} s after")


def jpegs(folder: Path) -> list[bytes]:
    """Pictures of a folder at 640x480, as JPEG files."""
    from PIL import Image

    made = []
    for file in sorted(images.find(folder), key=lambda file: file.name)[:64]:
        pixels = images.resize(images.read(file.path), SIZE)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=90)
        made.append(data.getvalue())
    return made


@contextmanager
def service(
    options: argparse.Namespace, *more: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port of a service of its own, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "facefind", "serve", "--port", str(port), *more, *options.serve]
    log = subprocess.DEVNULL if options.log is None else options.log.open("wb")
    process = subprocess.Popen(words, stderr=log)
    try:
        while not ready(port):
            assert process.poll() is None, "the service has ended"
            time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait()


def clients(
    port: int, pictures: list[bytes], count: int, seconds: float, patient: bool = False
) -> dict[str, Any]:
    """What clients in a process of their own saw: statuses, latencies, wall and CPU seconds."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    arguments = (theirs, port, pictures, count, seconds, patient)
    process = context.Process(target=_clients, args=arguments)
    process.start()
    result: dict[str, Any] = mine.recv()
    process.join()
    return result


def _clients(
    pipe: Any, port: int, pictures: list[bytes], count: int, seconds: float, patient: bool
) -> None:
    requests = [
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        b"Content-Length: %d\r\n\r\n" % len(data) + data
        for data in pictures
    ]
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    ends = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = None
        while (began := time.perf_counter()) < ends:
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(requests[number % len(requests)])
                status = answer(connection)
            except OSError:
                status = "lost"
            statuses[status] += 1
            number += 1
            if status == "200":
                latencies.append(time.perf_counter() - began)
            elif status == "503" and patient:
                time.sleep(0.2)  # a tenth of what Retry-After says, and more
            elif status == "lost" and connection is not None:
                connection.close()
                connection = None

    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    threads = [threading.Thread(target=client, args=(n * 7,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send({"statuses": dict(statuses), "latencies": latencies, "wall": wall, "cpu": cpu})


def answer(connection: socket.socket) -> str:
    """The status of an answer that is read to its end, "lost" where there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return "lost"
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        chunk = connection.recv(65536)
        if not chunk:
            return "lost"
        body += chunk
    return head.split()[1].decode()


def send(port: int, data: bytes) -> str:
    """The status of the answer to some bytes on a connection of their own, "none" without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with suppress(OSError):
            connection.sendall(data)
        try:
            return connection.recv(65536)[9:12].decode() or "none"
        except OSError as error:
            return type(error).__name__


def rate(run: dict[str, Any]) -> str:
    return f"{run['statuses'].get('200', 0) / run['wall']:.1f} pictures a second"


def metrics(port: int) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text: bytes = answer.read()
    return text


def ready(port: int) -> bool:
    """Whether a service answers that it is ready."""
    try:
        return send(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == "200"
    except OSError:
        return False


def workers_of(pid: int) -> list[int]:
    """Processes of the workers below a supervisor, the oldest first."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [
        child
        for child in sorted(children)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def resident(pid: int) -> int:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def cpu_seconds(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch_memory(pid: int, seen: list[int], ended: threading.Event) -> None:
    while not ended.wait(0.5):
        seen.append(resident(pid))


def spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    median, most = (
        statistics.median(ordered),
        ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
    )
    return f"median {1000 * median:.1f} ms, p99 {1000 * most:.1f} ms, {len(ordered)} requests"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("load", "overload", "fuzz", "kill"))
    parser.add_argument("--images", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", type=shlex.split, default=[], help="its options, as one word")
    parser.add_argument("--log", type=Path, help="file for the log of the service")
    return parser.parse_args()


if __name__ == "__main__":
    main()
