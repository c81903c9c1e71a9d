"""CortezaCognitivaV4 in words, as the call `/info` of the earlier system describes it."""

from omega21.models.corteza.config import MODEL_NAME, ModelConfig
from omega21.models.description import ModelDescription


def describe(config: ModelConfig) -> ModelDescription:
    """Return the layers, and what goes in and comes out."""
    return ModelDescription(
        name=MODEL_NAME,
        layers=(
            f"capa 2: LSTM bidireccional y codificador Transformer sobre {config.tokens} tokens de "
            f"{config.token_features}, unidos por una unidad multimodal con compuerta",
            f"capa 3: MLP residual hasta {config.width}",
            f"capa 4: autoatención de {config.attention_heads} cabezas a {config.width}",
            f"capa 5: anomalía, {config.dendrites} dendritas, {config.coherence} coherencias",
        ),
        input=f"{config.features} características float32",
        process="capa 2 → capa 3 → capa 4",
        output=f"probabilidad de anomalía, {config.dendrites} dendritas y {config.coherence} "
        "coherencias en [-1, 1]",
    )
