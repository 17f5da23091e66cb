"""Image encoders: stage by stage they compute what the whole models compute, and faults are reported."""

import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from platform.errors import InputError
from platform.models import backbones, encoders, open_clip_models
from platform.models.stages import assign

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TRANSFORMER = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
TIMM = {"timm_pool": "", "timm_proj": "linear"}
VISION = {
    "transformer": TRANSFORMER,
    "average, norm after pooling": TRANSFORMER | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
    "attentional pool": TRANSFORMER | {"attentional_pool": True, "attn_pooler_queries": 4},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "timm vit": TIMM | {"image_size": 160, "timm_model_name": "test_vit"},
    "timm vit, attention": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    "timm vit, registers": {"image_size": 160, "timm_model_name": "test_vit2", "timm_pool": "avg"},
    "timm convnext": TIMM | {"image_size": 64, "timm_model_name": "test_convnext"},
}
TRANSFORMER_STAGES = ["patch_embed", "block0", "block1", "projection"]


def config(vision: dict) -> dict:
    embed_dim = 64 if vision.get("timm_pool") == "map" else 24
    return {"embed_dim": embed_dim, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT}


def write(folder: Path, vision: dict, seed: int = 0) -> str:
    """Write a model with random non-zero weights as open_clip does; return its name."""
    folder.mkdir(exist_ok=True)
    content = {"model_cfg": config(vision), "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    state = model.state_dict()
    for value in state.values():
        if value.is_floating_point():
            value += 0.05 * torch.rand_like(value)
    save_file(state, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("models") / "resnet", VISION["resnet"])


def images(encoder: encoders.Encoder, size: int | None = None) -> torch.Tensor:
    side = size or encoder.image_size
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", VISION)
@torch.no_grad()
def test_the_divided_tower_computes_what_the_whole_model_does(kind, tmp_path):
    name = write(tmp_path / "model", VISION[kind])
    encoder = encoders.load(name, "DEFAULT").eval()
    whole = open_clip.create_model(name).eval()
    for size in (None,) if encoder.fixed_size else (None, encoder.image_size + 32):
        x = images(encoder, size)
        normalised = (x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
        expected = whole.encode_image(normalised)
        torch.testing.assert_close(encoder(x), expected, rtol=0, atol=1e-6)
    assert expected.shape == (3, encoder.channels)
    assert encoder.fixed_size == (kind != "timm convnext")
    assert encoder.image_size == VISION[kind]["image_size"]
    # nothing but the image tower, and all of it
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in whole.visual.parameters())
    owners = assign(nn.ModuleDict({"body": encoder}), encoder.stages("body"))
    assert set(owners.values()) == {name for name, _ in encoder.named_children()}
    assert encoders.stage_count(name) == len(encoder.stages())
    if kind == "transformer":
        assert [stage.name for stage in encoder.stages()] == TRANSFORMER_STAGES


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large"])
@torch.no_grad()
def test_a_torchvision_backbone_is_pooled_by_the_mean_over_places(name):
    torch.manual_seed(0)
    encoder = encoders.load(name, "none").eval()
    torch.manual_seed(0)
    body = backbones.load(name, "none").eval()
    x = images(encoder, 64)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    expected = body((x - mean) / std).mean((2, 3))
    torch.testing.assert_close(encoder(x), expected)
    assert expected.shape[1] == encoder.channels
    assert encoders.stage_count(name) == len(encoder.stages()) == 5
    assert not encoder.fixed_size


@torch.no_grad()
def test_the_first_stages_and_then_the_rest_are_the_whole(resnet):
    encoder = encoders.load(resnet, "DEFAULT").eval()
    x = images(encoder)
    for split_index in range(len(encoder) + 1):
        first, rest = nn.Sequential(*list(encoder)[:split_index]), nn.Sequential(*list(encoder)[split_index:])
        assert torch.equal(rest(first(x)), encoder(x))


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
@torch.no_grad()
def test_every_stage_has_pooled_outputs(kind, tmp_path):
    encoder = encoders.load(write(tmp_path, VISION[kind]), "DEFAULT").eval()
    pooled = encoder.pooled(images(encoder))
    assert list(pooled) == [stage.name for stage in encoder.stages()]
    assert all(value.ndim == 2 and len(value) == 3 for value in pooled.values())
    assert torch.equal(list(pooled.values())[-1], encoder(images(encoder)))


@pytest.mark.parametrize("kind", ["resnet", "torchvision"])
@torch.no_grad()
def test_a_saved_encoder_is_loaded_again_without_its_folder(kind, resnet, tmp_path):
    name = resnet if kind == "resnet" else "resnet18"
    encoder = encoders.load(name, "DEFAULT" if kind == "resnet" else "none").eval()
    x = images(encoder, 32)
    file = tmp_path / "encoder.safetensors"
    encoders.save(encoder, file)
    for again in (encoders.load_file(file), encoders.load(name, str(file))):
        assert torch.equal(again.eval()(x), encoder(x))
        assert again.config == encoder.config
    built = encoders.build(json.loads(json.dumps(encoder.config))).eval()
    assert not torch.equal(built(x), encoder(x))
    built.load_state_dict(encoder.state_dict())
    assert torch.equal(built(x), encoder(x))


def test_none_is_random_and_default_is_not(resnet):
    loaded = [encoders.load(resnet, weights).state_dict() for weights in ("DEFAULT", "DEFAULT", "none", "none")]
    key = "stem.1.conv1.weight"
    assert torch.equal(loaded[0][key], loaded[1][key])
    assert not torch.equal(loaded[0][key], loaded[2][key])
    assert not torch.equal(loaded[2][key], loaded[3][key])


def test_a_checkpoint_of_the_whole_model_serves_as_weights(resnet, tmp_path):
    other = write(tmp_path / "other", VISION["resnet"], seed=1)
    file = tmp_path / "other" / "open_clip_model.safetensors"
    given, own = encoders.load(resnet, str(file)).state_dict(), encoders.load(other, "DEFAULT").state_dict()
    assert all(torch.equal(given[key], own[key]) for key in own)


def test_a_folder_is_looked_for_from_here_and_then_from_the_project(resnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert encoders.stage_count("local-dir:starters/clip") == 6
    write(tmp_path / "starters", TRANSFORMER)
    (tmp_path / "starters").rename(tmp_path / "clip")
    (tmp_path / "starters").mkdir()
    (tmp_path / "clip").rename(tmp_path / "starters" / "clip")
    assert encoders.stage_count("local-dir:starters/clip") == 4


def fault_of(name: str, weights: str) -> str:
    with pytest.raises(InputError) as caught:
        encoders.load(name, weights)
    return str(caught.value)


def test_an_unknown_name_tells_close_ones():
    assert "ViT-B-32" in fault_of("ViT-B32", "none")
    assert "resnet50" in fault_of("resnet_50", "none")


def test_an_unknown_tag_tells_the_known_ones():
    assert "yfcc15m" in fault_of("RN50", "yfcc")
    assert "yfcc15m" in fault_of("RN50", "missing.safetensors")


def test_a_tower_that_cannot_be_divided_is_refused_without_building_it():
    with pytest.raises(InputError, match="SwinTransformer"):
        encoders.stage_count("swin_base_patch4_window7_224")


def test_a_folder_that_is_no_model_is_refused(resnet, tmp_path):
    assert "must exist" in fault_of(f"local-dir:{tmp_path}/absent", "DEFAULT")
    assert "open_clip_config.json" in fault_of(f"local-dir:{tmp_path}", "DEFAULT")
    assert "DEFAULT" in fault_of(resnet, "openai")
    for text in ("{", "[]", "{}", '{"model_cfg": {"embed_dim": 4}}', '{"model_cfg": 3}'):
        (tmp_path / "open_clip_config.json").write_text(text)
        assert "must hold open_clip_config.json" in fault_of(f"local-dir:{tmp_path}", "none")
    for vision in (TRANSFORMER | {"image_size": [32, 64]}, TRANSFORMER | {"width": "x"}, {"colour": "red"}):
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config(vision)}))
        assert "image tower" in fault_of(f"local-dir:{tmp_path}", "none")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config(TRANSFORMER)}))
    assert "open_clip_model.safetensors" in fault_of(f"local-dir:{tmp_path}", "DEFAULT")


