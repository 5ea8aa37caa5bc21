"""The direction of imports and the purity of the core, read from the source by AST."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trackcore

CORE = Path(trackcore.__file__).parent
ADAPTERS = Path(__file__).parents[1] / "adapters"
MODULES = sorted(path for path in CORE.glob("**/*.py") if path.name not in {"__init__.py", "__main__.py"})
ROOMS = {path.parent.name for path in CORE.glob("*/__init__.py")}

# The core may import these besides itself: it has no other way to reach a clock, a file, a socket or chance.
PURE = frozenset(
    {"__future__", "array", "binascii", "bisect", "codecs", "collections", "contextlib", "dataclasses", "datetime"}
)
PURE |= {"decimal", "enum", "functools", "hashlib", "hmac", "ipaddress", "itertools", "json", "math", "re", "typing"}
PURE |= {"types", "unicodedata", "urllib.parse"}
CORE_LIBRARIES = frozenset({"attrs", "cattrs", "msgspec"})
IMPURE_CALLS = frozenset(
    {"now", "utcnow", "today", "time", "time_ns", "monotonic", "fromtimestamp", "localtime", "uuid1", "uuid4"}
    | {"open", "print", "input", "exec", "eval", "__import__", "import_module", "getenv", "urandom"}
    | {"read_text", "read_bytes", "write_text", "write_bytes", "token_hex", "sleep", "breakpoint"}
)

# The one library of each adapter.  `trackcore_server` puts the pieces together, so it may import the other adapters.
ADAPTER_LIBRARIES = {
    "trackcore_asgi": {"a2wsgi", "trackcore_http"},
    "trackcore_command": {"trackcore_server"},  # the entry point, which reports missing libraries
    "trackcore_debugger": {"werkzeug"},
    "trackcore_delivery": {"sqlite3", "urllib3", "trackcore_forks", "trackcore_sqlitefile"},  # its state, and HTTP out
    "trackcore_duckdb": {"duckdb", "trackcore_delivery", "trackcore_objects"},
    "trackcore_forks": set(),  # shared by all that must not use what a parent has open
    "trackcore_http": set(),  # HTTP without IO, shared by its faces
    "trackcore_kafka": {"confluent_kafka", "trackcore_forks"},
    "trackcore_objects": {"obstore", "trackcore_delivery"},
    "trackcore_metrics": {"prometheus_client"},
    "trackcore_plans": {"jsonschema_rs", "tomli_w", "yaml"},  # the validator, and the forms of files
    "trackcore_privacy": {"sqlite3", "trackcore_forks", "trackcore_sqlitefile"},  # who is suppressed, and jobs
    "trackcore_postgres": {"psycopg"},
    "trackcore_pytest": {"pytest", "trackcore_testing"},  # the plugin, which imports nothing until it is used
    "trackcore_server": {
        "click",
        "duckdb",  # for Parquet alone
        "gunicorn",
        "httptools",
        "prometheus_client",
        "uvloop",
        "rich",
        "tomli_w",
        "werkzeug",
        "trackcore_asgi",
        "trackcore_debugger",
        "trackcore_delivery",
        "trackcore_duckdb",
        "trackcore_forks",
        "trackcore_http",
        "trackcore_kafka",
        "trackcore_objects",
        "trackcore_metrics",
        "trackcore_plans",
        "trackcore_privacy",
        "trackcore_postgres",
        "trackcore_sqlite",
        "trackcore_testing",
        "trackcore_wsgi",
    },
    "trackcore_sqlite": {"sqlite3", "trackcore_forks", "trackcore_sqlitefile"},
    "trackcore_sqlitefile": {"sqlite3", "trackcore_forks"},  # shared by those who keep a SQLite file
    "trackcore_testing": {"h11", "trackcore_http", "trackcore_plans"},  # the plans only if one is given
    "trackcore_wsgi": {"werkzeug", "trackcore_http"},
}
LIBRARIES_OF_ONE = {"sqlite3"}  # in the standard library, yet not for everybody
FOR_TYPES_ONLY = {"_typeshed"}  # known to type checkers alone

# The rooms of `trackcore_server`, floor by floor: a room imports only itself and rooms on lower floors.
FLOORS = (
    {"process"},
    {"config", "files"},
    {"storage"},
    {"delivery", "inspection"},
    {"privacy"},
    {"debugger", "monitoring"},
    {"app"},
    {"hosting"},
    {"cli", "worker", "__init__"},
)
KIND_OF_LOG = re.compile(r"\w*(Log|LogSettings|Sink|Backend)")
BROWSE_THE_LOG = {"storage", "debugger", "inspection"}  # where the tables of the embedded log are shown


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, at any place in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield node.module or ""


def called(path: Path) -> Iterator[str]:
    """Yield the last name of everything that a file calls: `now` for `datetime.now()`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr


