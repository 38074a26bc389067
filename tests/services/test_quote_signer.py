"""The signer signs what the factory accepts and nothing else, and its keys are not seen."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import os
import pickle
import pprint
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from prometheus_client import generate_latest
from rich.console import Console
from rich.traceback import Traceback

from services.signing import (
    FACTORY,
    FOREIGN_SEED,
    NETWORK,
    NEXT_SEED,
    NOW,
    SEED,
    Accepted,
    asking,
    fair_quote,
    key_of,
    make_signer,
    running_signer,
    serving,
)
from tonsurance.chain.messages import Quote, quote_hash
from tonsurance.cli import EXIT_USAGE, run_cli
from tonsurance.core.errors import DependencyError, InputError, TonsuranceError, UsageError
from tonsurance.core.sale_errors import SignerUnavailable, SigningRefused
from tonsurance.core.units import NANO_PER_TON
from tonsurance.services.quote_purchases import stretch_validity
from tonsurance.services.quote_signer import (
    CLOCK_ALLOWANCE_S,
    MAX_AHEAD_S,
    Addressee,
    LocalSigner,
    choose_key,
    sign_for,
)
from tonsurance.services.signing_key import SecretKey
from tonsurance.settings import Environment, quote_keys, quote_signer

SECRETS = [form for seed in (SEED, NEXT_SEED) for form in (seed.hex(), repr(seed)[2:-1], str(list(seed))[1:-1])]
"""What a seed looks like: hexadecimal, as bytes, as numbers."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signer.sock"


def check(quote: Quote, signature: bytes, seed: bytes) -> None:
    """Raises BadSignatureError."""
    VerifyKey(key_of(seed)).verify(quote_hash(quote), signature)


# ---- what is signed


async def test_a_fair_quote_is_signed_by_the_key_that_is_named() -> None:
    signer, quote = make_signer(SEED, NEXT_SEED), fair_quote()
    assert await signer.public_keys() == (key_of(SEED), key_of(NEXT_SEED))
    for seed, other in ((SEED, NEXT_SEED), (NEXT_SEED, SEED)):
        signature = await signer.sign(quote, key_of(seed))
        assert len(signature) == 64
        check(quote, signature, seed)
        with pytest.raises(BadSignatureError):
            check(quote, signature, other)


LEAST = -(-100 * NANO_PER_TON * 90 * 50 // 3_650_000)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network_id": -239}, "network -239"),
        ({"factory": f"0:{'f1' * 32}"}, "none of this signer's"),
        ({"deadline": NOW}, "deadline"),
        ({"deadline": NOW - 1}, "deadline"),
        ({"deadline": NOW + 631}, "deadline"),
        ({"premium": LEAST - 1}, "least rate"),
        ({"premium": 0}, "least rate"),
        ({"coverage_amount": 0}, "no cover"),
        ({"trigger_bps": 9800}, "trigger"),
        ({"trigger_bps": 9699}, "trigger"),
        ({"floor_bps": 8999}, "floor"),
        ({"duration_days": 0}, "1 to 365 days"),
        ({"duration_days": 366}, "1 to 365 days"),
        ({"chain_id": 9}, "no chain 9"),
        ({"stablecoin_id": 14}, "no stablecoin 14"),
        ({"coverage_type": 5}, "no coverage type 5"),
        ({"coverage_type": 1, "chain_id": 5}, "no smart-contract layer"),
    ],
)
async def test_what_should_never_be_signed_is_refused(changes: dict[str, object], reason: str, path: Path) -> None:
    quote, key = fair_quote(**changes), key_of(SEED)
    signer = make_signer(SEED)
    with pytest.raises(SigningRefused, match=reason):
        await signer.sign(quote, key)
    async with serving(signer, path), asking(path) as far:
        with pytest.raises(SigningRefused, match=reason):
            await far.sign(quote, key)


