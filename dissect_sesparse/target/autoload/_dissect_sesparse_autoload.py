"""Makes an installed dissect-sesparse known to dissect with no set-up. Installed at the root of site-packages.

Python runs this at start-up, through ``dissect_sesparse.pth`` (3.15 and later: ``dissect_sesparse.start``). All it does is
to wait: once ``dissect.target`` has been imported, ``dissect_sesparse.target.registration.register()`` is called, and the
hook is gone. A Python that never imports dissect.target loads nothing more. ``DISSECT_SESPARSE_AUTOLOAD=0`` switches it off.
"""

import sys


class _Finder:
    """Finds ``dissect.target`` as Python would, and has ``register()`` called after it."""

    busy = False

    def find_spec(self, name, path=None, target=None):
        if name != "dissect.target" or self.busy:
            return None
        self.busy = True  # what follows asks all finders again
        try:
            from importlib.util import find_spec

            spec = find_spec(name)
        finally:
            self.busy = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
                load(module)
                _register()

            spec.loader.exec_module = exec_module
        return spec


def _register():
    try:
        from dissect_sesparse.target.registration import register

        register()
    except Exception:  # dissect goes on without us, and says so
        import logging

        logging.getLogger("dissect.target").warning("dissect-sesparse could not be registered", exc_info=True)


def install():
    """Set the hook, once."""
    import os

    if os.environ.get("DISSECT_SESPARSE_AUTOLOAD") == "0" or "dissect.target" in sys.modules:
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


install()