def documented_order() -> list[str]:
    """Return the modules as the docstring of the package lists them, lowest first."""
    return [name for name in re.findall(r"`([\w.]+)`", trackcore.__doc__ or "") if name not in ROOMS]


def module_of(path: Path) -> str:
    """Return the name of a module of the core as the docstring lists it: `wire.rules`."""
    return ".".join(path.relative_to(CORE).with_suffix("").parts)


def adapter_files() -> list[Path]:
    return sorted(ADAPTERS.glob("trackcore_*/**/*.py"))


def in_adapter(path: Path) -> str:
    return path.relative_to(ADAPTERS).parts[0]


class TestCore:
    def test_the_docstring_lists_every_module_once(self) -> None:
        assert sorted(documented_order()) == sorted(map(module_of, MODULES))

    @pytest.mark.parametrize("path", MODULES, ids=module_of)
    def test_a_module_imports_only_lower_ones(self, path: Path) -> None:
        order = documented_order()
        lower = {f"trackcore.{name}" for name in order[: order.index(module_of(path))]}
        assert {name for name in imported(path) if name.startswith("trackcore")} <= lower

    @pytest.mark.parametrize("path", MODULES, ids=module_of)
    def test_a_module_imports_nothing_that_could_do_io(self, path: Path) -> None:
        allowed = PURE | CORE_LIBRARIES | {"trackcore"}
        assert {name for name in {*imported(path)} - allowed if name.partition(".")[0] not in allowed} == set()

    @pytest.mark.parametrize("path", MODULES, ids=module_of)
    def test_a_module_calls_no_clock_no_file_no_chance(self, path: Path) -> None:
        assert IMPURE_CALLS.isdisjoint(called(path))

    def test_the_entry_point_is_the_command_and_nothing_else(self) -> None:
        assert list(imported(CORE / "__main__.py")) == ["trackcore_command"]
        assert [name for path in MODULES for name in imported(path) if name.startswith("trackcore_")] == []

    def test_the_check_sees_what_it_should(self, tmp_path: Path) -> None:
        path = tmp_path / "impure.py"
        path.write_text("import os.path\ndef f():\n    from time import time\n    open('x')\n    datetime.now(UTC)\n")
        assert set(imported(path)) == {"os.path", "time"}
        assert set(called(path)) == {"open", "now"}

    def test_importing_it_loads_no_adapter_and_no_library_of_one(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(CORE.parent)!r}); import trackcore;"
            "print(trackcore.__file__); print(*sorted({name.partition('.')[0] for name in sys.modules}))"
        )
        shown = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
        file, loaded = shown.splitlines()
        assert Path(file) == CORE / "__init__.py"
        unwanted = set[str]().union(*ADAPTER_LIBRARIES.values(), ADAPTER_LIBRARIES)
        assert unwanted.isdisjoint(loaded.split())


class TestAdapters:
    def test_there_are_adapters_and_each_is_known(self) -> None:
        assert {in_adapter(path) for path in adapter_files()} <= ADAPTER_LIBRARIES.keys()
        assert not (ADAPTERS / "__init__.py").exists()

    @pytest.mark.parametrize("path", adapter_files(), ids=lambda path: str(path.relative_to(ADAPTERS)))
    def test_an_adapter_imports_the_core_and_its_one_library(self, path: Path) -> None:
        adapter = in_adapter(path)
        roots = {name.partition(".")[0] for name in imported(path)}
        foreign = {root for root in roots if root not in sys.stdlib_module_names or root in LIBRARIES_OF_ONE}
        assert foreign <= {"trackcore", adapter} | CORE_LIBRARIES | FOR_TYPES_ONLY | ADAPTER_LIBRARIES[adapter]

    @pytest.mark.parametrize("path", adapter_files(), ids=lambda path: str(path.relative_to(ADAPTERS)))
    def test_an_adapter_imports_only_exported_names_of_other_packages(self, path: Path) -> None:
        """Public is what a package exports; the modules inside are private."""
        for name in imported(path):
            package = name.partition(".")[0]
            if package.startswith("trackcore") and package != in_adapter(path):
                folder = (CORE.parent if package == "trackcore" else ADAPTERS) / name.replace(".", "/")
                assert folder.is_dir(), f"{name} is a module, not a package"


