"""Our reader of cells agrees with pytoniq-core, and whatever bytes come in, it ends with a cell or a DecodeError."""

from __future__ import annotations

import os
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell as TheirCell
from pytoniq_core.boc.tvm_bitarray import TvmBitarray

from chain.fuzzing import linked
from chain.fuzzing import run as fuzz
from chain.making import ALICE, LAYOUT, VAULT, earned, external_out, internal_out, make_transaction
from tonsurance.chain.cells import MAX_BOC_BYTES, MAX_CELLS, Cell, check_crc, parse_boc, write_boc
from tonsurance.chain.decode import decode_transaction, decode_transaction_json
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import VAULT_KIND

FUZZ_SEED = int(os.environ.get("TONSURANCE_TEST_SEED", "20"))
FUZZ_INPUTS = 100_000


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> TheirCell:
    """A random tree of ordinary cells."""
    bits = draw(st.integers(0, 1023))
    builder = Builder().store_uint(draw(st.integers(0, 2**bits - 1)), bits) if bits else Builder()
    for _ in range(draw(st.integers(0, 4 if depth else 0)) if depth > 1 else 0):
        builder.store_ref(draw(trees(depth=depth - 1)))
    return builder.end_cell()


@settings(max_examples=150, deadline=None)
@given(cell=trees(), with_index=st.booleans(), with_crc=st.booleans())
def test_any_bag_of_another_writer_is_read_with_the_same_hash_and_written_back(
    cell: TheirCell, with_index: bool, with_crc: bool
) -> None:
    boc = cell.to_boc(has_idx=with_index, hash_crc32=with_crc)
    ours = parse_boc(boc)
    check_crc(boc)
    assert (ours.hash, ours.bit_count, len(ours.refs)) == (cell.hash, len(cell.bits), len(cell.refs))
    assert TheirCell.one_from_boc(write_boc(ours)).hash == cell.hash
    assert parse_boc(write_boc(ours)).hash == cell.hash


@given(values=st.lists(st.tuples(st.integers(1, 256), st.integers(0, 2**256 - 1), st.booleans()), max_size=8))
def test_numbers_come_out_as_they_went_in(values: list[tuple[int, int, bool]]) -> None:
    builder, wanted, used = Builder(), [], 0
    for bits, number, signed in values:
        used += bits
        if used > 1023:
            break
        value = number % 2**bits - (2 ** (bits - 1) if signed else 0)
        builder.store_int(value, bits) if signed else builder.store_uint(value, bits)
        wanted.append((bits, value, signed))
    data = parse_boc(builder.end_cell().to_boc()).begin_parse()
    assert [data.load_int(bits) if signed else data.load_uint(bits) for bits, _, signed in wanted] == [
        value for _, value, _ in wanted
    ]
    data.expect_end()


def test_proof_and_library_cells_inside_a_message_do_not_stop_us() -> None:
    """Anybody may send one to a contract; its transaction must still be proved and passed."""
    library = TheirCell(TvmBitarray(1023, "00000010" + "01" * 128), [], 2)
    pruned = TheirCell(TvmBitarray(1023, "00000001" + "00000001" + "10" * 128 + "0" * 16), [], 1)
    proof = TheirCell(TvmBitarray(1023, "00000011" + "10" * 128 + "0" * 16), [pruned], 3)
    for special in (library, proof):
        body = Builder().store_uint(1, 32).store_ref(special).end_cell()
        made = make_transaction(in_msg=internal_out(ALICE, VAULT, body), messages=[external_out(VAULT, earned(1, 5))])
        assert parse_boc(made.boc).hash == made.cursor.hash
        decoded = decode_transaction(made.boc, contract=VAULT, kind=VAULT_KIND, layout=LAYOUT)
        assert (decoded.cursor, len(decoded.events)) == (made.cursor, 1)
        with pytest.raises(DecodeError, match="special cell"):
            parse_boc(special.to_boc()).begin_parse()


def test_too_deep_and_too_large_bags_are_refused() -> None:
    assert parse_boc(linked(1000)).depth == 999
    with pytest.raises(DecodeError, match="nested deeper"):
        parse_boc(linked(5000))
    with pytest.raises(DecodeError, match="at most"):
        parse_boc(bytes(MAX_BOC_BYTES + 1))


def test_a_bag_that_refers_to_itself_many_times_is_read_and_written_in_linear_time() -> None:
    """60 levels, both refs to the next one: 2^60 paths. A recursive writer would never end."""
    count = 60
    cells = b"".join(b"\x02\x00" + bytes((n + 1, n + 1)) for n in range(count - 1)) + b"\x00\x00"
    boc = b"\xb5\xee\x9c\x72\x01\x01" + bytes((count, 1, 0, len(cells))) + b"\x00" + cells
    root = parse_boc(boc)
    assert root.depth == count - 1
    assert write_boc(root) == boc


