"""The shape of the code: which package may import which, errors, files, and light processes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from twinweave import errors
from twinweave.errors import BY_NAME, AppError

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("twinweave", "clients", "server", "strategies", "scripts")
MAX_LINES = 420

RANK = {
    "twinweave.errors": 0,
    "twinweave.parsing": 1,
    "twinweave.tables": 2,
    "twinweave.privacy": 3,
    "twinweave.workload": 4,
    "twinweave.generators": 5,
    "twinweave.spec": 6,
    "twinweave.site": 6,
    "twinweave.protocols": 7,
    "twinweave.synthesis": 8,
    "twinweave.config": 9,
    "twinweave.planning": 10,
    "twinweave.analysis": 10,
    "twinweave.report": 11,
    "twinweave.rundir": 11,
    "twinweave": 12,
    "strategies": 13,
    "clients": 14,
    "server": 14,
    "scripts": 15,
}
"""A module imports from its own package and from lower ranks alone."""


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the packages."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def group(module: str) -> str:
    """The entry of RANK that a module belongs to."""
    found = [name for name in RANK if module == name or module.startswith(f"{name}.")]
    return max(found, key=len)


def imports(module: str, path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            for alias in node.names:
                # `from twinweave import errors` imports a module, `import AppError` does not.
                whole = f"{base}.{alias.name}"
                file = REPOSITORY.joinpath(*whole.split("."))
                is_module = file.with_suffix(".py").exists() or file.is_dir()
                yield whole if is_module else base


def first_party() -> Iterator[tuple[str, str]]:
    for module, path in modules():
        for name in imports(module, path):
            if name.split(".")[0] in PACKAGES:
                yield module, name


def test_imports_point_down():
    wrong = []
    for module, name in first_party():
        importer, imported = group(module), group(name)
        if importer != imported and RANK[imported] >= RANK[importer]:
            wrong.append(f"{module} -> {name}")
    assert not wrong


def test_clients_take_only_the_records_from_strategies():
    taken = {
        name
        for module, name in first_party()
        if module.startswith("clients") and name.startswith("strategies")
    }
    assert taken == {"strategies.records"}


def test_the_library_knows_no_flower():
    wrong = [
        (module, name)
        for module, path in modules()
        if module.startswith("twinweave")
        for name in imports(module, path)
        if name.split(".")[0] == "flwr"
    ]
    assert not wrong


def test_tests_import_no_study():
    wrong = [
        (path.name, name)
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for name in imports(".".join(path.relative_to(REPOSITORY).with_suffix("").parts), path)
        if name.startswith(("scripts.studies", "scripts.benchmarks"))
    ]
    assert not wrong


def test_the_checker_sees_a_wrong_arrow(tmp_path):
    """An import hidden in a function, and a relative one."""
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from server.app import main\n    from . import site\n")
    assert list(imports("clients.bad", path)) == ["server.app", "clients.site"]
    assert RANK[group("server.app")] >= RANK[group("clients.bad")]


def test_files_stay_readable():
    long = {m: n for m, p in modules() if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert not long


# --- order of cells ------------------------------------------------------------------------

ORDERED_BY = "twinweave.tables.contingency"
INDEXING = {"ravel_multi_index", "unravel_index", "indices", "ndindex"}
REARRANGING = {"reshape", "ravel", "flatten", "transpose", "swapaxes", "take", "T"}


def cells_by_hand(tree: ast.AST) -> Iterator[ast.expr]:
    """Where code knows by itself how the cells of a table are ordered.

    Seen: numpy's row-major index functions; an attribute `values`, which a table's cells are,
    that is rearranged or counted from its end. Not seen: the same under another name.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=value, attr=name):
                if name in INDEXING or (name in REARRANGING and is_values(value)):
                    yield node
            case ast.Subscript(value=value, slice=at) if is_values(value):
                if any(isinstance(part, ast.USub) for part in ast.walk(at)):
                    yield node


