"""Hostile bytes for the decoder, made by the hundred thousand from one seed, and what must hold for each of them.

Whatever comes in, a transaction or a DecodeError comes out. A message of ours with changed bits is an event, which
written again gives the same cell, or it is kept raw. `python -m chain.fuzzing --count N --seed S` runs it as a program.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chain.encoding import encode_event, encode_fields
from chain.making import ALICE, FACTORY, VAULT, external_out, internal_out, make_transaction
from tonsurance.chain.cells import Cell, check_crc, parse_boc, write_boc
from tonsurance.chain.decode import Decoder, decode_transaction_json
from tonsurance.chain.layout import Field, load_layout
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import FACTORY_KIND, FLOAT_KIND, VAULT_KIND, DecodedTransaction

MAGIC = b"\xb5\xee\x9c\x72"
LONGEST_S = 5.0
"""No input may take longer: the decoder would hang."""
LAYOUT = load_layout()
ADDRESSES = {VAULT_KIND: VAULT, FACTORY_KIND: FACTORY, FLOAT_KIND: FACTORY}
DECODERS = {kind: Decoder(LAYOUT, contract=address, kind=kind) for kind, address in ADDRESSES.items()}


@dataclass
class Report:
    """What came out of a run. Times in seconds, memory in bytes."""

    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest_s: float = 0.0
    slowest: str = ""
    peak_bytes: int = 0
    grown_bytes: int = 0

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {sum(self.outcomes.values())} inputs in {self.seconds:.1f} s, slowest "
            f"{self.slowest_s * 1e3:.1f} ms ({self.slowest}); at most {self.peak_bytes / 1e6:.1f} MB at once in the "
            f"measured ones, process grown by {self.grown_bytes / 1e6:.0f} MB; {dict(self.outcomes.most_common())}"
        )


class Fuzz:
    """One stream of inputs: `make` gives the next one's name, bytes, and the message body if it has one of ours."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._bodies = list(make_bodies(self._dice))
        self._wraps = {kind: _Wrap(kind) for kind in ADDRESSES}
        messages = [external_out(VAULT, body.theirs) for body in self._bodies[:4]] + [
            internal_out(VAULT, ALICE, self._bodies[0].theirs),
            external_out(VAULT, self._bodies[5].theirs, inline=True),
        ]
        self._good = [
            make_transaction(messages=messages).boc,
            make_transaction(messages=messages[:1]).boc,
            make_transaction(messages=[], in_msg=internal_out(ALICE, VAULT, self._bodies[1].theirs)).boc,
        ]
        self._makers: tuple[tuple[str, Callable[[], bytes]], ...] = (
            ("random bytes", self._random_bytes),
            ("random bag", self._random_bag),
            ("random cells", self._random_cells),
            ("special cells", self._special_cells),
            ("changed bytes", self._changed_bytes),
            ("changed bytes", self._changed_bytes),
            ("changed cell", self._changed_cell),
            ("changed cell", self._changed_cell),
        )
        self._slow_maker = ("deep or shared cells", self._deep)

    def make(self) -> tuple[str, bytes, _Body | None]:
        """The next input."""
        if self._dice.random() < 0.35:
            body = self._changed_body(self._dice.choice(self._bodies))
            return "changed event", self._wraps[body.kind].around(body.ours), body
        name, maker = self._dice.choice(self._makers) if self._dice.random() < 0.98 else self._slow_maker
        return name, maker(), None

    def _random_bytes(self) -> bytes:
        start = self._dice.choice((b"", MAGIC, MAGIC + bytes((self._dice.choice((1, 0x41, 0xC1)), 1))))
        return start + self._dice.randbytes(self._dice.randint(0, 120))

    def _random_bag(self) -> bytes:
        """A right header around random cells."""
        count = self._dice.randint(1, 6)
        cells = b""
        for number in range(count):
            size, refs = self._dice.randint(0, 8), self._dice.randint(0, 2)
            cells += bytes((refs + self._dice.choice((0, 0, 0, 8, 16)), 2 * size - self._dice.choice((0, 0, 1)) & 0xFF))
            cells += self._dice.randbytes(size) + bytes(
                min(255, number + self._dice.randint(0, 2)) for _ in range(refs)
            )
        return MAGIC + bytes((1, 1, count, 1, 0, len(cells) & 0xFF, 0)) + cells

    def _random_cells(self) -> bytes:
        return write_boc(self._tree(4))

    def _special_cells(self) -> bytes:
        """Pruned, library and proof cells, right ones and wrong ones, below ordinary ones."""
        refs = self._dice.choice((0, 0, 0, 1, 2))
        size = self._dice.choice((1, 2, 33, 36, 35, 68, 70, 104, self._dice.randint(1, 120)))
        data = bytes((self._dice.choice((0, 1, 1, 2, 3, 4, 5, 255)), self._dice.choice((0, 1, 1, 3, 7, 8, 255))))
        data = (data + self._dice.choice((bytes(120), self._dice.randbytes(120))))[:size]
        level = 32 * self._dice.choice((0, 0, 1, 1, 3, 7))
        cells = (
            b"\x01\x00\x01" + bytes((refs + 8 + level, 2 * size)) + data + bytes(range(2, 2 + refs)) + bytes(2 * refs)
        )
        return MAGIC + bytes((1, 2, 2 + refs, 1, 0)) + len(cells).to_bytes(2, "big") + b"\x00" + cells

    def _tree(self, depth: int) -> Cell:
        refs = tuple(self._tree(depth - 1) for _ in range(self._dice.choice((0, 0, 1, 2, 3)) if depth else 0))
        bits = self._dice.choice((0, 1, 7, 8, 32, 33, 267, 500, 1023))
        return cell_of(self._dice.getrandbits(bits) if bits else 0, bits, refs)

    def _changed_bytes(self) -> bytes:
        boc = bytearray(self._dice.choice(self._good))
        for _ in range(self._dice.randint(1, 4)):
            boc[self._dice.randrange(4, len(boc))] = self._dice.choice(
                (0, 1, 0x7F, 0x80, 0xFF, self._dice.getrandbits(8))
            )
        match self._dice.randrange(10):
            case 0:
                return bytes(boc[: self._dice.randint(0, len(boc))])
            case 1:
                at = self._dice.randrange(len(boc))
                return bytes(boc[:at]) + self._dice.randbytes(self._dice.randint(1, 9)) + bytes(boc[at:])
        return bytes(boc)

    def _changed_cell(self) -> bytes:
        """A good transaction with one cell changed and all above it made anew, so that everything but it fits."""
        return write_boc(self._change_below(parse_boc(self._dice.choice(self._good))))

    def _change_below(self, cell: Cell) -> Cell:
        if not cell.refs or self._dice.random() < 0.3:
            return self._change(cell)
        refs = list(cell.refs)
        index = self._dice.randrange(len(refs))
        refs[index] = self._change_below(refs[index])
        return Cell(cell.data, cell.bit_count, tuple(refs))

    def _change(self, cell: Cell) -> Cell:
        value, bits, refs = bits_of(cell), cell.bit_count, list(cell.refs)
        match self._dice.randrange(8):
            case 0 | 1 | 2 if bits:
                for _ in range(self._dice.randint(1, 3)):
                    value ^= 1 << self._dice.randrange(bits)
            case 3 if bits:
                cut = self._dice.randint(1, bits)
                value, bits = value >> cut, bits - cut
            case 4 if bits < 1023:
                more = self._dice.randint(1, 1023 - bits)
                value, bits = (value << more) | self._dice.getrandbits(more), bits + more
            case 5 if refs:
                refs.pop(self._dice.randrange(len(refs)))
            case 6 if len(refs) < 4:
                refs.append(self._tree(1))
            case _ if bits > 40:  # a part at random: amounts, ids, addresses
                start = self._dice.randrange(bits - 8)
                width = min(bits - start, self._dice.choice((4, 8, 64, 128)))
                value &= ~(((1 << width) - 1) << start)
                value |= self._dice.choice((0, (1 << width) - 1, self._dice.getrandbits(width))) << start
        return cell_of(value, bits, tuple(refs))

    def _changed_body(self, body: _Body) -> _Body:
        """Left whole now and then: a good message must stay an event."""
        if self._dice.random() < 0.1:
            return body
        return _Body(kind=body.kind, ours=self._change_below(body.ours), theirs=body.theirs)

    def _deep(self) -> bytes:
        if self._dice.random() < 0.5:
            return linked(self._dice.randint(2, 1_400))
        return shared(self._dice.randint(2, 120))


