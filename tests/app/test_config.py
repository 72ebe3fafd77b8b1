"""The configuration file: every default, and every way to write it wrong."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.app.address import Address
from broker.app.config import BoundsSection, Config, SessionsSection, to_ns
from broker.app.config_file import checked, load_config, parse_config
from broker.app.config_text import config_json, config_text
from broker.app.emulated_keys import DEMO_FLEET, EmulatedLicence
from broker.errors import ConfigError, ConfigFault
from broker.limits import LIMITS
from broker.model.words import Sharing
from tests.support.toml_text import toml_text

BASE = Path("/etc/usher")


def parsed(text: str) -> Config:
    return parse_config(text, "usher.toml", BASE)


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        checked(parsed(text))
    return [str(fault) for fault in caught.value.faults]


def test_empty_file_is_the_defaults() -> None:
    assert dataclasses.replace(parsed(""), source=Config().source) == Config()


def test_shown_defaults_are_a_file_that_says_nothing_new() -> None:
    shown = dataclasses.replace(parsed(config_text(Config())), source=Config().source)
    assert shown == Config()


def test_every_entry_is_shown_with_what_it_is_for() -> None:
    text = config_text(Config())
    for section, entries in config_json(Config()).items():
        assert f"[{section}]" in text
        for name in entries:
            line = next(one for one in text.splitlines() if one.removeprefix("# ").startswith(f"{name} ="))
            assert "#" in line or name == "keys"


def test_ports_ttl_and_grace_are_those_of_the_design() -> None:
    config = Config()
    assert [str(one.address) for _, one in config.listeners()] == ["127.0.0.1:7600", "127.0.0.1:7601", "127.0.0.1:7602"]
    assert to_ns(config.sessions.ttl_s) == LIMITS["TTL_DEFAULT_NS"]
    assert to_ns(config.sessions.renew_grace_s) == LIMITS["RENEW_GRACE_DEFAULT_NS"]
    assert to_ns(config.sessions.request_window_s) == LIMITS["REQUEST_WINDOW_DEFAULT_NS"]
    assert to_ns(config.sessions.denial_window_s) == LIMITS["DENIAL_WINDOW_DEFAULT_NS"]
    assert config.keys.proof_ttl_s == 90
    assert config.keys.grace_s == 300


def test_default_bounds_are_those_of_the_compiled_ledger() -> None:
    shown = {field.name: getattr(BoundsSection(), field.name) for field in dataclasses.fields(BoundsSection)}
    assert shown == {
        "sessions_max": LIMITS["SESSIONS_DEFAULT"],
        "leases_max": LIMITS["LEASES_DEFAULT"],
        "charges_max": LIMITS["CHARGES_DEFAULT"],
        "requests_max": LIMITS["REQUESTS_DEFAULT"],
        "denials_max": LIMITS["DENIALS_DEFAULT"],
        "text_size_max": LIMITS["TEXT_SIZE_DEFAULT"],
        "event_ring_size": LIMITS["EVENT_RING_DEFAULT"],
    }


def test_bounds_of_the_file_are_within_those_of_the_ledger() -> None:
    longest_s = LIMITS["TTL_MAX_NS"] / 1e9
    assert parsed(f"[sessions]\nttl_s = {longest_s:g}").sessions == SessionsSection(ttl_s=longest_s)
    assert faults_of(f"[sessions]\nttl_s = {longest_s + 1:g}")
    ceiling = LIMITS["RECORDS_CEILING"]
    assert parsed(f"[bounds]\nsessions_max = {ceiling}").bounds.sessions_max == ceiling
    assert faults_of(f"[bounds]\nsessions_max = {ceiling + 1}")


def test_bounds_of_the_client_port_are_those_of_the_compiled_data_plane() -> None:
    assert Config().clients.streams_max == LIMITS["H2_STREAMS_DEFAULT"]
    for entry, ceiling in (("threads", "LOOPS_MAX"), ("connections_max", "CONNECTIONS_CEILING"), ("streams_max", "H2_STREAMS_CEILING")):
        assert getattr(parsed(f"[clients]\n{entry} = {LIMITS[ceiling]}").clients, entry) == LIMITS[ceiling]
        (fault,) = faults_of(f"[clients]\n{entry} = {LIMITS[ceiling] + 1}")
        assert f"clients.{entry}: " in fault
        assert faults_of(f"[clients]\n{entry} = 0")


@pytest.mark.parametrize(("plane", "is_native"), [("native", True), ("grpcio", False)])
def test_data_plane_is_chosen_by_its_name(plane: str, is_native: bool) -> None:
    assert parsed(f"[clients]\ndata_plane = '{plane}'").clients.is_native == is_native


def test_unknown_data_plane_is_refused_with_those_that_there_are() -> None:
    (fault,) = faults_of("[clients]\ndata_plane = 'rust'")
    assert fault == 'usher.toml: clients.data_plane: "rust" is unknown; write "native" or "grpcio"'


@pytest.mark.parametrize("entry", ["handshake_s", "headers_s", "body_s", "idle_s", "write_s"])
def test_no_time_bound_of_a_connection_can_be_switched_off(entry: str) -> None:
    for value in ("0", "inf", "1e9"):
        (fault,) = faults_of(f"[clients]\n{entry} = {value}")
        assert f"clients.{entry}: " in fault


def test_answers_wait_for_the_disk_unless_it_is_said_otherwise() -> None:
    assert parsed("").journal.is_strict
    relaxed, none = parsed("[journal]\ndurability = 'relaxed'").journal, parsed("[journal]\ndurability = 'none'").journal
    assert (relaxed.is_strict, relaxed.is_kept, none.is_strict, none.is_kept) == (False, True, False, False)
    (fault,) = faults_of("[journal]\ndurability = 'sometimes'")
    assert fault == 'usher.toml: journal.durability: "sometimes" is unknown; write "strict" or "relaxed" or "none"'


def test_log_lies_in_the_data_directory_unless_it_is_said_otherwise() -> None:
    assert parsed('[broker]\ndata_dir = "/d"').journal_folder == Path("/d/journal")
    assert parsed('[journal]\nfolder = "log"').journal_folder == BASE / "log"


def test_bound_of_the_log_leaves_room_for_snapshots() -> None:
    (fault,) = faults_of("[journal]\nlog_size_max = 100_000_000")
    assert fault.startswith("usher.toml: journal.log_size_max: 100000000 is too small for snapshot_after_size = 67108864")
    checked(parsed("[journal]\nlog_size_max = 201_326_592"))


@pytest.mark.parametrize("folder", ["/d", "/d/licences"])
def test_log_does_not_lie_among_other_things(folder: str) -> None:
    (fault,) = faults_of(f'[broker]\ndata_dir = "/d"\n[journal]\nfolder = "{folder}"')
    assert "journal.folder: " in fault


def test_paths_are_taken_from_the_directory_of_the_file() -> None:
    config = parsed('[broker]\ndata_dir = "state"\n[licences]\nfolder = "/srv/licences"\ntrust = ["a.json", "/b.json"]')
    assert config.data_dir == BASE / "state"
    assert config.licence_folder == Path("/srv/licences")
    assert config.trust_files == (BASE / "a.json", Path("/b.json"))


def test_unsaid_paths_are_in_the_data_directory() -> None:
    config = parsed('[broker]\ndata_dir = "/d"')
    assert config.licence_folder == Path("/d/licences")
    assert config.trust_files == (Path("/d/trust.jwks.json"),)


def test_command_line_goes_before_the_file() -> None:
    config = parsed('[broker]\ndata_dir = "/d"').with_choices(data_dir=Path("/other"), is_emulated=True)
    assert config.data_dir == Path("/other")
    assert config.emulation.enabled


def test_usb_is_used_unless_keys_are_emulated_or_it_is_said() -> None:
    assert parsed("").uses_usb
    assert not parsed("[emulation]\nenabled = true").uses_usb
    assert parsed("[emulation]\nenabled = true\n[keys]\nusb = true").uses_usb


def test_fleet_is_read_with_packs_and_terms() -> None:
    config = parsed(
        "[emulation]\nkeys = [{ name = 'alpha', profile = 'nitrokey3-like', algorithm = 'Ed25519', plugged = false,"
        " seats = { platform = 5 }, licences = [{ product = 'crm', seats = 2, terms = { sharing = 'user' } }] }]"
    )
    (alpha,) = config.emulation.keys
    assert (alpha.name, alpha.profile, alpha.algorithm, alpha.plugged) == ("alpha", "nitrokey3-like", "Ed25519", False)
    assert alpha.licences[0] == EmulatedLicence("platform", 5)
    assert alpha.licences[1].terms.pool.sharing is Sharing.USER


def test_demo_fleet_gives_fifteen_platform_ten_crm_and_five_telephony_seats() -> None:
    seats: dict[str, int] = {}
    for one in DEMO_FLEET:
        for licence in one.licences:
            seats[licence.product] = seats.get(licence.product, 0) + licence.seats
    assert seats == {"platform": 15, "crm": 10, "telephony": 5}
    assert len(DEMO_FLEET) == 3


WRONG_FILES = [
    ("[clients]\nadress = 1", "usher.toml: clients.adress: is no known entry; did you mean clients.address?"),
    ("[client]\n", "usher.toml: client: is no known section; did you mean clients?"),
    ("[zzz]\n", "usher.toml: zzz: is no known section; known are broker, clients, admin"),
    ("clients = 3", "usher.toml: clients: is a section; write [clients] on a line of its own"),
    ("[clients]\naddress = 7600", "usher.toml: clients.address: 7600 is not an address; write it as"),
    ("[clients]\naddress = 'x'", 'usher.toml: clients.address: "x" has no port; write it as'),
    ("[sessions]\nttl_s = '60'", 'usher.toml: sessions.ttl_s: "60" is not a number; write seconds, 1 to 604800'),
    ("[sessions]\nttl_s = true", "usher.toml: sessions.ttl_s: true is not a number"),
    ("[sessions]\nttl_s = 0", "usher.toml: sessions.ttl_s: 0 s is out of bounds; write 1 to 604800 seconds"),
    ("[sessions]\nttl_s = nan", "usher.toml: sessions.ttl_s: nan is not a number"),
    ("[keys]\nusb = 'yes'", 'usher.toml: keys.usb: "yes" is not true or false; write true or false, without quotes'),
    ("[bounds]\nsessions_max = 0", "usher.toml: bounds.sessions_max: 0 is out of bounds; write 1 to 67108864"),
    ("[bounds]\nsessions_max = 1.5", "usher.toml: bounds.sessions_max: 1.5 is not a whole number"),
    ("[bounds]\nsessions_max = true", "usher.toml: bounds.sessions_max: true is not a whole number"),
    ("[log]\nlevel = 'loud'", 'usher.toml: log.level: "loud" is unknown; write "debug" or "info"'),
    ("[broker]\ndata_dir = ''", 'usher.toml: broker.data_dir: "" is not a path'),
    ("[broker]\ndata_dir = '~nobody-at-all/x'", "usher.toml: broker.data_dir: "),
    ("[licences]\ntrust = []", "usher.toml: licences.trust: [] is not a path"),
    ("[licences]\ntrust = ['a', 3]", "usher.toml: licences.trust: 3 is not a path"),
    ("[http]\nhosts = 'usher'", 'usher.toml: http.hosts: "usher" is not a list; write a list such as'),
    ("[http]\nhosts = ['usher:7602']", 'usher.toml: http.hosts: "usher:7602" is not a host name'),
    ("[http]\ntls = true", "usher.toml: http.tls: true is not a table"),
    ("[admin]\ntls = { certificate = 'a' }", "usher.toml: admin.tls.private_key: is missing; TLS needs"),
    ("[admin]\ntls = { certficate = 'a' }", "usher.toml: admin.tls.certficate: is no known entry; did you mean admin.tls.certificate?"),
    ("[emulation]\nkeys = 3", "usher.toml: emulation.keys: is not a list of at most 200 keys"),
    ("[emulation]\nkeys = ['a']", "usher.toml: emulation.keys: 'a' is not a table"),
    ("[emulation]\nkeys = [{ name = 'A b' }]", "usher.toml: emulation.keys: 'A b' is not a name"),
    ("[emulation]\nkeys = [{ name = 'a', seat = 1 }]", 'usher.toml: emulation.keys: "seat" is unknown there; known are name'),
    ("[emulation]\nkeys = [{ name = 'a' }, { name = 'a' }]", 'usher.toml: emulation.keys: two keys are called "a"'),
    ("[emulation]\nkeys = [{ name = 'a', seats = { crm = 0 } }]", 'usher.toml: emulation.keys: key "a": 0 are no seats of crm'),
    ("[emulation]\nkeys = [{ name = 'a', seats = { CRM = 1 } }]", "usher.toml: emulation.keys: key \"a\": 'CRM' is not a product id"),
    ("[emulation]\nkeys = [{ name = 'a', profile = 'x' }]", "usher.toml: emulation.keys: key \"a\": profile 'x' is unknown"),
    (
        "[emulation]\nkeys = [{ name = 'a', licences = [{ product = 'crm', seats = 1, terms = { sharing = 'team' } }] }]",
        'usher.toml: emulation.keys: key "a": licence of crm: its term "sharing"',
    ),
    ("[clients\n", "usher.toml: is not TOML: "),
    ("[clients]\n[clients]\n", "usher.toml: is not TOML: "),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG_FILES)
def test_wrong_entry_is_named_with_file_entry_reason_and_remedy(text: str, sentence: str) -> None:
    faults = faults_of(text)
    assert faults[0].startswith(sentence)


BROKEN_RULES = [
    ("[clients]\naddress = '0.0.0.0:7600'", "clients.address: 0.0.0.0:7600 can be reached from other machines, and [clients] has no TLS"),
    ("[admin]\naddress = '[::]:7601'", "admin.address: [::]:7601 can be reached from other machines"),
    ("[http]\naddress = '10.0.0.1:7602'\nhosts = ['a']", "http.address: 10.0.0.1:7602 can be reached from other machines"),
    ("[http]\naddress = '0.0.0.0:7602'\ninsecure = true", "http.hosts: is empty"),
    ("[admin]\naddress = '127.0.0.1:7600'", "admin.address: is the same as clients.address"),
    ("[clients]\naddress = '0.0.0.0:1'\ninsecure = true\n[emulation]\nenabled = true", "emulation.enabled: would give EMULATED seats"),
    ("[keys]\nproof_ttl_s = 45", "keys.proof_ttl_s: 45 s is too short for prove_interval_s = 45"),
    ("[keys]\nusb = false", "keys.usb: is false and no keys are emulated"),
]


@pytest.mark.parametrize(("text", "sentence"), BROKEN_RULES)
def test_entries_that_do_not_go_together_are_refused(text: str, sentence: str) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith(f"usher.toml: {sentence}")


ALLOWED = [
    "[http]\naddress = '10.0.0.1:7602'\ninsecure = true",
    "[clients]\naddress = '0.0.0.0:7600'\ninsecure = true",
    "[clients]\naddress = '0.0.0.0:7600'\ntls = { certificate = 'a', private_key = 'b' }",
    "[clients]\naddress = '0.0.0.0:1'\ninsecure = true\n[emulation]\nenabled = true\n[licences]\nallow_emulated = true",
    "[clients]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n[http]\naddress = '127.0.0.1:0'",
    "[admin]\naddress = '[::1]:7601'",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_is_written_down_in_so_many_words_is_allowed(text: str) -> None:
    config = parsed(text)
    assert checked(config) is config


def test_all_faults_of_a_file_are_told_at_once() -> None:
    assert len(faults_of("[clients]\nadress = 1\naddress = 2\n[sesions]\n[log]\nlevel = 1")) == 4


def test_listener_beyond_this_machine_is_told_by_clients_and_http_not_by_admin() -> None:
    assert not parsed("").is_beyond_this_machine
    assert parsed("[clients]\naddress = '0.0.0.0:1'").is_beyond_this_machine
    assert parsed("[http]\naddress = '0.0.0.0:1'").is_beyond_this_machine
    assert not dataclasses.replace(parsed(""), admin=dataclasses.replace(Config().admin, address=Address("0.0.0.0", 1))).is_beyond_this_machine


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\xff\xfe", "is not UTF-8 (byte 0)"), (b"#" * (1 << 20) + b"#", "is larger than 1 MiB")],
)
def test_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "usher.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"usher\.toml") as caught:
        load_config(path)
    assert reason in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory; name an existing file"):
        load_config(tmp_path / "none.toml")


NAMES = st.sampled_from([name for entries in config_json(Config()).values() for name in entries] + ["nonsense", ""])
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*config_json(Config()), "x"]), st.dictionaries(NAMES, VALUES, max_size=4), max_size=4))
def test_whatever_stands_in_a_file_it_is_read_or_refused_in_sentences(sections: dict[str, dict[str, object]]) -> None:
    text = toml_text({name: {entry or "e": value for entry, value in entries.items()} for name, entries in sections.items()})
    faults: tuple[ConfigFault, ...] = ()
    try:
        checked(parsed(text))
    except ConfigError as error:
        faults = error.faults or (ConfigFault("", "", ""),)
    assert all(fault.reason and fault.remedy for fault in faults)
