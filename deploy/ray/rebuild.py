"""Rebuilds all shards of an index as tasks of Ray, and makes the map of the new generations.

One task per shard runs `shortlist rebuild`, which reads the newest generations and the writes since, and uploads a new
generation. If all of them succeed, `shortlist cluster apply` lets them count, and removes from the log what they have.
Every node needs the binary, and the credentials of the bucket in its environment, as replicas do.

    python rebuild.py --at s3://shortlist/videos --index videos --shards 4 --nats nats://a:4222,nats://b:4222

Prints a summary as one line of JSON, and progress on standard error. Exits with 0 if everything was done, 1 if not, and
2 for wrong arguments.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import ray

# `shortlist` exits with it for wrong arguments, which another attempt would not mend.
WRONG_ARGUMENTS = 2
# The end of standard error in a summary, in characters.
TAIL = 2000


@dataclass
class Outcome:
    """What became of one command."""

    command: list[str]
    node: str
    exit_code: int
    seconds: float
    # The last line of standard output, if it is JSON.
    result: Any
    # The end of standard error, if the command failed.
    problem: str | None


class CommandError(Exception):
    """A command failed, and may succeed on another attempt."""


def run(command: list[str]) -> Outcome:
    """Runs a command to its end.

    Raises:
        CommandError: if another attempt may succeed.
    """
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    outcome = Outcome(
        command=command,
        node=ray.util.get_node_ip_address(),
        exit_code=done.returncode,
        seconds=round(time.monotonic() - began, 3),
        result=last_json(done.stdout),
        problem=done.stderr[-TAIL:].strip() if done.returncode else None,
    )
    if done.returncode not in (0, WRONG_ARGUMENTS):
        raise CommandError(f"exit code {done.returncode} on {outcome.node}: {outcome.problem}")
    return outcome


def last_json(output: str) -> Any:
    """The last line, if it is JSON."""
    lines = output.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rebuild all shards of an index as tasks of Ray.")
    parser.add_argument(
        "--at", required=True, metavar="LOCATION", help="where the index is, such as s3://bucket/videos"
    )
    parser.add_argument("--index", required=True, metavar="NAME", help="the name of the index")
    parser.add_argument("--shards", required=True, type=int, metavar="N", help="how many shards to build")
    parser.add_argument("--of", type=int, metavar="M", help="how many shards there are now; default: as many")
    parser.add_argument(
        "--nats", metavar="URL,URL", help="servers of NATS, for the writes since the newest generations"
    )
    parser.add_argument("--nats-credentials", metavar="FILE", help="credentials for NATS, a file of each node")
    parser.add_argument("--nats-ca", metavar="FILE", help="the authority of the servers of NATS, a file of each node")
    parser.add_argument("--scratch", metavar="DIR", help="a folder of each node for two generations of a shard")
    parser.add_argument("--shortlist", default="shortlist", metavar="FILE", help="the binary on each node")
    parser.add_argument("--address", metavar="ADDR", help="the cluster of Ray; default: RAY_ADDRESS, or this machine")
    parser.add_argument("--cpus", type=float, default=4, help="processors of one task")
    parser.add_argument("--memory", type=int, default=0, metavar="BYTES", help="memory of one task; 0 for any")
    parser.add_argument(
        "--retries", type=int, default=3, help="further attempts of a task that failed or lost its node"
    )
    parser.add_argument("--no-apply", action="store_true", help="leave the map as it is")
    parsed = parser.parse_args()
    if parsed.shards not in (1, 2, 4, 8, 16, 32, 64):
        parser.error(f"--shards {parsed.shards}: expected a number that divides 64")
    return parsed


def with_given(command: list[str], flags: dict[str, str | int | None]) -> list[str]:
    """The command with the flags that have a value."""
    return command + [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]


def log_flags(options: argparse.Namespace) -> dict[str, str | int | None]:
    return {"--nats": options.nats, "--nats-credentials": options.nats_credentials, "--nats-ca": options.nats_ca}


def rebuild_command(options: argparse.Namespace, shard: int) -> list[str]:
    command = [options.shortlist, "rebuild", "--at", options.at, "--index", options.index]
    command += ["--shard", f"{shard}/{options.shards}", "--json"]
    return with_given(command, {"--of": options.of, "--scratch": options.scratch, **log_flags(options)})


def apply_command(options: argparse.Namespace) -> list[str]:
    command = [options.shortlist, "cluster", "apply", "--at", options.at, "--index", options.index]
    return with_given([*command, "--shards", str(options.shards), "--json"], log_flags(options))


def finished(what: str, reference: Any) -> dict[str, Any]:
    """Waits for a task. The row of the summary."""
    try:
        outcome = asdict(ray.get(reference))
    except (ray.exceptions.RayError, CommandError) as error:
        # The error of a task that raised repeats its traceback.
        problem = str(getattr(error, "cause", error))
        outcome = {"exit_code": None, "result": None, "problem": problem[-TAIL:]}
    row = {"what": what, "ok": outcome["exit_code"] == 0, **outcome}
    print(f"{what}: {'done' if row['ok'] else row['problem']}", file=sys.stderr)
    return row


def rebuild(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the tasks. The summary."""
    began = time.monotonic()
    # Of Ray's own accord, a task runs again if its worker or node is lost.
    task = ray.remote(max_retries=options.retries, retry_exceptions=[CommandError])(run)
    build = task.options(num_cpus=options.cpus, **({"memory": options.memory} if options.memory else {}))
    references = [build.remote(rebuild_command(options, shard)) for shard in range(options.shards)]
    shards = [finished(f"shard {shard}/{options.shards}", reference) for shard, reference in enumerate(references)]
    is_done = all(row["ok"] for row in shards)
    applied = None
    if is_done and not options.no_apply:
        # A task, too: it needs what the nodes have.
        applied = finished("map", task.options(num_cpus=0).remote(apply_command(options)))
        is_done = applied["ok"]
    return {
        "at": options.at,
        "index": options.index,
        "ok": is_done,
        "seconds": round(time.monotonic() - began, 3),
        "shards": shards,
        "map": applied,
    }


def main() -> int:
    options = arguments()
    # Ray prints what happens to its workers on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        ray.init(address=options.address, log_to_driver=False, logging_level="WARNING")
        try:
            summary = rebuild(options)
        finally:
            ray.shutdown()
    print(json.dumps(summary))
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
