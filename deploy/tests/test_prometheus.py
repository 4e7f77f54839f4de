"""promtool accepts configuration and rules. Each rule fires after its real duration, above its real threshold."""

from pathlib import Path
from typing import Any

import pytest

from conftest import run
from rules import FOLDER, INDEX, SERVER, Case, check_cases, check_says_what_to_do, rules_of

ALERTS = rules_of(FOLDER / "alerts.yaml")


def requests(code: str, per_minute: int) -> dict[str, str]:
    return {f'shortlist_requests_total{{{INDEX}, method="Search", code="{code}"}}': f"0+{per_minute}x100"}


def seconds(below: int, calls: int) -> dict[str, str]:
    """`below` of the `calls` per minute take at most 100 ms, all at most 250 ms."""
    name, of = "shortlist_request_seconds", f'{INDEX}, method="Search"'
    counts = {"0.1": below, "0.25": calls, "+Inf": calls}
    buckets = {f'{name}_bucket{{{of}, le="{le}"}}': f"0+{count}x100" for le, count in counts.items()}
    return {**buckets, f"{name}_count{{{of}}}": f"0+{calls}x100"}


def of_server(**values: str) -> dict[str, str]:
    return {f"{name}{{{SERVER}}}": text for name, text in values.items()}


def of_index(**values: str) -> dict[str, str]:
    return {f"{name}{{{INDEX}}}": text for name, text in values.items()}


def by(label: str, value: str, text: str, name: str, of: str = SERVER) -> dict[str, str]:
    return {f'{name}{{{of}, {label}="{value}"}}': text}


def refused_searches(reason: str, per_minute: int) -> dict[str, str]:
    admitted = of_server(shortlist_queue_seconds_count="0+94x100")
    return {**by("reason", reason, f"0+{per_minute}x100", "shortlist_refused_searches_total"), **admitted}


def cut(per_minute: int) -> dict[str, str]:
    answers = of_index(shortlist_distances_per_query_count="0+100x100")
    return {**by("reason", "deadline", f"0+{per_minute}x100", "shortlist_short_answers_total", INDEX), **answers}


def rebuild(**states: str) -> dict[str, str]:
    name = "shortlist_rebuild_state"
    return {
        series: text
        for state, values in states.items()
        for series, text in by("state", state, values, name, INDEX).items()
    }


PUBLICATIONS = "shortlist_refused_publications_total"
DENIED = "shortlist_authentication_failures_total"

