"""Puts the container, the loader and the plugin into dissect's registries. Called by the autoload files, once.

dissect knows no entry points for this; its registries are plain lists and dictionaries that are looked at when a target is
opened (tried on dissect.target 3.23 to 3.25). Nothing of dissect is imported before a function is called: the autoload
hook may come here in the middle of somebody's import of dissect.target.
"""

from __future__ import annotations

import importlib
import importlib.util

CONTAINER = "SESparseContainer"
VM_LOADER = "SESparseVmLoader"
SNAPSHOT_LOADER = "SESparseSnapshotLoader"
SCHEME = "sesparse"


def register() -> None:
    """Register with dissect.target. Calling it again changes nothing."""
    from dissect.target import container, loader, plugin
    from dissect.target.helpers.lazy import import_lazy

    from dissect_sesparse.target import isolation, mounting

    if not is_registered():
        container.register("dissect_sesparse.target.container", CONTAINER, internal=False)
        # dissect's own VMDK container claims every *.vmdk by its name: ours has to be asked first.
        container.CONTAINERS.insert(0, container.CONTAINERS.pop())
    if not any(_name(entry) == VM_LOADER for entry in loader.LOADERS):
        loader.LOADERS.insert(0, getattr(import_lazy("dissect_sesparse.target.vm"), VM_LOADER))
    if not any(_name(entry) == SNAPSHOT_LOADER for entry in loader.LOADERS):
        loader.LOADERS.insert(0, getattr(import_lazy("dissect_sesparse.target.child"), SNAPSHOT_LOADER))
    by_scheme: dict[str, object] = loader.LOADERS_BY_SCHEME  # type: ignore[assignment]  # lazy classes, as dissect's own
    by_scheme.setdefault(SCHEME, import_lazy("dissect_sesparse.target.loader").SESparseLoader)
    isolation.install()
    mounting.install()
    if importlib.util.find_spec("dissect.target.plugins._pluginlist") is not None:
        plugin.plugins()  # a frozen list replaces the registry at its first look-up: let it, then add to it
    importlib.import_module("dissect_sesparse.target._plugin")
    importlib.import_module("dissect_sesparse.target._child")
    # Where a container cannot be imported, dissect takes the next one, its own, without a word: fail here, in the open.
    importlib.import_module("dissect_sesparse.target.container")


def is_registered() -> bool:
    """Whether the container is in dissect's registry."""
    from dissect.target import container

    return any(_name(entry) == CONTAINER for entry in container.CONTAINERS)


def _name(entry: object) -> str:
    """The class name of an entry, without importing what is lazy."""
    return vars(entry).get("_attr") or getattr(entry, "__name__", "")
