"""Folders of runs with what the analyses write, made without training anything."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.robustness import READINGS
from analysis.statistics.fixed_sequence import proven_in_turn
from analysis.statistics.resampling import METRICS
from analysis.statistics.verdict import Outcome
from benchmarks.simulated_cluster import deployed_result, epoch_result
from run_folder.events import EpochEnded, Failed, Finished, Stopped, Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.records import from_plain
from run_folder.results import Metrics
from run_folder.run import Run, open_run
from search_spaces import STRATEGIES
from tune_jobs.check_settings import run_settings

SYMPTOMS = ("pain", "<script>alert(1)</script>", "edema", "=cost $5 & more")
OUTCOMES = {
    **dict.fromkeys(STRATEGIES[1:], Outcome.NOT_KNOWN),
    "distillation": Outcome.NOT_WORSE,
    "low_rank": Outcome.NOT_KNOWN,
    "pruning": Outcome.NOT_WORSE,
    "quantization": Outcome.EQUIVALENT,
    "combined": Outcome.WORSE,
}
"""Verdict of each strategy; one that is not listed gets "not known"."""
SIZES = {
    "baseline": 91e6,
    "distillation": 45e6,
    "low_rank": 91e6,
    "pruning": 60e6,
    "quantization": 23e6,
    "combined": 12e6,
}
BYTES = {strategy: SIZES.get(strategy, 30e6) for strategy in STRATEGIES}
"""Size of each strategy's deployed model; a strategy that is not in ``SIZES`` gets one in the middle."""

PAPER_ROW = {"strategy": "baseline", "metric": "f1", "paper": 0.94, "paper_low": 0.91, "paper_high": 0.96, "ours": 0.84}
PAPER_ROW |= {"ours_low": 0.8, "ours_high": 0.87, "difference": -0.1}


