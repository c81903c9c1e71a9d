"""Write the digits of scikit-learn without their labels to pixels.npz: x float32 [1797, 64]."""

import numpy as np
from sklearn.datasets import load_digits

x = (load_digits().data / 16).astype(np.float32)
np.savez("pixels.npz", x=x)
print(f"pixels.npz: {len(x)} samples of {x.shape[1]} values from 0 to 1")
