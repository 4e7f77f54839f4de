"""Shortens the durations of alert rules, so that a test sees an alert fire and resolve within seconds.

A duration of d seconds becomes d / 150, but at least one second and at most four. Every `for`, every range and offset,
and every product with the seconds of a minute, hour or day is shortened in the same way.
"""

import re
from typing import Any

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def shortened(seconds: float) -> float:
    return min(max(seconds / 150, 1.0), 4.0)


def _prometheus_duration(match: re.Match[str]) -> str:
    return f"{match[1]}{round(1000 * shortened(int(match[2]) * UNITS[match[3]]))}ms"


def _product(match: re.Match[str]) -> str:
    return f"{shortened(int(match[1]) * int(match[2])):g}"


def shorten_expression(expression: str, with_products: bool = True) -> str:
    """`[5m]`, `offset 6h` and `2 * 86400` become `[2000ms]`, `offset 4000ms` and `4`."""
    shorter = re.sub(r"(\[|offset )(\d+)([smhd])\b", _prometheus_duration, expression)
    return re.sub(r"\b(\d+) \* (60|3600|86400)\b", _product, shorter) if with_products else shorter


def shorten_rules(rules: dict[str, Any], with_products: bool = True) -> dict[str, Any]:
    """The same rules with shorter durations. `with_products` is false to keep ages, such as that of a generation."""
    groups = []
    for group in rules["groups"]:
        shorter = []
        for rule in group["rules"]:
            rule = {**rule, "expr": shorten_expression(rule["expr"], with_products)}
            if "for" in rule:
                rule["for"] = re.sub(r"()(\d+)([smhd])", _prometheus_duration, rule["for"])
            shorter.append(rule)
        groups.append({**group, "rules": shorter})
    return {**rules, "groups": groups}