@dataclass(frozen=True)
class _Body:
    """A message body, in our cells and (before it was changed) in pytoniq-core's."""

    kind: str
    ours: Cell
    theirs: Any
    whole: bool = False


def make_bodies(dice: random.Random) -> Iterator[_Body]:
    """Some messages of every event the layout has."""
    for event in LAYOUT.events.values():
        for _ in range(6):
            theirs = encode_fields(event, random_fields(dice, event.fields))
            yield _Body(kind=event.contract, ours=parse_boc(theirs.to_boc()), theirs=theirs, whole=True)


def random_fields(dice: random.Random, fields: tuple[Field, ...]) -> dict[str, Any]:
    """Values that fit, the extreme ones among them."""
    values: dict[str, Any] = {}
    for one in fields:
        if one.kind == "ref":
            values |= random_fields(dice, one.fields)
        else:
            made = [random_value(dice, one) for _ in range(one.count or 1)]
            values[one.name] = made[0] if one.count is None else made
    return values


def random_value(dice: random.Random, one: Field) -> Any:
    """A value of a field."""
    match one.kind:
        case "uint":
            value = dice.choice((0, 1, 2**one.bits - 1, dice.getrandbits(one.bits)))
            return f"{value:0{(one.bits + 3) // 4}x}" if one.as_hex else value
        case "int":
            return dice.choice((0, -1, 2 ** (one.bits - 1) - 1, -(2 ** (one.bits - 1))))
        case "coins":
            return dice.choice((0, 1, 10**9, 2**120 - 1, dice.getrandbits(60)))
        case "bool":
            return dice.random() < 0.5
    return dice.choice((ALICE, "-1:" + "ff" * 32, f"0:{dice.getrandbits(256):064x}"))


