"""The import graph: no circle, and no arrow upwards.

Run as a script, this file prints the graph, an arrow a line.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("training", "upscaling", "evaluation", "rating", "page", "methods")
# what users start, and what the slides' story is made of; a line may import what stands in lines below it
LEVELS = [
    {"train", "upscale", "export", "demo", "study"},
    {"evaluate"},
    {"srgan", "dataset"},
    set(FOLDERS) - {"methods"},
    {"tiles", "engines", "pictures", "weights", "methods"},
    {"model"},
    {"config", "utils", "generator", "losses", "degradation"},
]


def modules():
    """{dotted name: path} of the product's modules."""
    paths = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths if path.stem != "__init__"}


def arrows():
    """{module: the modules of ours that it imports, anywhere in it}."""
    known, graph = modules(), {}
    for name, path in known.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & set(known)
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                graph[name] |= imported & set(known)
    return graph


def level(name):
    """How high a module stands; 0 is the top."""
    return next(number for number, names in enumerate(LEVELS) if name.split(".")[0] in names)


def test_no_module_imports_itself_by_way_of_others():
    order = list(TopologicalSorter(arrows()).static_order())  # raises CycleError, which names the circle
    assert {"train", "model", "upscaling.network"} <= set(order)


def test_no_arrow_points_upwards():
    for name, imported in arrows().items():
        for other in imported:
            assert level(other) >= level(name), f"{name} imports {other}, which stands above it"


def test_upscaling_is_imported_by_commands_and_the_page_alone():
    """What others share with it, tiles and engines, has a place of its own."""
    users = {name.split(".")[0] for name, imported in arrows().items() if any("upscaling." in it for it in imported)}
    assert users == {"upscale", "upscaling", "export", "demo", "page"}


@pytest.mark.parametrize("name", ["generator", "losses", "degradation", "config", "utils"])
def test_leaves_import_nothing_of_ours(name):
    assert arrows()[name] == set()


if __name__ == "__main__":
    for module, targets in sorted(arrows().items()):
        for target in sorted(targets):
            print(f"{module} -> {target}")
