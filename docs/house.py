"""Draw the modules and folders of the project, and who imports whom, from the imports themselves.

python docs/house.py house.png       the picture to write
"""

import sys
import textwrap
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from test_imports import FOLDERS, arrows_between_places, modules

EVERYWHERE = {"config", "utils"}  # nearly all import them; their arrows would hide the others
WIDTH = 100.0  # of the picture, in characters


def houses():
    """Return {box: the boxes that it imports}: a box is a module on top or a folder. An arrow that follows from two
    others (train -> srgan -> losses) is left out, and so are those to EVERYWHERE.
    """
    graph = {box: imported - EVERYWHERE for box, imported in arrows_between_places().items()}

    def reached(box):
        return set().union(*({other} | reached(other) for other in graph[box]))

    return {box: imported - set().union(*map(reached, imported)) for box, imported in graph.items()}


def rows_of(graph):
    """Return the boxes in rows, so that all arrows point downwards; programs that no other one imports are on top."""
    height = {}

    def place(box):
        if box not in height:
            height[box] = 1 + max((place(other) for other in graph[box]), default=0)
        return height[box]

    for box in graph:
        place(box)
    top = max(height.values())
    programs = set(graph) - set().union(*graph.values()) - EVERYWHERE
    height |= dict.fromkeys(programs, top) | dict.fromkeys(EVERYWHERE, 0)
    return [sorted(box for box in graph if height[box] == level) for level in range(top, -1, -1)]


def ordered(rows, graph):
    """Return the rows with each box as near as possible to the boxes that import it or that it imports."""
    place = {}

    def mean_place(box):
        near = [place[other] for other in graph if other in graph[box] or box in graph[other]]
        return sum(near) / len(near) if near else place[box]

    for _ in range(20):
        place.update({box: (index + 1) / (len(row) + 1) for row in rows for index, box in enumerate(row)})
        for row in rows:
            row.sort(key=mean_place)
    return rows


def label(box):
    """Return the lines in a box: the name of a module, or of a folder and what is in it."""
    if box not in FOLDERS:
        return [f"{box}.py"]
    inside = sorted({name.split(".")[1] for name in modules() if name.startswith(f"{box}.")})
    return [f"{box}/", *textwrap.wrap("  ".join(inside), 30)]


def draw(out):
    """Draw the picture `out`."""
    graph = houses()
    rows = ordered(rows_of(graph), graph)
    figure = Figure(figsize=(12, 10.5))
    axis = figure.subplots()
    boxes, bottom = {}, 0.0
    for row in rows:
        labels = {box: label(box) for box in row}
        widths = {box: max(map(len, lines)) + 3 for box, lines in labels.items()}
        gap = (WIDTH - sum(widths.values())) / (len(row) + 1)
        tallest = max(map(len, labels.values()))
        left = gap
        for box, lines in labels.items():
            height = len(lines) + 1
            boxes[box] = (left, bottom - (tallest + 1 + height) / 2, widths[box], height)
            left += widths[box] + gap
        bottom -= tallest + 5
    colours = colormaps["tab10"].colors
    for number, (box, imported) in enumerate(graph.items()):
        x, y, width, _ = boxes[box]
        for other in imported:
            to_x, to_y, to_width, to_height = boxes[other]
            tip, tail = (to_x + to_width / 2, to_y + to_height), (x + width / 2, y)
            style = {"arrowstyle": "-|>", "color": colours[number % len(colours)], "linewidth": 1.3}
            axis.annotate("", tip, tail, arrowprops=style, zorder=1)
    for box, (x, y, width, height) in boxes.items():
        colour = "#eef3fa" if box in FOLDERS else "white"
        axis.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="#333", zorder=2))
        for number, line in enumerate(label(box)):
            weight = "normal" if number else "bold"
            axis.text(x + width / 2, y + height - 1 - number, line, ha="center", va="center", size=9, weight=weight)
    axis.text(WIDTH / 2, bottom + 2, "nearly all import these two; their arrows are left out", ha="center", fontsize=9)
    axis.set(xlim=(0, WIDTH), ylim=(bottom + 1, 1))
    axis.axis("off")
    figure.tight_layout()
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    draw(sys.argv[1])
