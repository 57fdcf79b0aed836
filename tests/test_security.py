"""Files from strangers: nothing in them is run, no other file is read for them, and they do not eat memory."""

import ast
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from archives import save_pickle
from test_bad_data import png_claiming
from thorough import often
from videos import write_video

import upscale
from dataset import validation_pictures
from evaluation.benchmark import benchmark_sets
from model import SRGAN_g
from pictures import write_picture
from upscaling.network import load_network
from upscaling.photo.reader import open_photo
from upscaling.video.reader import open_video
from utils import UserError
from weights import load_generator, load_vgg19, load_weights, read_tensorlayer, save_weights

ROOT = Path(__file__).parents[1]
PRODUCT = [  # every module outside tests, in whatever folder
    path
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] != "tests" and not any(part.startswith(".") for part in path.parts)
]
# by its name alone or as the last part of it: whatever runs what a file holds, or writes where an archive says
ALONE = {"eval", "exec", "compile", "__import__"}
ANYWHERE = {"load_model", "system", "popen", "unsafe_load", "full_load", "model_from_json"}
NUMPYS = {"np.load", "numpy.load"}
LOADERS = {f"{module}.{name}" for module in ("pickle", "yaml", "torch", "joblib") for name in ("load", "loads")}


def calls(tree):
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        options = {option.arg: ast.unparse(option.value) for option in call.keywords}
        yield ast.unparse(call.func), options, call.lineno


def dangers(source):
    """[(line, call)] of what runs what a file holds."""
    return [
        (line, name)
        for name, options, line in calls(ast.parse(source))
        if name in ALONE | LOADERS
        or name.split(".")[-1] in ANYWHERE
        or options.get("allow_pickle", f"{name in NUMPYS}") != "False"  # to be said where NumPy loads
        or options.get("safe_mode", "True") != "True"
        or options.get("shell", "False") != "False"
        or (name.endswith("extractall") and options.get("filter") != "'data'")  # of tar: nothing outside the folder
    ]


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: f"{path.relative_to(ROOT)}")
def test_no_product_code_runs_what_a_file_holds(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


DANGEROUS = (
    "eval(x) | pickle.loads(x) | os.system(x) | archive.extractall() | np.load(x) | np.load(x, allow_pickle=True)"
)
DANGEROUS += (
    " | keras.models.load_model(x) | keras.layers.deserialize(x, safe_mode=False) | subprocess.run(x, shell=True)"
)


@pytest.mark.parametrize("line", DANGEROUS.split(" | "))
def test_code_that_would_run_it_is_seen(line):
    assert dangers(f"def read(x):\n    with open(x):\n        return {line}") == [(3, line.partition("(")[0])]
    assert dangers("np.load(x, allow_pickle=False)") == dangers("archive.extractall(filter='data')") == []


# Weights


def generator():
    return SRGAN_g(scale=2, blocks=1, filters=8)


@pytest.fixture
def weights(tmp_path):
    save_weights(generator(), tmp_path / "g.weights.h5", {"model": {"scale": 2, "blocks": 1, "filters": 8}})
    return tmp_path / "g.weights.h5"


KERNEL = "layers/conv2d/vars/0"
SHAPE = (9, 9, 3, 8)
SIZE = 4 * np.prod(SHAPE)


def external_link(file, secret):
    file[KERNEL] = h5py.ExternalLink(secret, "/weights")


def soft_link(file, secret):
    file[KERNEL] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def external_dataset(file, secret):
    file.create_dataset(KERNEL, SHAPE, "f4", external=[(secret, 0, SIZE)])


def virtual_dataset(file, secret):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource(secret, "weights", SHAPE)
    file.create_virtual_dataset(KERNEL, layout)


def four_terabytes_of_nothing(file, secret):
    file.create_dataset(KERNEL, (10**6, 10**6), "f4", chunks=(1000, 1000))


def a_bomb_of_zeros(file, secret):
    file.create_dataset(KERNEL, data=np.zeros((9, 9, 3, 20_000), "f4"), compression="gzip")


TRICKS = [external_link, soft_link, external_dataset, virtual_dataset, four_terabytes_of_nothing, a_bomb_of_zeros]
READERS = {
    "training": lambda path: load_weights(generator(), path),
    "evaluation": lambda path: load_generator(path),
    "upscaling with openvino": lambda path: load_network(path, "openvino"),
    "upscaling with keras": lambda path: load_network(path, "keras"),
    "VGG19": lambda path: load_vgg19("block1_pool", str(path)),
}


PAIRS = [(trick, reader) for trick in TRICKS for reader in READERS]
FEW = [(trick, reader) for trick, reader in PAIRS if trick is external_link or reader == "evaluation"]


@pytest.mark.parametrize("trick, reader", often(FEW, PAIRS))
def test_weights_lead_to_no_other_file_and_claim_no_more_than_they_hold(tmp_path, weights, trick, reader):
    if "openvino" in reader:
        pytest.importorskip("openvino")
    secret = str(tmp_path / "secret.h5")
    with h5py.File(secret, "w") as file:
        file["weights"] = np.ones(SHAPE, "f4")
    with h5py.File(weights, "a") as file:
        del file[KERNEL]
        trick(file, secret)
        if trick in (external_link, external_dataset, virtual_dataset):
            assert file[KERNEL].shape == SHAPE and file[KERNEL][()].any()  # so it would have been read
    with pytest.raises(UserError, match=r"g\.weights\.h5.*(leads out of the file|claims \d+ MB)") as refused:
        READERS[reader](weights)
    assert "\n" not in str(refused.value)


def test_a_keras_model_with_code_in_it_is_no_weights_file(tmp_path):
    picture = keras.Input((None, None, 3))
    model = keras.Model(picture, keras.layers.Lambda(lambda x: x)(picture))
    model.save(tmp_path / "g.keras")
    for reader in (READERS["training"], READERS["upscaling with keras"]):
        with pytest.raises(UserError, match=r"g\.keras: damaged"):
            reader(tmp_path / "g.keras")


def test_an_onnx_file_cannot_name_another_file(tmp_path):
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("openvino")
    (tmp_path / "secret").write_bytes(np.ones(3, "f4").tobytes())
    for place in ("../secret", str(tmp_path / "secret")):
        tensor = onnx.TensorProto(name="w", data_type=1, dims=[3], data_location=onnx.TensorProto.EXTERNAL)
        for key, value in {"location": place, "offset": "0", "length": "12"}.items():
            tensor.external_data.add(key=key, value=value)
        ends = [onnx.helper.make_tensor_value_info(name, 1, ["n", "h", "w", 3]) for name in ("x", "y")]
        nodes = [onnx.helper.make_node("Add", ["x", "w"], ["y"])]
        graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [tensor])
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub/g.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
        with pytest.raises(UserError, match="outside the base directory"):
            load_network(tmp_path / "sub/g.onnx")


