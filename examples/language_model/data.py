"""Write windows of a text to text.npz: tokens and following, each int64 [n, 64].

The text is given as files, by default the documentation of this repository. A token is a byte.
"""

import sys
from pathlib import Path

import numpy as np

LENGTH = 64

here = Path(__file__).resolve().parents[2]
files = [Path(name) for name in sys.argv[1:]] or sorted((here / "docs").glob("*.md"))
text = np.frombuffer(b"\n".join(file.read_bytes() for file in files), np.uint8).astype(np.int64)
windows = np.lib.stride_tricks.sliding_window_view(text, LENGTH + 1)[::LENGTH]
np.savez("text.npz", tokens=windows[:, :-1], following=windows[:, 1:])
print(f"text.npz: {len(windows)} windows of {LENGTH} bytes from {len(files)} files")