@pytest.mark.parametrize(
    ("boc", "reason"),
    [
        (b"", "not a bag"),
        (b"\xb5\xee\x9c\x72", "too early"),
        (b"\xb5\xee\x9c\x72\x05\x01" + bytes(20), "header"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x02\x00\x02\x00\x00\x00", "2 roots"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x02\x00\x00\x00\x00", "length it announces"),
        (b"\xb5\xee\x9c\x72\x01\x01\xff\x01\x00\x02\x00\x00\x00", "more cells"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x03\x00\x01\x00\x00", "not in order"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x03\x00\x01\x00\x05", "too early"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x02\x00\x07\x00", "four refs"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x03\x00\x00\x01\x00", "completion tag"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x03\x00\x00\x01\x80", "completion tag"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x04\x00\x00\x00\x00\x00", "last cell"),
        (b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00\x02\x00\x00\x10", "inside a cell"),
    ],
)
def test_a_broken_bag_is_a_clear_error(boc: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        parse_boc(boc)


@pytest.mark.timeout(900)
def test_a_hundred_thousand_random_and_changed_inputs_end_in_a_transaction_or_a_clear_error() -> None:
    """A good message stays an event, a changed one is an event that is written again as it came, or is kept raw."""
    print()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        for report in workers.map(fuzz, (FUZZ_SEED, FUZZ_SEED + 1), (FUZZ_INPUTS // 2,) * 2):
            print(report)
            assert sum(report.outcomes.values()) == FUZZ_INPUTS // 2
            assert {"changed event: event", "changed event: quarantined"} <= report.outcomes.keys()
            assert report.peak_bytes < 4 * 1024 * 1024
            assert report.grown_bytes < 64 * 1024 * 1024


@pytest.mark.parametrize("cells", [MAX_CELLS, MAX_CELLS + 1, 2_000_000])
def test_memory_is_bounded_by_cells_and_not_only_by_bytes(cells: int) -> None:
    """A bag of empty cells costs two bytes for each; as objects they are a hundred times that."""
    boc = empty_cells(cells)
    tracemalloc.start()
    with suppress(DecodeError):
        parse_boc(boc)
        assert cells <= MAX_CELLS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"\n{cells} cells in {len(boc) / 1e6:.1f} MB: {peak / 1e6:.1f} MB at once")
    assert peak < 64 * 1024 * 1024


def empty_cells(count: int) -> bytes:
    """A bag of cells without bits and refs, the first of them its root."""
    counts = count.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(4) + (2 * count).to_bytes(4, "big") + bytes(4)
    return b"\xb5\xee\x9c\x72\x04\x04" + counts + bytes(2 * count)


def test_an_amount_with_leading_zeros_is_refused() -> None:
    """Otherwise two messages would be the same event."""
    longer = Builder().store_uint(2, 4).store_uint(5, 16).end_cell()
    with pytest.raises(DecodeError, match="leading zeros"):
        parse_boc(longer.to_boc()).begin_parse().load_coins()
    assert parse_boc(Builder().store_coins(5).end_cell().to_boc()).begin_parse().load_coins() == 5


def feed(boc: bytes) -> None:
    """Nothing but a DecodeError may come out of any entry."""
    for entry in (
        parse_boc,
        check_crc,
        lambda data: decode_transaction(data, contract=VAULT, kind=VAULT_KIND, layout=LAYOUT),
        lambda data: decode_transaction_json(data, LAYOUT, VAULT_KIND),
    ):
        with suppress(DecodeError):
            entry(boc)


@settings(max_examples=300, deadline=None)
@given(body=trees(), description=trees(), inner=trees())
def test_random_cells_in_place_of_the_parts_never_crash_the_decoder(
    body: TheirCell, description: TheirCell, inner: TheirCell
) -> None:
    made = make_transaction(messages=[external_out(VAULT, body)])
    feed(made.boc)
    root = TheirCell.one_from_boc(made.boc)
    feed(TheirCell(root.bits, [inner, root.refs[1], root.refs[2]]).to_boc())
    feed(TheirCell(root.bits, [root.refs[0], root.refs[1], description]).to_boc())


def test_a_cell_made_by_hand_has_the_standard_hash_of_the_empty_cell() -> None:
    empty = Cell(b"", 0, ())
    assert empty.hash.hex() == "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
