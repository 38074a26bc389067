"""A long run with violence: blocks in bursts, kill -9 of everything in turn, every event twice; equal after each?

    make soak BLOCKS=9000 KILLS=20

Starts a home of its own, and removes it when all was well. Exit code 1 when ledger and chain ever differ.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table
from soak_checks import Mismatch, compare_with_chain, count_transactions, deliver_twice

from tonsurance import log
from tonsurance.db.postgres import remove_cluster
from tonsurance.stack import Status, read_status

BURST = 25
READY_S = 120.0


class Stack:
    """`tonsurance run` in a home of its own."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self._seed = seed
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's own database or home."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DB_"))}
        return kept | {"TONSURANCE_HOME": str(self.home), "TONSURANCE_PORT": str(self._port)}

    def start(self) -> None:
        """Start it, and return when it has first figures."""
        argv = [sys.executable, "-m", "tonsurance", "run", "--seed", str(self._seed)]
        self._process = subprocess.Popen(argv, env=self.environment, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_until(self.is_ready, "the first figures")

    def is_ready(self) -> bool:
        """Whether it answers and everything in it is well."""
        if self._process is not None and self._process.poll() is not None:
            raise Mismatch(f"run ended with {self._process.returncode}; its logs are in {self.home}/logs")
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/health/ready", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    @property
    def status(self) -> Status:
        """Where everything is now."""
        found = read_status(self.home)
        if found is None:
            raise Mismatch("There is no status.json.")
        return found

    def kill(self, name: str) -> None:
        """kill -9 of one of its processes; returns when there is a new one. `run` is started again by us."""
        pid = self.status.pids[name]
        os.kill(pid, signal.SIGKILL)
        if name == "run" and self._process is not None:
            others = [other for part, other in self.status.pids.items() if part != "run"]
            self._process.wait()
            wait_until(lambda: not any(map(is_alive, others)), "the end of what run had started")
            self.start()
            return
        wait_until(lambda: self.status.pids.get(name, pid) != pid, f"a new {name}")

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)


