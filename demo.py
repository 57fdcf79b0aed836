"""A page in the browser: drop a picture, see it four times as large, compare two methods.

python demo.py                   http://127.0.0.1:7860, for this machine alone; needs requirements-demo.txt
"""

import hashlib
import html
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from config import Parser
from pictures import resize
from upscaling.files import upscale_file
from upscaling.network import Network
from upscaling.photo_reader import PHOTO_FORMATS, open_photo
from upscaling.upscaler import Upscaler, load
from utils import UserError
from weights import PRETRAINED

SCALE, MEGABYTES, MEGAPIXELS = 4, 20, 4  # browsers show 64 megapixels, and hardly more
MODELS = {"SRResNet": "srresnet", "SRGAN": "srgan"}
NAMES = ("Set5/LRx4/img_003", "Set14/LRx4/img_005", "Set5/LRx4/img_005", "Set14/LRx4/img_014", "Set14/LRx4/img_010")
EXAMPLES = [path for name in NAMES if (path := Path(__file__).parent / f"data/benchmark/{name}.png").is_file()]
CSS = """
.gradio-container {--font: system-ui, sans-serif; --font-mono: monospace}
.ends {display: flex; justify-content: space-between; gap: 1em}
.ends span {overflow: hidden; text-overflow: ellipsis; white-space: nowrap}
[role=alert] {color: #dc2626; font-weight: 600}
@media (max-width: 640px) {#controls {order: 2}}
"""
PASTE = """<script>
document.addEventListener("paste", event => {
  const input = document.querySelector("#photo input[type=file]");
  if (!input || !event.clipboardData.files.length) return;
  input.files = event.clipboardData.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
});
</script>"""


def command_line(argv=None):
    """The parsed options; a mistake is one line and exit 2."""
    parser = Parser(prog="demo.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    options = parser.parse_args(argv)
    if not 0 < options.port < 65536:
        parser.error(f"--port {options.port}: must be 1 to 65535")
    return options


def bicubic(lr):
    """lr float32 (N, h, w, 3) -> sr (N, 4*h, 4*w, 3), both in [-1, 1]: MATLAB's bicubic in the place of a network."""
    return np.stack([resize(picture, SCALE) for picture in lr])


def load_methods():
    """{method: its Upscaler}: bicubic, and the networks whose weights are shipped."""
    shipped = {method: name for method, name in MODELS.items() if (PRETRAINED / f"{name}.weights.h5").is_file()}
    return {"bicubic": Upscaler(Network(bicubic, SCALE))} | {method: load(name) for method, name in shipped.items()}


def upscaled(path, method, methods, folder, progress):
    """The path of a PNG below `folder` that holds the picture at `path` upscaled; it is made only once.

    progress: Gradio's. Raises UserError where the picture cannot be read or is too large.
    """
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    target = Path(folder, content, f"{path.stem}_{method}_x{SCALE}.png")
    if not target.exists():
        photo = open_photo(path, MEGAPIXELS * 10**6)

        def show_tiles(done, total):
            progress((done, total), desc=method, unit="tiles")

        upscale_file(photo, target, methods[method], show_tiles)
    return target


def compare(path, left, right, methods, folder, progress):
    """(pictures for the slider, download button, line above) for the picture at `path` by the methods left and right.

    A picture that cannot be read or is too large gives no pictures, and the line says why.
    """
    import gradio as gr

    try:
        pair = [upscaled(path, method, methods, folder, progress) for method in (left, right)]
    except UserError as error:
        mistake = html.escape(str(error).replace(f"{path.parent}{os.sep}", ""))
        return None, gr.DownloadButton("Download", value=None, interactive=False), f"<p role=alert>{mistake}</p>"
    width, height = open_photo(pair[1]).size
    ends = f"<b>{left}</b><span>{width}x{height}, {html.escape(path.name)}</span><b>{right}</b>"
    button = gr.DownloadButton(f"Download {right} (PNG)", value=pair[1], interactive=True)
    return tuple(pair), button, f"<div class=ends>{ends}</div>"


def page(methods, folder):
    """The page as Gradio's Blocks; results are kept in `folder`."""
    import gradio as gr

    def show(path, left, right, progress=gr.Progress()):  # Gradio finds its Progress by this default
        return compare(Path(path), left, right, methods, folder, progress) if path else [gr.skip()] * 3

    names = list(methods)
    with gr.Blocks(title="SRGAN", analytics_enabled=False) as blocks, gr.Row():
        photo = gr.State(str(EXAMPLES[0]) if EXAMPLES else None)
        with gr.Column(scale=1, min_width=280, elem_id="controls"):
            gr.Markdown(f"# SRGAN\nPictures four times as large: up to {MEGAPIXELS} megapixels and {MEGABYTES} MB.")
            file = gr.File(label="Drop or paste", file_types=list(PHOTO_FORMATS), height=160, elem_id="photo")
            samples = [[str(path)] for path in EXAMPLES]
            examples = gr.Dataset(components=["image"], samples=samples, label="Examples", visible=bool(EXAMPLES))
            left = gr.Radio(names, value=names[0], label="Left", elem_id="left")
            right = gr.Radio(names, value=names[-1], label="Right", elem_id="right")
            download = gr.DownloadButton("Download", variant="primary", interactive=False, elem_id="download")
        with gr.Column(scale=3, min_width=320):
            line = gr.HTML()
            slider = gr.ImageSlider(max_height=740, buttons=["fullscreen"], show_label=False, elem_id="slider")
            gr.Markdown("Wheel or two fingers: zoom. Drag: move.")
        job = {"fn": show, "inputs": [photo, left, right], "outputs": [slider, download, line]}
        job |= {
            "concurrency_limit": 1,
            "concurrency_id": "one at a time",
            "trigger_mode": "always_last",
            "show_progress_on": slider,
        }
        file.upload(lambda path: (path, None), file, [photo, file], queue=False).then(**job)
        examples.click(lambda sample: sample[0], examples, photo, queue=False).then(**job)
        gr.on([blocks.load, left.input, right.input], **job)
    return blocks


def main(options):
    """Serve the page until Ctrl-C; the exit status, 2 for the user's mistake."""
    if importlib.util.find_spec("gradio") is None:
        print("demo.py: needs Gradio; pip install -r requirements-demo.txt", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads, too, are gone at the end
        try:
            blocks = page(load_methods(), folder)
            settings = {"css": CSS, "head": PASTE, "footer_links": [], "max_file_size": MEGABYTES * 2**20}
            settings |= {"server_name": "127.0.0.1", "server_port": options.port, "ssr_mode": False}
            blocks.launch(**settings, quiet=True, prevent_thread_lock=True)
        except UserError as error:
            print(f"demo.py: {error}", file=sys.stderr)
            return 2
        except OSError:
            print(f"demo.py: --port {options.port}: taken or not allowed; choose another", file=sys.stderr)
            return 2
        print(f"http://127.0.0.1:{options.port}  (Ctrl-C ends it)", flush=True)
        blocks.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main(command_line()))
