"""Where a broker listens and how the connection to it is made: target, TLS, channel options.

The keepalive numbers match the broker's listener (a PING every 20 s, also between calls; facts/ecosystem.md D). They are
liveness of the transport only; seats live by Renew. Each client has its own connection: grpc would otherwise
share one, and its reconnect back-off, among all clients of a process. Proxies of the environment are not used: a broker
stands in the local network. Pure but for reading certificate files.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import grpc

DEFAULT_PORT = 7600
THIS_MACHINE = "127.0.0.1"
"""The target where none is said: a broker listens on loopback unless configured."""

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.primary_user_agent", "usher-client"),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust the broker and, for mutual TLS, who the client is. Each a path of a PEM file, or the PEM itself."""

    ca: Path | str | bytes | None = None
    """Whom to trust; None: the roots that grpc ships."""
    certificate: Path | str | bytes | None = None
    """The client's own certificate chain, for mutual TLS."""
    private_key: Path | str | bytes | None = None
    """Belongs to `certificate`."""
    server_name: str | None = None
    """The name to expect in the broker's certificate, when it is not the target's."""


def full_target(target: str) -> str:
    """The target with the default port, where it is a bare host or address. Anything else is grpc's to understand."""
    if target.startswith("["):
        return target if "]:" in target else f"{target}:{DEFAULT_PORT}"
    try:
        return f"[{IPv6Address(target)}]:{DEFAULT_PORT}"
    except ValueError:
        return target if ":" in target else f"{target}:{DEFAULT_PORT}"


def channel_options(tls: Tls | None) -> list[tuple[str, int | str]]:
    """Options for a channel of grpc."""
    options = list(CHANNEL_OPTIONS)
    if tls and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Credentials for a channel of grpc. OSError for a file that cannot be read, ValueError for half an identity."""
    if (tls.certificate is None) != (tls.private_key is None):
        raise ValueError("a client certificate and its private key go together: give both or none")
    return grpc.ssl_channel_credentials(_pem(tls.ca), _pem(tls.private_key), _pem(tls.certificate))


def _pem(source: Path | str | bytes | None) -> bytes | None:
    if source is None or isinstance(source, bytes):
        return source
    return Path(source).read_bytes()
