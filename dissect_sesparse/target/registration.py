"""Puts the container, the loaders and the plugins into dissect's registries, and wraps what has no registry.

dissect knows no entry points for this; its registries are plain lists and dictionaries that are looked at when a target is
opened (tried on dissect.target 3.23 to 3.25 and the pre-releases after it). Any of its names may be gone in the next
version, so each :class:`Registration` is installed on its own: what cannot be is said once in the log and listed by
``dissect-sesparse status``, and the rest works. Nothing of dissect is imported before a function is called: the autoload hook
may come here in the middle of somebody's import of dissect.target.
"""

from __future__ import annotations

import importlib
import logging
import sys
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dissect_sesparse.source.text import make_printable
from dissect_sesparse.target.context import SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger("dissect.target")
"""dissect's own, which its tools show. This may be before any logging is set up: then Python prints the warning."""

ROOM = "dissect_sesparse.target"
NOT_REGISTERED = "not registered"
_WITHOUT_CONTAINER = "dissect opens the disks itself, and shows wrong bytes"


@dataclass(frozen=True)
class Registration:
    """One thing that dissect is to know of."""

    name: str
    without: str
    """What does not work, or is wrong, without it."""
    install: Callable[[], None]
    """Puts it in. Calling it again changes nothing."""
    is_in: Callable[[], bool]
    """Whether dissect has it."""
    module: str
    """What is imported when dissect uses it."""


def pieces() -> Iterator[Registration]:
    """All there are, in the order in which they are installed."""
    yield Registration(
        "container SESparseContainer", _WITHOUT_CONTAINER,
        partial(_container, "SESparseContainer"), partial(_has_container, "SESparseContainer"), f"{ROOM}.container",
    )  # fmt: skip
    for name, module, without in (
        ("SESparseVmLoader", f"{ROOM}.vm", "a VM with a broken or moved disk may not open"),
        ("SESparseSnapshotLoader", f"{ROOM}.child", "snapshots do not open with --child"),
        ("SESparseLoader", f"{ROOM}.loader", "target-fs takes no URI with options"),
    ):
        install, is_in = partial(_loader, name, module), partial(_has_loader, name)
        yield Registration(f"loader {name}", without, install, is_in, module)
    yield Registration(
        f"scheme {SCHEME}://", "no options in a URI", _scheme, _has_scheme, f"{ROOM}.loader",
    )  # fmt: skip
    for name, module, index, without in (
        ("functions sesparse.*", f"{ROOM}._plugin", "__regular__", "target-query has no function of this package"),
        ("snapshots as children", f"{ROOM}._child", "__child__", "--list-children lists no snapshot"),
    ):
        yield Registration(name, without, partial(_plugin, module), partial(_has_plugin, module, index), module)
    from dissect_sesparse.target.hooks import HOOKS

    for hook in HOOKS:
        yield Registration(hook.name, hook.without, hook.install, hook.is_in, hook.module)


@dataclass(frozen=True)
class RegistrationState:
    """What became of a piece; ``problem`` is empty where dissect has it."""

    name: str
    without: str
    problem: str
    is_broken: bool = False
    """Whether there is more to its problem than that nobody registered it."""


_said: set[str] = set()
"""The problems that the log has."""


def register() -> None:
    """Register with dissect.target, as much of this package as can be. Calling it again changes nothing.

    What cannot be registered is one warning in the log, with the reason and what is lacking for it.
    """
    make_printable(logging.getLogger("dissect.target.target"))  # what is logged of a target names what is in it
    problems = []
    for piece in pieces():
        try:
            # dissect passes over what cannot be imported without a word: find out here, in the open.
            _check_import(piece)
            piece.install()
        except Exception as e:
            problems.append(f"{piece.name} ({piece.without}): {reason(e)}")
            log.debug("%s", piece.name, exc_info=e)
    if new := [problem for problem in problems if problem not in _said]:
        _said.update(new)
        log.warning("dissect-sesparse could not be registered in full: %s", "; ".join(new))


def states() -> list[RegistrationState]:
    """What became of each piece, whether or not ``register()`` was called; what dissect imports late is imported now."""
    # All are asked before anything is imported: a plugin registers itself when it is.
    answers = [(piece, _problem(piece)) for piece in pieces()]
    return [_state(piece, _import_problem(piece), *answer) for piece, answer in answers]


def _state(piece: Registration, at_import: str, problem: str, is_broken: bool) -> RegistrationState:
    return RegistrationState(piece.name, piece.without, at_import or problem, bool(at_import) or is_broken)


