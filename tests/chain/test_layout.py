"""Layouts: the shipped one is valid, and a mistake in one is found when it is loaded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.making import LAYOUT, LAYOUT_TEXT
from tonsurance.chain.layout import DEFAULT_LAYOUT, check_kind, list_layouts, load_layout, parse_layout
from tonsurance.core.errors import UsageError
from tonsurance.core.events import EVENT_TYPES, FACTORY_KIND, VAULT_KIND

HEAD = 'name = "x"\n[[event]]\ncontract = "MultiTrancheVault"\nop = 1\n'
PAUSED = 'type = "Paused"\nfields = [{name="paused", type="bool"}]\n'
REQUEST = '[[event]]\ncontract = "MultiTrancheVault"\nincoming = 1\nname = "Asked"\n'
MAPS = "[map.chain]\n0 = 0\n4 = 5\n8 = 4\n"


def named(text: str) -> str:
    """The layout, with a name where the text does not give it one."""
    return text if text.startswith(("name", "colour")) or "[" not in text else 'name = "x"\n' + text


def test_the_shipped_layout_knows_every_event_type_and_both_contracts() -> None:
    layout = load_layout()
    assert {event.type for event in layout.events.values()} == set(EVENT_TYPES)
    assert {kind for kind, _ in layout.events} == set(layout.code) == set(layout.kinds) >= {VAULT_KIND, FACTORY_KIND}


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(LAYOUT_TEXT)
    assert load_layout(path) == load_layout(str(path)) == LAYOUT


@pytest.mark.parametrize("name", ["nothing", "/nothing.toml", "../layouts/tonsurance", "", ".", "a\x00b"])
def test_a_layout_that_is_not_there_is_a_clear_error_that_names_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be read.*Known by name: reference-core, reference-first, tonsurance"):
        load_layout(name)


def test_every_shipped_layout_is_valid_and_says_which_generation_it_is() -> None:
    names = list_layouts()
    assert names == ("reference-core", "reference-first", DEFAULT_LAYOUT)
    assert [load_layout(name).name for name in names] == [f"{name}-1" for name in names]


def test_a_file_needs_no_certain_name_and_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text(LAYOUT_TEXT)
    assert load_layout(str(path)) == LAYOUT
    path.write_text(HEAD + 'type = "Nothing"')
    with pytest.raises(UsageError, match=r"mine: Event Nothing of MultiTrancheVault: there is no such event type"):
        load_layout(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="mine cannot be read"):
        load_layout(path)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(UsageError, match="larger than"):
        load_layout(path)


def test_an_unknown_kind_is_an_error_that_names_those_there_are() -> None:
    check_kind(LAYOUT, VAULT_KIND)
    with pytest.raises(UsageError, match=r"no contract kind 'Vault'\. Known: MultiTrancheVault, PolicyFactory"):
        check_kind(LAYOUT, "Vault")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "not valid TOML"),
        ("", "needs a name"),
        ('name = "x"', r"at least one \[\[event\]\]"),
        ('name = "x"\nevent = [1]', "must be a table"),
        (HEAD + PAUSED + "colour = 1\n", "unknown keys colour"),
        ('colour = 1\n' + HEAD + PAUSED, "unknown keys colour"),
        (HEAD + 'type = "Nothing"\n', "no such event type"),
        (HEAD + 'type = ["Paused"]\n', "no such event type"),
        (HEAD.replace("op = 1", "op = -1") + PAUSED, "32 bits"),
        (HEAD.replace("op = 1", f"op = {2**32}") + PAUSED, "32 bits"),
        (HEAD.replace("op = 1", 'op = "1"') + PAUSED, "32 bits"),
        (HEAD.replace("op = 1", "op = true") + PAUSED, "32 bits"),
        (HEAD.replace("op = 1", "") + PAUSED, "exactly one of op, destination, incoming"),
        (HEAD + "incoming = 1\n" + PAUSED, "exactly one of op, destination, incoming"),
        (HEAD.replace("op = 1", f"destination = {2**256}") + PAUSED, "256 bits"),
        (HEAD + 'type = "Paused"\nname = "Paused"\n', "either a type, which is one of ours, or a name"),
        (HEAD + 'name = "a b"\n', "not an event's name"),
        (HEAD.replace('contract = "MultiTrancheVault"', "") + PAUSED, "names no contract"),
        (HEAD + PAUSED + HEAD.partition("\n")[2] + PAUSED, "Paused and Paused .* same op 0x1"),
        (HEAD + 'type = "Paused"\nfields = 5\n', "must be a list"),
        (HEAD + 'type = "Paused"\nfields = [5]\n', "must be {name, type}"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused"}]\n', "unknown type None"),
        (HEAD + 'type = "Paused"\nfields = [{name="Paused", type="bool"}]\n', "not a field name"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="float"}]\n', "unknown type 'float'"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="uint"}]\n', "1 to 256 bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="int0"}]\n', "1 to 256 bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="uint257"}]\n', "1 to 256 bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool2"}]\n', "no number of bits"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool[0]"}]\n', "1 to 64 elements"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool[999]"}]\n', "1 to 64 elements"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="ref[2]"}]\n', "holds no refs"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool", fields=[]}]\n', "unknown keys fields"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="uint8"}]\n', "uint values do not fit bool"),
        (HEAD + 'type = "Paused"\nfields = [{name="paused", type="bool[2]"}]\n', "do not fit"),
        (HEAD + 'type = "CoverageChanged"\n'
         'fields = [{name="policy_id", type="uint64"}, {name="parts", type="int64"}]\n', "int values do not fit tuple"),
        (HEAD + 'type = "QuoteKeySet"\nfields = [{name="public_key", type="coins"}]\n', "coins values do not fit str"),
        (HEAD + 'name = "A"\nfields = [{name="a", type="uint99999"}]\n', "unknown type"),
        (HEAD + 'name = "A"\nfields = [{name="a", type="bits"}]\n', "bits needs 1 to 1023 bits"),
        (HEAD + 'name = "A"\nfields = [{name="a", type="bits1024"}]\n', "bits needs 1 to 1023 bits"),
        (HEAD + 'name = "A"\nfields = [{name="a", type="bits991"}]\n', None),
        (HEAD + 'name = "A"\nfields = [{name="a", type="bits992"}]\n', "need 1024 bits at least and it holds 1023"),
        (HEAD + 'name = "A"\nfields = [{name="a", type="uint256[4]"}]\n', "need 1056 bits at least"),
        (HEAD + 'name = "A"\nfields = [{name="r", type="ref", fields=[{name="a", type="bits1023"}]}]\n', None),
        (HEAD + 'name = "A"\n'
         'fields = [{name="a", type="bool"}, {name="r", type="ref", fields=[{name="a", type="bool"}]}]\n', "same name"),
        (HEAD + 'name = "A"\nfields = ' + '[{name="r", type="ref", fields=' * 12 + "[]" + "}]" * 12 + "\n",
         "nested deeper than 8"),
        (HEAD + 'name = "A"\nfields = ' + "[" * 5000 + "]" * 5000, "not valid TOML|must be {name, type}"),
        (HEAD + 'name = "A"\nx = ' + "9" * 5000, "not valid TOML"),
        (HEAD + 'name = "A"\nfields = [{name="a", from="sender"}]\n', "only an event of an incoming message"),
        (REQUEST + 'fields = [{name="a", from="fee"}]\n', "Known: sender, value"),
        (REQUEST + 'fields = [{name="a", from="value", type="coins"}]\n', "unknown keys type"),
        (REQUEST + 'fields = [{name="r", type="ref", fields=[{name="a", from="value"}]}]\n', "cannot stand in a ref"),
        (REQUEST + 'fields = [{name="a", type="uint8", map="chain"}]\n', "there is no map 'chain'. Known: none"),
        (MAPS + REQUEST + 'fields = [{name="a", type="int8", map="chain"}]\n', "only a single uintN"),
        (MAPS + REQUEST + 'fields = [{name="a", type="uint8[2]", map="chain"}]\n', "only a single uintN"),
        (MAPS + REQUEST + 'fields = [{name="a", type="uint3", map="chain"}]\n', "id 8 of the map chain does not fit 3"),
        ("map = 5\n" + REQUEST, "Maps are tables"),
        ("[map.chain]\n" + REQUEST, "at least one"),
        (MAPS.replace("4 = 5", "x = 5") + REQUEST, "x = 5 does not map"),
        (MAPS.replace("4 = 5", '4 = "5"') + REQUEST, "4 = '5' does not map"),
        (MAPS.replace("4 = 5", "4 = -5") + REQUEST, "4 = -5 does not map"),
        (MAPS.replace("4 = 5", "04 = 5") + REQUEST, "04 = 5 does not map"),
        (HEAD + 'type = "Paused"\nfields = []\n', r"missing \['paused'\]"),
        (HEAD + 'type = "Paused"\nfields = [{name="other", type="bool"}]\n', r"unknown \['other'\]"),
        (HEAD + 'type = "Paused"\nfields = [' + '{name="paused", type="bool"},' * 2 + ']\n', "same name"),
        (HEAD + 'type = "Paused"\nfields = [' + '{name="r", type="ref"},' * 5 + ']\n', "at most 4 refs"),
        (HEAD + PAUSED + '[code]\nPolicyFactory = "12"\n', "64 hexadecimal"),
        ('name = "x"\ncode = 5\n' + HEAD.partition("\n")[2] + PAUSED, "must map"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_when_the_layout_is_read(text: str, reason: str | None) -> None:
    if reason is None:
        assert parse_layout(named(text)).events
        return
    with pytest.raises(UsageError, match=reason):
        parse_layout(named(text))


CREATED = """
[[event]]
contract = "PolicyShard"
destination = 0x51
name = "Created"
fields = [{name="id", type="uint64"}, {name="chain", type="uint8", map="chain"}, {name="who", type="address"},
  {name="days", type="uint16"}, {name="list", type="coins[6]"}, {name="hash", type="bits256"},
  {name="number", type="uint256"}]
