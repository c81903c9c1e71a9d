"""The curves that a notebook draws: the loss, and the first metric that the task gives."""

import math

from omega21.server.notebook.charts import Curves


def test_metrics_have_a_value_or_a_gap_for_each_step_that_counted() -> None:
    curves = Curves("a-run")
    curves.extend([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "metrics": {"f1": None}}])
    curves.extend([{"step": 3}, {"step": 4, "loss": 0.125, "metrics": {"f1": 0.75, "late": 1.0}}])
    curves.extend([{"step": 5, "loss": 0.0625}])
    assert (curves.cursor, curves.steps) == (5, [1, 2, 4, 5])
    (_, losses), (name, values) = curves.drawn()
    assert losses == [0.5, 0.25, 0.125, 0.0625]
    assert name == "f1"
    assert [None if math.isnan(value) else value for value in values] == [None, None, 0.75, None]
