"""What a config says and nothing reads is refused, before anything is built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from ovseg.engine import SetupError, check_config, config_root, load_config
from ovseg.engine.config import known_keys

VOC21 = config_root() / "sclip" / "sclip_vitb16_voc21.py"


def write(path: Path, text: str, base: Path | None = VOC21) -> Path:
    path.write_text((f"_base_ = ['{base}']\n" if base else "") + text)
    return path


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shortside": 10}, "shortside: nothing reads this key.*did you mean 'short_side'"),
        ({"Short_Side": 10}, "did you mean 'short_side'"),
        ({"data_root": "x"}, "did you mean 'test_dataloader.dataset.data_root'"),
        ({"threshold": 0.5}, "did you mean 'model.head.threshold'"),
        ({"tresholdd": 0.5}, "did you mean 'model.head.threshold'"),
        ({"test_pipeline": []}, "test_pipeline: nothing reads"),
        ({"num_classes": 3}, "num_classes: nothing reads"),
        ({"zebra": 1}, "zebra: nothing reads this key, so it would change nothing$"),
        ({"modle.head.threshold": 1}, "did you mean 'model'"),
        (
            {"model.head.logitscale": 50},
            "model.head: MaxQueryHead has no argument 'logitscale'; did you mean 'logit_scale'",
        ),
        ({"model.hed.logit_scale": 50}, "model: OpenVocabSegmentor has no argument 'hed'; did you mean 'head'"),
        ({"model.type": "OpenVocabSegmenter"}, "no model 'OpenVocabSegmenter'; did you mean 'OpenVocabSegmentor'"),
        ({"model.attention.type": "SelfSelfAtention"}, "model.attention: .*did you mean 'SelfSelfAttention'"),
        ({"model.head.type": "PAMR"}, "model.head: 'PAMR' is a refiner; a head is expected"),
        ({"model.head.threshold": "high"}, "model.head: MaxQueryHead: threshold is 'high'; a number is expected"),
        ({"model.windows.crops": 300}, "model.windows: there is no key 'crops'; did you mean 'crop'"),
        ({"model.windows.stride": 16.5}, "model.windows: .*stride is 16.5; a whole number or None is expected"),
        ({"model.windows.crop": True}, "model.windows: .*crop is True"),
        ({"model.refiners": [{"type": "PAMR", "steps": 3}]}, "model.refiners.0: PAMR has no argument 'steps'"),
        ({"test_dataloader.batchsize": 2}, "did you mean 'batch_size'"),
        ({"test_dataloader.dataset.imgdir": "x"}, "did you mean 'img_dir'"),
        ({"test_dataloader.dataset.pipeline.2.shortside": 4}, "did you mean 'short_side'"),
        (
            {"test_dataloader.sampler.type": "EvalSamplr"},
            "there is no data sampler 'EvalSamplr'; did you mean 'EvalSampler'",
        ),
        ({"test_evaluator.prefx": "a"}, "did you mean 'prefix'"),
        ({"test_cfg.resum": True}, "did you mean 'resume'"),
        ({"env_cfg.cudnn": True}, "env_cfg: there is no key 'cudnn'"),
        ({"env_cfg.mp_cfg.start": "fork"}, "env_cfg.mp_cfg: there is no key 'start'"),
        ({"randomness.sead": 1}, "randomness: there is no key 'sead'; did you mean 'seed'"),
        ({"default_hooks.result.cvs": None}, "did you mean 'csv'"),
        ({"default_hooks.mine.type": "ResultHok"}, "did you mean 'ResultHook'"),
        ({"test_dataloader.dataset.pipeline.9.x": 1}, "--cfg-options test_dataloader.dataset.pipeline.9.x: "),
        ({"model.backbone.weights.name": 1}, "--cfg-options model.backbone.weights.name: TypeError"),
        ({"custom_imports": "x"}, "custom_imports is 'x'"),
    ],
)
def test_options_that_would_do_nothing(options, message):
    with pytest.raises(SetupError, match=message) as caught:
        load_config(VOC21, options)
    assert str(VOC21) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("shortside = 10\n", "shortside: nothing reads this key.*'short_side'.*underscore"),
        ("data_root = 'mine'\n", "data_root: nothing reads this key.*'test_dataloader.dataset.data_root'"),
        ("test_pipeline = []\n", "test_pipeline: nothing reads"),
        ("a, b = 1, 2\nshort_side = a\n", "b: nothing reads this key"),
        ("model = dict(head=dict(logitscale=3))\n", "model.head: MaxQueryHead has no argument"),
        ("model = dict(backbone=dict(type='ClipBackbon'))\n", "did you mean 'ClipBackbone'"),
        ("short_side = 1 / 0\n", "cannot be read: ZeroDivisionError"),
        ("short_side = \n", "cannot be read: "),
        (
            "custom_imports = dict(imports=['no_such_module_of_mine'])\n",
            "module 'no_such_module_of_mine' cannot be impor",
        ),
    ],
)
def test_files_that_say_what_nothing_reads(tmp_path, text, message):
    with pytest.raises(SetupError, match=message) as caught:
        load_config(write(tmp_path / "mine.py", text))
    assert "mine.py" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    for path in (tmp_path / "nowhere.py", tmp_path):
        with pytest.raises(SetupError, match=str(path)):
            load_config(path)
    (tmp_path / "mine.yaml").write_text(
        "model: {type: OpenVocabSegmentor, backbone: {}, attention: {}}\nshortside: 3\n"
    )
    with pytest.raises(SetupError, match="mine.yaml: shortside.*'short_side'"):
        load_config(tmp_path / "mine.yaml")
    with pytest.raises(SetupError, match="nowhere"):
        load_config(write(tmp_path / "mine.py", "", base=tmp_path / "nowhere.py"))


def test_a_base_that_is_not_there(tmp_path):
    (tmp_path / "mine.py").write_text('_base_ = ["configs/nano/naclip_nano_scenes.py"]\n')
    with pytest.raises(SetupError, match="mine.py cannot be read: .*packaged configs are in") as caught:
        load_config(tmp_path / "mine.py")
    assert str(config_root()) in str(caught.value)


def test_variables_of_a_config_are_its_own_business(tmp_path):
    text = "size = 400\n_note = 'mine'\nshort_side = size\nwords: str = 'voc21'\nmodel = dict(vocabulary=words)\n"
    cfg = load_config(write(tmp_path / "mine.py", text))
    assert cfg.short_side == 400 and cfg.model.vocabulary == "voc21"
    assert not {"size", "words", "_note", "data_root", "test_pipeline"} & set(cfg)
    asked = write(tmp_path / "child.py", "model = dict(head=dict(threshold={{_base_.level}}))\n", tmp_path / "base.py")
    write(tmp_path / "base.py", "level = 0.25\n")
    assert load_config(asked).model.head.threshold == 0.25


def test_a_dumped_config_can_be_run_again(tmp_path):
    Config.fromfile(VOC21).dump(tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").model.head.logit_scale == 65
    load_config(VOC21).dump(tmp_path / "again.py")
    assert load_config(tmp_path / "again.py").short_side == 336


def test_configs_made_in_python():
    check_config(Config(dict(model=dict(type="OpenVocabSegmentor", backbone={}, attention={}), short_side=3)))
    with pytest.raises(SetupError, match="config: shortside: .*'short_side'"):
        check_config(Config(dict(model=dict(type="OpenVocabSegmentor", backbone={}, attention={}), shortside=3)))


def test_keys_of_the_runner_are_known():
    assert {"model", "work_dir", "test_dataloader", "default_hooks", "load_from", "resume", "short_side"} < {
        *known_keys()
    }


@pytest.mark.parametrize("path", sorted(config_root().rglob("*.py")), ids=lambda p: p.stem)
def test_packaged_configs_pass(path):
    if "_base_" not in path.parts:
        load_config(path)


def test_modules_beside_a_config_are_found_from_anywhere(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_attention_of_test.py").write_text(
        "from ovseg.attention import SelfSelfAttention\nfrom ovseg.registry import ATTENTIONS\n"
        "@ATTENTIONS.register_module()\nclass AttentionOfTest(SelfSelfAttention):\n    pass\n"
    )
    (folder / "json.py").write_text("raise SystemExit('a module of the config hides the standard library')\n")
    text = "custom_imports = dict(imports=['my_attention_of_test'])\n"
    config = write(folder / "config.py", text + "model = dict(attention=dict(type='AttentionOfTest'))\n")
    code = f"from ovseg.engine import load_config\nload_config({str(config)!r})\nimport json, sys\nprint(sys.path[-1])"
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(folder)  # where OVSEG_DATA is set a line of the log comes before


def test_a_module_that_fails_is_named(tmp_path):
    (tmp_path / "failing_module_of_test.py").write_text("value = undefined_name\n")
    config = write(tmp_path / "config.py", "custom_imports = dict(imports=['failing_module_of_test'])\n")
    with pytest.raises(SetupError, match="failing_module_of_test.*NameError: name 'undefined_name'"):
        load_config(config)


@pytest.mark.parametrize("name", ["configs/nano/clip_nano_scenes.py", "nano/clip_nano_scenes.py"])
def test_packaged_configs_are_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(load_config(name).filename).resolve() == (config_root() / "nano" / "clip_nano_scenes.py").resolve()
    (tmp_path / name).parent.mkdir(parents=True)
    own = write(tmp_path / name, "_mine = 1\n")
    assert Path(load_config(name).filename).resolve() == own.resolve()  # a file of the user's own goes first


@pytest.mark.parametrize("name", ["nano/none.py", "../setup.py", "configs", "configs/../../setup.py", "/nano/x.py", ""])
def test_other_names_are_no_packaged_configs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match="give a config file, or the name of one in"):
        load_config(name)