"""


def created(canonical: str) -> str:
    return named(MAPS + CREATED + f"canonical = {canonical}\n")


@pytest.mark.parametrize(
    ("canonical", "reason"),
    [
        ("5", "must be a table"),
        ("{}", "no such event type"),
        ('{type="Nothing"}', "no such event type"),
        ('{type="PolicyExpired", colour=1}', "unknown keys colour"),
        ('{type="PolicyExpired"}', r"missing \['policy_id'\]"),
        ('{type="PolicyExpired", fields=5}', "must be a table of our names"),
        ('{type="PolicyExpired", missing="policy_id"}', "list of names"),
        ('{type="PolicyExpired", missing=[5]}', "list of names"),
        ('{type="PolicyExpired", missing=["policy_id", "x"]}', r"unknown \['x'\]"),
        ('{type="PolicyExpired", missing=["policy_id"], fields={policy_id="id"}}', "same name"),
        ('{type="PolicyExpired", fields={policy_id="x"}}', "no field 'x'. It has: id, chain, who"),
        ('{type="PolicyExpired", fields={policy_id=5}}', "the name of a field"),
        ('{type="PolicyExpired", fields={policy_id={}}}', "either field or from"),
        ('{type="PolicyExpired", fields={policy_id={field="id", from="block_time"}}}', "either field or from"),
        ('{type="PolicyExpired", fields={policy_id={from="midnight"}}}', "Known: block_time"),
        ('{type="PolicyExpired", fields={policy_id={value=5, field="id"}}}', "unknown keys field"),
        ('{type="PolicyExpired", fields={policy_id={value="5"}}}', "the value does not fit"),
        ('{type="PolicyExpired", fields={policy_id={value=true}}}', "the value does not fit"),
        ('{type="PolicyExpired", fields={policy_id={value=5}}}', None),
        ('{type="PolicyExpired", fields={policy_id={from="block_time"}}}', None),
        ('{type="PolicyExpired", fields={policy_id={field="id", times=2}}}', "beside plus"),
        ('{type="PolicyExpired", fields={policy_id={field="id", plus="days", times=true}}}', "number beside plus"),
        ('{type="PolicyExpired", fields={policy_id={field="id", plus="who"}}}', "only single numbers"),
        ('{type="PolicyExpired", fields={policy_id={field="id", plus="list"}}}', "only single numbers"),
        ('{type="PolicyExpired", fields={policy_id={field="id", plus="x"}}}', "no field 'x'"),
        ('{type="PolicyExpired", fields={policy_id={field="id", plus="days", times=86400}}}', None),
        ('{type="PolicyExpired", fields={policy_id="who"}}', "address values do not fit int"),
        ('{type="PolicyExpired", fields={policy_id="list"}}', "do not fit"),
        ('{type="QuoteKeySet", fields={public_key={from="block_time"}}}', "a time or a sum is a number"),
        ('{type="QuoteKeySet", fields={public_key="number"}}', "do not fit str"),
        ('{type="QuoteKeySet", fields={public_key="hash"}}', None),
        ('{type="CoverageChanged", fields={policy_id="id", parts="list"}}', None),
        ('{type="CoverageChanged", fields={policy_id="id", parts="id"}}', "do not fit tuple"),
        ('{type="CoverageChanged", fields={policy_id="id", parts={value=[1, 2]}}}', None),
        ('{type="PremiumsEarned", fields={tranche_id={value=7}, amount="id"}}', "no tranche_id 7: 1 to 6"),
        ('{type="PremiumsEarned", fields={tranche_id="chain", amount="id"}}', "no tranche_id 0: 1 to 6"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_an_event_means_is_found_when_the_layout_is_read(canonical: str, reason: str | None) -> None:
    if reason is None:
        assert parse_layout(created(canonical)).logs["PolicyShard", 0x51].canonical is not None
        return
    with pytest.raises(UsageError, match=reason) as caught:
        parse_layout(created(canonical))
    assert "Event Created of PolicyShard, canonical" in caught.value.message


def test_a_map_to_an_id_that_is_in_no_catalogue_is_found() -> None:
    text = MAPS.replace("4 = 5", "4 = 9") + CREATED
    others = "buyer, coverage_type, stablecoin_id, coverage_amount, premium, start, end, trigger_bps, floor_bps"
    missing = ", ".join(f'"{name}"' for name in ("policy_id", "quote_id", *others.split(", ")))
    with pytest.raises(UsageError, match="field chain_id: there is no chain_id 9: 0 to 8"):
        parse_layout(
            named(f'{text}canonical = {{type="PolicyCreated", fields={{chain_id="chain"}}, missing=[{missing}]}}')
        )


def test_canonical_stands_beside_a_name_only() -> None:
    with pytest.raises(UsageError, match="stands beside a name of its own"):
        parse_layout(HEAD + PAUSED + 'canonical = {type="Paused"}\n')


def test_events_are_told_apart_by_kind_and_by_what_recognises_them() -> None:
    places = [("op", 1), ("destination", 1), ("incoming", 1), ("op", 2)]
    text = "".join(f'[[event]]\ncontract = "A"\n{place} = {number}\nname = "E"\n' for place, number in places)
    layout = parse_layout('name = "x"\n' + text + text.replace('"A"', '"B"'))
    assert (len(layout.events), len(layout.logs), len(layout.incoming), layout.kinds) == (4, 2, 2, ("A", "B"))
    for place, number in places:
        with pytest.raises(UsageError, match=f"E and E of A have the same {place} {number:#x}"):
            parse_layout('name = "x"\n' + text + f'[[event]]\ncontract = "A"\n{place} = {number}\nname = "E"\n')


SHIPPED = Path(load_layout.__code__.co_filename).with_name("layouts")


@settings(max_examples=400, deadline=None)
@given(
    text=st.sampled_from([path.read_text("utf-8") for path in sorted(SHIPPED.glob("*.toml"))]),
    at=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 40),
    put=st.text(max_size=6) | st.sampled_from(["0", "-1", "[]", "{}", "true", '"x"', "1.5", "1979-05-27", "\n"]),
)
def test_any_change_of_a_layout_is_a_layout_or_a_usage_error(text: str, at: float, cut: int, put: str) -> None:
    start = int(at * len(text))
    with suppress(UsageError):
        parse_layout(text[:start] + put + text[start + cut :])
