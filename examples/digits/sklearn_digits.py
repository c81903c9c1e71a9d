"""The digits example through scikit-learn: python sklearn_digits.py URL [EPOCHS]."""

import sys

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from omega21.sklearn import RemoteClassifier

url, epochs = [*sys.argv[1:], "20"][:2]
digits = load_digits()
x, x_new, y, y_new = train_test_split(digits.data, digits.target, random_state=0)
classifier = RemoteClassifier("net.py:build", url=url, epochs=int(epochs))
classifier.fit(x, y)
print(f"run {classifier.run_}: {classifier.score(x_new, y_new):.3f} of {len(y_new)} digits right")
