"""Serves this distribution's modules under the names of the upstream package, `prefect_gcp`.

The file `prefect_gcp_cloud_run_hook.pth` calls `install` at each start of the interpreter, so this must stay small and
import nothing that is not loaded by then. docs/decisions/0001-beside-prefect-gcp.md says why there is a hook.
"""

import os
import sys

# These are the modules behind importlib.machinery, which every interpreter has loaded by then.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

# The package that people import, and the one whose files are ours.
PUBLIC, OURS = "prefect_gcp", "prefect_gcp_cloud_run"
SWITCH = "PREFECT_GCP_CLOUD_RUN_IMPORT_HOOK"
_OFF = ("0", "false", "no", "off")

# Served whatever upstream has.
_WORKER = f"{PUBLIC}.workers.cloud_run"
# Served beside upstream as long as upstream has no module of the name. Without upstream, all of our names are served.
_ADDED = (f"{PUBLIC}.cli", f"{PUBLIC}.emulator", f"{PUBLIC}.exceptions")
# pydantic and Prefect compare classes by identity. So each of these classes exists once in a process: beside upstream,
# our modules of these names are upstream's.
_CREDENTIALS = f"{OURS}.credentials"
_SHARED = (_CREDENTIALS, f"{OURS}.models.cloud_run_v2")


class Loader:
    """Makes a name mean a module that has another name: one module with two names, never two copies.

    Attributes:
        name: The name that is imported.
        real: The name of the module that it means.
    """

    def __init__(self, name: str, real: str) -> None:
        self.name, self.real = name, real

    def create_module(self, spec: "ModuleSpec") -> None:
        """Lets the import system make an empty module, which `exec_module` replaces."""

    def exec_module(self, module: "ModuleType") -> None:
        """Puts the real module in place of an empty one."""
        from importlib import import_module

        # Importing a module takes its lock before that of its package. A thread that imports the package takes them
        # the other way round. CPython before 3.13 would refuse one of the two.
        import_module(self.real.partition(".")[0])
        real = import_module(self.real)
        if sys.modules.get(self.name) is module:
            sys.modules[self.name] = real
        # Who made the empty module by hand looks at it, and not at sys.modules.
        module.__dict__.update(real.__dict__)

    def is_package(self, name: str) -> bool:
        """Whether the real module is a package. runpy and inspect ask for this and the following."""
        return self._spec().submodule_search_locations is not None

    def get_code(self, name: str) -> "CodeType | None":
        """The code of the real module, which `python -m` runs."""
        code: CodeType | None = self._spec().loader.get_code(self.real)  # type: ignore[union-attr]
        return code

    def get_source(self, name: str) -> "str | None":
        """The source of the real module."""
        source: str | None = self._spec().loader.get_source(self.real)  # type: ignore[union-attr]
        return source

    def get_filename(self, name: str) -> str:
        """The file of the real module."""
        return str(self._spec().origin)

    def _spec(self) -> "ModuleSpec":
        spec = _find(self.real)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.real} is not there any more", name=self.real)
        return spec


class UpstreamsLoader:
    """Loads upstream's file of a shared module for both packages, without importing upstream's package.

    That package imports ours, so importing it from ours would be a circle: threads that start at both ends would wait
    for each other.

    Attributes:
        spec: Upstream's spec of the module.
    """

    def __init__(self, spec: "ModuleSpec") -> None:
        self.spec = spec

    def create_module(self, spec: "ModuleSpec") -> None:
        """Lets the import system make the module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Runs upstream's file. The module, and so its classes and pickles of them, have upstream's name."""
        module.__name__, module.__package__ = self.spec.name, self.spec.parent
        self.spec.loader.exec_module(module)  # type: ignore[union-attr]


