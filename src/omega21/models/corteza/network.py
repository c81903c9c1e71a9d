"""CortezaCognitivaV4: 1600 features to an anomaly probability, 16 dendrites and 64 coherences.

Reading order is the order of computation: layer 2 (recurrence and attention over tokens, joined
by a gate), layer 3 (residual MLP to slots), layer 4 (attention among the slots), layer 5 (heads).

Design choices (measurements in docs/decisions/0002-model.md):
- A sample is a sequence of 25 tokens of 64 features. With one token of 1600, recurrence and
  attention would have no sequence.
- Layer 2 adds to its input, so that the first steps start from the sample itself.
- A linear path leads from centred statistics of each token straight to the anomaly logit: eight
  steps are too few for the deep path alone to settle on every seed.
- Most parameters are in layer 3, where each is used once for a sample and not once for a token.
- Pre-norm blocks (Xiong et al., 2020, https://arxiv.org/abs/2002.04745) and no batch norm:
  samples never mix, so a batch of one trains and a batch can be computed in micro-batches.
- Dropout in layer 3 only: on the token paths, generating its random bits costs too much.

Shapes in names: B batch, F features, T tokens, W features of a token, E width inside the encoder,
H attention heads, K width of a head, S slots, M width of a slot, N all slots' values, R statistics
of all tokens, D dendrites, C coherences.
"""

from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega21.models.corteza.config import ModelConfig

STATISTICS_PER_TOKEN: Final = 3
FLOOR: Final = 1e-5  # added to an energy, so that an empty token has a logarithm
# About the middle of the two logarithms over the three kinds of data. Uncentred, each would act
# as a bias: the first steps at the multiplied learning rate would move all logits together, by
# several units.
MIDDLE_ENERGY: Final = -4.0
MIDDLE_ROUGHNESS: Final = -8.0


class CortezaOutputs(NamedTuple):
    """The network's outputs for a batch.

    Only the anomaly head has a training target. The dendrites and coherence heads are computed
    from the trained layer 4, but keep their initial weights.
    """

    anomaly_logit_B: Tensor
    """Log odds that each sample is an anomaly."""
    dendrites_BD: Tensor
    """In [-1, 1]; untrained."""
    coherence_BC: Tensor
    """In [-1, 1]; untrained."""
    capa2: Tensor
    """Mean absolute activation of layer 2 over the batch, a scalar, detached."""
    capa3: Tensor
    """Mean absolute activation of layer 3, likewise."""
    capa4: Tensor
    """Mean absolute activation of layer 4, likewise."""


class SelfAttention(nn.Module):
    """Multi-head self-attention, softmax(q k' / sqrt(K)) v in each head (Vaswani et al., 2017).

    https://arxiv.org/abs/1706.03762
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTE: Tensor) -> Tensor:
        """Attend among the T vectors of each sample: [B, T, E] to [B, T, E]."""
        batch, tokens, width = x_BTE.shape
        qkv_BT3HK = self.qkv(x_BTE).view(batch, tokens, 3, self.heads, width // self.heads)
        q_BHTK, k_BHTK, v_BHTK = qkv_BT3HK.permute(2, 0, 3, 1, 4)
        mixed_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK)
        out_BTE: Tensor = self.out(mixed_BHTK.transpose(1, 2).reshape(batch, tokens, width))
        return out_BTE


class ResidualMLP(nn.Module):
    """x + W2 dropout(gelu(W1 norm(x))), over the last dimension."""

    def __init__(self, width: int, *, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input: [..., width] to [..., width]."""
        hidden = F.dropout(F.gelu(self.up(self.norm(x))), self.dropout, self.training)
        change: Tensor = self.down(hidden)
        return x + change


class EncoderBlock(nn.Module):
    """One block of the Transformer encoder: attention, then a feed-forward part, both residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.encoder_width)
        self.attention = SelfAttention(config.encoder_width, heads=config.encoder_heads)
        self.mlp = ResidualMLP(config.encoder_width, hidden=config.encoder_hidden)

    def forward(self, x_BTE: Tensor) -> Tensor:
        """[B, T, E] to [B, T, E]."""
        related_BTE = x_BTE + self.attention(self.norm(x_BTE))
        out_BTE: Tensor = self.mlp(related_BTE)
        return out_BTE


class GatedUnit(nn.Module):
    """A gated multimodal unit: z tanh(A a) + (1 - z) tanh(B b), z = sigmoid(Z [a, b]).

    Arevalo et al., 2017, https://arxiv.org/abs/1702.01992
    """

    def __init__(self, first: int, second: int, out: int) -> None:
        super().__init__()
        self.first = nn.Linear(first, out)
        self.second = nn.Linear(second, out)
        self.gate = nn.Linear(first + second, out)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Join [..., first] and [..., second] into [..., out]."""
        gate = torch.sigmoid(self.gate(torch.cat((a, b), dim=-1)))
        return torch.lerp(torch.tanh(self.second(b)), torch.tanh(self.first(a)), gate)