@pytest.mark.parametrize(
    "changes",
    [{"deadline": NOW + 630}, {"deadline": NOW + 1}, {"premium": LEAST}, {"duration_days": 365, "premium": 2**40}],
)
async def test_the_edges_of_what_the_factory_accepts_are_signed(changes: dict[str, object]) -> None:
    quote = fair_quote(**changes)
    check(quote, await make_signer(SEED).sign(quote, key_of(SEED)), SEED)


async def test_clocks_that_differ_a_little_do_not_stop_the_sale() -> None:
    """The longest quote there is, by a clock that is as far ahead as two machines may be, or behind."""
    longest_s = stretch_validity(600, 1.0)
    for apart_s in (-CLOCK_ALLOWANCE_S, -1, 0, 1, CLOCK_ALLOWANCE_S):
        quote = fair_quote(deadline=NOW + apart_s + longest_s)
        check(quote, await make_signer(SEED).sign(quote, key_of(SEED)), SEED)
        assert quote.deadline <= NOW + MAX_AHEAD_S, "the factory would refuse it"


async def test_without_a_clock_any_deadline_is_signed_and_nothing_else_is_allowed() -> None:
    signer = LocalSigner([SecretKey(SEED)], [Addressee(NETWORK, FACTORY)], clock=None)
    for deadline in (1, NOW, NOW + 90_000, 2**32 - 1):
        quote = fair_quote(deadline=deadline)
        check(quote, await signer.sign(quote, key_of(SEED)), SEED)
    with pytest.raises(SigningRefused, match="least rate"):
        await signer.sign(fair_quote(premium=0), key_of(SEED))
    for addressees in (None, [Addressee(NETWORK, FACTORY), Addressee(-239, FACTORY)]):
        with pytest.raises(UsageError, match="mainnet"):
            LocalSigner([SecretKey(SEED)], addressees, clock=None)


def test_the_command_holds_deadlines_against_the_clock_on_mainnet(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["signer", "--socket", str(path), "--factory", FACTORY, "--any-clock", "--network-id", "-239"]
    assert run_cli(asked) == EXIT_USAGE
    assert "local chains only" in capsys.readouterr().err
    assert not path.exists()


async def test_the_command_signs_for_a_chain_whose_clock_is_ahead_when_it_is_told_to(path: Path) -> None:
    quote = fair_quote(deadline=int(time.time()) + 1_000_000)
    async with running_signer(path, SEED, FACTORY) as signer:
        with pytest.raises(SigningRefused, match="deadline"):
            await signer.sign(quote, key_of(SEED))
    async with running_signer(path, SEED, FACTORY, "--any-clock") as signer:
        check(quote, await signer.sign(quote, key_of(SEED)), SEED)


async def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(SigningRefused) as caught:
        await make_signer(SEED).sign(fair_quote(deadline=1, premium=0, trigger_bps=1), key_of(SEED))
    assert all(word in caught.value.message for word in ("deadline", "least rate", "trigger"))


# ---- which key


def test_the_key_in_force_is_taken_and_else_the_one_before_while_it_is_good() -> None:
    old, new = key_of(SEED), key_of(NEXT_SEED)
    in_force = Accepted(public_key=new, previous_key=old, previous_until=NOW + 300)
    assert choose_key(in_force, (old, new), NOW + 200) == new
    assert choose_key(in_force, (old,), NOW + 299) == old
    with pytest.raises(SignerUnavailable):
        choose_key(in_force, (old,), NOW + 300)
    with pytest.raises(SignerUnavailable):
        choose_key(Accepted(public_key=new), (old,), NOW + 1)


async def test_a_key_that_is_not_held_says_what_to_do(path: Path) -> None:
    accepted = Accepted(public_key=key_of(FOREIGN_SEED))
    for held in (make_signer(SEED, NEXT_SEED), make_signer()):
        with pytest.raises(SignerUnavailable) as caught:
            await sign_for(held, fair_quote(), accepted)
        assert key_of(FOREIGN_SEED).hex()[:16] in caught.value.message
        assert "QUOTE_KEY_NEXT" in (caught.value.advice or "")
        with pytest.raises(SignerUnavailable, match="QUOTE_KEY"):
            await held.sign(fair_quote(), key_of(FOREIGN_SEED))
    async with serving(make_signer(SEED), path), asking(path) as far:
        with pytest.raises(SignerUnavailable, match="QUOTE_KEY"):
            await far.sign(fair_quote(), key_of(FOREIGN_SEED))


# ---- the key is not seen


def seen_nothing(*texts: str) -> None:
    for text in texts:
        assert not any(secret in text for secret in SECRETS)


def show(error: BaseException) -> str:
    """Everything that anybody would print of an error, with the variables of every frame."""
    out = io.StringIO()
    Console(file=out, width=400).print(
        Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True)
    )
    plain = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return out.getvalue() + plain + repr(error) + str(error) + repr(vars(error))


