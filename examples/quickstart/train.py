"""Recognise handwritten digits: a support vector machine, and a grid search over its two settings.

Plain scikit-learn: nothing here mentions Dask. `GridSearchCV` hands its 80 fits to joblib, and joblib hands them to the
workers of the job. What is written to ARTIFACTS_DIR is kept.
"""

import json
import os
from pathlib import Path

import joblib
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

images, digits = load_digits(return_X_y=True)  # 1,797 images of 8 x 8 pixels
train_images, test_images, train_digits, test_digits = train_test_split(
    images, digits, test_size=0.25, stratify=digits, random_state=0
)

grid = {"svc__C": [0.1, 1, 10, 100], "svc__gamma": [0.001, 0.003, 0.01, 0.03]}
search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, cv=5, n_jobs=-1)
search.fit(train_images, train_digits)

metrics = {
    "fits": len(search.cv_results_["params"]) * search.n_splits_,
    "cv_accuracy": float(search.best_score_),
    "test_accuracy": float(search.score(test_images, test_digits)),
    "best_C": search.best_params_["svc__C"],
    "best_gamma": search.best_params_["svc__gamma"],
}
print(f"best settings: {search.best_params_}")
print(f"accuracy on {len(test_digits)} new images: {metrics['test_accuracy']:.1%}")

figure = Figure(figsize=(6, 4.5), layout="constrained")
axes = figure.subplots()
accuracy = search.cv_results_["mean_test_score"].reshape(len(grid["svc__C"]), len(grid["svc__gamma"]))
image = axes.imshow(accuracy, cmap="Blues", vmin=0.9, vmax=1)
for (row, column), value in np.ndenumerate(accuracy):
    axes.text(column, row, f"{value:.1%}", ha="center", va="center", color="white" if value > 0.95 else "black")
axes.set_xticks(range(len(grid["svc__gamma"])), grid["svc__gamma"])
axes.set_yticks(range(len(grid["svc__C"])), grid["svc__C"])
axes.set_xlabel("gamma: how near two images must be to count as alike")
axes.set_ylabel("C: how much each mistake costs")
axes.set_title("Accuracy in 5-fold cross-validation", fontsize=12)
figure.colorbar(image, ax=axes, label="accuracy", format="{x:.0%}", extend="min")

artifacts = Path(os.environ["ARTIFACTS_DIR"])
joblib.dump(search.best_estimator_, artifacts / "model.joblib", compress=3)
(artifacts / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
figure.savefig(artifacts / "cv_accuracy.png", dpi=150)