class Miner:
    """Makes blocks without a pause while it is on, as many requests as the chain takes."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._off = threading.Event()
        self._thread = threading.Thread(target=self._mine)

    def __enter__(self) -> Miner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._off.set()
        self._thread.join()

    def _mine(self) -> None:
        while not self._off.is_set():
            try:
                httpx.post(f"{self._stack.status.chain_url}/_localnet/mine", json={"n": BURST}, timeout=60)
            except (httpx.HTTPError, Mismatch):
                time.sleep(0.05)  # it was killed, and comes back


def is_alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(done: Callable[[], bool], what: str, longest_s: float = READY_S) -> None:
    """Poll until it holds. Raises Mismatch when it takes too long."""
    deadline = time.monotonic() + longest_s
    while not done():
        if time.monotonic() > deadline:
            raise Mismatch(f"Waited {longest_s:.0f} s for {what}.")
        time.sleep(0.05)


class Soak:
    """The acts, in order, and the table of what they came to."""

    def __init__(self, stack: Stack, *, blocks: int, transactions: int, kills: int, dice: random.Random) -> None:
        self._stack = stack
        self._blocks = blocks
        self._transactions = transactions
        self._kills = kills
        self._dice = dice
        self._verify = has_verify()
        self.table = Table("act", "times", "then the ledger and the chain are equal at", "took", title="Soak")

    def run(self) -> None:
        """All of it. Raises Mismatch."""
        self._act(f"{self._blocks} blocks, {self._transactions} transactions", 1, self._grow)
        self._act("kill -9 of the daemon at a random moment", self._kills, lambda: self._kill("daemon"))
        self._act("kill -9 of PostgreSQL", max(1, self._kills // 5), lambda: self._kill("postgres"))
        self._act("kill -9 of run, and started again", max(1, self._kills // 10), lambda: self._kill("run"))
        self._deliver_twice()
        if self._verify:
            self._act("replay of every read model from the event log", 1, lambda: self._run("replay"))

    def _act(self, name: str, times: int, act: Callable[[], None]) -> None:
        """Do it and compare, `times` times."""
        begun, seen = time.monotonic(), []
        for _ in range(times):
            act()
            seen.append(self._compare())
        shown = ", ".join(map(str, seen if len(seen) <= 4 else [*seen[:2], "...", *seen[-2:]]))
        self._note(name, times, f"block {shown}", begun)

    def _note(self, name: str, times: int, seen: str, begun: float) -> None:
        took = f"{time.monotonic() - begun:.0f} s"
        self.table.add_row(name, str(times), seen, took)
        print(f"{name}: {times} times, equal at {seen}, {took}", flush=True)

    def _grow(self) -> None:
        """Transactions are counted when there are enough blocks, and again when there should be enough of them."""
        enough = self._blocks
        with Miner(self._stack):
            while True:
                wait_until(lambda wanted=enough: self._seqno() >= wanted, f"block {enough}", 3600)
                seqno, found = self._seqno(), asyncio.run(count_transactions(self._stack.status))
                print(f"{seqno} blocks, {found} transactions of our contracts", flush=True)
                if found >= self._transactions:
                    return
                enough = seqno + 50 + (self._transactions - found) * seqno // max(1, found)

    def _seqno(self) -> int:
        answer = httpx.get(f"{self._stack.status.chain_url}/_localnet/status", timeout=30).json()
        return int(answer["seqno"])

    def _kill(self, name: str) -> None:
        with Miner(self._stack):
            time.sleep(self._dice.uniform(0.0, 1.5))
            self._stack.kill(name)
            time.sleep(self._dice.uniform(0.0, 0.5))
        wait_until(self._stack.is_ready, "a stack that is well again")

    def _compare(self) -> int:
        """Our own comparison, and the product's. Returns the block."""
        seqno = asyncio.run(compare_with_chain(self._stack.status))
        if self._verify:
            self._run("verify", "--json")
        return seqno

    def _run(self, *arguments: str) -> None:
        """A command of the product that ends with 0 when all is equal."""
        argv = [sys.executable, "-m", "tonsurance", *arguments]
        answer = subprocess.run(
            argv, env=self._stack.environment, capture_output=True, text=True, timeout=600, check=False
        )
        if answer.returncode != 0:
            raise Mismatch(f"{arguments[0]} ended with {answer.returncode}: {answer.stdout[-2000:]}{answer.stderr}")

    def _deliver_twice(self) -> None:
        begun, seqno = time.monotonic(), self._compare()
        dsn, counts = asyncio.run(deliver_twice(self._stack.status))
        asyncio.run(compare_with_chain(self._stack.status, dsn, seqno))
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        what = f"block {seqno}, and in all tables ({said})"
        self._note("every event and every batch twice, into another database", 1, what, begun)
        if not counts["events"] == counts["second times"]:
            raise Mismatch(f"Not every event came twice: {said}.")
        if dsn == self._stack.status.database_url:
            raise Mismatch("The doubled events went into the stack's own database.")


def has_verify() -> bool:
    """Whether this version has `tonsurance verify`."""
    said = subprocess.run([sys.executable, "-m", "tonsurance", "--help"], capture_output=True, text=True, check=True)
    return "verify" in said.stdout


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="A long run with kills, compared with the chain after each.")
    parser.add_argument("--blocks", type=int, default=9_000)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    log.configure("error", process="soak")
    home = Path(tempfile.mkdtemp(prefix="tonsurance-soak-")) / "home"
    stack = Stack(home, given.seed)
    soak = Soak(
        stack,
        blocks=given.blocks,
        transactions=given.transactions,
        kills=given.kills,
        dice=random.Random(given.seed),
    )
    try:
        stack.start()
        soak.run()
    except (Mismatch, TimeoutError) as error:
        print(f"NOT EQUAL: {error or 'the ledger did not get there in time'}; everything is kept in {home}")
        return 1
    finally:
        stack.stop()
        Console().print(soak.table)
    remove_cluster(home)
    shutil.rmtree(home.parent)
    print("Equal after each.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