async def test_a_key_shows_nowhere() -> None:
    signer = make_signer(SEED, NEXT_SEED)
    keys = list(signer._keys.values())
    seen_nothing(repr(signer), str(signer), pprint.pformat(vars(signer)), f"{keys} {keys[0]!s} {keys[0]!r:>80}")
    seen_nothing(json.dumps([*vars(signer).values()][1:], default=repr), json.dumps(keys, default=repr))
    for attribute in SecretKey.__slots__:
        seen_nothing(repr(getattr(keys[0], attribute)))
    with pytest.raises(TypeError):
        vars(keys[0])
    seen_nothing(generate_latest().decode())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_is_not_pickled(protocol: int) -> None:
    for thing in (SecretKey(SEED), make_signer(SEED)):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
            pickle.dumps(thing, protocol)
        seen_nothing(str(caught.value))


def test_a_key_is_not_copied() -> None:
    for way in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="copied"):
            way(SecretKey(SEED))


async def test_a_key_is_in_no_log_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    signer, shown = make_signer(SEED, NEXT_SEED), []
    failures = [
        signer.sign(fair_quote(premium=0), key_of(SEED)),
        signer.sign(fair_quote(), key_of(FOREIGN_SEED)),
        signer.sign(fair_quote(quote_id=-1), key_of(SEED)),
        signer.sign(fair_quote(buyer="nobody"), key_of(SEED)),
        signer.sign(None, key_of(SEED)),  # type: ignore[arg-type]
    ]
    for failure in failures:
        try:
            await failure
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not show the key
            shown.append(show(error))
            structlog.get_logger().error("request crashed", exc_info=error, signer=signer, keys=signer._keys)
    out = capsys.readouterr()
    assert len(shown) == len(failures)
    seen_nothing(*shown, out.out, out.err)


@pytest.mark.parametrize(("name", "other"), [("QUOTE_KEY", "QUOTE_KEY_NEXT"), ("QUOTE_KEY_NEXT", "QUOTE_KEY")])
@pytest.mark.parametrize("spoil", [lambda text: text[:-2], lambda text: text + "00", lambda text: text[:-1] + "x"])
def test_a_seed_that_cannot_be_used_is_refused_and_not_repeated(name: str, other: str, spoil: object) -> None:
    bad = spoil((b"\x5c\x3d" * 16).hex())  # type: ignore[operator]
    with pytest.raises(UsageError, match=name) as caught:
        quote_keys(Environment({name: bad, other: SEED.hex()}))
    assert bad[:16] not in str(caught.value)
    innermost = list(traceback.walk_tb(caught.value.__traceback__))[-1][0]
    assert bad not in innermost.f_locals.values()
    for wrong in (SEED[1:], SEED + b"1", SEED.hex(), None):
        with pytest.raises(InputError, match="32 bytes") as refused:
            SecretKey(wrong)  # type: ignore[arg-type]
        innermost = list(traceback.walk_tb(refused.value.__traceback__))[-1][0]
        assert "seed" not in innermost.f_locals