def test_a_wrong_weights_file_is_refused(resnet, tmp_path):
    for file, content in (("noise.safetensors", b"\xff" * 99), ("noise.bin", b"\x80\x04noise")):
        (tmp_path / file).write_bytes(content)
        assert "without pickled code" in fault_of(resnet, str(tmp_path / file))
    write(tmp_path / "other", TRANSFORMER)
    assert "must fit" in fault_of(resnet, str(tmp_path / "other" / "open_clip_model.safetensors"))
    encoders.save(encoders.load(resnet, "none"), tmp_path / "saved.safetensors")
    assert "embed_dim" in fault_of("ViT-S-32-alt", str(tmp_path / "saved.safetensors"))
    assert "torchvision" in fault_of("resnet18", str(tmp_path / "saved.safetensors"))


def test_the_hub_out_of_reach_is_reported_at_once(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # a port that nobody listens at
    assert "needs the network" in fault_of("hf-hub:nobody/nothing", "DEFAULT")
    assert "needs the network" in fault_of("RN50", "yfcc15m")
    assert "hub" in fault_of("hf-hub:not//a/name", "DEFAULT")


def test_what_the_hub_gave_before_needs_no_network(tmp_path, monkeypatch, resnet):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for repository in ("me/mine", "timm/resnet50_clip.openai"):
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("abc")
        (folder / "snapshots").mkdir()
        (folder / "snapshots" / "abc").symlink_to(resnet.removeprefix("local-dir:"))
    hub, local = (encoders.load(name, "DEFAULT").state_dict() for name in ("hf-hub:me/mine", resnet))
    assert all(torch.equal(hub[key], local[key]) for key in local)
    source = open_clip_models.find("RN50", "openai")
    assert source.model["quick_gelu"], "as its weights were trained"
    assert source.file.is_file()


def test_a_torchvision_backbone_is_built_without_open_clip():
    code = (
        "import sys; sys.modules |= dict.fromkeys(['open_clip', 'timm', 'mlflow', 'optuna', 'transformers']);"
        f"from platform.models import encoders; encoders.build({encoders.load('resnet18', 'none').config!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=open_clip_models.ROOT, check=True)