class Builder:
    """Writes a run: its manifest, trials as ledger events, then what evaluation leaves."""

    def __init__(
        self, folder: Path, strategies: Sequence[str] = STRATEGIES, symptoms: Sequence[str] = SYMPTOMS, **settings: Any
    ) -> None:
        self.folder, self.strategies, self.symptoms = Folder(folder), strategies, symptoms
        self.random = np.random.default_rng(0)
        counts = {
            split: {s: size // (i + 1) for i, s in enumerate(symptoms)}
            for split, size in (("train", 2400), ("validation", 340), ("test", 700))
        }
        values = {"patients": 400, "strategies": tuple(strategies), "epochs": 6, "task": "multiclass", **settings}
        record = run_settings(**values).record()
        manifest = {
            "format": 1,
            "settings": record,
            "objectives": {s: [["f1", "maximize"]] for s in strategies},
            "symptoms": list(symptoms),
            "counts": counts,
            "patients": {"train": 280, "validation": 40, "test": 80},
            "pad_token_id": 0,
            "unknown_token_id": 1,
            "fingerprint": "1e6ce689a6e144fc49210071f6dd3b73",
            "sources": {"notes": "0123", "lexicon": None},
            "versions": {"symptune": "0.1.0", "ray": "2.60.0"},
        }
        self._write("run.json", manifest)
        self.ledger = Ledger(self.folder)

    def trial(self, strategy: str, number: int, state: str = "finished", reason: str = "", f1: float = 0.8) -> str:
        """One trial with a learning curve up to this macro F1."""
        name = f"{strategy}-{number:04d}"
        hyperparameters = {"learning_rate": float(10 ** self.random.uniform(-5, -3)), "batch_size": 16, "scheme": "a_b"}
        self.ledger.append(
            Suggested(
                trial=name,
                strategy=strategy,
                number=number,
                seed=number,
                teacher=None,
                hyperparameters=hyperparameters,
                distributions={},
            )
        )
        epochs = {"finished": 6, "stopped": 2, "running": 1, "failed": 0}[state]
        for epoch in range(1, epochs + 1):
            self.ledger.append(EpochEnded(name, epoch_result(epoch, f1 * (1 - 0.6 ** (epoch + 1)))))
        if state == "finished":
            final = replace(
                deployed_result(f1, int(BYTES[strategy] * (1 + number / 20)), 31.5),
                validation=from_plain(self.metrics(f1), Metrics, "test"),
                parameters=22_000_000,
                nonzero_parameters=22_000_000,
                epoch=6,
            )
            self.ledger.append(Finished(name, final))
        elif state != "running":
            self.ledger.append(Failed(name, reason) if state == "failed" else Stopped(name))
        return name

    def search(self, trials: int) -> None:
        """Trials of every strategy, some of them stopped or failed."""
        for number in range(trials):
            for place, strategy in enumerate(self.strategies):
                state = "finished" if number % 3 == 0 else "failed" if number % 7 == 5 else "stopped"
                self.trial(strategy, number, state, "out of memory", 0.86 - 0.02 * place + 0.03 * self.random.normal())

    def metrics(self, f1: float, absent: str | None = None) -> dict[str, Any]:
        scores = {"precision": f1, "recall": f1 - 0.01, "f1": f1, "auroc": min(f1 + 0.08, 1.0)}
        gaps = dict.fromkeys(scores, 0.0) | {"auroc": None}
        each = {
            s: gaps if s == absent else {m: v - 0.03 * i for m, v in scores.items()}
            for i, s in enumerate(self.symptoms)
        }
        return {"accuracy": f1 + 0.01, **scores, "per_symptom": each}

    def evaluate(self, absent: str | None = None) -> Run:
        """Test figures and costs of each strategy's best trial."""
        run = self.run()
        best = {s: found[0].name for s in self.strategies if (found := run.best(s, 1))}
        for name in [*best.values(), *CONTROLS]:
            f1 = run.trials[name].score - 0.02 if name in run.trials else 0.6
            self._write(
                f"results/trials/{name}.json",
                {
                    "name": name,
                    "identity": "",
                    "examples": 1458,
                    "validation": self.metrics(f1),
                    "test": self.metrics(f1, absent),
                },
            )
        costs = {
            name: {
                "latency_median": BYTES[s] / 1e10,
                "latency_p95": 0.01,
                "throughput": 900.0,
                "peak_memory_bytes": 200_000_000,
            }
            for s, name in best.items()
        }
        self._write(
            "results/costs.json",
            {
                "models": dict.fromkeys(best.values(), ""),
                "threads": 1,
                "cpu": costs,
                "machine": "Xeon (avx2, avx512_vnni)",
            },
        )
        return run

    def analyse(self, absent: str | None = None) -> Run:
        """All four files of the analyses."""
        run = self.evaluate(absent)
        best = {s: found[0].name for s in self.strategies if (found := run.best(s, 1))}
        self._write("results/statistics.json", self._statistics(run, best, absent))
        self._write("results/front.json", self._fronts(best))
        self._write("results/robustness.json", self._robustness(best))
        self._write("results/insight.json", self._insight(run))
        claims = [
            {
                "claim": "Quantization keeps F1",
                "paper": "0.99",
                "ours": "0.84",
                "verdict": "can't be said",
                "why": "one run",
                "paper_verdict": "supported",
            }
        ]
        self._write(
            "results/paper.json",
            {
                "table1": [PAPER_ROW],
                "table2": [],
                "claims": claims,
            },
        )
        return self.run()

    def run(self) -> Run:
        return open_run(self.folder)

    def _statistics(self, run: Run, best: Mapping[str, str], absent: str | None) -> dict[str, Any]:
        size = len(self.symptoms)
        confusion = (np.eye(size) * 120 + self.random.integers(0, 15, (size, size))).astype(int).tolist()
        bins = np.linspace(0.3, 0.97, 10)
        curve = {"confidence": bins.tolist(), "accuracy": (bins**1.3).tolist(), "examples": [146] * 10}
        tempered = {**curve, "accuracy": (bins**1.05).tolist()}
        calibration = {
            "temperature": 1.4,
            "error": 0.06,
            "tempered_error": 0.02,
            "reliability": curve,
            "tempered_reliability": tempered,
        }
        models = {
            name: {
                "strategy": strategy,
                "figures": self._figures(run.trials[name].score - 0.02, absent),
                "confusion": confusion,
                "calibration": calibration,
                "validation_f1": run.trials[name].score,
                "test_f1": run.trials[name].score - 0.02,
            }
            for strategy, name in best.items()
        }
        strategies = {s: self._strategy(s, name, run.trials[name].score - 0.02, absent) for s, name in best.items()}
        return {
            "identity": "",
            "margin": 0.01,
            "level": 0.95,
            "resamples": 5000,
            "patients": 80,
            "examples": 1458,
            "examples_per_symptom": dict.fromkeys(self.symptoms, 364),
            "undefined_note": None,
            "models": models,
            "strategies": strategies,
        }

    def _figures(self, f1: float, absent: str | None = None) -> dict[str, Any]:
        def scores(at: float | None) -> dict[str, Any]:
            if at is None:
                return {m: dict.fromkeys(("point", "low", "high", "deviation")) | {"undefined": 0} for m in METRICS}
            return {
                m: {"point": at, "low": at - 0.03, "high": at + 0.025, "deviation": 0.01, "undefined": 0}
                for m in METRICS
            }

        each = {s: scores(None if s == absent else f1 - 0.03 * i) for i, s in enumerate(self.symptoms)}
        return {"overall": scores(f1), **each}

    def _strategy(self, strategy: str, name: str, f1: float, absent: str | None) -> dict[str, Any]:
        found = {"trial": name, "seeds": [name, f"{name}-seed1"], "figures": self._figures(f1, absent)}
        if strategy == "baseline" or "baseline" not in self.strategies:
            return found
        point = round(float(self.random.normal(-0.01, 0.012)), 4)
        by = {m: {"point": point, "low": point - 0.012, "high": point + 0.012, "p": 0.2} for m in METRICS}
        outcome = OUTCOMES[strategy]
        verdict = {
            "outcome": str(outcome),
            "difference": point,
            "low": point - 0.012,
            "high": point + 0.012,
            "p": 0.2,
            "p_not_worse": 0.02,
            "words": f"macro F1 {point:+.4f} (95 % interval −0.02 to +0.01, corrected p 0.2): {outcome} of 0.01",
            "not_worse": True,
            "margin": 0.01,
            "patients": 80,
            "patients_needed": None,
            "of_training": True,
        }
        return found | {
            "differences": {"overall": by, **dict.fromkeys(self.symptoms, by)},
            "mcnemar": {"only_model": 12, "only_baseline": 20, "p": 0.2, "p_holm": 0.6},
            "delong": dict.fromkeys(self.symptoms, 0.3),
            "delong_holm": dict.fromkeys(self.symptoms, 0.9),
            "verdict": verdict,
        }

    def _fronts(self, best: Mapping[str, str]) -> dict[str, Any]:
        """The compressed strategies from the largest to the smallest, proven as their verdicts say."""
        smaller = [s for s in best if s != "baseline" and BYTES[s] < BYTES["baseline"]]
        order = sorted(smaller, key=lambda strategy: -BYTES[strategy])
        good = [OUTCOMES[s] in (Outcome.BETTER, Outcome.EQUIVALENT, Outcome.NOT_WORSE, Outcome.SAME) for s in order]
        members = [
            {
                "trial": best[strategy],
                "cost": BYTES[strategy],
                "reference": best.get("baseline"),
                "found": {"difference": -0.004, "low": -0.009, "p": 0.02 if is_good else 0.4},
                "proven": proven,
            }
            for strategy, is_good, proven in zip(
                order, good, proven_in_turn([0.02 if g else 0.4 for g in good]), strict=True
            )
        ]
        return {"identity": "", "margin": 0.01, "level": 0.95, "prefer": "bytes", "members": {"bytes": members}}

    def _robustness(self, best: Mapping[str, str]) -> dict[str, Any]:
        models = {}
        for strategy, name in best.items():
            readings = {reading: self._reading(place) for place, reading in enumerate(READINGS)}
            group = {
                "accuracy": 0.85,
                "f1": 0.8,
                "low": 0.8,
                "high": 0.89,
                "disagreement": 0.05,
                "harmed": 9,
                "helped": 4,
            }
            sizes = {"Nursing <b>": 900, "=Physician": 558}
            groups = [{"value": value, "examples": n, "patients": n // 2, **group} for value, n in sizes.items()]
            models[name] = {"strategy": strategy, "readings": readings, "subgroups": {"category": groups}}
        notes = ["no form of pain is new to training, so that no text of it is renamed"]
        return {
            "identity": "",
            "held_back": {},
            "renamed_to": {},
            "readings": list(READINGS),
            "examples": {"read": 1458, "of": 1458},
            "smallest_group": 20,
            "notes": notes,
            "models": models,
        }

    def _reading(self, place: int) -> dict[str, Any]:
        f1, denied = 0.86 - 0.12 * place, READINGS[place] == "negated"
        recall, says = (None, f1) if denied else (f1, None)
        return {
            "examples": 1458 - 100 * place,
            "left_out": 100 * place,
            "accuracy": recall,
            "f1": recall,
            "still_says": says,
            "symptom_probability": 0.8,
            "mean_confidence": 0.9,
            "per_symptom": {s: {"examples": 300, "recall": recall, "still_says": says} for s in self.symptoms},
            "as_written_same": {"accuracy": 0.86, "f1": 0.86, "symptom_probability": 0.8},
        }

    def _insight(self, run: Run) -> dict[str, Any]:
        strategies = {}
        for strategy in self.strategies:
            mine = [t for t in run.trials.values() if t.strategy == strategy]
            n = np.arange(1, len(mine) + 1)
            mean = 0.86 - 0.15 / n
            strategies[strategy] = {
                "trials": len(mine),
                **{s: sum(t.state == s for t in mine) for s in ("finished", "stopped", "failed")},
                "expected_best": {
                    "trials": n.tolist(),
                    "mean": mean.tolist(),
                    "low": (mean - 0.08 / n).tolist(),
                    "high": (mean + 0.04 / n).tolist(),
                },
                "gap": {"validation_f1": 0.86, "test_f1": 0.84, "difference": 0.02},
                "importances": {"learning_rate": 0.7, "batch_size": 0.1, f"{strategy}_ratio": 0.2},
                "importances_note": None,
                "stopped_after": {"2": sum(t.state == "stopped" for t in mine)},
                "curves": {},
            }
        return {"identity": "", "strategies": strategies, "history": []}

    def _write(self, path: str, content: Any) -> None:
        self.folder.write(path, json.dumps(content).encode())
