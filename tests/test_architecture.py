"""The shape of the code: who imports whom, who computes, where a thing lives."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import get_args

import pytest

from tests.source import (
    APPS,
    PACKAGES,
    REPOSITORY,
    called,
    functions,
    importers,
    imports,
    modules,
    tree,
)
from twinweave.generators import registry
from twinweave.generators.rounds import train_round
from twinweave.privacy import mechanisms
from twinweave.privacy.events import Mechanism
from twinweave.privacy.noise import Noise

MAX_LINES = 420

RANK = {
    "twinweave.errors": 0,
    "twinweave.names": 1,
    "twinweave.overrides": 1,
    "twinweave.paths": 1,
    "twinweave.progress": 1,
    "twinweave.parsing": 1,
    "twinweave.durable": 1,
    "twinweave.folder": 2,
    "twinweave.tables": 2,
    "twinweave.privacy": 3,
    "twinweave.workload": 4,
    "twinweave.generators": 5,
    "twinweave.spec": 6,
    "twinweave.site": 6,
    "twinweave.protocols": 7,
    "twinweave.synthesis": 8,
    "twinweave.config": 9,
    "twinweave.passes": 10,
    "twinweave.planning": 11,
    "twinweave.analysis": 10,
    "twinweave.analysis.canaries": 12,
    "twinweave.foresight": 12,
    "twinweave.report": 13,
    "twinweave.rundir": 12,
    "twinweave.checkpoint": 13,
    "twinweave": 14,
    "strategies": 15,
    "clients": 16,
    "server": 16,
    "scripts": 17,
    "hydra_plugins": 18,
}
"""A module imports from its own package and from lower ranks alone."""


def group(module: str) -> str:
    """The entry of RANK that a module belongs to."""
    found = [name for name in RANK if module == name or module.startswith(f"{name}.")]
    return max(found, key=len)


def first_party() -> Iterator[tuple[str, str]]:
    for module, path in modules():
        for name in imports(module, path):
            if name.split(".")[0] in PACKAGES:
                yield module, name


def test_imports_point_down() -> None:
    wrong = []
    for module, name in first_party():
        importer, imported = group(module), group(name)
        if importer != imported and RANK[imported] >= RANK[importer]:
            wrong.append(f"{module} -> {name}")
    assert not wrong


def test_clients_take_only_the_records_from_strategies() -> None:
    taken = {
        name
        for module, name in first_party()
        if module.startswith("clients") and name.startswith("strategies")
    }
    assert taken == {"strategies.records"}


def test_the_library_knows_no_flower() -> None:
    wrong = [
        (module, name)
        for module, path in modules()
        if module.startswith("twinweave")
        for name in imports(module, path)
        if name.split(".")[0] == "flwr"
    ]
    assert not wrong


def test_tests_import_no_study() -> None:
    wrong = [
        (path.name, name)
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for name in imports(".".join(path.relative_to(REPOSITORY).with_suffix("").parts), path)
        if name.startswith(("scripts.studies", "scripts.benchmarks"))
    ]
    assert not wrong


def test_the_checker_sees_a_wrong_arrow(tmp_path: Path) -> None:
    """An import hidden in a function, and a relative one."""
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from server.app import main\n    from . import site\n")
    assert list(imports("clients.bad", path)) == ["server.app", "clients.site"]
    assert RANK[group("server.app")] >= RANK[group("clients.bad")]


def test_files_stay_readable() -> None:
    long = {m: n for m, p in modules() if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert not long


# --- the apps compute nothing --------------------------------------------------------------

COMPUTING = (
    "cryptography",
    "dp_accounting",
    "fairlearn",
    "opacus",
    "opendp",
    "pandas",
    "rbcl",
    "scipy",
    "sdv",
    "sklearn",
    "tenseal",
    "torch",
)
CARRYING = {"NDArray", "ascontiguousarray", "float32", "save"}
"""What the apps may take of numpy: types, and arrays to and from bytes and files."""
ARITHMETIC = (ast.MatMult, ast.Pow, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitXor, ast.LShift)
MOST_STATEMENTS = 25


def from_numpy(node: ast.AST) -> Iterator[str]:
    """Names that code takes of numpy."""
    for part in ast.walk(node):
        match part:
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name):
                yield name
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("numpy"):
                yield from (alias.name for alias in names)


def computes(node: ast.AST) -> Iterator[ast.operator]:
    """Operators that only arithmetic has: not + of texts, - of sets, / of paths, | of types."""
    return (
        n.op
        for n in ast.walk(node)
        if isinstance(n, ast.BinOp | ast.AugAssign) and isinstance(n.op, ARITHMETIC)
    )


def statements(function: ast.AST) -> int:
    return sum(isinstance(n, ast.stmt) for n in ast.walk(function)) - 1


def test_the_apps_take_no_library_that_computes() -> None:
    taken = {name: importers(name, *APPS) for name in COMPUTING}
    assert not any(taken.values()), taken


def test_the_apps_compute_nothing() -> None:
    for module, path in modules(*APPS):
        assert set(from_numpy(tree(path))) <= CARRYING, module
        assert not list(computes(tree(path))), module
        for function in functions(tree(path)):
            assert statements(function) <= MOST_STATEMENTS, f"{module}.{function.name}"


def test_what_computes_is_seen() -> None:
    code = ast.parse("import numpy as np\ndef mean(x):\n    total = np.sum(x)\n    return x @ x")
    assert set(from_numpy(code)) - CARRYING == {"sum"}
    assert len(list(computes(code))) == 1
    assert statements(next(functions(code))) == 2


# --- a protocol is a folder ----------------------------------------------------------------

ENDS = {"messages", "party", "server"}
OTHERWISE = {
    "pools": {"party", "server"},  # its parts travel in the messages of products
    "secure_sum": {"interface", "kinds"},  # both ends of a kind are in the kind's own file
}
BOTH_ENDS = {
    "products": ("dealt", "encrypted"),
    "secure_sum": ("masking", "secret_sharing", "homomorphic"),
}


def test_a_protocol_is_a_folder_with_its_messages_and_both_its_ends() -> None:
    folders = [p.parent for p in (REPOSITORY / "twinweave" / "protocols").glob("*/__init__.py")]
    assert {f.name for f in folders} >= {"alignment", "channel", "pools", "products", "secure_sum"}
    for folder in folders:
        here = {path.stem for path in folder.glob("*.py")}
        assert here >= OTHERWISE.get(folder.name, ENDS), folder.name


@pytest.mark.parametrize(("protocol", "kind"), [(p, k) for p, ks in BOTH_ENDS.items() for k in ks])
def test_both_ends_of_a_kind_are_in_one_file(protocol: str, kind: str) -> None:
    path = REPOSITORY / "twinweave" / "protocols" / protocol / f"{kind}.py"
    classes = [node.name for node in tree(path).body if isinstance(node, ast.ClassDef)]
    for end in ("Party", "Server"):
        assert any(name.endswith(end) for name in classes), end


def test_a_message_to_a_party_passes_one_handler_made_from_its_step() -> None:
    """The app holds no function of its own: `handles` and `begins` make every handler."""
    app = tree(REPOSITORY / "clients" / "app.py")
    assert not list(functions(app))
    made = [
        called(node.func)
        for node in ast.walk(app)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Call)
    ]
    phases = sum(name in ("query", "train", "evaluate") for name in made)
    assert phases == sum(name in ("handles", "begins") for name in made) > 5
    assert len(made) == 2 * phases


# --- a release takes the receipt that paid for it ------------------------------------------

RELEASES = {"draw", "release_table"}
SAMPLER = "twinweave.privacy.mechanisms"


def test_no_noise_is_drawn_without_a_receipt() -> None:
    """Every public function of the mechanisms that gives an array must be given one."""
    found = set()
    for name, function in inspect.getmembers(mechanisms, inspect.isfunction):
        if function.__module__ != SAMPLER or name.startswith("_"):
            continue
        signature = inspect.signature(function)
        if "NDArray" in str(signature.return_annotation):
            found.add(name)
            receipt = signature.parameters["receipt"]
            assert receipt.default is inspect.Parameter.empty, name
            assert receipt.annotation == "Receipt", name
    assert found == RELEASES


def test_one_module_samples_discrete_noise() -> None:
    assert importers("opendp", "twinweave", *APPS) == {SAMPLER}


def test_private_steps_take_a_receipt_too() -> None:
    receipt = inspect.signature(train_round).parameters["receipt"]
    assert receipt.default is inspect.Parameter.empty


def test_nothing_private_of_the_sampler_is_taken() -> None:
    """And nothing that is protected is drawn from numpy's generators, which are no secret."""
    for module, path in modules("twinweave", *APPS):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module == SAMPLER:
                assert not [a.name for a in node.names if a.name.startswith("_")], module
            if module.startswith(("twinweave.protocols", "twinweave.privacy")):
                named = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
                assert not named.startswith("np.random.") or named in TYPES_OF_RANDOM, module


