"""The Python beside a model's YAML: `module:function` entries, loaded so that models cannot see each other.

Two models may both have a `data.py`. Each folder's modules therefore live under a private package name, made
of the folder's path and contents, and an `import data` inside them finds their own sibling first. Neither
`sys.path` nor plain module names are touched, and an edited file is a new package, so a long-running process
never serves old code.

>>> code = ModelCode(Path("models/digit-reader"))
>>> network = code.call("network:build", width=8)
>>> inputs, targets = code.call("data:test")
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from edgewright.errors import BuildError


class ModelCode:
    """The modules of one model folder.

    Args:
        folder: The folder of `model.yaml`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._package = f"_edgewright_model_{_fingerprint(self.folder)}"

    def call(self, entry: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call `entry` and return what it returns.

        Raises:
            BuildError: the module or function is missing, or user code raised; names the file and line.
        """
        function = self.find(entry)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise self._blame(entry, error) from error

    def find(self, entry: str) -> Callable[..., Any]:
        """Return the function that `entry` (`module:function`) names.

        Raises:
            BuildError: there is no such module or function, or importing it raised; names the file and line.
        """
        module_name, _, function_name = entry.partition(":")
        module = self.module(module_name, wanted_by=entry)
        function = getattr(module, function_name, None)
        if not callable(function):
            raise BuildError(f"{entry}: {module.__file__} has no function {function_name!r}")
        return function  # type: ignore[no-any-return]

    def module(self, name: str, *, wanted_by: str | None = None) -> ModuleType:
        """Return a module of the folder.

        Args:
            name: Its name, without `.py`.
            wanted_by: The entry that asks for it, for messages.

        Raises:
            BuildError: there is no such module, or importing it raised; names the file and line.
        """
        if self._source(name) is None:
            raise BuildError(
                f"{wanted_by or name}: there is no {name.replace('.', '/')}.py in {self.folder}",
                hint=f"modules here: {', '.join(self._modules()) or 'none'}",
            )
        try:
            return self._load(name)
        except Exception as error:
            raise self._blame(wanted_by or name, error) from error

    def _modules(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.py"))

    def _source(self, name: str) -> Path | None:
        path = self.folder.joinpath(*name.split("."))
        for candidate in (path.with_name(path.name + ".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
        return None

    def _load(self, name: str) -> ModuleType:
        """Return the sibling module `name`, executing it the first time."""
        full = f"{self._package}.{name}"
        if full in sys.modules:
            return sys.modules[full]
        parent = self._load(name.rpartition(".")[0]) if "." in name else self._root()
        source = self._source(name)
        if source is None:
            raise ModuleNotFoundError(f"No module named {name!r} in {self.folder}", name=name)
        spec = ModuleSpec(full, None, origin=str(source), is_package=source.name == "__init__.py")
        spec.has_location = True
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(source)
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(source.parent))
        # A module's own builtins decide what its `import` statements do, also those inside its functions.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        sys.modules[full] = module
        try:
            # Compiled here rather than by importlib: no bytecode in the user's folder, none that could be
            # stale.
            exec(compile(source.read_bytes(), source, "exec", dont_inherit=True), vars(module))  # noqa: S102
        except BaseException:
            del sys.modules[full]
            raise
        setattr(parent, name.rpartition(".")[2], module)
        return module

    def _root(self) -> ModuleType:
        if self._package not in sys.modules:
            spec = ModuleSpec(self._package, None, is_package=True)
            sys.modules[self._package] = importlib.util.module_from_spec(spec)
        return sys.modules[self._package]

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Stand in for `builtins.__import__` in the model's modules: siblings first, then everything else."""
        wanted = name
        if level:
            package = str((globals or {}).get("__package__", ""))
            full = importlib.util.resolve_name("." * level + name, package)
            wanted = full.removeprefix(self._package).lstrip(".")
        if wanted and self._source(wanted.partition(".")[0]) is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = self._load(wanted) if wanted else self._root()
        if not fromlist:
            return self._load(wanted.partition(".")[0])
        for item in fromlist:
            child = f"{wanted}.{item}".lstrip(".")
            if not hasattr(module, item) and self._source(child) is not None:
                self._load(child)
        return module

    def _blame(self, entry: str, error: Exception) -> BuildError:
        """Return a BuildError that points at the last line of the model's own code."""
        where = self.folder.name
        if isinstance(error, SyntaxError) and error.filename:
            where = f"{error.filename}:{error.lineno}"
        else:
            for frame in traceback.extract_tb(error.__traceback__):
                if frame.filename.startswith(str(self.folder)):
                    where = f"{frame.filename}:{frame.lineno}"
        said = str(error) if str(error) else "no message"
        return BuildError(f"{where}: {entry} raised {type(error).__name__}: {said}")


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256(str(folder).encode())
    for path in sorted(folder.rglob("*.py")):
        if "__pycache__" not in path.parts:
            contents = path.read_bytes()
            digest.update(b"%s\0%d\0" % (path.relative_to(folder).as_posix().encode(), len(contents)))
            digest.update(contents)
    return digest.hexdigest()[:16]
