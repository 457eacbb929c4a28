from __future__ import annotations

from pathlib import Path

import pytest

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import system_cuda
from zerostart_jupyter.install.lock import Lock, Locked

FOUND = {
    "libcublas.so.12": (12, 4, 5, 8),
    "libcublasLt.so.12": (12, 4, 5, 8),
    "libnvblas.so.12": (12, 4, 5, 8),
    "libcudart.so.12": (12, 6, 77),
    "libnccl.so.2": (2, 21, 5),
    "libnvrtc.so.12": (12, 4, 127),
}


@pytest.mark.parametrize(
    ("name", "version", "ok", "why"),
    [
        ("nvidia-cublas-cu12", "12.4.5.8", True, "as new"),
        ("nvidia-cublas-cu12", "12.4.2.65", True, "as new"),
        ("nvidia-cublas", "12.4.5.8", True, "as new"),
        ("nvidia-cublas-cu12", "12.4.5.9", False, "is 12.4.5.8 and not 12.4.5.9"),
        ("nvidia-cublas-cu13", "13.0.0.19", False, "no libcublas.so.13"),
        ("nvidia-cublas-cu11", "11.10.3.66", False, "no libcublas.so.11"),
        ("nvidia-cuda-runtime-cu12", "12.4.127", True, "as new"),
        ("nvidia-cuda-runtime-cu12", "12.8.57", False, "is 12.6.77"),
        ("nvidia-nccl-cu12", "2.21.5", True, "as new"),
        ("nvidia-nccl-cu12", "2.21.5.1", False, "is 2.21.5 and not"),  # the name says too little
        ("nvidia-cuda-nvrtc-cu12", "12.4.127", False, "no libnvrtc-builtins.so.12"),
        ("nvidia-cudnn-cu12", "9.1.0.70", False, "not known"),
        ("nvidia-ml-py", "12.0", False, "not known"),
        ("nvidia-cublas-cu12", "12.4.5.post1", False, "not known"),
        ("numpy", "2.0", False, "not known"),
    ],
)
def test_only_what_is_proved_stands_in(name: str, version: str, ok: bool, why: str) -> None:
    verdict = system_cuda.judge(name, version, FOUND)
    assert verdict.ok is ok
    assert why in verdict.reason


LISTING = """\
3 libs found in cache `/etc/ld.so.cache'
\tlibcublas.so.12 (libc6,x86-64) => /usr/local/cuda/lib64/libcublas.so.12
\tlibcublas.so.11 (libc6, hwcap: "x") => /other/libcublas.so.11
\tlibnccl.so.2 (libc6,AArch64) => /usr/lib/libnccl.so.2
"""


def test_the_loaders_cache_is_read_for_this_machine_only() -> None:
    place = ("libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so.12")
    assert system_cuda.parse(LISTING, "x86_64") == [place]
    assert system_cuda.parse(LISTING, "aarch64") == [("libnccl.so.2", "/usr/lib/libnccl.so.2")]
    assert system_cuda.parse(LISTING, "riscv64") == []


def test_the_first_on_the_loaders_path_counts_and_names_must_agree() -> None:
    found = system_cuda.libraries(
        [
            ("libcublas.so.12", "libcublas.so.12.1.0.1"),
            ("libcublas.so.12", "libcublas.so.12.9.0.1"),
            ("libnccl.so.2", "libnccl-other.so.2.20"),
            ("libcufft.so.11", "libcufft.so.12.0"),
            ("libcurand.so.10", "libcurand.so"),
        ]
    )
    assert found == {"libcublas.so.12": (12, 1, 0, 1)}


def test_nothing_is_left_out_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libcudart.so.12.6.77").touch()
    (tmp_path / "libcudart.so.12").symlink_to("libcudart.so.12.6.77")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    names = ("nvidia-cuda-runtime-cu12", "numpy")
    lock = Lock(tuple(Locked(name, "12.4.127", "w", "u", "s") for name in names))
    asked = Settings.read(environ={"ZS_SYSTEM_CUDA": "1"})
    vetoed = Settings.read(environ={"ZS_SYSTEM_CUDA": "1", "ZS_NO_SYSTEM_CUDA": "1"})
    plain = Settings.read(environ={})
    assert [each.name for each in system_cuda.left(lock, asked).packages] == ["numpy"]
    assert system_cuda.left(lock, asked).environment_key() != lock.environment_key()
    assert system_cuda.left(lock, vetoed) == lock
    assert system_cuda.left(lock, plain) == lock
    assert "libcudart 12.6.77" in system_cuda.capability(asked).reason
    assert "in use where" in system_cuda.capability(asked).reason
    for settings in (vetoed, plain):
        assert "not in use" in system_cuda.capability(settings).reason
    assert "none found" in system_cuda.capability(plain, {}).reason