def test_keys_and_the_signer_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "next"
    file.write_text(NEXT_SEED.hex() + "\n")
    assert quote_keys(Environment({})) == ()
    both = quote_keys(Environment({"QUOTE_KEY": SEED.hex(), "QUOTE_KEY_NEXT_FILE": str(file)}))
    assert [key.public_key for key in both] == [key_of(SEED), key_of(NEXT_SEED)]
    with pytest.raises(UsageError, match="the same key"):
        quote_keys(Environment({"QUOTE_KEY": SEED.hex(), "QUOTE_KEY_NEXT": SEED.hex()}))
    assert quote_signer(Environment({})) is None
    assert quote_signer(Environment({"QUOTE_SIGNER": "unix:/run/signer.sock"})) == Path("/run/signer.sock")
    for bad in ("unix:", "/run/signer.sock", "tcp:127.0.0.1:1"):
        with pytest.raises(UsageError, match="QUOTE_SIGNER"):
            quote_signer(Environment({"QUOTE_SIGNER": bad}))


# ---- in another process


async def test_many_ask_at_once_and_each_gets_its_own_signature(path: Path) -> None:
    quotes = [fair_quote(quote_id=number) for number in range(1, 101)]
    async with serving(make_signer(SEED), path), asking(path) as signer:
        signatures = await asyncio.gather(*(signer.sign(quote, key_of(SEED)) for quote in quotes))
    for quote, signature in zip(quotes, signatures, strict=True):
        check(quote, signature, SEED)


async def test_the_socket_is_private(path: Path) -> None:
    async with serving(make_signer(SEED), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_another_user_gets_no_answer(path: Path) -> None:
    async with serving(make_signer(SEED), path, uids=[os.geteuid() + 1]), asking(path) as signer:
        with pytest.raises(SignerUnavailable, match=r"closed|reset|Broken"):
            await signer.public_keys()


async def test_the_socket_of_a_dead_signer_is_replaced_and_that_of_a_living_one_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(make_signer(SEED), path), asking(path) as signer:
        assert await signer.public_keys() == (key_of(SEED),)
        with pytest.raises(UsageError, match="already"):
            async with serving(make_signer(NEXT_SEED), path):
                await asyncio.sleep(0)
        assert await signer.public_keys() == (key_of(SEED),)


async def test_what_is_no_place_for_a_socket_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for place, error in (
        (file, UsageError),
        (tmp_path / ("x" * 120), UsageError),
        (tmp_path / "none" / "s", DependencyError),
    ):
        with pytest.raises(error):
            async with serving(make_signer(SEED), place):
                await asyncio.sleep(0)
    assert file.read_text() == "precious"


async def test_without_a_signer_the_caller_is_told_at_once_and_how_to_start_one(path: Path) -> None:
    async with asking(path) as signer:
        for attempt in (signer.public_keys(), signer.sign(fair_quote(), key_of(SEED))):
            with pytest.raises(SignerUnavailable, match="cannot be reached") as caught:
                await attempt
            assert "tonsurance signer --socket" in (caught.value.advice or "")


async def test_a_signer_that_was_started_anew_is_used_again(path: Path) -> None:
    async with asking(path) as signer:
        async with serving(make_signer(SEED), path):
            await asyncio.gather(*(signer.public_keys() for _ in range(3)))
        with pytest.raises(SignerUnavailable):
            await signer.public_keys()
        async with serving(make_signer(NEXT_SEED), path):
            assert await signer.public_keys() == (key_of(NEXT_SEED),)


@contextlib.asynccontextmanager
async def saying(path: Path, answer: bytes | None) -> AsyncIterator[None]:
    """A process that says this to whatever it is asked, or nothing at all."""

    talks = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readline():
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.create_task(say(reader, writer)))

    server = await asyncio.start_unix_server(take, path)
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*talks)
        await server.wait_closed()
        await asyncio.sleep(0)


WRONG_ANSWERS = {
    "nothing": None,
    "no JSON": b"hello\n",
    "too much": b"x" * 100_000 + b"\n",
    "another shape": b'{"keys": 1}\n',
    "no hexadecimal": b'{"keys": ["zz"], "signature": "zz"}\n',
    "an unknown error": b'{"error": "tired", "message": "no"}\n',
    "a wrong signature": b'{"keys": ["zz"], "signature": "' + b"00" * 64 + b'"}\n',
    "a short signature": b'{"keys": ["zz"], "signature": "00"}\n',
    "emptiness": b"{}\n",
}


