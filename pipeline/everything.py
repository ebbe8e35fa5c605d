"""The main job from beginning to end; each step skips what is up to date."""

from __future__ import annotations

from pipeline.compression.run import quantize_models
from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.stages import run_stages
from pipeline.deploy.bundle import bundle
from pipeline.evaluation.report.report import write_report
from pipeline.evaluation.run import evaluate
from pipeline.evaluation.simulation.simulation import monte_carlo
from pipeline.training.run import left_out, train_role


def run_everything(config: Config) -> int:
    """Data set, main, caches, export and int8, evaluation, simulation, bundle, report; returns how many photos were unusable."""
    bad = run_stages(config)
    bad += left_out([*train_role(config, "main"), *train_role(config, "cache")])
    quantize_models(config)
    bad += evaluate(config)
    monte_carlo(config, "both", config.experiment)
    folder = bundle(config)
    log.info(
        "done      report: %s   results: %s   plots: %s, %s   models: %s   bundle: %s",
        write_report(config), config.output / "metrics.json", config.dataset_dir / "plots",
        config.output / "evaluation" / "plots", config.models, folder,
    )  # fmt: skip
    return bad