CASES = [
    Case("a server stops", {}, "ShortlistDown", 8, scraped=of_server(up="1x5 0x100")),
    Case("a short restart", {}, scraped=of_server(up="1x5 0 1x100")),
    Case("there is no server", {}, "ShortlistDown", 2, scraped={}),
    Case("three restarts", of_server(process_start_time_seconds="1 2 3 4x100"), "ShortlistCrashLooping", 3, 31),
    Case("two restarts", of_server(process_start_time_seconds="1 2 3x100"), at=20),
    Case(
        "out of service",
        of_index(shortlist_serving="1x5 0x100", shortlist_writable="0x106"),
        "ShortlistIndexNotServing",
        7,
    ),
    Case("read-only", of_index(shortlist_serving="1x106", shortlist_writable="1x5 0x100"), "ShortlistIndexReadOnly", 8),
    Case("internal errors", {**requests("INTERNAL", 2), **requests("OK", 98)}, "ShortlistInternalErrors", 6),
    Case("few internal errors", {**requests("INTERNAL", 1), **requests("OK", 199)}),
    Case("errors of callers", {**requests("INVALID_ARGUMENT", 90), **requests("OK", 10)}),
    Case(
        "no requests",
        {**requests("INTERNAL", 0), **requests("OK", 0), **seconds(0, 0), **refused_searches("deadline", 0)},
    ),
    Case("overload", refused_searches("deadline", 6), "ShortlistSearchesRefused", 6),
    Case("little overload", refused_searches("deadline", 4)),
    Case("a client over its rate", refused_searches("search_rate", 500)),
    Case("slow searches", seconds(1_180, 1_200), "ShortlistLatencyHigh", 11),
    Case("searches that are not slow", seconds(1_190, 1_200)),
    Case("few slow searches", seconds(0, 12)),
    Case("answers cut", cut(6), "ShortlistAnswersCut", 11),
    Case("few answers cut", cut(4)),
    Case(
        "no memory",
        by("reason", "server", "0+1x100", "shortlist_refused_for_memory_total"),
        "ShortlistMemoryRefused",
        11,
    ),
    Case("no memory of one connection", by("reason", "connection", "0+9x100", "shortlist_refused_for_memory_total")),
    Case(
        "many connections",
        of_server(shortlist_connections="850x100", shortlist_max_connections="1000x100"),
        "ShortlistConnectionsNearLimit",
        15,
    ),
    Case("fewer connections", of_server(shortlist_connections="800x100", shortlist_max_connections="1000x100")),
    Case(
        "refused connections",
        by("reason", "peer", "0+120x100", "shortlist_refused_connections_total"),
        "ShortlistConnectionsRefused",
        11,
    ),
    Case("few refused connections", by("reason", "peer", "0+3x100", "shortlist_refused_connections_total")),
    Case(
        "many files",
        of_server(process_open_fds="810x100", process_max_fds="1000x100"),
        "ShortlistFileDescriptorsNearLimit",
        10,
    ),
    Case("fewer files", of_server(process_open_fds="800x100", process_max_fds="1000x100")),
    Case(
        "a first refusal",
        by("reason", "recall", "0x9 1x60", PUBLICATIONS, INDEX),
        "ShortlistPublicationRefused",
        10,
        34,
        15,
    ),
    Case(
        "another refusal",
        by("reason", "recall", "1x39 2x60", PUBLICATIONS, INDEX),
        "ShortlistPublicationRefused",
        40,
        64,
        15,
    ),
    Case("no refusal since six hours", by("reason", "recall", "1x60", PUBLICATIONS, INDEX), at=50, step=15),
    Case(
        "an old generation",
        of_index(shortlist_generation_timestamp_seconds="0x200"),
        "ShortlistGenerationOld",
        194,
        step=15,
    ),
    Case("nothing measured", of_index(shortlist_gate_queries="0x100"), "ShortlistGateMeasuredNothing", 15),
    Case("measured", of_index(shortlist_gate_queries="500x100")),
    Case(
        "low recall",
        {
            **by("k", "100", "0.89x100", "shortlist_targeted_recall_at_k", INDEX),
            **by("k", "100", "0.95x100", "shortlist_recall_target_at_k", INDEX),
        },
        "ShortlistRecallLow",
        30,
    ),
    Case(
        "recall near its target",
        {
            **by("k", "100", "0.91x100", "shortlist_targeted_recall_at_k", INDEX),
            **by("k", "100", "0.95x100", "shortlist_recall_target_at_k", INDEX),
        },
    ),
    Case("recall without a target", by("k", "100", "0.5x100", "shortlist_targeted_recall_at_k", INDEX)),
    Case("a damaged file", of_index(shortlist_scrub_mismatches="0x4 1x100"), "ShortlistChecksumMismatch", 5),
    Case("a failed rebuild", rebuild(failed="0x4 1x100", done="0x105"), "ShortlistRebuildFailed", 10),
    Case("a rebuild that is done after one that failed", rebuild(failed="1x2 0x100", done="0x2 1x100"), at=20),
    Case(
        "a rebuild that fails again and again",
        rebuild(failed="1 0 0 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0 1x60", done="0x90"),
        "ShortlistRebuildFailed",
        5,
    ),
    Case(
        "a rebuild that does not end",
        {**of_index(shortlist_rebuild_start_timestamp_seconds="0x100"), **rebuild(running="1x100", gating="0x100")},
        "ShortlistRebuildSlow",
        25,
        step=15,
    ),
    Case(
        "no rebuild since long",
        {**of_index(shortlist_rebuild_start_timestamp_seconds="0x100"), **rebuild(running="0x100", done="1x100")},
        step=15,
    ),
    Case(
        "a large delta",
        of_index(shortlist_delta_vectors="30000x100", shortlist_vectors="100000x100"),
        "ShortlistRebuildOverdue",
        60,
    ),
    Case(
        "a large delta of a small index",
        of_index(shortlist_delta_vectors="9000x100", shortlist_vectors="10000x100"),
        at=90,
    ),
    Case(
        "a delta that is rebuilt", of_index(shortlist_delta_vectors="15000x100", shortlist_vectors="100000x100"), at=90
    ),
    Case(
        "a large log",
        of_index(shortlist_log_entry_bytes="50000000x100", shortlist_mapped_bytes="20000000x100"),
        "ShortlistLogLarge",
        60,
    ),
    Case(
        "a log that is rebuilt",
        of_index(shortlist_log_entry_bytes="50000000x100", shortlist_mapped_bytes="30000000x100"),
        at=90,
    ),
    Case(
        "a log of a small index",
        of_index(shortlist_log_entry_bytes="9000000x100", shortlist_mapped_bytes="1000000x100"),
        at=90,
    ),
    Case("held entries", of_index(shortlist_held_entries="1x150"), "ShortlistEntriesHeld", 96, step=15),
    Case("wrong keys", by("reason", "unknown_key", "0+900x100", DENIED), "ShortlistAccessRefused", 11),
    Case(
        "wrong roles",
        by("reason", "role", "0+900x100", "shortlist_authorization_failures_total"),
        "ShortlistAccessRefused",
        11,
    ),
    Case("few wrong keys", by("reason", "unknown_key", "0+30x100", DENIED)),
    Case("a broken file", by("what", "certificate", "1x100", "shortlist_reload_failed"), "ShortlistReloadFailed", 5),
]


def test_promtool_accepts_configuration_and_rules(promtool: Path) -> None:
    run(promtool, "check", "config", FOLDER / "prometheus.yaml")
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", FOLDER / "alerts.yaml")


@pytest.mark.parametrize("step", [1, 15])
def test_rules_fire_after_their_duration(step: int, promtool: Path, tmp_path: Path) -> None:
    check_cases(promtool, FOLDER / "alerts.yaml", CASES, step, tmp_path)


def test_every_rule_has_a_case() -> None:
    assert {case.alert for case in CASES} - {None} == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_a_rule_says_what_to_do(rule: dict[str, Any]) -> None:
    check_says_what_to_do(rule)
