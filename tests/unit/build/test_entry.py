from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgewright.build.entry import ModelCode
from edgewright.errors import BuildError


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / f"{name}.py").write_text(text)
    return path


def test_two_models_with_a_data_module_each_do_not_see_each_others(tmp_path: Path) -> None:
    one = ModelCode(folder(tmp_path / "one", data="def name(): return 'one'", use="from data import name"))
    two = ModelCode(folder(tmp_path / "two", data="def name(): return 'two'", use="from data import name"))
    assert (one.call("use:name"), two.call("use:name"), one.call("data:name")) == ("one", "two", "one")


def test_loading_leaves_no_path_and_no_plain_module_name_behind(tmp_path: Path) -> None:
    path = list(sys.path)
    code = ModelCode(
        folder(tmp_path / "m", sibling="X = 1", main="import sibling\ndef f(): return sibling.X")
    )
    assert code.call("main:f") == 1
    assert sys.path == path
    assert not {"sibling", "main"} & set(sys.modules)
    assert not list((tmp_path / "m").rglob("__pycache__"))


@pytest.mark.parametrize(
    "statement",
    ["import sibling", "from . import sibling", "import sibling as sibling", "from .sibling import X as _"],
)
def test_siblings_are_found_by_every_kind_of_import(tmp_path: Path, statement: str) -> None:
    code = ModelCode(folder(tmp_path / "m", sibling="X = 1", main=f"{statement}\ndef f(): return 7"))
    assert code.call("main:f") == 7


def test_siblings_are_found_inside_functions_and_packages(tmp_path: Path) -> None:
    root = folder(tmp_path / "m", main="def f():\n    import layers.conv\n    return layers.conv.size()")
    folder(
        root / "layers",
        __init__="",
        conv="from layers import sizes\ndef size(): return sizes.SIZE",
        sizes="SIZE = 3",
    )
    assert ModelCode(root).call("main:f") == 3
    assert ModelCode(root).call("layers.conv:size") == 3


def test_other_imports_are_python_s_own(tmp_path: Path) -> None:
    code = ModelCode(
        folder(tmp_path / "m", main="import json, os.path\ndef f(): return json.dumps(os.path.sep)")
    )
    assert code.call("main:f") == '"/"'


def test_dataclasses_find_their_module(tmp_path: Path) -> None:
    text = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Point:
    x: int
    names: ClassVar[tuple] = ("x",)

def f():
    return Point(2).x
"""
    assert ModelCode(folder(tmp_path / "m", main=text)).call("main:f") == 2


def test_an_edited_file_is_served_as_edited_in_the_same_second(tmp_path: Path) -> None:
    root = folder(tmp_path / "m", main="def f(): return 1")
    assert ModelCode(root).call("main:f") == 1
    (root / "main.py").write_text("def f(): return 2")
    assert ModelCode(root).call("main:f") == 2


def test_a_missing_module_is_named_with_those_that_exist(tmp_path: Path) -> None:
    code = ModelCode(folder(tmp_path / "m", network="", data=""))
    with pytest.raises(BuildError, match=r"netwrok:build: there is no netwrok\.py") as caught:
        code.find("netwrok:build")
    assert caught.value.hint == "modules here: data, network"


def test_a_missing_function_is_named_with_its_file(tmp_path: Path) -> None:
    code = ModelCode(folder(tmp_path / "m", network="build = 3"))
    with pytest.raises(BuildError, match=r"network\.py has no function 'build'"):
        code.find("network:build")


def test_an_error_in_user_code_names_the_file_and_line_that_raised(tmp_path: Path) -> None:
    deep = "def g():\n    raise ValueError('too deep')"
    code = ModelCode(folder(tmp_path / "m", deep=deep, main="from deep import g\ndef f(): g()"))
    with pytest.raises(BuildError, match=r"deep\.py:2: main:f raised ValueError: too deep"):
        code.call("main:f")


def test_a_syntax_error_names_the_file_and_line(tmp_path: Path) -> None:
    code = ModelCode(folder(tmp_path / "m", main="x = 1\ndef f(:\n"))
    with pytest.raises(BuildError, match=r"main\.py:2: main:f raised SyntaxError"):
        code.call("main:f")


def test_a_module_that_failed_to_import_fails_again_instead_of_being_half_there(tmp_path: Path) -> None:
    code = ModelCode(folder(tmp_path / "m", main="def f(): return 1\nraise RuntimeError('no')"))
    for _ in range(2):
        with pytest.raises(BuildError, match=r"main\.py:2"):
            code.call("main:f")
