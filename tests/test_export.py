"""Exported files give what Keras gives, for any number and size of pictures, and say what they hold."""

import json
import zipfile
from pathlib import Path

import keras
import numerics
import numpy as np
import pytest
from archives import save_arrays
from numerics import CLOSE_IN_FLOAT32

import export
import upscale
from engines import import_openvino
from model import SRGAN_g
from pictures import read_picture, write_picture
from upscaling.network import load_network
from weights import load_generator, metadata_path, read_metadata, save_weights

METADATA = {"model": {"scale": 2}, "updates": 7, "licence": "CC0-1.0"}
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras exports from TensorFlow")


def run_onnx(path, lr):
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    (there,), (back,) = session.get_inputs(), session.get_outputs()
    assert there.shape == ["batch", "height", "width", 3] and back.shape == ["batch", "sr_height", "sr_width", 3]
    return session.run(None, {there.name: lr})[0], session.get_modelmeta().custom_metadata_map


def run_openvino(path, lr):
    openvino = import_openvino()
    core = openvino.Core()
    network = core.read_model(path)
    layouts = [port.node.layout for port in (network.input(0), network.output(0))]
    assert layouts == [openvino.Layout("[batch,height,width,channels]")] * 2
    texts = {name: network.get_rt_info(["srgan", name]).value for name in network.get_rt_info("srgan").value}
    return core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(lr)[0], texts


def run_saved_model(path, lr):
    import tensorflow

    texts = json.loads((path / "assets.extra/srgan.json").read_text())
    loaded = tensorflow.saved_model.load(path)  # serve() alone would lose its variables
    return loaded.serve(lr).numpy(), texts


def run_tflite(path, lr, size=(128, 128)):
    """size: (h, w) of the pictures that the file is for where nobody sets another."""
    import tensorflow

    network = tensorflow.lite.Interpreter(str(path))
    (there,), (back,) = network.get_input_details(), network.get_output_details()
    assert there["shape"].tolist() == there["shape_signature"].tolist() == [1, *size, 3]
    assert back["shape"].tolist() == [1, 2 * size[0], 2 * size[1], 3]
    network.resize_tensor_input(there["index"], lr.shape)
    network.allocate_tensors()
    network.set_tensor(there["index"], lr)
    network.invoke()
    with zipfile.ZipFile(path) as archive:
        texts = json.loads(archive.read("srgan.json"))
    assert f"(1, {size[0]}, {size[1]}, 3)" in texts["input"]
    return network.get_tensor(back["index"]), texts