def _problem(piece: Registration) -> tuple[str, bool]:
    """What is wrong, and whether it is more than that the piece is not registered."""
    try:
        return "" if piece.is_in() else NOT_REGISTERED, False
    except (Exception, SystemExit) as e:
        return reason(e), True


def _import_problem(piece: Registration) -> str:
    try:
        importlib.import_module(piece.module)
    except (Exception, SystemExit) as e:
        return reason(e)
    return ""


def is_registered() -> bool:
    """Whether dissect has all of it."""
    return not any(state.problem for state in states())


def reason(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


_LATE = (f"{ROOM}.container", f"{ROOM}.vm", f"{ROOM}.child", f"{ROOM}.loader")
"""Modules that only the opening of a target imports: where a loader fails, dissect's own for the path is asked next, and
the container says itself that it failed, see :class:`_Waiting`."""


def _check_import(piece: Registration) -> None:
    if piece.module not in _LATE:
        importlib.import_module(piece.module)
    elif piece.module == f"{ROOM}.container":
        for name in ("numpy", piece.module):  # is it there, without loading it
            if sys.modules.get(name) is None and find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class _Waiting:
    """The container, imported when dissect first asks it about a disk: a tool that opens none does not pay for it.

    dissect's own lazy import would not do: where it fails, dissect takes its own container for the disk, and shows wrong
    bytes, without a word. This one says so, once, above what ``-q`` silences.
    """

    def __init__(self, module: str, name: str, without: str):
        self._module = module
        self._attr = name  # dissect's lazy ones have it too: it is a name without an import
        self._without = without

    def __repr__(self) -> str:
        return f"<{self._attr} of {self._module}, when it is needed>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._load()(*args, **kwargs)

    def _load(self) -> Any:
        try:
            return getattr(importlib.import_module(self._module), self._attr)
        except Exception as e:
            problem = f"container {self._attr} ({self._without}): {reason(e)}"
            if problem not in _said:
                _said.add(problem)
                log.critical("dissect-sesparse cannot be loaded: %s", problem)
                log.debug("", exc_info=e)
            raise ImportError(problem) from e


def _container(name: str) -> None:
    from dissect.target import container

    if not _has_container(name):
        # dissect's own VMDK container claims every *.vmdk by its name: ours has to be asked first.
        # It stands for the class until a disk is opened.
        container.CONTAINERS.insert(0, _Waiting(f"{ROOM}.container", name, _WITHOUT_CONTAINER))  # type: ignore[arg-type]


def _has_container(name: str) -> bool:
    from dissect.target import container

    return any(_name(entry) == name for entry in container.CONTAINERS)


def _loader(name: str, module: str) -> None:
    from dissect.target import loader

    if not _has_loader(name):
        loader.LOADERS.insert(0, _lazy(module, name))


def _has_loader(name: str) -> bool:
    from dissect.target import loader

    return any(_name(entry) == name for entry in loader.LOADERS)


def _scheme() -> None:
    from dissect.target import loader

    if not _has_scheme():
        loader.LOADERS_BY_SCHEME[SCHEME] = _lazy(f"{ROOM}.loader", "SESparseLoader")


def _has_scheme() -> bool:
    from dissect.target import loader

    return _name(loader.LOADERS_BY_SCHEME.get(SCHEME)) == "SESparseLoader"


def _plugin(module: str) -> None:
    """Register the plugin of a module. Its class registers itself when it is made, which is once."""
    from dissect.target import plugin

    if find_spec("dissect.target.plugins._pluginlist") is None:
        importlib.import_module(module)
        return
    # A frozen list replaces the registry at its first look-up: let it, then add to it what it has not.
    plugin.plugins()
    loaded = importlib.import_module(module)
    for value in vars(loaded).values():
        if isinstance(value, type) and value.__module__ == module and issubclass(value, plugin.Plugin):
            plugin.register(value)


def _has_plugin(module: str, index: str) -> bool:
    from dissect.target import plugin

    return module in sys.modules and any(found.module == module for found in plugin.plugins(index=index))


def _lazy(module: str, name: str) -> Any:
    """A class that is imported when dissect first uses it, as dissect's own are."""
    try:
        from dissect.target.helpers.lazy import import_lazy
    except ImportError:
        return getattr(importlib.import_module(module), name)
    return getattr(import_lazy(module), name)


def _name(entry: object) -> str:
    """The class name of an entry, without importing what is lazy."""
    return getattr(entry, "__dict__", {}).get("_attr") or getattr(entry, "__name__", "")
