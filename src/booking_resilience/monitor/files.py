"""Writing exports to files, all or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_NO_SUCH_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM)


def check_suffix(path: str | os.PathLike[str]) -> str:
    """Return the path's suffix.

    Raises:
        ValueError: If it is none of the three.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".jsonl", ".csv"):
        raise ValueError(f"path must end in .json, .jsonl or .csv, not {os.fspath(path)!r}")
    return suffix


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write the text to the file, all or nothing: beside it, to the disk, then over it; readable by its owner only.

    A symbolic link is replaced, not followed. Whatever goes wrong, an old file stays whole, and nothing is left over.
    """
    target = Path(path)
    beside = _written_without_name(target, text) or _written(target, text)
    try:
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        try:
            with _folder(target.parent, os.O_RDONLY) as folder:
                os.fsync(folder)  # so that the new name, too, outlives a crash
        except OSError as error:  # a network share, or a folder that may not be listed: the file itself is there
            if error.errno not in _NO_SUCH_SYNC:
                raise


@contextlib.contextmanager
def _folder(path: Path, flags: int) -> Iterator[int]:
    folder = os.open(path, flags | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def _written_without_name(target: Path, text: str) -> Path | None:
    """Write a file that gets a name beside the target only when it is on the disk; None where that cannot be done.

    Until then it goes with the process, should that crash.
    """
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        handle = os.open(target.parent, os.O_WRONLY | os.O_TMPFILE, 0o600)
    except OSError:  # not every file system knows such files
        return None
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        _write(file, text)
        name = f".{target.name[:50]}.{secrets.token_hex(8)}.tmp"
        try:
            with _folder(target.parent, os.O_PATH) as folder:  # need not be readable
                source = f"/proc/self/fd/{file.fileno()}"  # given with a folder, the link is followed
                os.link(source, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
        except OSError:  # there is no /proc
            return None
    return target.with_name(name)


def _written(target: Path, text: str) -> Path:
    """Write a file beside the target."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:50]}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            _write(file, text)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _write(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