def test_half_floats_give_the_picture_within_their_digits_in_both_engines(tmp_path):
    generator = SRGAN_g(blocks=2, filters=8)
    numerics.leave_start(generator)
    metadata = {"model": {"blocks": 2, "filters": 8}, "updates": 7}
    save_weights(generator, tmp_path / "g.weights.h5", metadata)
    assert export.export(generator, metadata, "half", tmp_path / "half.weights.h5")[1] == tmp_path / "half.json"
    assert json.loads((tmp_path / "half.json").read_text()) == metadata
    lr = numerics.random().uniform(-1, 1, (1, 12, 9, 3)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(generator(lr))
    for engine in ("keras", "openvino"):
        sr = load_network(tmp_path / "half.weights.h5", engine, "float32")(lr)
        assert 0 < np.abs(sr - expected).max() < 20 * 2**-11  # ten layers, each with weights of 11 digits


RUNS = {"onnx": run_onnx, "openvino": run_openvino, "saved_model": run_saved_model, "tflite": run_tflite}


@pytest.mark.numerical
@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.filterwarnings("ignore")
def test_the_file_gives_what_keras_gives_and_says_what_it_is(kind, tmp_path):
    generator = SRGAN_g(scale=2, blocks=2, filters=8)
    numerics.leave_start(generator)
    target = tmp_path / f"sr{export.EXPORT_SUFFIXES[kind]}"
    written = export.export(generator, METADATA, kind, target)
    assert sorted(tmp_path.iterdir()) == sorted(written)  # no temporary file is left
    for shape in ((1, 9, 13, 3), (2, 24, 17, 3)):
        lr = numerics.random().uniform(-1, 1, shape).astype(np.float32)
        sr, texts = RUNS[kind](target, lr)
        assert 0.1 < sr.std() < 0.9  # tanh is not saturated
        assert sr.shape == (shape[0], 2 * shape[1], 2 * shape[2], 3)
        assert np.abs(sr - keras.ops.convert_to_numpy(generator(lr))).max() < CLOSE_IN_FLOAT32
    assert "127.5" in texts["input"] and "2*h" in texts["output"] and json.loads(texts["facts"]) == METADATA
    described = {name: texts[name] for name in ("scale", "range", "colour_order", "licence")}
    assert described == {"scale": "2", "range": "-1..1", "colour_order": "RGB", "licence": "CC0-1.0"}
    with pytest.raises(export.UserError, match="exists"):
        export.export(generator, METADATA, kind, target)


def test_the_shipped_weights_name_their_licence_and_others_need_none():
    shipped = sorted((Path(export.__file__).parent / "checkpoints/pretrained").glob("*.weights.h5"))
    assert shipped and {export.description(read_metadata(path))["licence"] for path in shipped} == {"MIT"}
    assert export.description({})["licence"] == "not stated"


@pytest.mark.filterwarnings("ignore")
def test_a_tflite_file_has_the_size_that_is_asked_for(tmp_path):
    export.export(SRGAN_g(scale=2, blocks=1, filters=4), METADATA, "tflite", tmp_path / "g.tflite", lr_size=(9, 14))
    sr, _ = run_tflite(tmp_path / "g.tflite", np.zeros((1, 9, 14, 3), np.float32), size=(9, 14))
    assert sr.shape == (1, 18, 28, 3)


@pytest.mark.parametrize(
    "words, named",
    [
        ("onnx --model none.h5", "none.h5"),
        (f"onnx --model {Path(__file__).parent}", "a folder"),
        (f"onnx -o {__file__}/a.onnx", "cannot be made"),
        ("onnx -o small", "small: must end with .onnx"),
        ("openvino -o ov.bin", "ov.bin: must end with .xml"),
        ("onnx --strength 1.5", "--strength 1.5: must be 0 to 1"),
        ("onnx --lr-size 9 9", "--lr-size"),
        ("tflite --lr-size 0 9", "--lr-size"),
        ("tflite --lr-size 9", "--lr-size"),
    ],
)
def test_a_mistake_is_one_line_and_2(words, named, capsys):
    try:
        status = export.main(export.command_line(["--format", *words.split()]))
    except SystemExit as stop:
        status = stop.code
    line = capsys.readouterr().err
    assert status == 2 and line.count("\n") == 1 and named in line


@pytest.fixture
def doubling(tmp_path):
    """Weights that double, with metadata beside them."""
    model = {"scale": 2, "blocks": 1, "filters": 8}
    save_weights(SRGAN_g(**model), tmp_path / "g.weights.h5", {"model": model})
    return tmp_path / "g.weights.h5"


def status_of(program, weights, folder):
    """The exit status of export.py or upscale.py, in Keras, with these weights."""
    if program == "export.py":
        words = ["--format", "onnx", "--model", str(weights), "-o", str(folder / "g.onnx")]
        return export.main(export.command_line(words))
    write_picture(folder / "a.png", np.zeros((8, 9, 3), np.uint8))
    return upscale.main(upscale.command_line([str(folder / "a.png"), "--model", str(weights), "--engine=keras"]))


@pytest.mark.parametrize("program", ["export.py", "upscale.py"])
@pytest.mark.parametrize(
    "text, said",
    [
        ('{"model": {"scale": 3}}', '"scale": 3'),
        ('{"model": {"scale": 2.0}}', '"scale": 2.0'),
        ('{"model": {"blocks": "x"}}', "\"blocks\": 'x'"),
        ('{"strength": "x"}', "\"strength\": 'x'"),
        ("{", "cannot be read"),
        pytest.param("[" * 100_000, "cannot be read", id="nested"),
        (None, "of another network"),  # without metadata it is taken for the paper's network
    ],
)
def test_wrong_metadata_is_one_line_and_2(doubling, tmp_path, capsys, program, text, said):
    metadata_path(doubling).unlink()
    if text:
        metadata_path(doubling).write_text(text)
    assert status_of(program, doubling, tmp_path) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"{program}: {tmp_path}/g.") and line.count("\n") == 1 and said in line
    assert not (tmp_path / "g.onnx").exists() and not (tmp_path / "a_x4.png").exists()


def test_half_floats_of_a_tensorlayer_archive_are_read_again(tmp_path):
    generator = SRGAN_g("tensorlayer")
    save_arrays(generator, tmp_path / "g.npz")
    words = ["--format", "half", "--model", str(tmp_path / "g.npz"), "-o", str(tmp_path / "half.weights.h5")]
    assert export.main(export.command_line(words)) == 0
    again = load_generator(tmp_path / "half.weights.h5")
    for ours, theirs in zip(again.variables, generator.variables, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs), 2**-11, 2**-24)


def test_openvino_needs_no_metadata(doubling, tmp_path):
    metadata_path(doubling).unlink()
    write_picture(tmp_path / "a.png", np.zeros((8, 9, 3), np.uint8))
    words = [str(tmp_path / "a.png"), "--model", str(doubling), "--engine=openvino"]
    assert upscale.main(upscale.command_line(words)) == 0
    assert read_picture(tmp_path / "a_x2.png").shape == (16, 18, 3)
