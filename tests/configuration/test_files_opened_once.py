"""A credential file is opened once and looked at through its descriptor, so that nobody puts another in between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tokenvalet.files import FileFault, read_file


@pytest.mark.standards("S-322")
def test_a_file_that_is_replaced_while_it_is_read_is_read_whole_from_the_one_that_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "secret", tmp_path / "other"
    path.write_text("the first")
    other.write_text("put in between")
    opened: list[Any] = []
    real_open = os.open

    def swapped(name: Any, *arguments: Any, **options: Any) -> int:
        descriptor = real_open(name, *arguments, **options)
        if Path(name) == path:
            opened.append(name)
            if len(opened) == 1:
                other.replace(path)
        return descriptor

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", swapped)
        patched.setattr(os, "stat", _never)
        content = read_file(path, private=False)[0]
    assert content == b"the first"
    assert len(opened) == 1
    assert read_file(path, private=False)[0] == b"put in between"


@pytest.mark.standards("S-322")
def test_what_the_path_was_before_it_was_opened_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = tmp_path / "secret", tmp_path / "folder"
    path.write_text("content")
    folder.mkdir()
    real_open = os.open
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda name, *rest, **options: real_open(folder, *rest, **options))
        with pytest.raises(FileFault, match="no regular file"):
            read_file(path, private=False)


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("the path was looked at a second time")
