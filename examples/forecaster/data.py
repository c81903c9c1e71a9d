"""Write windows of a series: x float32 [n, 72], the hours before, and y float32 [n, 24].

series.npz has those of its first 32 weeks, later.npz those of 8 weeks after them. The series is
made: a daily and a weekly cycle, and noise that lasts, as in the demand for power.
"""

import numpy as np

BEFORE, AFTER = 72, 24
WEEK = 24 * 7

rng = np.random.default_rng(0)
hour = np.arange(40 * WEEK)
noise = np.zeros(len(hour))
for now in hour[1:]:
    noise[now] = 0.9 * noise[now - 1] + rng.normal(0, 0.1)
daily = np.sin(2 * np.pi * hour / 24) + 0.4 * np.sin(4 * np.pi * hour / 24 + 1)
working = np.where(hour // 24 % 7 < 5, 1.0, 0.5)
series = (daily * working + noise).astype(np.float32)


def write(file, part):
    windows = np.lib.stride_tricks.sliding_window_view(part, BEFORE + AFTER)[::3]
    x, y = windows[:, :BEFORE], windows[:, BEFORE:]
    np.savez(file, x=x, y=y)
    yesterday = np.abs(x[:, -AFTER:] - y).mean()
    print(f"{file}: {len(x)} windows; the same hour of the day before is {yesterday:.3f} off")


write("series.npz", series[: 32 * WEEK])
write("later.npz", series[32 * WEEK :])
