"""The licence folder: all the documents of a broker judged together.

Only regular files named `*.jwt` count, and no hidden ones: editors and copying tools work under other names and rename
at the end, so a half-written licence is not seen. A reading never raises, whatever lies in the folder.
One licence id of a vendor counts once (`semantics.md` 32): an exact copy of a licence is refused in favour of the first
file by name, and two different bodies under one id are both refused. For that a body counts as soon as a trusted vendor
signed it, even if it is then refused for what it says; a forgery without a signature cannot push a licence out.
`judge` is pure; `LicenceFolder.read` does the reading, from any thread.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from broker.licence import bounds
from broker.licence.document import Authorship, Examination, Licence, examine
from broker.licence.refusal import Refusal, RefusalReason
from broker.licence.trust import TrustFile

LICENCE_SUFFIX: Final = ".jwt"


@dataclass(frozen=True, slots=True)
class FolderReading:
    """What a folder holds, both by file name. Periods are not judged: see `Licence.period_at`."""

    accepted: tuple[Licence, ...] = ()
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class LicenceFolder:
    """The folder at `path`; it may come and go."""

    path: Path

    def read(self, trust: TrustFile) -> FolderReading:
        """All licences in the folder, and why each other document is none. Never raises."""
        documents: list[tuple[str, bytes]] = []
        unread: list[Refusal] = []
        try:
            names = sorted(name for name in os.listdir(self.path) if _is_licence_name(name))
        except OSError as error:
            sentence = f"the licence folder {self.path} cannot be read: {error.strerror}; create it or correct its path"
            return FolderReading(refused=(Refusal(RefusalReason.UNREADABLE, sentence),))
        for name in names[: bounds.FOLDER_FILE_COUNT_MAX]:
            found = _read_file(self.path / name)
            if isinstance(found, Refusal):
                unread.append(found)
            else:
                documents.append((_shown(name), found))
        unread += _too_many(names)
        reading = judge(documents, trust)
        return FolderReading(reading.accepted, _by_file((*reading.refused, *unread)))


def judge(documents: Iterable[tuple[str, bytes]], trust: TrustFile) -> FolderReading:
    """The licences among named documents, of which no two share an id."""
    examined = [(file, examine(document, trust)) for file, document in sorted(documents)]
    bodies = _bodies(examined)
    accepted: list[Licence] = []
    refused: list[Refusal] = []
    for file, examination in examined:
        verdict = _beside_others(file, examination, bodies)
        if isinstance(verdict, Refusal):
            refused.append(replace(verdict, file=file))
        else:
            accepted.append(replace(verdict, file=file))
    return FolderReading(tuple(accepted), _by_file(refused))


def _bodies(examined: Sequence[tuple[str, Examination]]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """For each licence id of a vendor the digests of its bodies, each with the files that hold it."""
    bodies: dict[tuple[str, str], dict[str, list[str]]] = {}
    for file, examination in examined:
        if author := examination.authorship:
            bodies.setdefault((author.vendor, author.licence_id), {}).setdefault(author.digest, []).append(
                file
            )
    return bodies


def _beside_others(
    file: str, examination: Examination, bodies: dict[tuple[str, str], dict[str, list[str]]]
) -> Licence | Refusal:
    author = examination.authorship
    if author is None:
        return examination.verdict
    same_id = bodies[author.vendor, author.licence_id]
    if len(same_id) > 1:
        others = sorted(
            name for digest, files in same_id.items() if digest != author.digest for name in files
        )
        return _refusal(
            RefusalReason.ID_CONFLICT,
            author,
            examination,
            f"licence {author.licence_id} of {author.vendor} stands with different contents in {', '.join(others)};"
            " one id is one licence: remove the file that is not meant, then reload",
        )
    if isinstance(examination.verdict, Licence) and file != (first := same_id[author.digest][0]):
        return _refusal(
            RefusalReason.COPY,
            author,
            examination,
            f"licence {author.licence_id} is a copy of {first} and counts once; this file can be removed",
        )
    return examination.verdict


def _refusal(reason: RefusalReason, author: Authorship, examination: Examination, sentence: str) -> Refusal:
    return Refusal(reason, sentence, "", author.licence_id, author.vendor, examination.verdict.product)


def _is_licence_name(name: str) -> bool:
    return name.endswith(LICENCE_SUFFIX) and not name.startswith(".")


def _shown(name: str) -> str:
    """A file name that is safe to print: it may hold anything but a slash."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _read_file(path: Path) -> bytes | Refusal:
    """The bytes of a regular file, one more than a licence may have at most."""
    try:
        # O_NONBLOCK: opening a fifo that somebody left there must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Refusal(RefusalReason.UNREADABLE, "it is not a file; remove it", _shown(path.name))
            return file.read(bounds.DOCUMENT_SIZE_MAX + 1)
    except OSError as error:
        sentence = f"it cannot be read: {error.strerror}; the broker's user needs the right to read it"
        return Refusal(RefusalReason.UNREADABLE, sentence, _shown(path.name))


def _too_many(names: Sequence[str]) -> list[Refusal]:
    sentence = f"the folder holds more than {bounds.FOLDER_FILE_COUNT_MAX} licences, and this one is not read; remove old ones"
    return [
        Refusal(RefusalReason.TOO_MANY, sentence, _shown(name))
        for name in names[bounds.FOLDER_FILE_COUNT_MAX :]
    ]


def _by_file(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    return tuple(sorted(refusals, key=lambda refusal: refusal.file))