@pytest.mark.parametrize("answer", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS.keys())
async def test_whatever_the_signer_says_the_caller_hears_that_it_is_unavailable(
    path: Path, answer: bytes | None
) -> None:
    async with saying(path, answer), asking(path, timeout_s=0.1) as signer, asyncio.timeout(60):
        with pytest.raises(SignerUnavailable):
            await signer.sign(fair_quote(), key_of(SEED))
        with pytest.raises(SignerUnavailable):
            await signer.public_keys()


async def test_an_answer_that_came_too_late_is_not_taken_for_another_questions(path: Path) -> None:
    gate = asyncio.Event()

    class Slow(LocalSigner):
        async def sign(self, quote: Quote, public_key: bytes) -> bytes:
            if quote.quote_id == 1:
                await gate.wait()
            return await super().sign(quote, public_key)

    slow = Slow([SecretKey(SEED)], clock=lambda: NOW)
    async with serving(slow, path), asking(path, timeout_s=2.0) as signer:
        await signer.public_keys()
        with pytest.raises(SignerUnavailable, match="did not answer"):
            await signer.sign(fair_quote(quote_id=1), key_of(SEED))
        gate.set()
        quote = fair_quote(quote_id=2)
        check(quote, await signer.sign(quote, key_of(SEED)), SEED)


@pytest.mark.parametrize(
    "line", [b"hello\n", b"{}\n", b"[]\n", b'{"ask": "seed"}\n', b'{"ask": "keys", "more": 1}\n', b"\xff\n"]
)
async def test_what_is_no_request_is_answered_so_and_the_signer_goes_on(path: Path, line: bytes) -> None:
    async with serving(make_signer(SEED), path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        assert json.loads(await reader.readline())["error"] == "bad_input"
        writer.write(b'{"ask": "keys"}\n')
        assert json.loads(await reader.readline()) == {"keys": [key_of(SEED).hex()]}
        writer.close()
        await writer.wait_closed()


async def test_who_says_too_much_is_cut_off(path: Path) -> None:
    async with serving(make_signer(SEED), path), asking(path) as signer:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * 100_000)
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        assert await signer.public_keys() == (key_of(SEED),)


PROCESS = f"""
import ctypes
from pathlib import Path
from tonsurance.cli_signer import signer
from tonsurance.services import signing_key
import sys
if len(sys.argv) > 2:
    signing_key.forbid_dumps()
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
else:
    signer(socket=Path(sys.argv[1]), factory=["{FACTORY}"], network_id={NETWORK})
"""


async def test_the_signers_process_signs_and_leaves_no_core(path: Path) -> None:
    dumpable = subprocess.run([sys.executable, "-c", PROCESS, "", "dump"], capture_output=True, check=True, timeout=60)
    assert dumpable.stdout.strip() == b"0"
    env = os.environ | {"QUOTE_KEY": SEED.hex(), "QUOTE_KEY_NEXT": NEXT_SEED.hex()}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, str(path), env=env, stdout=pipe, stderr=pipe
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            said = await process.stderr.readuntil(b"signer_listens")
        async with asking(path, timeout_s=30.0) as signer:
            assert await signer.public_keys() == (key_of(SEED), key_of(NEXT_SEED))
            with pytest.raises(SigningRefused, match="deadline"):
                await signer.sign(fair_quote(deadline=1), key_of(SEED))
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert "Max core file size        0                    0" in limits
    finally:
        process.terminate()
        out, err = await process.communicate()
    assert process.returncode == 0, err
    seen_nothing(out.decode(), (said + err).decode())


def test_every_error_of_the_signer_is_ours() -> None:
    assert issubclass(SignerUnavailable, DependencyError)
    assert issubclass(SigningRefused, TonsuranceError)
