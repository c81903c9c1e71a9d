"""Write the digits of scikit-learn to digits.npz: x uint8 [1797, 8, 8], y int64 [1797]."""

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
np.savez("digits.npz", x=digits.images.astype(np.uint8), y=digits.target.astype(np.int64))
print(f"digits.npz: {len(digits.target)} digits of 8 x 8 pixels from 0 to 16")