class _Wrap:
    """A transaction with one external message, whose body can be exchanged."""

    def __init__(self, kind: str) -> None:
        address = ADDRESSES[kind]
        empty = external_out(address, encode_empty())
        self._root = parse_boc(make_transaction(account=address, messages=[empty]).boc)

    def around(self, body: Cell) -> bytes:
        messages = self._root.refs[0]
        leaf = messages.refs[0]
        message = leaf.refs[0]
        made = _with_ref(messages, 0, _with_ref(leaf, 0, _with_ref(message, 0, body)))
        return write_boc(_with_ref(self._root, 0, made))


def encode_empty() -> Any:
    """A body to be exchanged."""
    event = next(iter(LAYOUT.events.values()))
    return encode_fields(event, random_fields(random.Random(0), event.fields))


def _with_ref(cell: Cell, index: int, ref: Cell) -> Cell:
    return Cell(cell.data, cell.bit_count, (*cell.refs[:index], ref, *cell.refs[index + 1 :]))


def bits_of(cell: Cell) -> int:
    """The data as a number of `bit_count` bits."""
    return int.from_bytes(cell.data, "big") >> (8 * len(cell.data) - cell.bit_count)


def cell_of(value: int, bits: int, refs: tuple[Cell, ...]) -> Cell:
    """A cell with these bits."""
    width = (bits + 7) // 8
    return Cell((value << (8 * width - bits)).to_bytes(width, "big"), bits, refs)


def linked(depth: int) -> bytes:
    """A bag of a chain of cells, made by hand, as deep as wanted."""
    cells = b"".join(b"\x01\x00" + (n + 1).to_bytes(2, "big") for n in range(depth - 1)) + b"\x00\x00"
    head = b"\xb5\xee\x9c\x72\x02\x03" + depth.to_bytes(2, "big") + b"\x00\x01\x00\x00"
    return head + len(cells).to_bytes(3, "big") + b"\x00\x00" + cells