TYPES_OF_RANDOM = {"np.random.Generator"}  # of a benchmark's random matrix: an argument's type


def releases(module: str, path: Path) -> Iterator[tuple[str, ast.Call, ast.AST]]:
    """(where, call, function around it) of every release, in a module that imports them."""
    taken = {
        alias.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module == SAMPLER
        for alias in node.names
    }
    for function in functions(tree(path)):
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and called(node) in taken & RELEASES:
                yield f"{module}:{node.lineno}", node, function


def test_a_release_is_given_the_receipt_of_its_charge() -> None:
    """The function around it was given the receipt, or has just charged for it."""
    found = 0
    for module, path in modules("twinweave", *APPS):
        for where, call, function in releases(module, path):
            given = {ast.unparse(a) for a in [*call.args, *(k.value for k in call.keywords)]}
            taken = {a.arg for f in functions(function) for a in [*f.args.args, *f.args.kwonlyargs]}
            assert "receipt" in given & (taken | charged(function)), where
            found += 1
    assert found >= 3


def charged(function: ast.AST) -> set[str]:
    """Names that a function gives to what a `charge` returned."""
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and called(node.value) == "charge"
        for target in node.targets
        if isinstance(target, ast.Name)
    }


# --- one place for each thing --------------------------------------------------------------


