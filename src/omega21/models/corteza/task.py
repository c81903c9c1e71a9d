"""CortezaCognitivaV4 as a task: its loss, metrics and predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from omega21.models.corteza.config import ModelConfig
from omega21.models.corteza.network import CortezaCognitivaV4, CortezaOutputs, build_model
from omega21.models.task import Batch, ParameterGroup, Task
from omega21.protocol.runs import RunConfig


class CortezaTask(Task):
    """The network on samples `x` [n, F] with labels `y` [n], 0 or 1."""

    samples_mix = False
    module: CortezaCognitivaV4

    def __init__(self, config: ModelConfig, *, seed: int) -> None:
        self.config = config
        self.module = build_model(config, seed=seed)

    def forward(self, batch: Batch) -> CortezaOutputs:
        """See `Task.forward`."""
        outputs: CortezaOutputs = self.module(batch["x"])
        return outputs

    def loss(self, outputs: CortezaOutputs, batch: Batch) -> Tensor:
        """Mean binary cross entropy of the anomaly logits.

        The dendrites and coherence heads have no target yet, so their parameters get no
        gradient.
        """
        return F.binary_cross_entropy_with_logits(outputs.anomaly_logit_B, batch["y"])

    def metrics(self, outputs: CortezaOutputs, _batch: Batch) -> Mapping[str, Tensor]:
        """`anomaly_prob`, `anomalies` (share with a probability over 0.5), mean activations."""
        return {
            "anomaly_prob": self.scores(outputs).mean(),
            "anomalies": (outputs.anomaly_logit_B.detach() > 0).float().mean(),
            "capa2_activations": outputs.capa2,
            "capa3_activations": outputs.capa3,
            "capa4_activations": outputs.capa4,
        }

    def vectors(self, outputs: CortezaOutputs, _batch: Batch) -> Mapping[str, Tensor]:
        """`dendrites` [D] and `coherence` [C]."""
        return {
            "dendrites": outputs.dendrites_BD.detach().mean(0),
            "coherence": outputs.coherence_BC.detach().mean(0),
        }

    def predictions(self, outputs: CortezaOutputs) -> Mapping[str, Tensor]:
        """`anomaly_prob` [n] in [0, 1], `dendrites` [n, D], `coherence` [n, C]."""
        return {
            "anomaly_prob": self.scores(outputs),
            "dendrites": outputs.dendrites_BD.detach(),
            "coherence": outputs.coherence_BC.detach(),
        }

    def scores(self, outputs: CortezaOutputs) -> Tensor:
        """Probability that each sample is an anomaly, float32 [n]."""
        return outputs.anomaly_logit_B.detach().sigmoid()

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Matrices decay; vectors, and the path from the tokens' statistics, do not."""
        raised = self.module.token_statistics.weight_R
        others = [p for p in self.module.parameters() if p is not raised]
        return [
            ParameterGroup([p for p in others if p.dim() >= 2]),
            ParameterGroup([p for p in others if p.dim() < 2], decays=False),
            ParameterGroup(
                [raised], lr_multiplier=self.config.statistics_lr_multiplier, decays=False
            ),
        ]


def make_task(config: RunConfig, **_: Any) -> CortezaTask:
    """Build the task of a run; its weights depend only on the configuration and the seed."""
    return CortezaTask(ModelConfig.model_validate(config.task.config), seed=config.seed)