class Layer2(nn.Module):
    """A bidirectional LSTM and a Transformer encoder in parallel over a sample's tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        token = config.token_features
        self.lstm = nn.LSTM(token, config.lstm_width, batch_first=True, bidirectional=True)
        self.embed = nn.Linear(token, config.encoder_width)
        self.position_TE = nn.Parameter(torch.empty(config.tokens, config.encoder_width))
        self.encoder = nn.Sequential(*(EncoderBlock(config) for _ in range(config.encoder_layers)))
        self.join = GatedUnit(2 * config.lstm_width, config.encoder_width, token)

    def forward(self, x_BF: Tensor) -> Tensor:
        """Add the output of both branches to the features: [B, F] to [B, F]."""
        x_BTW = x_BF.unflatten(1, (self.tokens, -1))
        # Rounding errors accumulate in a recurrence, and oneDNN has no bfloat16 LSTM without
        # AVX-512.
        with torch.autocast(x_BF.device.type, enabled=False):
            recurrent_BTE, _ = self.lstm(x_BTW.float())
        attended_BTE = self.encoder(self.embed(x_BTW) + self.position_TE)
        joined_BTW: Tensor = self.join(recurrent_BTE, attended_BTE)
        return x_BF + joined_BTW.flatten(1)


class Layer3(nn.Module):
    """A residual MLP from the features to a few slots of the network's width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.slots = config.slots
        self.mlp = ResidualMLP(config.features, hidden=config.mlp_hidden, dropout=config.dropout)
        self.norm = nn.LayerNorm(config.features)
        self.to_slots = nn.Linear(config.features, config.slots * config.width)
        self.slot_mlp = ResidualMLP(config.width, hidden=config.slot_hidden)

    def forward(self, x_BF: Tensor) -> Tensor:
        """[B, F] to [B, S, M]."""
        slots_BN: Tensor = self.to_slots(self.norm(self.mlp(x_BF)))
        out_BSM: Tensor = self.slot_mlp(slots_BN.unflatten(1, (self.slots, -1)))
        return out_BSM


class Layer4(nn.Module):
    """Multi-head self-attention among the slots, residual, then their mean."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config.width, heads=config.attention_heads)
        self.norm_out = nn.LayerNorm(config.width)

    def forward(self, x_BSM: Tensor) -> Tensor:
        """[B, S, M] to [B, M]."""
        related_BSM = x_BSM + self.attention(self.norm(x_BSM))
        out_BM: Tensor = self.norm_out(related_BSM.mean(dim=1))
        return out_BM


class TokenStatistics(nn.Module):
    """A linear path from explicit statistics of each token to the anomaly logit."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.weight_R = nn.Parameter(torch.empty(STATISTICS_PER_TOKEN * config.tokens))

    def forward(self, x_BF: Tensor) -> Tensor:
        """[B, F] to a term of the anomaly logit, [B]."""
        return self.statistics(x_BF) @ self.weight_R

    def statistics(self, x_BF: Tensor) -> Tensor:
        """log2 energy, log2 energy of the differences, and mean of each token: [B, R]."""
        x_BTW = x_BF.unflatten(1, (self.tokens, -1))
        energy_BT = (x_BTW.square().mean(2) + FLOOR).log2() - MIDDLE_ENERGY
        rough_BT = (x_BTW.diff(dim=2).square().mean(2) + FLOOR).log2() - MIDDLE_ROUGHNESS
        return torch.cat((energy_BT, rough_BT, x_BTW.mean(2)), dim=1)


def _head(config: ModelConfig, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config.width, config.head_hidden), nn.GELU(), nn.Linear(config.head_hidden, out)
    )


class CortezaCognitivaV4(nn.Module):
    """The whole network, with uninitialised weights; `build_model` initialises them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.layer2 = Layer2(config)
        self.layer3 = Layer3(config)
        self.layer4 = Layer4(config)
        self.anomaly = _head(config, 1)
        self.dendrites = _head(config, config.dendrites)
        self.coherence = _head(config, config.coherence)
        self.token_statistics = TokenStatistics(config)

    def forward(self, x_BF: Tensor) -> CortezaOutputs:
        """Compute the outputs for float32 [B, F]."""
        layer2_BF = self.layer2(x_BF)
        layer3_BSM = self.layer3(layer2_BF)
        layer4_BM = self.layer4(layer3_BSM)
        logit_B = self.anomaly(layer4_BM).squeeze(1) + self.token_statistics(x_BF)
        return CortezaOutputs(
            anomaly_logit_B=logit_B.float(),
            dendrites_BD=torch.tanh(self.dendrites(layer4_BM)).float(),
            coherence_BC=torch.tanh(self.coherence(layer4_BM)).float(),
            capa2=layer2_BF.detach().float().abs().mean(),
            capa3=layer3_BSM.detach().float().abs().mean(),
            capa4=layer4_BM.detach().float().abs().mean(),
        )


def build_model(config: ModelConfig, *, seed: int) -> CortezaCognitivaV4:
    """Build the network on the CPU with weights that depend only on config and seed.

    No global generator is used, so that this may run while another thread trains.
    """
    with torch.device("meta"):
        model = CortezaCognitivaV4(config)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            _initialise(module, generator)
    return model


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fill a module's own parameters: uniform in +-1/sqrt(fan in), as torch's layers do.

    Uniform numbers only: they have the same bits on every processor, normal ones do not.
    """
    if isinstance(module, nn.LayerNorm):
        module.reset_parameters()
    elif isinstance(module, nn.Linear | nn.LSTM):
        fan_in = module.hidden_size if isinstance(module, nn.LSTM) else module.in_features
        for parameter in module.parameters(recurse=False):
            parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
    elif isinstance(module, Layer2):
        module.position_TE.uniform_(-0.02, 0.02, generator=generator)
    elif isinstance(module, TokenStatistics):
        module.weight_R.zero_()