def test_a_video_cannot_name_another_file(tmp_path):
    av = pytest.importorskip("av")
    write_video(tmp_path / "secret.mkv", [np.zeros((64, 64, 3), np.uint8)])
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile secret.mkv\n")
    with av.open(str(tmp_path / "concat.mp4")) as file:
        assert file.streams.video[0].width == 64  # so it would have been read
    with pytest.raises(UserError, match="concat.mp4: unreadable video"):
        open_video(tmp_path / "concat.mp4")


# TensorLayer's archives


def test_a_pickled_archive_needs_a_flag_wherever_it_is_read(tmp_path, capsys):
    save_pickle(SRGAN_g("tensorlayer"), tmp_path / "g_srgan.npz")
    with pytest.raises(UserError, match="holds a pickle, which may run any code.*EVALUATE.trust_pickle=yes"):
        load_generator(tmp_path / "g_srgan.npz")
    load_generator(tmp_path / "g_srgan.npz", trust_pickle=True)
    write_picture(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    command = [str(tmp_path / "a.png"), "--model", str(tmp_path / "g_srgan.npz")]
    assert upscale.main(upscale.command_line(command)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "--trust-pickle" in line and not (tmp_path / "a_x4.png").exists()
    assert upscale.main(upscale.command_line([*command, "--trust-pickle"])) == 0
    assert (tmp_path / "a_x4.png").exists()


def terabytes(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("w.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
        file.write(bytes(100))


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda path: np.savez_compressed(path, w=np.zeros(10**7, "f4")), "bomb"),
        (terabytes, "no TensorLayer archive"),
    ],
)
def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path, make, reason):
    make(tmp_path / "g.npz")
    with pytest.raises(UserError, match=reason):
        read_tensorlayer(tmp_path / "g.npz")


# Decompression bombs: tests/test_bad_data.py has them in a training folder, tests/test_video.py in a video


BOMBED = {
    "Set/HR/a.png": lambda folder: list(benchmark_sets(folder, 4, [])),
    "Set/LRx4/a.png": lambda folder: list(benchmark_sets(folder, 4, [])),
    "b.png": lambda folder: validation_pictures(folder, count=1, crop=384, scale=4),
    "c.png": lambda folder: open_photo(folder / "c.png"),
}


@pytest.mark.parametrize("name", BOMBED)
def test_a_bomb_is_refused_wherever_pictures_are_read(tmp_path, name):
    if "Set" in name:
        write_picture(tmp_path / "Set/HR/a.png", np.zeros((64, 64, 3), np.uint8))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(png_claiming(40000, 25000))
    with pytest.raises(UserError, match=f"{name}.*(decompression bomb|megapixels)"):
        BOMBED[name](tmp_path)