def shared(count: int) -> bytes:
    """Cells that all have the next one as both refs: 2^count paths."""
    cells = b"".join(b"\x02\x00" + bytes((n + 1, n + 1)) for n in range(count - 1)) + b"\x00\x00"
    return MAGIC + b"\x01\x02" + bytes((count, 1, 0)) + len(cells).to_bytes(2, "big") + b"\x00" + cells


def feed(boc: bytes, body: _Body | None = None) -> str:
    """Give an input to every entry of the decoder; returns what came of it. Anything but a DecodeError passes on."""
    try:
        check_crc(boc)
        cell = parse_boc(boc)
    except DecodeError:
        assert body is None, "a well formed bag was refused"
        return "no bag"
    if not _is_special(cell):
        assert parse_boc(write_boc(cell)).hash == cell.hash
    if body is None:
        return _decode_whatever(boc, VAULT_KIND)
    return check_event(DECODERS[body.kind].decode(boc), body)


def _is_special(cell: Cell) -> bool:
    """Whether a special cell stands on its way to the first leaf; written again it may have another level."""
    while cell.refs and not cell.exotic:
        cell = cell.refs[0]
    return cell.exotic


def _decode_whatever(boc: bytes, kind: str) -> str:
    try:
        if boc[-1] % 4 == 0:  # the same reading, shown to people: not for each
            decode_transaction_json(boc, LAYOUT, kind)
        return "read as a transaction" if DECODERS[kind].decode(boc).succeeded else "failed transaction"
    except DecodeError:
        return "no transaction"


def check_event(decoded: DecodedTransaction, body: _Body) -> str:
    """One message of ours: an event that is written again as the same cell, or kept raw as it was."""
    assert len(decoded.events) + len(decoded.undecoded) == 1
    if decoded.undecoded:
        assert not body.whole, decoded.undecoded[0].reason
        assert parse_boc(decoded.undecoded[0].raw_body).hash == body.ours.hash
        return "quarantined"
    (event,) = decoded.events
    assert parse_boc(event.raw_body).hash == body.ours.hash
    assert encode_event(event.body, LAYOUT, body.kind).hash == body.ours.hash, event
    return "event"


@contextmanager
def watchdog() -> Iterator[None]:
    """A hang ends with a TimeoutError where it happens."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"one input took more than {LONGEST_S} s")

    before = signal.signal(signal.SIGPROF, stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(seed: int, count: int, *, say: Callable[[str], None] | None = None, measure_every: int = 500) -> Report:
    """Feed `count` inputs. An input that breaks a promise is shown in the error's note, with its seed and number."""
    report, fuzz = Report(seed), Fuzz(seed)
    feed(*fuzz.make()[1:])  # what the first one imports and caches is not counted
    started, before = time.perf_counter(), _resident_bytes()
    with watchdog():
        for number in range(count):
            name, boc, body = fuzz.make()
            signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
            try:
                _feed_measured(report, name, boc, body, traced=number % measure_every == 0)
            except BaseException as error:
                error.add_note(f"seed {seed}, input {number}, {name}: {boc.hex()}")
                raise
            if say is not None and number % 20_000 == 19_999:
                say(f"{number + 1:>9} inputs, {(number + 1) / (time.perf_counter() - started):,.0f}/s")
    report.seconds = time.perf_counter() - started
    report.grown_bytes = _resident_bytes() - before
    return report


def _feed_measured(report: Report, name: str, boc: bytes, body: _Body | None, *, traced: bool) -> None:
    if traced:  # costs three times as much, so not for all
        tracemalloc.start()
    begun = time.perf_counter()
    outcome = feed(boc, body)
    took = time.perf_counter() - begun
    if traced:
        report.peak_bytes = max(report.peak_bytes, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    elif took > report.slowest_s:
        report.slowest_s, report.slowest = took, name
    report.outcomes[f"{name}: {outcome}"] += 1


def _resident_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Random and changed cells through the decoder.")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    given = parser.parse_args()
    print(f"seed {given.seed}; the same run again: --seed {given.seed} --count {given.count}", flush=True)
    print(run(given.seed, given.count, say=lambda line: print(line, flush=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
