"""The import graph: no circle, and no arrow but those listed here.

Run as a script, this file prints the graph, an arrow a line.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
# {module or folder: what it may import of ours, beside the leaves}; inside a folder, each module may import each
LEAVES = {"config", "engines", "utils", "generator", "losses", "degradation", "restoration"}
ALLOWED = {
    "model": set(),
    "pictures": set(),
    "tiles": {"pictures"},
    "web_server": set(),
    "weights": {"methods"},
    "methods": {"model", "pictures"},
    "evaluation": {"pictures", "weights"},
    "upscaling": {"methods", "pictures", "tiles", "weights"},
    "training": {"evaluation", "pictures", "tiles", "weights"},
    "rating": {"evaluation", "pictures", "web_server"},
    "page": {"upscaling", "web_server"},
    "srgan": {"pictures", "tiles", "training"},
    "dataset": {"pictures", "training"},
    # what users start
    "evaluate": {"evaluation", "methods", "pictures", "srgan", "training", "weights"},
    "train": {"dataset", "evaluate", "methods", "model", "pictures", "srgan", "training", "upscale", "weights"},
    "upscale": {"methods", "upscaling"},
    "export": {"upscaling", "weights"},
    "demo": {"page", "upscaling", "weights"},
    "study": {"evaluate", "evaluation", "rating", "training"},
    # the leaves
    "engines": {"utils"},
} | {leaf: set() for leaf in LEAVES - {"engines"}}
FOLDERS = {path.parent.name for path in ROOT.glob("*/__init__.py")}


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


def place(name):
    """The module on top, or the folder, that `name` belongs to."""
    return name.split(".")[0]


def arrows_between_places():
    """{module or folder: the others that it imports}."""
    graph = {}
    for name, imported in arrows().items():
        graph.setdefault(place(name), set()).update({place(other) for other in imported} - {place(name)})
    return graph


def test_no_module_and_no_folder_imports_itself_by_way_of_others():
    assert {"train", "upscaling.network", "training.stages"} <= set(arrows())
    for graph in (arrows(), arrows_between_places()):
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_what_imports_what_is_what_the_list_allows():
    """Both ways, so that the list tells no tales: each arrow is allowed, and each that is allowed is there."""
    actual = {
        name: imported - LEAVES if name not in LEAVES else imported
        for name, imported in arrows_between_places().items()
    }
    assert actual == ALLOWED


if __name__ == "__main__":
    for module, targets in sorted(arrows().items()):
        for target in sorted(targets):
            print(f"{module} -> {target}")
