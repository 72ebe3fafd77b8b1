"""How a command finds a broker: what the command line or environment says, else what the data directory says, else the default ports.

A serving broker writes its addresses into `running.json` of its data directory, beside the admin token.
"""

from __future__ import annotations

from pathlib import Path

from broker.app.data_directory import TOKEN_FILE, default_data_dir, read_run_file, read_token
from broker.cli.options import Reach
from broker.client import Tls
from broker.client.admin import AdminClient
from broker.errors import DataDirectoryError

DEFAULT_CLIENTS, DEFAULT_ADMIN = "127.0.0.1:7600", "127.0.0.1:7601"


def admin_client(reach: Reach) -> AdminClient:
    """A client of the broker that is meant. DataDirectoryError if its token cannot be read."""
    data_dir = reach.data_dir or default_data_dir()
    address = reach.address or read_run_file(data_dir).get("admin") or DEFAULT_ADMIN
    return AdminClient(address, _token(reach.token_file or data_dir / TOKEN_FILE), tls=tls_of(reach))


def clients_address(address: str | None, data_dir: Path | None) -> str:
    """Where client apps connect."""
    return str(address or read_run_file(data_dir or default_data_dir()).get("clients") or DEFAULT_CLIENTS)


def tls_of(reach: Reach) -> Tls | None:
    """TLS, if any of its files is named."""
    if not (reach.ca or reach.certificate or reach.private_key):
        return None
    return Tls(ca=reach.ca, certificate=reach.certificate, private_key=reach.private_key)


def _token(path: Path) -> str:
    try:
        return read_token(path.parent) if path.name == TOKEN_FILE else path.read_text().strip()
    except OSError as error:
        raise DataDirectoryError(
            path,
            f"the admin token cannot be read: {error.strerror}",
            "name the data directory of the broker with --data-dir or USHER_DATA_DIR, and be its user or root",
        ) from None
