"""Cases of alert rules for promtool, and what every rule must say."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from conftest import DEPLOY, REPOSITORY, run

FOLDER = DEPLOY / "prometheus"
# Labels of a server, and of an index.
SERVER = 'job="shortlist", instance="a"'
INDEX = f'{SERVER}, index="videos"'
UP = {f"up{{{SERVER}}}": "1x1000"}


def rules_of(file: Path) -> list[dict[str, Any]]:
    """The rules of all groups of a file."""
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@dataclass
class Case:
    """Series with one value per step, in the notation of promtool, and the alert that fires."""

    name: str
    series: dict[str, str]
    alert: str | None = None
    # The first step at which it fires. It is also tested that nothing fires a step before.
    at: int = 60
    # The first step at which it does not fire any more, if that is tested.
    until: int | None = None
    # In minutes.
    step: int = 1
    scraped: dict[str, str] = field(default_factory=lambda: UP)

    def group(self) -> dict[str, Any]:
        """As promtool has it."""
        firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
        this = [{"labels": f'{{alertname="{self.alert}"}}', "value": 1}] if self.alert else []
        expected: dict[int, list[dict[str, Any]]] = {self.at: this}
        if self.alert and self.at > 0:
            expected[self.at - 1] = []
        if self.until is not None:
            expected |= {self.until - 1: this, self.until: []}
        return {
            "name": self.name,
            "interval": f"{self.step}m",
            "input_series": [
                {"series": name, "values": values} for name, values in {**self.scraped, **self.series}.items()
            ],
            "promql_expr_test": [
                {"expr": firing, "eval_time": f"{at * self.step}m", "exp_samples": samples}
                for at, samples in sorted(expected.items())
            ],
        }


def check_cases(promtool: Path, file: Path, cases: list[Case], step: int, folder: Path) -> None:
    """Runs the cases with this step."""
    tests = {
        "rule_files": [str(file)],
        "evaluation_interval": f"{step}m",
        "tests": [case.group() for case in cases if case.step == step],
    }
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests))
    run(promtool, "test", "rules", folder / "tests.yaml")


def check_says_what_to_do(rule: dict[str, Any]) -> None:
    """A rule has a severity, and a section that says what to do."""
    assert rule["labels"].keys() == {"severity"} and rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    page, anchor = rule["annotations"]["runbook"].split("#")
    assert anchor == rule["alert"].lower()
    headings = [
        line.lstrip("#").strip() for line in (REPOSITORY / page).read_text().splitlines() if line.startswith("#")
    ]
    assert rule["alert"] in headings
