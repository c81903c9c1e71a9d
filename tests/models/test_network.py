"""The network: its size, its shapes, and what training it in parts and by replay relies on."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from omega21.models.corteza.config import TINY, ModelConfig
from omega21.models.corteza.network import CortezaCognitivaV4, CortezaOutputs, build_model
from omega21.models.corteza.task import CortezaTask


def samples(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BF = torch.rand(count, 1600, generator=generator) * 2 - 1
    y_B = (torch.rand(count, generator=generator) < 0.3).float()
    return x_BF, y_B


TASK = CortezaTask(TINY, seed=0)


def means(outputs: CortezaOutputs) -> dict[str, Tensor]:
    return {**TASK.metrics(outputs, {}), **TASK.vectors(outputs, {})}


def gradients(model: CortezaCognitivaV4, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def parameter_counts(model: CortezaCognitivaV4) -> dict[str, int]:
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in model.named_children()
    }
    assert sum(counts.values()) == sum(parameter.numel() for parameter in model.parameters())
    return counts


@pytest.fixture
def tiny() -> CortezaCognitivaV4:
    return build_model(TINY, seed=1).eval()


def test_the_default_has_twelve_million_parameters() -> None:
    with torch.device("meta"):
        model = CortezaCognitivaV4(ModelConfig())
    counts = parameter_counts(model)
    assert 11.4e6 <= sum(counts.values()) <= 12.6e6
    assert set(counts) == {
        *("layer2", "layer3", "layer4", "anomaly", "dendrites", "coherence", "token_statistics")
    }
    assert model.config.tokens == 25


def test_tiny_is_tiny() -> None:
    assert 5_000 < sum(parameter_counts(build_model(TINY, seed=0)).values()) < 60_000
    assert (TINY.features, TINY.dendrites, TINY.coherence) == (1600, 16, 64)


@pytest.mark.parametrize("config", [TINY, ModelConfig()], ids=["tiny", "default"])
@pytest.mark.parametrize("count", [1, 3])
def test_shapes_and_ranges(config: ModelConfig, count: int) -> None:
    model = build_model(config, seed=0)
    x_BF, y_B = samples(count)
    outputs = model(x_BF * 100)
    assert outputs.anomaly_logit_B.shape == (count,)
    assert outputs.dendrites_BD.shape == (count, 16)
    assert outputs.coherence_BC.shape == (count, 64)
    assert outputs.dendrites_BD.abs().max() <= 1
    assert outputs.coherence_BC.abs().max() <= 1
    scores = TASK.scores(outputs)
    assert scores.min() >= 0
    assert scores.max() <= 1
    loss = TASK.loss(outputs, {"y": y_B})
    assert loss.shape == ()
    loss.backward()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**63 - 1))
def test_weights_follow_from_the_seed_alone(seed: int) -> None:
    first = build_model(TINY, seed=seed).state_dict()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    second = build_model(TINY, seed=seed).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    other = build_model(TINY, seed=seed ^ 1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert not torch.equal(first["layer3.mlp.up.weight"], other["layer3.mlp.up.weight"])


def test_samples_do_not_mix(tiny: CortezaCognitivaV4) -> None:
    x_BF, _ = samples(6)
    whole = tiny(x_BF)
    x_BF[3] = 7.0
    changed = tiny(x_BF)
    others = [0, 1, 2, 4, 5]
    for name in ("anomaly_logit_B", "dendrites_BD", "coherence_BC"):
        before, after = getattr(whole, name), getattr(changed, name)
        torch.testing.assert_close(after[others], before[others])
        assert not torch.allclose(after[3], before[3])


@pytest.mark.parametrize("cuts", [[1, 9], [5, 5], [3, 3, 4]], ids=str)
def test_parts_have_the_gradient_of_the_whole(tiny: CortezaCognitivaV4, cuts: list[int]) -> None:
    x_BF, y_B = samples(10)
    whole = gradients(tiny, TASK.loss(tiny(x_BF), {"y": y_B}))
    losses = [
        TASK.loss(tiny(x), {"y": y}) * (len(y) / 10)
        for x, y in zip(x_BF.split(cuts), y_B.split(cuts), strict=True)
    ]
    parts = gradients(tiny, torch.stack(losses).sum())
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_summary_of_parts_is_that_of_the_whole(tiny: CortezaCognitivaV4) -> None:
    x_BF, _ = samples(10)
    whole = means(tiny(x_BF))
    first, second = means(tiny(x_BF[:4])), means(tiny(x_BF[4:]))
    for name, mean in whole.items():
        torch.testing.assert_close(first[name] * 0.4 + second[name] * 0.6, mean)
        assert not mean.requires_grad
    assert whole["anomaly_prob"] == TASK.scores(tiny(x_BF)).mean()
    assert whole["dendrites"].shape == (16,)
    assert whole["coherence"].shape == (64,)


def test_dropout_follows_from_the_default_generator_alone() -> None:
    model = build_model(ModelConfig.model_validate({**TINY.model_dump(), "dropout": 0.5}), seed=0)
    x_BF, y_B = samples(8)

    def step(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return gradients(model, TASK.loss(model(x_BF), {"y": y_B}))

    first, other, again = step(1), step(2), step(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    model.eval()
    assert torch.equal(model(x_BF).anomaly_logit_B, model(x_BF).anomaly_logit_B)


@pytest.mark.parametrize("branch", ["lstm", "encoder"])
def test_each_branch_of_layer_2_relates_tokens(tiny: CortezaCognitivaV4, branch: str) -> None:
    layer2 = tiny.layer2
    x_BTW = torch.randn(1, 25, 64, generator=torch.Generator().manual_seed(0))

    def outputs(x_BTW: Tensor) -> Tensor:
        out: Tensor
        if branch == "lstm":
            out = layer2.lstm(x_BTW)[0]
        else:
            out = layer2.encoder(layer2.embed(x_BTW) + layer2.position_TE)
        return out

    before = outputs(x_BTW)
    for changed in (0, 12, 24):
        other_BTW = x_BTW.clone()
        other_BTW[0, changed] += 1
        difference_T = (outputs(other_BTW) - before).abs().amax(dim=(0, 2))
        assert (difference_T > 0).all() if branch == "encoder" else difference_T.count_nonzero() > 9


def test_both_branches_reach_the_joined_features(tiny: CortezaCognitivaV4) -> None:
    x_BF, _ = samples(2)
    found = gradients(tiny, tiny.layer2(x_BF).square().sum())
    for name in (
        "layer2.lstm.weight_hh_l0_reverse",
        "layer2.position_TE",
        "layer2.join.gate.weight",
    ):
        assert found[name].abs().max() > 0


def test_the_slots_relate_to_each_other(tiny: CortezaCognitivaV4) -> None:
    x_BSM = torch.randn(1, TINY.slots, TINY.width, generator=torch.Generator().manual_seed(0))
    x_BSM.requires_grad_()
    tiny.layer4.attention(x_BSM)[0, 0].sum().backward()
    assert x_BSM.grad is not None
    assert (x_BSM.grad.abs().amax(dim=2) > 0).all()


def test_only_the_anomaly_head_is_trained(tiny: CortezaCognitivaV4) -> None:
    x_BF, y_B = samples(4)
    trained = gradients(tiny, TASK.loss(tiny(x_BF), {"y": y_B}))
    untrained = {n for n, _ in tiny.named_parameters()} - trained.keys()
    assert {name.split(".")[0] for name in untrained} == {"dendrites", "coherence"}


def test_statistics_are_what_they_are_called(tiny: CortezaCognitivaV4) -> None:
    x_BF = torch.zeros(1, 1600)
    x_BF[0, :64] = torch.tensor([0.5, -0.5] * 32)
    energy_T, rough_T, mean_T = tiny.token_statistics.statistics(x_BF)[0].split(25)
    assert energy_T[0] == pytest.approx(-2 + 4, abs=1e-3)
    assert rough_T[0] == pytest.approx(0 + 8, abs=1e-3)
    assert mean_T[0] == 0
    assert torch.isfinite(energy_T).all()
    assert torch.isfinite(rough_T).all()


def test_bfloat16_stays_close() -> None:
    model = build_model(TINY, seed=0)
    x_BF, y_B = samples(8)
    exact = TASK.loss(model.eval()(x_BF), {"y": y_B})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model.train()(x_BF)
    rounded = TASK.loss(outputs, {"y": y_B})
    assert outputs.anomaly_logit_B.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)
    assert gradients(model, rounded)


def test_deterministic_algorithms_suffice(tiny: CortezaCognitivaV4) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        x_BF, y_B = samples(4)
        first = gradients(tiny, TASK.loss(tiny(x_BF), {"y": y_B}))
        second = gradients(tiny, TASK.loss(tiny(x_BF), {"y": y_B}))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token_features": 63}, "features must be a multiple of token_features"),
        ({"encoder_heads": 3}, "encoder_width must be a multiple of encoder_heads"),
        ({"attention_heads": 7}, "width must be a multiple of attention_heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"slots": 0}, "slots"),
        ({"layers": 2}, "layers"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ModelConfig.model_validate(changes)
