# %% [markdown]
# # A Dask cluster and plain workers from a session
#
# Runs as it is in a notebook, in a pod of the cluster, on a laptop whose kubeconfig reaches one, and where there is no
# Kubernetes on processes of this machine. What is launched here ends with this session, however that ends.

# %% [markdown]
# ## A Dask cluster
#
# One call gives a scheduler and workers. scikit-learn uses them wherever it has `n_jobs`.

# %%
import os

import joblib
import pandas as pd
from distributed import Client
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from dask_training import launch_cluster

cluster = launch_cluster(n_workers=2, cpu=0.2, memory="512Mi")
client = Client(cluster)
cluster.wait_for_workers(2)
print("dashboard:", cluster.dashboard_link)

# %%
X, y = load_digits(return_X_y=True)
search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.0003, 0.001, 0.003]}, cv=3)
with joblib.parallel_config(backend="dask"):
    search.fit(X, y)
print(f"best settings: {search.best_params_}, accuracy {search.best_score_:.3f}")
pd.DataFrame(search.cv_results_)[["param_C", "param_gamma", "mean_test_score", "mean_fit_time"]]

# %% [markdown]
# From one to three workers, as many as there is work for:

# %%
cluster.adapt(minimum=1, maximum=3)

# %% [markdown]
# When it is closed, all of it is gone. (`with launch_cluster(...) as cluster:` does that at the end of a block.)

# %%
client.close()
cluster.close()

# %% [markdown]
# ## Plain workers
#
# Any code on any number of workers, as in Cloudera Machine Learning. What they print is shown here.

# %%
from dask_training import workers

hello = workers.launch_workers(
    n=2, cpu=0.1, memory=0.25, code="import os; print('hello from', os.environ['CDSW_ENGINE_ID'])"
)
done = workers.await_workers(hello, wait_for_completion=True, timeout_seconds=120)
print(len(done["workers"]), "workers have ended well,", len(done["failures"]), "have failed")

# %% [markdown]
# Workers know where this session is, so it can listen and they can connect, if it runs where they do: in a pod, or all
# on one machine. Here each sends its name and gets it back.

# %%
import socket

listener = socket.create_server(("0.0.0.0", 6000))
listener.settimeout(120)
echo = """
import os, socket
with socket.create_connection((os.environ["CDSW_MASTER_IP"], 6000)) as master:
    master.sendall(os.environ["CDSW_ENGINE_ID"].encode())
    print("the master says:", master.recv(1024).decode())
"""
echoing = workers.launch_workers(n=2, cpu=0.1, memory=0.25, code=echo)
for _ in echoing:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"hello " + connection.recv(1024))
listener.close()
print(len(workers.await_workers(echoing, timeout_seconds=120)["failures"]), "failures")

# %% [markdown]
# A queue of settings that two workers work off: each takes the next one when it is done with its last.

# %%
import queue
import threading
from multiprocessing.managers import BaseManager

todo: queue.Queue = queue.Queue()
results: queue.Queue = queue.Queue()
settings = [0.01, 0.1, 1.0, 10.0]
for setting in settings:
    todo.put(setting)


class Queues(BaseManager):
    """Queues that other machines can use."""


Queues.register("todo", callable=lambda: todo)
Queues.register("results", callable=lambda: results)
key = os.urandom(16).hex()
server = Queues(address=("0.0.0.0", 6001), authkey=key.encode()).get_server()

threading.Thread(target=server.serve_forever, daemon=True).start()
train = """
import os, queue
from multiprocessing.managers import BaseManager
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

class Queues(BaseManager):
    pass

Queues.register("todo")
Queues.register("results")
master = Queues(address=(os.environ["CDSW_MASTER_IP"], 6001), authkey=os.environ["QUEUE_KEY"].encode())
master.connect()
X, y = load_digits(return_X_y=True)
while True:
    try:
        C = master.todo().get_nowait()
    except queue.Empty:
        break
    master.results().put((C, cross_val_score(SVC(C=C), X, y, cv=3).mean(), os.environ["CDSW_ENGINE_ID"]))
"""
training = workers.launch_workers(n=2, cpu=0.2, memory=0.5, code=train, env={"QUEUE_KEY": key})
scores = [results.get(timeout=120) for _ in settings]
workers.await_workers(training, timeout_seconds=120)
pd.DataFrame(scores, columns=["C", "accuracy", "worker"]).sort_values("C")

# %%
best = max(scores, key=lambda score: score[1])
print(f"best of {len(scores)}: C = {best[0]} with accuracy {best[1]:.3f}")
workers.stop_workers()
