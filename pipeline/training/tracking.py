"""Send each epoch's metrics and the finished model to local trackers; each tracker is an extra."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from pipeline.errors import ConfigError
from pipeline.models.checkpoint import CARD, WEIGHTS, ModelCard
from pipeline.training.loop import METRICS

HOOKS = (  # ClearML's framework hooks and repository scan, all disabled
    *(
        "matplotlib",
        "tensorflow",
        "tensorboard",
        "pytorch",
        "xgboost",
        "scikit",
        "fastai",
        "lightgbm",
        "hydra",
        "gradio",
    ),
    *("detect_repository", "tfdefines", "joblib", "megengine", "catboost"),
)
FILES = (METRICS, WEIGHTS)  # of the model folder, stored beside the card


class Tracker(NamedTuple):
    """log: receives an epoch's row. keep: receives the folder of the trained model and its card, once, at the end."""

    log: Callable[[dict[str, float]], None]
    keep: Callable[[Path, ModelCard], None]


@contextmanager
def tracking(names: Sequence[str], root: Path, experiment: str, card: ModelCard) -> Iterator[Tracker]:
    """Open the named trackers below `root`, yield one that forwards to all of them, close them at the end.

    A training that goes on after a kill adds to what it has written there before (ClearML, offline: writes another
    session). An epoch that a kill cut off before its checkpoint is told again, with the same figures.
    """
    with ExitStack() as stack:
        trackers = [stack.enter_context(TRACKERS[name](root, experiment, card)) for name in names]

        def log(row: dict[str, float]) -> None:
            for one in trackers:
                one.log(row)

        def keep(folder: Path, trained: ModelCard) -> None:
            for one in trackers:
                one.keep(folder, trained)

        yield Tracker(log, keep)


@contextmanager
def _tensorboard(root: Path, experiment: str, card: ModelCard) -> Iterator[Tracker]:
    """root/tensorboard/<experiment>/<name>/<fingerprint>: look with `tensorboard --logdir`. The curves of other settings
    are of other folders. It keeps no files: the card is a text."""
    _extra("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(root / "tensorboard" / experiment / card.name / card.training["fingerprint"]))

    def log(row: dict[str, float]) -> None:
        for key, value in _metrics(row):
            writer.add_scalar(key, value, int(row["epoch"]))
        writer.flush()

    def keep(_: Path, trained: ModelCard) -> None:
        writer.add_text(CARD, f"```json\n{json.dumps(trained.to_dict(), indent=2, ensure_ascii=False)}\n```")

    yield Tracker(log, keep)
    writer.close()


@contextmanager
def _mlflow(root: Path, experiment: str, card: ModelCard) -> Iterator[Tracker]:
    """root/mlflow: a local store; look with `mlflow ui --backend-store-uri`. The card and FILES are the run's artifacts."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = _extra("mlflow", "mlflow")
    client = mlflow.MlflowClient(tracking_uri=(root / "mlflow").resolve().as_uri())
    known = client.get_experiment_by_name(experiment)
    number = known.experiment_id if known else client.create_experiment(experiment)
    fingerprint = card.training["fingerprint"]
    same = client.search_runs([number], f"tags.fingerprint = '{fingerprint}' and tags.model = '{card.name}'")
    if same:
        run = same[0].info.run_id
    else:
        tags = {"fingerprint": fingerprint, "model": card.name, "mlflow.runName": card.name}
        run = client.create_run(number, tags=tags).info.run_id
        for key, value in card.training["settings"].items():
            client.log_param(run, key, str(value)[:500])
    client.update_run(run, status="RUNNING")

    def log(row: dict[str, float]) -> None:
        for key, value in _metrics(row):
            client.log_metric(run, key, value, step=int(row["epoch"]))

    def keep(folder: Path, trained: ModelCard) -> None:
        client.log_dict(run, trained.to_dict(), CARD)
        for name in FILES:
            client.log_artifact(run, str(folder / name))

    try:
        yield Tracker(log, keep)
    except BaseException:
        client.set_terminated(run, "FAILED")
        raise
    client.set_terminated(run)


@contextmanager
def _clearml(root: Path, experiment: str, card: ModelCard) -> Iterator[Tracker]:
    """root/clearml: an offline session as a zip file, to be imported where a ClearML server is wanted; with the card and
    FILES in it."""
    os.environ["CLEARML_CACHE_DIR"] = str((root / "clearml").resolve())  # read when the package is imported
    clearml = _extra("clearml", "clearml")
    clearml.Task.set_offline(offline_mode=True)
    clearml.Task.set_random_seed(None)  # otherwise it reseeds the generators
    task = clearml.Task.init(
        experiment, card.name, reuse_last_task_id=False, auto_connect_frameworks=dict.fromkeys(HOOKS, False),
        auto_connect_arg_parser=False, auto_resource_monitoring=False, auto_connect_streams=False,
    )  # fmt: skip
    task.connect(dict(card.training["settings"]))

    def log(row: dict[str, float]) -> None:
        for key, value in _metrics(row):
            task.get_logger().report_scalar(key, card.name, value, int(row["epoch"]))

    def keep(folder: Path, trained: ModelCard) -> None:
        task.upload_artifact(CARD, trained.to_dict(), wait_on_upload=True)
        for name in FILES:
            task.upload_artifact(name, folder / name, wait_on_upload=True)

    try:
        yield Tracker(log, keep)
    finally:
        task.close()


TRACKERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "clearml": _clearml}


def _metrics(row: dict[str, float]) -> Iterator[tuple[str, float]]:
    return ((key, value) for key, value in row.items() if key != "epoch")


def _extra(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"tracking: [{extra}] needs `pip install 'ommatidia[{extra}]'`") from error
