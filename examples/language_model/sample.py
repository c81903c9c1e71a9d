"""Continue a text with what a run predicts: python sample.py URL RUN TEXT [BYTES]."""

import os
import sys

import numpy as np

from omega21 import Client

LENGTH = 64
TEMPERATURE = 0.8


def main(address, run, text, count="200"):
    rng = np.random.default_rng(0)
    written = text.encode()
    with Client(address, token=os.environ.get("OMEGA21_TOKEN")) as client:
        for _ in range(int(count)):
            window = written[-LENGTH:].rjust(LENGTH)
            tokens = np.frombuffer(window, np.uint8).astype(np.int64)[None]
            found = client.predict(run, {"tokens": tokens}).outputs["probability"][0]
            likely = found.astype(np.float64) ** (1 / TEMPERATURE)
            written += bytes([rng.choice(256, p=likely / likely.sum())])
    print(written.decode(errors="replace"))


main(*sys.argv[1:])