class Finder:
    """Decides which module a name of `prefect_gcp` means.

    Python holds its import lock while it asks a finder. So nothing here imports anything: another thread that waits for
    the lock in the middle of that import would never get it.

    Attributes:
        serves: Whether it serves names of `prefect_gcp`. Without this, it only keeps the shared classes single.
    """

    def __init__(self, serves: bool) -> None:
        self.serves = serves

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Finds a module of ours, or returns None to let the other finders look."""
        # Nearly all imports end here.
        if not name.startswith(PUBLIC):
            return None
        if name in _SHARED:
            return self._shared(name)
        if not self.serves or not f"{name}.".startswith(f"{PUBLIC}."):
            return None
        ours = OURS + name[len(PUBLIC) :]
        if name == _WORKER:
            return _alias(name, ours)
        if name == PUBLIC:
            return None if upstream() else _alias(name, ours)
        if _is_ours(sys.modules.get(PUBLIC)):
            return _alias(name, ours) or _upstreams(name)
        if ours in _SHARED:
            # What else is in upstream's file is needed too, if upstream was installed after ours had been loaded.
            return None if ours != _CREDENTIALS and _is_own(ours) else _alias(name, ours)
        return _alias(name, ours) if name in _ADDED and not _others_find(name, path) else None

    def invalidate_caches(self) -> None:
        """Forgets that `prefect_gcp` is ours if upstream has been installed since.

        importlib calls this when packages may have come, for example when `prefect worker start` has installed one. Our
        modules stay loaded under their own names.
        """
        if self.serves and _is_ours(sys.modules.get(PUBLIC)) and upstream():
            for name in [*sys.modules]:
                if f"{name}.".startswith(f"{PUBLIC}."):
                    del sys.modules[name]

    def _shared(self, name: str) -> "ModuleSpec | None":
        """Upstream's module in place of ours, or None if it is ours."""
        public = PUBLIC + name[len(OURS) :]
        if _is_ours(sys.modules.get(PUBLIC)) or (found := _upstreams(public)) is None:
            return None
        there = sys.modules.get(public)
        is_loaded = there is not None and not isinstance(getattr(there.__spec__, "loader", None), Loader)
        if is_loaded or not self.serves:
            return _alias(name, public)
        spec = ModuleSpec(name, UpstreamsLoader(found), origin=found.origin)  # type: ignore[arg-type]
        spec.has_location = True
        spec.cached = found.cached
        return spec


def _alias(name: str, real: str) -> "ModuleSpec | None":
    """The spec that makes a name mean a module of another name, or None if there is no such module."""
    found = _find(real)
    if found is None or found.origin is None:
        return None
    is_package = found.submodule_search_locations is not None
    spec = ModuleSpec(name, Loader(name, real), origin=found.origin, is_package=is_package)  # type: ignore[arg-type]
    spec.has_location = True
    if found.submodule_search_locations is not None:
        spec.submodule_search_locations = [*found.submodule_search_locations]
    return spec


def _find(name: str) -> "ModuleSpec | None":
    """The spec of a module. Unlike `importlib.util.find_spec`, this does not import the packages above it."""
    if (there := sys.modules.get(name)) is not None:
        return getattr(there, "__spec__", None)
    path, package = None, name.rpartition(".")[0]
    if package:
        above = _find(package)
        if above is None or (path := above.submodule_search_locations) is None:
            return None
    for finder in sys.meta_path:
        if found := finder.find_spec(name, path) if hasattr(finder, "find_spec") else None:
            return found
    return None


def _upstreams(name: str) -> "ModuleSpec | None":
    """Upstream's module of a name, found without importing anything, or None."""
    spec = upstream()
    parts = name.split(".")
    for end in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[:end]), [*spec.submodule_search_locations])
    return spec


def _others_find(name: str, path: "Sequence[str] | None" = None) -> "ModuleSpec | None":
    """What the other finders find. A folder without `__init__.py`, which an uninstall may leave, counts as nothing."""
    for finder in sys.meta_path:
        if not isinstance(finder, Finder) and hasattr(finder, "find_spec"):
            found = finder.find_spec(name, path)
            if found is not None:
                return found if found.origin is not None else None
    return None


def upstream() -> "ModuleSpec | None":
    """Finds the upstream package, without importing it.

    Returns:
        Its spec, or None if it is not installed.
    """
    return _others_find(PUBLIC)


def _is_ours(module: "ModuleType | None") -> bool:
    return getattr(module, "__name__", None) == OURS


def _is_own(name: str) -> bool:
    """Whether a shared module was loaded from our file."""
    return getattr(sys.modules.get(name), "__name__", None) == name


def install() -> Finder:
    """Puts the finder in front of all others, unless one is there.

    Returns:
        The finder that is there now.
    """
    for finder in sys.meta_path:
        if isinstance(finder, Finder):
            return finder
    finder = Finder(serves=os.environ.get(SWITCH, "").strip().lower() not in _OFF)
    sys.meta_path.insert(0, finder)
    return finder
