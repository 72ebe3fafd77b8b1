"""The licence folder: all the documents of a broker judged together.

Only regular files named `*.jwt` count, and no hidden ones: editors and copying tools work under other names and rename
at the end, so a half-written licence is not seen. A reading never raises, whatever lies in the folder.
One licence id of a vendor counts once (`semantics.md` 32): an exact copy of a licence is refused in favour of the first
file by name, and two different bodies under one id are both refused. For that a body counts as soon as a trusted vendor
signed it, even if it is then refused for what it says; a forgery without a signature cannot push a licence out.
Files named `*.revocations` are the vendors' revocation lists (`revocation.py`); a list that was seen counts on, also
when its file is gone, as long as the caller passes on what the last reading knew.
Licences that lie on a key (`on_key.py`) are judged together with the folder's.
`judge` is pure; `LicenceFolder.read` does the reading, from any thread.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from broker.licence import bounds
from broker.licence.compact import LICENCE_SUFFIX, REVOCATION_LIST_SUFFIX
from broker.licence.document import Authorship, Examination, Licence, examine
from broker.licence.on_key import Carried, all_examined
from broker.licence.refusal import Refusal, RefusalReason
from broker.licence.revocation import RevocationList, Revocations, read_revocations, refused_as_revoked
from broker.licence.trust import TrustFile

_NOTHING_REVOKED: Final = Revocations()


@dataclass(frozen=True, slots=True)
class FolderReading:
    """What a folder holds, by file name. Periods are not judged: see `Licence.period_at`.

    `revocations` are for the next reading; `revoked` holds the digests of licences that are good but for them.
    """

    accepted: tuple[Licence, ...] = ()
    refused: tuple[Refusal, ...] = ()
    revocations: Revocations = _NOTHING_REVOKED
    revoked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FolderContent:
    """What a folder holds, each document examined by itself; `judged` looks at them together."""

    examined: tuple[tuple[str, Examination], ...] = ()
    refused: tuple[Refusal, ...] = ()
    revocations: Revocations = _NOTHING_REVOKED

    def judged(self, carried: Iterable[Carried] = ()) -> FolderReading:
        """The licences, of which no two share an id and none is revoked; those on keys among them."""
        keys = list(carried)
        examined = sorted((*self.examined, *all_examined(keys)), key=lambda one: one[0])
        bodies = _bodies(examined)
        accepted: list[Licence] = []
        refused = [*self.refused, *(one.refusal for one in keys if one.refusal)]
        revoked: set[str] = set()
        for file, examination in examined:
            verdict = _beside_others(file, examination, bodies, self.revocations)
            if isinstance(verdict, Licence):
                accepted.append(replace(verdict, file=file))
                continue
            refused.append(replace(verdict, file=file))
            if verdict.reason is RefusalReason.REVOKED and examination.authorship:
                revoked.add(examination.authorship.digest)
        return FolderReading(tuple(accepted), _by_file(refused), self.revocations, frozenset(revoked))


@dataclass(frozen=True, slots=True)
class LicenceFolder:
    """The folder at `path`; it may come and go."""

    path: Path

    def read(self, trust: TrustFile, known: Revocations = _NOTHING_REVOKED) -> FolderReading:
        """All licences in the folder, and why each other document is none. `known`: what earlier readings knew of
        revocations. Never raises."""
        return self.content(trust, known).judged()

    def content(self, trust: TrustFile, known: Revocations = _NOTHING_REVOKED) -> FolderContent:
        """All documents in the folder, for a caller that knows of licences on keys as well. Never raises."""
        try:
            names = sorted(os.listdir(self.path))
        except OSError as error:
            sentence = f"the licence folder {self.path} cannot be read: {error.strerror}; create it or correct its path"
            return FolderContent((), (Refusal(RefusalReason.UNREADABLE, sentence),), known)
        documents, unread = self._files(names, LICENCE_SUFFIX, bounds.DOCUMENT_SIZE_MAX, bounds.FOLDER_FILE_COUNT_MAX)
        lists, unread_lists = self._files(
            names,
            REVOCATION_LIST_SUFFIX,
            bounds.REVOCATION_LIST_SIZE_MAX,
            bounds.REVOCATION_FILE_COUNT_MAX,
        )
        revocations, complaints = _join(lists, trust, known)
        return FolderContent(
            _examined(documents, trust), (*unread, *unread_lists, *complaints), revocations
        )

    def _files(
        self, names: Sequence[str], suffix: str, size_max: int, count_max: int
    ) -> tuple[list[tuple[str, bytes]], list[Refusal]]:
        """The files of one kind by the names to show, and why others cannot be read."""
        chosen = [name for name in names if name.endswith(suffix) and not name.startswith(".")]
        files: list[tuple[str, bytes]] = []
        unread = _too_many(chosen[count_max:], count_max)
        for name in chosen[:count_max]:
            found = _read_file(self.path / name, size_max)
            if isinstance(found, Refusal):
                unread.append(found)
            else:
                files.append((_shown(name), found))
        return files, unread


def judge(
    documents: Iterable[tuple[str, bytes]], trust: TrustFile, revocations: Revocations = _NOTHING_REVOKED
) -> FolderReading:
    """The licences among named documents, as if they were a folder's."""
    return FolderContent(_examined(documents, trust), (), revocations).judged()


def _examined(
    documents: Iterable[tuple[str, bytes]], trust: TrustFile
) -> tuple[tuple[str, Examination], ...]:
    return tuple((file, examine(document, trust)) for file, document in documents)


def _join(
    files: Iterable[tuple[str, bytes]], trust: TrustFile, known: Revocations
) -> tuple[Revocations, list[Refusal]]:
    """What is revoked after these lists, and what is wrong with some of them."""
    found: list[RevocationList] = []
    complaints: list[Refusal] = []
    for file, document in files:
        verdict = read_revocations(document, trust)
        if isinstance(verdict, Refusal):
            complaints.append(replace(verdict, file=file))
        else:
            found.append(replace(verdict, file=file))
    revocations = known.joined(found)
    complaints += [one for one in map(revocations.complaint, found) if one is not None]
    return revocations, complaints + revocations.missing()


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
    file: str,
    examination: Examination,
    bodies: dict[tuple[str, str], dict[str, list[str]]],
    revocations: Revocations,
) -> Licence | Refusal:
    author = examination.authorship
    if author is None:
        return examination.verdict
    if isinstance(examination.verdict, Licence) and (by := revocations.naming(examination.verdict)):
        return refused_as_revoked(examination.verdict, by)
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


def _shown(name: str) -> str:
    """A file name that is safe to print: it may hold anything but a slash."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _read_file(path: Path, size_max: int) -> bytes | Refusal:
    """The bytes of a regular file, one more than it may have at most."""
    try:
        # O_NONBLOCK: opening a fifo that somebody left there must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Refusal(RefusalReason.UNREADABLE, "it is not a file; remove it", _shown(path.name))
            return file.read(size_max + 1)
    except OSError as error:
        sentence = f"it cannot be read: {error.strerror}; the broker's user needs the right to read it"
        return Refusal(RefusalReason.UNREADABLE, sentence, _shown(path.name))


def _too_many(names: Iterable[str], count_max: int) -> list[Refusal]:
    sentence = f"the folder holds more than {count_max} files of its kind, and this one is not read; remove old ones"
    return [Refusal(RefusalReason.TOO_MANY, sentence, _shown(name)) for name in names]


def _by_file(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    return tuple(sorted(refusals, key=lambda refusal: refusal.file))
