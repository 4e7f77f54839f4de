"""The rules of a cluster: promtool accepts them, and each fires after its real duration, above its real threshold."""

from pathlib import Path
from typing import Any

import pytest

from conftest import run
from rules import FOLDER, INDEX, Case, check_cases, check_says_what_to_do, rules_of

FILE = FOLDER / "cluster.rules.yaml"
ALERTS = rules_of(FILE)


def replicas(digests: dict[str, str], sequences: dict[str, str]) -> dict[str, str]:
    """Digests of the log, and the writes that they are of, by replica."""
    series = {}
    for name, values in (("shortlist_log_digest", digests), ("shortlist_log_digest_sequence", sequences)):
        for instance, text in values.items():
            series[f'{name}{{job="shortlist", instance="{instance}", index="videos"}}'] = text
    return series


def replicas_up(values: str) -> dict[str, str]:
    """The replicas of a shard that a router may ask."""
    return {f'shortlist_router_shard_replicas_up{{{INDEX}, shard="0"}}': values}


def coverage(short: int, answers: int) -> dict[str, str]:
    """`short` of the `answers` per minute miss a shard of two."""
    name = "shortlist_router_coverage_ratio"
    counts = {"0.25": 0, "0.5": short, "0.999": short, "1.0": answers, "+Inf": answers}
    buckets = {f'{name}_bucket{{{INDEX}, le="{le}"}}': f"0+{count}x100" for le, count in counts.items()}
    return {**buckets, f"{name}_count{{{INDEX}}}": f"0+{answers}x100"}


def hedges(per_minute: int) -> dict[str, str]:
    """Of 1,000 calls per minute to one shard, and 10 of as many to another one."""
    series = {}
    for shard, hedged in enumerate((per_minute, 10)):
        of = f'{INDEX}, shard="{shard}"'
        series[f"shortlist_router_hedged_calls_total{{{of}}}"] = f"0+{hedged}x100"
        series[f"shortlist_router_shard_call_seconds_count{{{of}}}"] = "0+1000x100"
    return series


CASES = [
    Case(
        "a damaged message",
        replicas({"a": "7 7 7x100", "b": "7 7 8x100"}, {"a": "100x102", "b": "100x102"}),
        "ShortlistReplicasDiffer",
        3,
    ),
    Case(
        "a difference that is mended",
        replicas({"a": "7x100", "b": "7 7 8 8 7x96"}, {"a": "100x100", "b": "100x100"}),
        "ShortlistReplicasDiffer",
        3,
        13,
    ),
    Case(
        "a scrape between the two gauges",
        replicas({"a": "7x100", "b": "7 7 8 7x97"}, {"a": "100x100", "b": "100x100"}),
        at=3,
    ),
    Case(
        "equal replicas, of which one is behind",
        replicas({"a": "8x100", "b": "7x100"}, {"a": "200x100", "b": "100x100"}),
    ),
    Case(
        "two indexes with logs of their own",
        {
            **replicas({"a": "7x100"}, {"a": "100x100"}),
            **{
                series.replace("videos", "shows"): values
                for series, values in replicas({"a": "8x100"}, {"a": "100x100"}).items()
            },
        },
    ),
    Case(
        "a replica that is behind",
        {
            f"shortlist_log_behind_seconds{{{INDEX}}}": "0x4 11x100",
            f"shortlist_log_connected{{{INDEX}}}": "1x105",
        },
        "ShortlistReplicaBehind",
        7,
    ),
    Case(
        "a replica that is little behind",
        {f"shortlist_log_behind_seconds{{{INDEX}}}": "9x100", f"shortlist_log_connected{{{INDEX}}}": "1x100"},
    ),
    Case(
        "no broker",
        {
            f"shortlist_log_connected{{{INDEX}}}": "1x4 0x100",
            f"shortlist_log_behind_seconds{{{INDEX}}}": "0x4 60+60x100",
        },
        "ShortlistLogUnreachable",
        7,
    ),
    Case("a broker that restarts", {f"shortlist_log_connected{{{INDEX}}}": "1x4 0 0 1x100"}, at=7),
    Case("no bucket", {f"shortlist_bucket_up{{{INDEX}}}": "1x4 0x100"}, "ShortlistBucketUnreachable", 10),
    Case("a lost shard", replicas_up("2x3 1 0x100"), "ShortlistShardUnavailable", 6),
    Case("a lost replica", replicas_up("2x4 1x100"), "ShortlistShardNotRedundant", 20),
    Case("a replica that restarts", replicas_up("2x4 1x9 2x100"), at=20),
    Case("answers without a shard", coverage(2, 100), "ShortlistCoverageLow", 6),
    Case("few answers without a shard", coverage(1, 200)),
    Case("a slow replica", hedges(45), "ShortlistHedgesNearBudget", 16),
    Case("hedges below the budget", hedges(35)),
]


def test_promtool_accepts_the_rules(promtool: Path) -> None:
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", FILE)


def test_rules_fire_after_their_duration(promtool: Path, tmp_path: Path) -> None:
    check_cases(promtool, FILE, CASES, 1, tmp_path)


def test_every_rule_has_a_case() -> None:
    assert {case.alert for case in CASES} - {None} == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_a_rule_says_what_to_do(rule: dict[str, Any]) -> None:
    check_says_what_to_do(rule)
