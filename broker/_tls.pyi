"""TLS of a listener's connections over OpenSSL: bytes in, bytes out; no I/O.

`ServerContext` is the control plane's; `ServerTls` is a connection as tests drive it (the listener calls the same
functions without Python). The rules stand in the head comments of ext/tls.
"""

from os import PathLike

from broker.model.tls import IdentityStatus, TlsFault, TlsSizes, TlsState

TRANSITIONS: dict[tuple[int, int], int]
"""(TlsState, TlsStep) -> TlsState; what is not in it cannot happen."""

def context_count() -> int:
    """How many sets of certificates are alive in this process: current ones, and old ones that still have connections."""

class ServerContext:
    """Certificate, private key and, for mutual TLS, authorities of clients: what new connections are made from.

    PEM files of at most 1 MiB. ConfigError names the file and what is wrong: missing, not PEM, damaged, an encrypted
    private key, one that does not belong to the certificate. A certificate outside its validity is only warned of.
    Any thread.
    """

    certificate_path: str | PathLike[str]
    private_key_path: str | PathLike[str]
    client_ca_path: str | PathLike[str] | None
    warnings: tuple[str, ...]
    """Of the files as last read: sentences for the log."""

    def __init__(
        self,
        certificate_path: str | PathLike[str],
        private_key_path: str | PathLike[str],
        client_ca_path: str | PathLike[str] | None = None,
    ) -> None: ...
    def reload(self) -> None:
        """Reads the files again, for connections from now on. ConfigError leaves everything as it was."""
    @property
    def is_mutual(self) -> bool:
        """Whether clients must show a certificate."""
    @property
    def connection_count(self) -> int:
        """Connections made from it that are alive."""

class ServerTls:
    """One connection, server side. One thread at a time; sizes are bytes.

    `plain_size_max` bounds what is decrypted and not read, `output_size_max` what is to be sent and not taken (at least
    TLS_OUTPUT_ROOM_MIN): at a bound `feed` and `write` take less than they are given.
    """

    def __init__(self, context: ServerContext, *, plain_size_max: int = 65536, output_size_max: int = 65536) -> None: ...
    def feed(self, cipher: bytes) -> int:
        """Takes bytes of the wire; gives how many. Call again, if only with none, after `read` or `output` made room."""
    def read(self) -> bytes:
        """The plain bytes that have arrived since the last call."""
    def write(self, plain: bytes) -> int:
        """Takes plain bytes to be sent; gives how many. The rest must be given again after `output`."""
    def output(self) -> bytes:
        """The bytes for the wire since the last call."""
    def close(self) -> bool:
        """Says close_notify; False if there was no room for it. In the handshake nothing is said."""
    def peer_gone(self) -> None:
        """The transport has ended: without a close_notify before, that is an error."""
    @property
    def state(self) -> TlsState: ...
    @property
    def error(self) -> TlsFault | None: ...
    @property
    def identity(self) -> bytes:
        """Who the client is, as broker.service.tls gives it; empty without mutual TLS, see `identity_status`."""
    @property
    def identity_status(self) -> IdentityStatus: ...
    @property
    def version(self) -> str:
        """"TLSv1.2" or "TLSv1.3" once the handshake is complete."""
    @property
    def sizes(self) -> TlsSizes: ...
