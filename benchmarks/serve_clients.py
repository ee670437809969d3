"""Clients of `benchmarks.serve`, in a process of their own: each sends photographs over one connection.

    python -m benchmarks.serve_clients PORT CLIENTS SECONDS FOLDER

prints a JSON list of how many seconds each request took.
"""

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HEADERS = {"Content-Type": "image/jpeg"}


def requests_of(number: int, port: int, seconds: float, photographs: list[bytes]) -> list[float]:
    """Send requests for some seconds; return how long each took."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        photograph = photographs[(number * 7 + len(taken)) % len(photographs)]
        connection.request("POST", "/predict", photograph, HEADERS)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the server answered {answer.status}")
        taken.append(time.perf_counter() - started)
    return taken


def main(port: int, clients: int, seconds: float, folder: Path) -> None:
    """Run all clients."""
    photographs = [path.read_bytes() for path in sorted(folder.iterdir())]
    with ThreadPoolExecutor(clients) as threads:
        working = [threads.submit(requests_of, number, port, seconds, photographs) for number in range(clients)]
        print(json.dumps([seconds for one in working for seconds in one.result()]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