def is_values(node: ast.AST) -> bool:
    """`table.values`; of a mapping's `values()` the node is the call."""
    return isinstance(node, ast.Attribute) and node.attr == "values"


def test_one_module_knows_the_order_of_cells():
    wrong = [
        f"{module}:{node.lineno}"
        for module, path in modules()
        if module != ORDERED_BY and not module.startswith("scripts")
        for node in cells_by_hand(ast.parse(path.read_text()))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "code",
    [
        "inner = m.values[:-1, :-1]",
        "absent = m.values[-1]",
        "flat = m.values.reshape(-1)[:n]",
        "turned = m.values.T",
        "cell = np.ravel_multi_index(codes, sizes)",
        "held = np.indices(sizes)[0].ravel() == 1",
    ],
)
def test_the_order_of_cells_by_hand_is_seen(code):
    assert list(cells_by_hand(ast.parse(code)))


@pytest.mark.parametrize("code", ["a = t.values[..., 1]", "b = list(d.values())[-1]", "c = x[:-1]"])
def test_other_indexing_is_left_alone(code):
    assert not list(cells_by_hand(ast.parse(code)))


# --- errors ------------------------------------------------------------------------------


def test_every_error_has_its_own_exit_code_and_can_travel():
    defined = [
        cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, AppError)
    ]
    codes = [cls.exit_code for cls in defined]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)
    assert {cls.__name__: cls for cls in defined} == BY_NAME
    assert all(cls.__doc__ for cls in defined)
    assert errors.__doc__
    assert all(f"{cls.exit_code} {cls.__name__}" in errors.__doc__ for cls in defined)


def test_no_other_module_defines_an_error_that_travels():
    wrong = [
        f"{module}.{node.name}"
        for module, path in modules()
        if module != "twinweave.errors"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(b, ast.Name) and b.id in BY_NAME for b in node.bases)
    ]
    assert not wrong


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_errors_survive_the_way(name):
    error = BY_NAME[name].restore("column 'x': a rule. A remedy.").at("a").at("a")
    assert type(error) is BY_NAME[name]
    assert str(error) == "party 'a': column 'x': a rule. A remedy."


# --- configuration -----------------------------------------------------------------------


DATA = sorted(path.stem for path in (REPOSITORY / "conf" / "data").glob("*.yaml"))


def parsed(*overrides: str):
    from twinweave.config import RunConf, compose

    return RunConf.parse(
        compose(["output=x", "data.root=x", "privacy.epsilon=1", "privacy.delta=1e-5", *overrides])
    )


@pytest.mark.parametrize("data", DATA)
def test_every_dataset_parses(data):
    conf = parsed(f"data={data}")
    assert conf.data.name == data
    assert conf.data.lift or conf.data.fairness


@pytest.mark.parametrize(
    "option",
    [
        f"{path.parent.name}={path.stem}"
        for path in sorted((REPOSITORY / "conf").glob("*/*.yaml"))
        if path.parent.name != "data"
    ],
)
def test_every_option_parses(option):
    extra = ["privacy.guard.mode=off"] if option.startswith("privacy") else []
    conf = parsed(option, *extra)
    group_name, _, choice = option.partition("=")
    if group_name == "generator":
        assert (conf.generator.name if conf.generator else "none") == choice


def test_every_yaml_is_plain():
    for path in sorted((REPOSITORY / "conf").rglob("*.yaml")):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


# --- light processes ---------------------------------------------------------------------


HEAVY = ("torch", "sdv", "sklearn", "ray", "dp_accounting", "pandas", "scipy", "opendp", "hydra")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    names = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    return names & set(HEAVY)


def test_a_client_process_starts_light():
    """It is started for every message of a deployment."""
    assert loaded_by("import clients.app") == set()


def test_the_library_imports_light():
    assert loaded_by("import twinweave, twinweave.spec, twinweave.config") == set()


def test_torch_is_seen_where_it_is():
    """The check above can fail."""
    assert "pandas" in loaded_by("import pandas")