def server_files() -> list[Path]:
    return [path for path in adapter_files() if in_adapter(path) == "trackcore_server"]


def room_of(module: str) -> str:
    """Return the room of a module, or of a name in it: `storage` for `trackcore_server.storage.backend`."""
    return module.split(".")[1] if "." in module else "__init__"


def server_module(path: Path) -> str:
    return ".".join(path.relative_to(ADAPTERS).with_suffix("").parts)


def kinds_asked_for(path: Path) -> Iterator[str]:
    """Yield the kinds of log or sink for which a file switches with `isinstance` or `match`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        asked: ast.AST | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            asked = node.args[1]
        elif isinstance(node, ast.MatchClass):
            asked = node.cls
        for name in ast.walk(asked) if asked is not None else ():
            if isinstance(name, ast.Name) and KIND_OF_LOG.fullmatch(name.id):
                yield name.id


def imports_browser(path: Path) -> bool:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return any(isinstance(node, ast.alias) and node.name == "SqliteBrowser" for node in nodes)


class TestServer:
    def test_every_room_is_on_a_floor(self) -> None:
        assert {room_of(server_module(path)) for path in server_files()} == set().union(*FLOORS)

    @pytest.mark.parametrize("path", server_files(), ids=server_module)
    def test_a_room_imports_only_lower_ones(self, path: Path) -> None:
        room = room_of(server_module(path))
        floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
        rooms = {room_of(name) for name in imported(path) if name.startswith("trackcore_server")}
        assert rooms <= {room}.union(*FLOORS[:floor])

    def test_only_storage_asks_for_the_kind_of_log(self) -> None:
        asked = {server_module(path): list(kinds_asked_for(path)) for path in server_files()}
        switches = {module: kinds for module, kinds in asked.items() if kinds}
        assert switches == {"trackcore_server.storage.backends": ["KafkaLogSettings"]}

    def test_only_rooms_that_show_its_tables_import_the_browser(self) -> None:
        assert {room_of(server_module(path)) for path in server_files() if imports_browser(path)} <= BROWSE_THE_LOG

    def test_the_checks_see_what_they_should(self, tmp_path: Path) -> None:
        path = tmp_path / "switching.py"
        path.write_text(
            "from trackcore_sqlite import SqliteBrowser\n"
            "isinstance(log, LogSettings | KafkaLogSettings) or isinstance(sink, (RecordingSink, int))\n"
            "match log:\n    case SqliteLog():\n        pass\n"
        )
        assert sorted(kinds_asked_for(path)) == ["KafkaLogSettings", "LogSettings", "RecordingSink", "SqliteLog"]
        assert imports_browser(path)


class TestPublicNames:
    def test_all_is_sorted(self) -> None:
        """Constants, then classes, then functions, each in the order of the alphabet."""

        def key(name: str) -> tuple[int, str]:
            return 0 if name.isupper() else 1 if name[0].isupper() else 2, name

        assert trackcore.__all__ == sorted(set(trackcore.__all__), key=key)

    def test_all_is_what_is_imported(self) -> None:
        tree = ast.parse((CORE / "__init__.py").read_text(encoding="utf-8"))
        names = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
        assert sorted(names) == sorted(trackcore.__all__)

    def test_all_can_be_imported(self) -> None:
        names: dict[str, object] = {}
        exec("from trackcore import *", names)  # noqa: S102
        assert names.keys() - {"__builtins__"} == set(trackcore.__all__)

    def test_the_package_is_typed(self) -> None:
        assert (CORE / "py.typed").exists()
