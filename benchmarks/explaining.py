#!/usr/bin/env python3
"""Keep what `explain.py --check N` measured, with the models and versions that it was measured on. See explaining.md.

python explain.py --config CONFIG --check 20
python benchmarks/explaining.py --config CONFIG
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from pipeline.console import configuration, parser
from pipeline.files import write_json
from pipeline.models.checkpoint import read_card, versions

RESULTS = Path(__file__).resolve().parent / "results" / "explaining.json"

if __name__ == "__main__":
    config = configuration(parser(__doc__ or "", "  benchmarks/explaining.py --config config.yaml").parse_args())
    table = pd.read_csv(config.output / "explanations" / "check.csv").round(4)
    cards = {name: read_card(config.models / name) for name in table["model"].unique()}
    models = {
        name: {"architecture": card.architecture, "weights": card.weights_sha256[:12]} for name, card in cards.items()
    }
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    write_json(RESULTS, {"seed": config.seed, "models": models, "versions": versions(), "maps": rows})
