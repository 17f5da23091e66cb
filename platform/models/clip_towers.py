"""Division of an open_clip model's image tower into stages, each of which maps one tensor to one tensor.

    tower                                          stages
    VisionTransformer                              patch_embed, block0 …, projection
    ModifiedResNet                                 stem, layer1 … layer4, attnpool
    timm's VisionTransformer (SigLIP, ViTamin …)   patch_embed, block0 …, projection
    timm's stem and stages (ConvNeXt, FastViT)     stem, layer1 …, pool

The modules are those of the tower, grouped anew; run one after the other they compute what the tower computes.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

Stages = OrderedDict[str, nn.Module]

KINDS = "VisionTransformer, ModifiedResNet, and timm's VisionTransformer, ConvNeXt and FastViT"


def split_into_stages(tower: Any) -> Stages:
    """Divide a tower into its stages.

    Raises:
        ValueError: Towers of this kind cannot be divided into stages.
    """
    trunk: Any = getattr(tower, "trunk", None)
    kind = type(tower).__name__ if trunk is None else f"timm's {type(trunk).__name__}"
    if kind == "VisionTransformer" and tower.pool_type in ("tok", "avg"):
        return _transformer(TokenEmbedding(tower), tower.transformer.resblocks, Projection(tower))
    if kind == "ModifiedResNet":
        layers = [(name, getattr(tower, name)) for name in ("layer1", "layer2", "layer3", "layer4", "attnpool")]
        return OrderedDict([("stem", _residual_stem(tower)), *layers])
    if kind == "timm's VisionTransformer" and trunk.global_pool in ("token", "avg", "map"):
        return _transformer(TimmTokenEmbedding(trunk), trunk.blocks, TimmProjection(trunk, tower.head))
    if kind in ("timm's ConvNeXt", "timm's FastVit"):
        last = trunk.norm_pre if kind == "timm's ConvNeXt" else trunk.final_conv
        layers = [(f"layer{number}", stage) for number, stage in enumerate(trunk.stages, start=1)]
        return OrderedDict([("stem", trunk.stem), *layers, ("pool", nn.Sequential(last, trunk.head, tower.head))])
    raise ValueError(f"{kind} with these options cannot be divided into stages")


def has_fixed_size(tower: Any) -> bool:
    """Check whether a tower takes images of one size only."""
    trunk: Any = getattr(tower, "trunk", None)
    if trunk is None or not hasattr(trunk, "stages"):
        return True  # it has positional embeddings
    return "AttentionPool" in type(getattr(tower.head, "pool", None)).__name__


class TokenEmbedding(nn.Module):
    """First stage of open_clip's VisionTransformer: images (N, 3, S, S) to tokens (N, 1 + patches, width)."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.conv1, self.patch_dropout, self.ln_pre = tower.conv1, tower.patch_dropout, tower.ln_pre
        self.class_embedding, self.positional_embedding = tower.class_embedding, tower.positional_embedding

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], dim=1)
        return self.ln_pre(self.patch_dropout(tokens + self.positional_embedding))


class Projection(nn.Module):
    """Last stage of open_clip's VisionTransformer: tokens to pooled features (N, channels)."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.ln_post, self.attn_pool, self.proj = tower.ln_post, tower.attn_pool, tower.proj
        self.pool_type, self.final_ln_after_pool = tower.pool_type, tower.final_ln_after_pool

    def forward(self, tokens: Tensor) -> Tensor:
        if self.attn_pool is not None:
            tokens = self.attn_pool(tokens)
        if self.attn_pool is None and self.final_ln_after_pool:
            pooled = self.ln_post(self._pool(tokens))
        else:
            pooled = self._pool(self.ln_post(tokens))
        return pooled if self.proj is None else pooled @ self.proj

    def _pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, 1:].mean(dim=1) if self.pool_type == "avg" else tokens[:, 0]


class TimmTokenEmbedding(nn.Module):
    """First stage of timm's VisionTransformer: images (N, 3, S, S) to tokens (N, prefix + patches, width)."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.patch_embed, self.pos_drop, self.patch_drop = trunk.patch_embed, trunk.pos_drop, trunk.patch_drop
        self.cls_token, self.reg_token, self.pos_embed = trunk.cls_token, trunk.reg_token, trunk.pos_embed
        self.norm_pre, self.no_embed_class = trunk.norm_pre, trunk.no_embed_class

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed(images)
        if patches.ndim == 4:  # (N, H, W, width) in trunks that were made for any size
            patches = patches.flatten(1, 2)
        prefix = [t.expand(len(images), -1, -1) for t in (self.cls_token, self.reg_token) if t is not None]
        if self.pos_embed is None:
            tokens = torch.cat([*prefix, patches], dim=1)
        elif self.no_embed_class:
            tokens = torch.cat([*prefix, patches + self.pos_embed], dim=1)
        else:
            tokens = torch.cat([*prefix, patches], dim=1) + self.pos_embed
        return self.norm_pre(self.patch_drop(self.pos_drop(tokens)))


class TimmProjection(nn.Module):
    """Last stage of timm's VisionTransformer with open_clip's head: tokens to pooled features (N, channels)."""

    def __init__(self, trunk: Any, above: nn.Module) -> None:
        super().__init__()
        self.norm, self.attn_pool = trunk.norm, trunk.attn_pool
        self.head = nn.Sequential(trunk.fc_norm, trunk.head_drop, trunk.head, above)
        self.pool_type = trunk.global_pool
        self.first_pooled = 0 if trunk.pool_include_prefix else trunk.num_prefix_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        if self.attn_pool is not None:
            return self.head(self.attn_pool(tokens[:, self.first_pooled :]))
        return self.head(tokens[:, 0] if self.pool_type == "token" else tokens[:, self.first_pooled :].mean(dim=1))


def _transformer(first: nn.Module, blocks: Iterable[nn.Module], last: nn.Module) -> Stages:
    middle = [(f"block{number}", block) for number, block in enumerate(blocks)]
    return OrderedDict([("patch_embed", first), *middle, ("projection", last)])


def _residual_stem(tower: Any) -> nn.Module:
    names = [f"{part}{number}" for number in (1, 2, 3) for part in ("conv", "bn", "act")]
    return nn.Sequential(OrderedDict((name, getattr(tower, name)) for name in [*names, "avgpool"]))
