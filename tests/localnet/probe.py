"""A small contract that does whatever a test of the chain needs to see, and how to put it there."""

from __future__ import annotations

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell

from tonsurance.localnet.cells import builder, cell_from_boc
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.messages import address_of, state_init_of

COUNT, FAIL, LOG, PASS_ON = 1, 2, 3, 4
TON = 10**9
SOMEBODY = Address((0, b"\x11" * 32))

PROBE = """
cell get_data() asm "c4 PUSH";
() set_data(cell data) impure asm "c4 POP";
int now() asm "NOW";
int cur_lt() asm "LTIME";
slice my_address() asm "MYADDR";
slice begin_parse(cell c) asm "CTOS";
(slice, slice) load_msg_addr(slice s) asm( -> 1 0) "LDMSGADDR";
int slice_bits(slice s) asm "SBITS";
builder begin_cell() asm "NEWC";
cell end_cell(builder b) asm "ENDC";
builder store_slice(builder b, slice s) asm "STSLICER";
builder store_ref(builder b, cell c) asm(c b) "STREF";
() send_raw_message(cell message, int mode) impure asm "SENDRAWMSG";
tuple empty_tuple() asm "NIL";
forall X -> tuple make_two(X a, X b) asm "2 TUPLE";
forall X, Y -> tuple make_cons(X first, Y rest) asm "CONS";
tuple make_mixed(int a, cell b, slice c, tuple d) asm "4 TUPLE";
forall X -> X nothing() asm "PUSHNULL";

int read_count() inline { return get_data().begin_parse().preload_uint(64); }

() send_on(slice to, int flags, builder body) impure inline {
  send_raw_message(begin_cell().store_uint(flags, 6).store_slice(to).store_uint(0, 4 + 1 + 4 + 4 + 64 + 32)
    .store_uint(1, 2).store_ref(body.end_cell()).end_cell(), 64);
}

() recv_internal(int balance, int value, cell message, slice body) impure {
  slice head = message.begin_parse();
  int bounced = head~load_uint(4) & 1;
  if (bounced | (slice_bits(body) < 32)) { return (); }
  int op = body~load_uint(32);
  throw_if(77, op == 2);
  if (op == 1) { set_data(begin_cell().store_uint(read_count() + 1, 64).end_cell()); }
  if (op == 3) {
    send_raw_message(begin_cell().store_uint(12, 4).store_uint(1, 2).store_uint(256, 9).store_uint(5, 256)
      .store_uint(0, 64 + 32).store_uint(1, 2)
      .store_ref(begin_cell().store_uint(0xabcd, 32).store_uint(now(), 32).end_cell()).end_cell(), 1);
  }
  if (op == 4) {
    int left = body~load_uint(8);
    slice to = body~load_msg_addr();
    if (left) {
      send_on(to, 0x18, begin_cell().store_uint(4, 32).store_uint(left - 1, 8).store_slice(my_address()));
    }
  }
}

int get_count() method_id { return read_count(); }
(int, int) get_time() method_id { return (now(), cur_lt()); }
slice get_address() method_id { return my_address(); }
int subtract(int a, int b) method_id { return a - b; }
slice same_slice(slice a) method_id { return a; }
cell same_cell(cell a) method_id { return a; }
tuple same_tuple(tuple a) method_id { return a; }
int fail() method_id { throw(404); return 0; }
int endless() method_id { int i = 0; while (1) { i += 1; } return i; }
(int, int, cell, slice) get_plain() method_id { return (29, -5, get_data(), my_address()); }
tuple get_mixed() method_id { return make_mixed(-7, get_data(), my_address(), make_two(1, 2)); }
tuple get_list() method_id { return make_cons(1, make_cons(2, nothing())); }
tuple get_null() method_id { return nothing(); }
builder get_builder() method_id { return begin_cell(); }
"""


def body(op: int, *fields: tuple[int, int], to: Address | None = None) -> Cell:
    """A message body: the op, (value, bits) fields and perhaps an address."""
    cell = builder().store_uint(op, 32)
    for value, bits in fields:
        cell.store_uint(value, bits)
    if to is not None:
        cell.store_address(to)
    return cell.end_cell()


def deploy_probe(chain: LocalChain, code: bytes, *, number: int = 0) -> Address:
    """A probe whose counter starts at `number`; different numbers are different contracts."""
    state_init = state_init_of(cell_from_boc(code), builder().store_uint(number, 64).end_cell())
    address = address_of(state_init)
    chain.submit_internal(address, 10 * TON, state_init=state_init, bounce=False)
    chain.mine_until_idle()
    return address
