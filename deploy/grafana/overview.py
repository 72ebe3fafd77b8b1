"""The Overview dashboard: are there seats, who is turned away, are the keys there, does the broker keep up.

    python deploy/grafana/overview.py            writes dashboards/overview.json
    python deploy/grafana/overview.py --check    says whether that file is what this one makes

Read it from top to bottom: a row of tiles for a glance, then seats, sessions, keys and licences, and the broker
itself, its native data plane. Thin on purpose; what one product or one key does in detail belongs to dashboards of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync
from panels import (
    BROKER,
    ORANGE,
    PRODUCT,
    RED,
    Column,
    Panel,
    Series,
    datasource_variable,
    heat,
    label_variable,
    lines,
    rows_of_now,
    tile,
)

OUTPUT = Path(__file__).parent / "dashboards" / "overview.json"

_CALLS = f'{BROKER},method!~"(Admin|Health)/.*"'


def tiles() -> list[Panel]:
    """The glance."""
    return [
        tile(
            "Open sessions",
            "Clients that hold a session now, over the selected brokers.",
            f"sum(usher_sessions{{{BROKER}}})",
        ),
        tile(
            "Seats in use",
            "Seats charged as a share of the capacity, over the selected products. Above 100 % a key is missing and a deficit stands.",
            f"sum(usher_seats_in_use{{{PRODUCT}}}) / (sum(usher_seats_capacity{{{PRODUCT}}}) > 0)",
            unit="percentunit",
            steps=[(0.8, ORANGE), (1, RED)],
        ),
        tile(
            "Products without a free seat",
            "Products that would deny the next session now. SeatsExhausted fires when one stays so for five minutes.",
            f"count(sum by (job, instance, product) (usher_seats_free{{{PRODUCT}}}) == 0) or vector(0)",
            steps=[(1, RED)],
        ),
        tile(
            "Deficit",
            "Seats in use over what the remaining keys give. It only shrinks; while it stands nobody new is let in.",
            f"sum(usher_seats_deficit{{{PRODUCT}}})",
            steps=[(1, RED)],
        ),
        tile(
            "Keys not counting",
            "Keys that a licence names, or that were plugged in, and whose seats do not count now.",
            f"count(usher_key_present{{{BROKER}}} == 0) or vector(0)",
            steps=[(1, RED)],
        ),
        tile(
            "Denials",
            "Requests for the selected products that were denied in the shown period.",
            f"sum(increase(usher_denials_total{{{PRODUCT}}}[$__range]))",
            steps=[(1, ORANGE)],
        ),
    ]


def seats() -> list[Panel]:
    """Capacity, use and refusals."""
    return [
        rows_of_now(
            "Seats by product",
            "Now, summed over the pools of each product. Capacity is what proven keys give; peak is the most in use at once since the broker started.",
            [
                Column("Capacity", f"sum by (product) (usher_seats_capacity{{{PRODUCT}}})"),
                Column("In use", f"sum by (product) (usher_seats_in_use{{{PRODUCT}}})"),
                Column("Free", f"sum by (product) (usher_seats_free{{{PRODUCT}}})"),
                Column("Deficit", f"sum by (product) (usher_seats_deficit{{{PRODUCT}}})"),
                Column("Peak", f"sum by (product) (usher_seats_in_use_peak{{{PRODUCT}}})"),
                Column("Key grace", f"sum by (product) (usher_grace_seats{{{PRODUCT}}})"),
            ],
            names={"product": "Product"},
        ),
        lines(
            "Seats in use and capacity",
            "In use close under capacity means the next login may be denied. A step down of capacity is a key that went away.",
            [
                Series(f"sum by (product) (usher_seats_in_use{{{PRODUCT}}})", "{{product}} in use"),
                Series(f"sum by (product) (usher_seats_capacity{{{PRODUCT}}})", "{{product}} capacity"),
            ],
        ),
        lines(
            "Free seats and deficit",
            "What new sessions could take, and what is charged over the remaining capacity.",
            [
                Series(f"sum by (product) (usher_seats_free{{{PRODUCT}}})", "{{product}} free"),
                Series(f"sum by (product) (usher_seats_deficit{{{PRODUCT}}})", "{{product}} deficit"),
            ],
        ),
        lines(
            "Use of capacity",
            "Seats in use as a share of the capacity, by product. Not drawn while no key gives the product a seat.",
            [
                Series(
                    f"sum by (product) (usher_seats_in_use{{{PRODUCT}}}) / (sum by (product) (usher_seats_capacity{{{PRODUCT}}}) > 0)",
                    "{{product}}",
                )
            ],
            unit="percentunit",
        ),
    ]


def denials_and_peaks() -> list[Panel]:
    """Who was turned away, and how close it came to that."""
    return [
        lines(
            "Denials by reason",
            "Denials a second. no_free_seats: buy or free seats; deficit: a key is missing; keys_starting: the broker has just started.",
            [
                Series(
                    f"sum by (product, reason) (rate(usher_denials_total{{{PRODUCT}}}[$__rate_interval]))",
                    "{{product}} {{reason}}",
                )
            ],
            unit="reqps",
        ),
        lines(
            "Peak seats in use",
            "The most seats in use at once since the broker started: what to compare with the capacity when planning to buy.",
            [Series(f"sum by (product) (usher_seats_in_use_peak{{{PRODUCT}}})", "{{product}} peak")],
        ),
        lines(
            "Seats in key grace",
            "Seats of lost keys that sessions may keep until the grace ends. Plug the key in again before that.",
            [Series(f"sum by (product) (usher_grace_seats{{{PRODUCT}}})", "{{product}}")],
        ),
    ]


def sessions() -> list[Panel]:
    """What clients do."""
    return [
        lines(
            "Open sessions",
            "Clients that hold a session.",
            [Series(f"sum by (instance) (usher_sessions{{{BROKER}}})", "{{instance}}")],
        ),
        lines(
            "Opens, renewals and closes",
            "Renewals are about the open sessions divided by a third of their ttl; fewer means that clients have gone silent.",
            [
                Series(f"sum(rate(usher_sessions_opened_total{{{BROKER}}}[$__rate_interval]))", "opened"),
                Series(f"sum(rate(usher_renewals_total{{{BROKER}}}[$__rate_interval]))", "renewed"),
                Series(f'sum(rate(usher_sessions_ended_total{{{BROKER},reason="closed"}}[$__rate_interval]))', "closed"),
            ],
            unit="ops",
        ),
        lines(
            "Sessions ended by reason",
            "expired: the client died or lost the network; revoked: an admin; superseded: the same app came back.",
            [Series(f"sum by (reason) (rate(usher_sessions_ended_total{{{BROKER}}}[$__rate_interval]))", "{{reason}}")],
            unit="ops",
        ),
        lines(
            "Leases and charges",
            "Leases over charges is how many sessions share a seat. A sudden rise may be clients that state the same user or host. Lingering charges hold a seat after its last lease.",
            [
                Series(f"sum by (product) (usher_leases{{{PRODUCT}}})", "{{product}} leases"),
                Series(f"sum by (product) (usher_charges{{{PRODUCT}}})", "{{product}} charges"),
                Series(f"sum by (product) (usher_charges_lingering{{{PRODUCT}}})", "{{product}} lingering"),
                Series(f"sum by (product) (usher_charges_in_key_grace{{{PRODUCT}}})", "{{product}} in key grace"),
            ],
        ),
        lines(
            "Leases ended by reason",
            "key_lost and licence_ended are seats that clients lost while they were using them.",
            [
                Series(
                    f"sum by (product, reason) (rate(usher_lease_ends_total{{{PRODUCT}}}[$__rate_interval]))",
                    "{{product}} {{reason}}",
                )
            ],
            unit="ops",
            width=24,
        ),
    ]


def keys() -> list[Panel]:
    """What the seats stand on."""
    return [
        rows_of_now(
            "Security keys",
            "Each key that is plugged in, was, or is named by a licence. The thumbprint is shortened; `usher keys` shows all of it.",
            [
                Column("", f"max by (instance, thumbprint, description, emulated) (usher_key_info{{{BROKER}}})"),
                Column("", f"max by (instance, thumbprint, state) (usher_key_state{{{BROKER}}}) == 1"),
                Column("Seats", f"sum by (instance, thumbprint) (usher_key_seats{{{BROKER}}})"),
                Column(
                    "Failed proofs",
                    f'sum by (instance, thumbprint) (increase(usher_key_proofs_total{{{BROKER},outcome="failed"}}[$__range]))',
                ),
            ],
            names={
                "instance": "Broker",
                "thumbprint": "Thumbprint",
                "description": "Description",
                "state": "State",
                "emulated": "EMULATED",
            },
        ),
        lines(
            "Keys by state",
            "A key that is neither present nor disabled for long is missing: see the runbook of SeatKeyMissing.",
            [Series(f"sum by (state) (usher_keys{{{BROKER}}})", "{{state}}")],
            is_stacked=True,
        ),
        lines(
            "Proofs",
            "Every key answers a fresh challenge every 30 to 60 s; a failure is asked again at once.",
            [Series(f"sum by (outcome) (rate(usher_key_proofs_total{{{BROKER}}}[$__rate_interval]))", "{{outcome}}")],
            unit="ops",
        ),
        lines(
            "Age of the last proof",
            "Seats of a key end when its last good proof is older than proof_ttl (90 s by default).",
            [Series(f"max by (instance, thumbprint) (usher_key_last_proof_age_seconds{{{BROKER}}})", "{{thumbprint}}")],
            unit="s",
        ),
        lines(
            "Proof latency",
            "How long each key took for its last good proof. One that grows announces a hub or a key that is failing.",
            [Series(f"max by (instance, thumbprint) (usher_key_proof_latency_seconds{{{BROKER}}})", "{{thumbprint}}")],
            unit="s",
        ),
    ]


def licences() -> list[Panel]:
    """What the keys are worth."""
    return [
        lines(
            "Licences by state",
            "Only those that count give seats; the others each have a reason: `usher licences`.",
            [Series(f"sum by (state) (usher_licences{{{BROKER}}})", "{{state}}")],
            is_stacked=True,
        ),
        rows_of_now(
            "Licences that will expire",
            "Time left, the nearest first; those without an end are not shown. Their seats go when the time is over.",
            [
                Column(
                    "Time left",
                    f"sort(min by (instance, licence, product) (usher_licence_expiry_timestamp_seconds{{{BROKER}}}) - time())",
                )
            ],
            names={"instance": "Broker", "licence": "Licence", "product": "Product"},
            width=12,
            unit="s",
        ),
    ]


def requests() -> list[Panel]:
    """What the broker answers, and how fast."""
    return [
        lines(
            "Requests by outcome",
            "Calls of client apps. Denials are answers, not errors; overloaded and internal are errors.",
            [Series(f"sum by (outcome) (rate(usher_requests_total{{{_CALLS}}}[$__rate_interval]))", "{{outcome}}")],
            unit="reqps",
        ),
        lines(
            "Request duration, quantiles",
            "From a request read to its answer made, calls of client apps; the network is not in it.",
            [
                Series(
                    f"histogram_quantile({quantile}, sum by (le) (rate(usher_request_duration_seconds_bucket{{{_CALLS}}}[$__rate_interval])))",
                    name,
                )
                for quantile, name in ((0.5, "half"), (0.9, "90 %"), (0.99, "99 %"))
            ],
            unit="s",
        ),
        heat(
            "Request duration",
            "How many calls of client apps took how long. A second band above the main one is a disk or a busy machine.",
            f"sum by (le) (increase(usher_request_duration_seconds_bucket{{{_CALLS}}}[$__rate_interval]))",
            unit="s",
        ),
        lines(
            "Refused and repeated requests",
            "Replays are clients that sent again and got their first answer. Overloads and a full event ring are bounds reached.",
            [
                Series(f"sum(rate({metric}{{{BROKER}}}[$__rate_interval]))", name)
                for metric, name in (
                    ("usher_replays_total", "replayed"),
                    ("usher_sessions_not_found_total", "session not found"),
                    ("usher_request_ids_reused_total", "request id reused"),
                    ("usher_invalid_requests_total", "invalid"),
                    ("usher_overloads_total", "overloaded"),
                    ("usher_events_full_total", "events full"),
                )
            ],
            unit="reqps",
        ),
    ]


def process() -> list[Panel]:
    """Whether the broker has room and time."""
    return [
        lines(
            "How full the ledger is",
            "Records in use as a share of their bound. At 100 % new sessions are refused as overload; raise the bound in [bounds].",
            [
                Series(f"max by (kind) (usher_ledger_records{{{BROKER}}} / usher_ledger_records_limit{{{BROKER}}})", "{{kind}}"),
                Series(f"max(usher_ledger_text_bytes{{{BROKER}}} / usher_ledger_text_limit_bytes{{{BROKER}}})", "texts"),
                Series(f"max(usher_events_backlog_bytes{{{BROKER}}} / usher_events_backlog_limit_bytes{{{BROKER}}})", "events not drained"),
            ],
            unit="percentunit",
        ),
        lines(
            "Processor",
            "Seconds of processor a second, all threads of the broker.",
            [Series(f"sum by (instance) (rate(process_cpu_seconds_total{{{BROKER}}}[$__rate_interval]))", "{{instance}}")],
            width=6,
        ),
        lines(
            "Memory",
            "Resident memory of the broker.",
            [Series(f"sum by (instance) (process_resident_memory_bytes{{{BROKER}}})", "{{instance}}")],
            unit="bytes",
            width=6,
        ),
        lines(
            "Clock stalls",
            "Time by which all deadlines were moved because the process was stopped or late. Anything but zero is a paused machine or an overloaded one.",
            [Series(f"sum by (instance) (rate(usher_stall_seconds_total{{{BROKER}}}[$__rate_interval]))", "{{instance}}")],
            width=12,
        ),
        rows_of_now(
            "Brokers",
            "Version and how each broker is set up; up is how long it has been running.",
            [
                Column("", f"max by (job, instance, version) (usher_build_info{{{BROKER}}})"),
                Column("", f"max by (job, instance, broker_id, data_plane, durability, emulation) (usher_broker_info{{{BROKER}}})"),
                Column("Up", f"time() - max by (job, instance) (usher_start_time_seconds{{{BROKER}}})"),
            ],
            names={
                "job": "Job",
                "instance": "Broker",
                "version": "Version",
                "broker_id": "Id",
                "data_plane": "Data plane",
                "durability": "Durability",
                "emulation": "Emulation",
            },
            width=12,
            unit="s",
        ),
    ]


def _native(metric: str) -> str:
    """A counter of the native data plane, a second."""
    return f"sum(rate(usher_data_plane_{metric}_total{{{BROKER}}}[$__rate_interval]))"


def connections() -> list[Panel]:
    """Who comes over the client port, when the native data plane serves it."""
    return [
        lines(
            "Connections",
            "Connections of client apps, and their KeepAlive streams. Compare with clients.connections_max.",
            [
                Series(f"sum by (instance) (usher_data_plane_connections{{{BROKER}}})", "{{instance}} connections"),
                Series(f"sum by (instance) (usher_data_plane_keep_alive_streams{{{BROKER}}})", "{{instance}} streams"),
            ],
        ),
        lines(
            "Connections begun and ended",
            "Clients that connect anew for each request show here: a connection is meant to be kept.",
            [
                Series(_native("connections_accepted"), "begun"),
                Series(_native("connections_closed"), "ended"),
                Series(_native("tls_handshakes"), "TLS handshakes"),
                Series(_native("goaways_received"), "peers that go"),
                Series(_native("goaways_sent"), "peers asked to go"),
            ],
            unit="ops",
        ),
        lines(
            "Bytes",
            "On the wire, TLS included.",
            [Series(_native("received_bytes"), "in"), Series(_native("sent_bytes"), "out")],
            unit="Bps",
        ),
    ]


def data_plane() -> list[Panel]:
    """What they do there, and what it does with it."""
    return [
        lines(
            "Calls and messages",
            "Calls begun, and the messages in them: a KeepAlive stream is one call with many messages.",
            [
                Series(_native("calls"), "calls"),
                Series(_native("messages_received"), "messages in"),
                Series(_native("messages_sent"), "messages out"),
                Series(_native("calls_refused"), "calls refused"),
            ],
            unit="ops",
        ),
        lines(
            "Refusals by bound",
            "Connections ended or not taken, and calls cut, because a bound was broken. What each means: docs/OPERATING.md.",
            [Series(f"sum by (bound) (rate(usher_data_plane_refusals_total{{{BROKER}}}[$__rate_interval]))", "{{bound}}")],
            unit="ops",
        ),
        lines(
            "TLS failures by kind",
            "client_certificate: absent, foreign or expired; alpn: no HTTP/2, such as a browser or a scanner.",
            [Series(f"sum by (kind) (rate(usher_data_plane_tls_failures_total{{{BROKER}}}[$__rate_interval]))", "{{kind}}")],
            unit="ops",
        ),
        lines(
            "Commands in a batch",
            "How many requests one call of the ledger carries. It grows with the load, which is why load costs less than it looks.",
            [Series(f"{_native('commands')} / ({_native('batches')} > 0)", "commands")],
        ),
        lines(
            "Watched sessions and notices",
            "Sessions renewed over KeepAlive streams, the notices a second that went to them, and answers held until their events are on disk.",
            [
                Series(f"sum(usher_data_plane_watched_sessions{{{BROKER}}})", "watched"),
                Series(_native("notices"), "notices a second"),
                Series(f"sum(usher_data_plane_held_answers{{{BROKER}}})", "held answers"),
            ],
        ),
    ]


def durability() -> list[Panel]:
    """What keeps sessions over a restart. Empty with durability none."""
    sync = f"sum by (le) (rate(usher_journal_sync_seconds_bucket{{{BROKER}}}[$__rate_interval]))"
    return [
        lines(
            "Syncs of the log",
            "How long the disk takes to make a group of events durable: in strict mode each login waits for one.",
            [
                Series(f"histogram_quantile(0.5, {sync})", "half"),
                Series(f"histogram_quantile(0.99, {sync})", "99 of 100"),
            ],
            unit="s",
        ),
        lines(
            "Events committed",
            "Bytes of events that went to the disk, and the groups that they went in. More in a group: the disk is the slower of the two.",
            [
                Series(f"sum(rate(usher_journal_event_bytes_total{{{BROKER}}}[$__rate_interval]))", "bytes a second"),
                Series(f"sum(rate(usher_journal_groups_total{{{BROKER}}}[$__rate_interval]))", "groups a second"),
            ],
        ),
        lines(
            "Size of the log",
            "All files of the log beside their bound, and what lies behind the newest snapshot: what a start replays.",
            [
                Series(f"sum by (instance) (usher_journal_log_bytes{{{BROKER}}})", "{{instance}} log"),
                Series(f"sum by (instance) (usher_snapshot_behind_bytes{{{BROKER}}})", "{{instance}} behind the snapshot"),
                Series(f"sum by (instance) (usher_journal_log_limit_bytes{{{BROKER}}})", "{{instance}} bound"),
            ],
            unit="bytes",
        ),
        lines(
            "What stands in the way",
            "All at zero is well. Not writable: renew-only. No spare: the disk is full. Learning: no new charges for one ttl. Held full: answers wait for the disk.",
            [
                Series(f"1 - min(usher_journal_writable{{{BROKER}}})", "not writable"),
                Series(f"max(usher_journal_spare_missing{{{BROKER}}})", "no spare file"),
                Series(f"max(usher_journal_learning{{{BROKER}}})", "learning"),
                Series(_native("held_full"), "held full, a second"),
                Series(f'sum(rate(usher_snapshots_total{{{BROKER},outcome="failed"}}[$__rate_interval]))', "failed snapshots, a second"),
            ],
        ),
        rows_of_now(
            "Starts",
            "What each broker began with: sessions that came back, and how long the replay took.",
            [
                Column("Sessions", f"max by (job, instance) (usher_recovered_sessions{{{BROKER}}})"),
                Column("Replay s", f"max by (job, instance) (usher_recovery_seconds{{{BROKER}}})"),
                Column("Clean", f"max by (job, instance) (usher_last_run_clean{{{BROKER}}})"),
            ],
            names={"job": "Job", "instance": "Broker"},
            width=12,
        ),
    ]


def build() -> dashboard.Dashboard:
    """The whole dashboard."""
    board = (
        dashboard.Dashboard("Usher / Overview")
        .uid("usher-overview")
        .description("Seats, sessions, keys and licences of Usher brokers at a glance.")
        .tags(["usher"])
        .readonly()
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(datasource_variable())
        .with_variable(label_variable("job", "Job", "usher_build_info"))
        .with_variable(label_variable("instance", "Broker", 'usher_build_info{job=~"$job"}'))
        .with_variable(label_variable("product", "Product", f"usher_seats_capacity{{{BROKER}}}"))
    )
    panel_id = 0
    for title, panels in (
        ("At a glance", tiles()),
        ("Seats", [*seats(), *denials_and_peaks()]),
        ("Sessions", sessions()),
        ("Keys and licences", [*keys(), *licences()]),
        ("The broker", [*requests(), *process()]),
        ("The native data plane", [*connections(), *data_plane()]),
        ("Durability", durability()),
    ):
        panel_id += 1
        board = board.with_row(dashboard.Row(title).id(panel_id))
        for panel in panels:
            panel_id += 1
            board = board.with_panel(panel.id(panel_id))
    return board


def text() -> str:
    """The dashboard as the file that Grafana reads."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build().build()) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the file, or with --check compares it; 1 means that it differs."""
    if arguments == ["--check"]:
        is_same = OUTPUT.exists() and OUTPUT.read_text() == text()
        print(f"{OUTPUT} is {'as made' if is_same else 'out of date: run ' + sys.argv[0]}")
        return 0 if is_same else 1
    OUTPUT.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
