"""Killed, out of room, out of rights: the same command afterwards ends as if nothing had happened."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import MOMENTS, child, files, killed_at, moments_of

from pipeline.config import Config
from pipeline.dataset import copying, pictures
from pipeline.dataset.stages import STAGES, run_stages

MakeConfig = Callable[..., Config]
MODES = ["hardlink", "copy", "store"]
LOCAL = [stage.name for stage in STAGES if stage.name not in ("region", "download")]  # those two: test_region_killed.py


def settings(mode: str) -> tuple[str, ...]:
    return ("dataset.store.size=32",) if mode == "store" else (f"dataset.copy_mode={mode}",)


@pytest.mark.parametrize("mode", MODES)
def test_killed_at_twenty_moments_and_called_again_ends_the_same(
    make_config: MakeConfig, tmp_path: Path, mode: str
) -> None:
    config = make_config(*settings(mode))
    made = config.paths.dst_dataset, config.dataset_dir

    def work() -> None:
        run_stages(config, until="manifest")

    moments = moments_of(work)
    undisturbed = files(*made)
    assert len(undisturbed) > 34
    assert len(moments) == MOMENTS
    for moment in moments:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        assert killed_at(moment, work)
        assert child(work) == 0
        assert files(*made) == undisturbed
    assert not [path for path in tmp_path.rglob("*.tmp*")]


@pytest.mark.parametrize("stage", LOCAL)
def test_each_stage_killed_at_twenty_moments_ends_the_same(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str
) -> None:
    """Of the pictures only the sheets are drawn, which is quick."""
    every = pictures.pictures
    monkeypatch.setattr(pictures, "pictures", lambda *given: [p for p in every(*given) if p.file.endswith(".jpg")])
    config = make_config("global.included_classes=[Insecta]", "test_sets.export=true", "test_sets.sets={DI1: [0.8]}")
    made = [config.dataset_dir, *([config.paths.dst_dataset] if stage == "copy" else [])]
    if (number := LOCAL.index(stage)) > 0:
        run_stages(config, until=LOCAL[number - 1])
    for folder in made:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, tmp_path / "before" / folder.name)

    def work() -> None:
        run_stages(config, only=stage)

    moments = moments_of(work)
    undisturbed = files(*made)
    assert len(moments) > MOMENTS // 2
    for moment in moments:
        for folder in made:
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / "before" / folder.name, folder)
        assert killed_at(moment, work)
        assert child(work) == 0
        assert files(*made) == undisturbed, moment
    assert not [path for path in tmp_path.rglob("*.tmp*")]


@pytest.mark.parametrize("mode", ["copy", "store"])
def test_full_disk_stops_with_its_name_and_the_next_run_goes_on(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    config = make_config(*settings(mode))
    real, done = copying._finish, []

    def full(temporary: Path, *rest: Path | int) -> None:
        done.append(temporary)
        if len(done) == 20:
            raise OSError(errno.ENOSPC, "No space left on device", str(temporary))
        real(temporary, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(copying, "_finish", full)
        with pytest.raises(OSError, match="No space left on device"):
            run_stages(config, until="manifest")
    assert 19 <= len(list(config.paths.dst_dataset.rglob("*.jpg"))) < 34  # folders of other threads are ended
    assert run_stages(config, until="manifest") == 0


def test_file_that_may_not_grow_leaves_no_half_photo(make_config: MakeConfig, photos: Path) -> None:
    """A true write error of the system, half way through a photo."""
    config = make_config("dataset.copy_mode=copy")
    largest = max(path.stat().st_size for path in photos.rglob("*.jpg"))

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))
        try:
            run_stages(config, until="copy")
        except OSError as error:
            assert error.errno == errno.EFBIG
        else:
            raise AssertionError("no write failed")

    assert os.waitstatus_to_exitcode(child(work)) == 0
    for path in config.paths.dst_dataset.rglob("*.jpg"):
        assert path.read_bytes() == (photos / path.relative_to(config.paths.dst_dataset)).read_bytes()
    assert run_stages(config, until="manifest") == 0


def as_nobody(work: Callable[[], object]) -> int:
    """Do the work in a child without root's rights; its exit code, or the number of the system's error."""

    def powerless() -> None:
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            work()
        except OSError as error:
            os._exit(error.errno or 1)

    return os.waitstatus_to_exitcode(child(powerless))


@pytest.fixture
def open_tmp(tmp_path: Path) -> Path:
    """The test's folder and what is in it, for everyone to write; its parents are private to root."""
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    for parent in tmp_path.parents:
        if not os.stat(parent).st_mode & 0o001:
            parent.chmod(0o711)
    return tmp_path


@pytest.mark.parametrize("what", ["source", "target"])
def test_no_permission_and_read_only_target_are_the_system_s_own_words(
    make_config: MakeConfig, open_tmp: Path, what: str
) -> None:
    config = make_config("dataset.copy_mode=copy")
    (open_tmp / "tiny.yaml").chmod(0o644)
    for folder in (config.paths.dst_dataset, config.dataset_dir):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    closed = config.paths.src_dataset / "Aves/Pica pica/000.jpg" if what == "source" else config.paths.dst_dataset
    closed.chmod(0o000 if what == "source" else 0o555)
    assert as_nobody(lambda: run_stages(config, until="copy")) == errno.EACCES
    assert not list(config.paths.dst_dataset.rglob("Pica pica/000.jpg"))
    closed.chmod(0o666 if what == "source" else 0o777)
    assert as_nobody(lambda: run_stages(config, until="copy")) == 0
    assert len(list(config.paths.dst_dataset.rglob("*.jpg"))) == 34


def test_wrong_hash_in_the_regional_set_is_found_and_mended(make_config: MakeConfig) -> None:
    """One byte of a copy flipped without a change of size or time."""
    config = make_config("dataset.copy_mode=copy", "dataset.compare=hash")
    run_stages(config, until="manifest")
    before = files(config.paths.dst_dataset, config.dataset_dir)
    photo = next(config.paths.dst_dataset.rglob("*.jpg"))
    times = photo.stat()
    photo.write_bytes(photo.read_bytes()[:-1] + b"?")
    os.utime(photo, ns=(times.st_atime_ns, times.st_mtime_ns))
    run_stages(config, until="manifest")
    assert files(config.paths.dst_dataset, config.dataset_dir) == before