@pytest.mark.parametrize(
    "room",
    [
        "analysis/fairness",
        "analysis/fidelity",
        "analysis/lift",
        "generators",
        "report/terminal",
        "synthesis",
        "workload",
    ],
)
def test_the_rooms_are_there(room: str) -> None:
    assert (REPOSITORY / "twinweave" / room / "__init__.py").exists()


def test_no_two_modules_of_a_folder_differ_by_a_suffix() -> None:
    for folder in {path.parent for _, path in modules("twinweave", *APPS)}:
        names = {path.stem for path in folder.glob("*.py")} | {p.name for p in folder.glob("*/")}
        wrong = [(a, b) for a, b in permutations(names, 2) if b.startswith(f"{a}_")]
        assert not wrong, folder


def test_a_kind_of_generator_is_told_by_its_registry_alone() -> None:
    """Nobody else imports a kind's class, and nobody asks a configuration for its type."""
    for kind, where in registry.KINDS.items():
        module = where.partition(":")[0]
        own = {module, "twinweave.generators.registry"}
        assert importers(module, "twinweave", *APPS) <= own, kind
    confs = {f"{kind.title()}Conf" for kind in registry.KINDS}
    assert not [where for where, names in type_tests("twinweave", *APPS) if names & confs]


@pytest.mark.parametrize("family", [get_args(Mechanism), get_args(Noise)])
def test_a_kind_of_noise_is_told_in_one_module(family: tuple[type, ...]) -> None:
    """Mechanisms and noises answer for themselves; one place alone asks which one it has."""
    kinds = {kind.__name__ for kind in family}
    assert len(kinds) >= 3
    found = type_tests("twinweave", *APPS)
    assert len({where.partition(":")[0] for where, names in found if names & kinds}) <= 1


def type_tests(*packages: str) -> Iterator[tuple[str, set[str]]]:
    """(where, names of types) of every isinstance, and of every class that a match asks for."""
    for module, path in modules(*packages):
        for node in ast.walk(tree(path)):
            asked: ast.AST | None = None
            if isinstance(node, ast.Call) and called(node) == "isinstance":
                asked = node.args[1]
            elif isinstance(node, ast.MatchClass):
                asked = node.cls
            if asked is not None:
                names = {n.id for n in ast.walk(asked) if isinstance(n, ast.Name)}
                yield f"{module}:{getattr(node, 'lineno', 0)}", names


def test_a_runs_steps_are_built_complete() -> None:
    """No field that is None at first and asserted not to be later."""
    wrong = [
        f"{module}:{node.lineno}"
        for module, path in modules("clients", "strategies")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert) and "is not None" in ast.unparse(node.test)
    ]
    assert not wrong
