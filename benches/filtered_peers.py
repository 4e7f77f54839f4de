#!/usr/bin/env python3
"""Recall against queries/s of hnswlib and FAISS under the filters that `shortlist synth` writes.

    python3 -m venv .peers && .peers/bin/pip install 'numpy>=2' pyarrow hnswlib faiss-cpu
    .peers/bin/python benches/filtered_peers.py --data DIR --json peers.json [--limit 100]
        [--engines hnswlib,faiss-hnsw,faiss-ivf] [--labels 'no rules,1 % near']
    shortlist bench ... --requests DIR/requests.jsonl --against peers.json

DIR contains videos.npy, users_test.npy, attributes.parquet, requests.jsonl and excluded.npy. Only requests with a `query`
are run: without rules, with `topic in (...)`, with ranges of `experiment`, with both joined by `and`, or with an
exclude_file. Recall is against exact answers under the same rules. An engine is built on all cores and searched on one
thread, one query per call; the faster of two passes counts.

Caveats:
- Only the search call is timed. Resolving a filter to a bitmap is not included, whereas `shortlist bench` includes it
  for Shortlist. A call from Python takes about 10 us longer than one from C++.
- hnswlib takes its filter as a Python callable and calls it for every node that it scores, a cost that its C++ interface
  does not have. `callback_share` estimates this share of the time: calls are counted, and the time per call is the
  difference between searches with a filter that accepts everything and searches without a filter.
- hnswlib raises an error if it finds fewer than k. Its results are then fetched with a smaller k, which is not timed.
- A point ends after --seconds and then covers only the requests run by then.
"""
import argparse, json, math, os, re, sys, time

import numpy as np

K = 100
PASSES = 2
TARGET = 0.95
ENOUGH = 0.99
EF = [100, 150, 200, 300, 400, 600, 900, 1500]
NPROBE = [1, 2, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000]


class Catalog:
    """Embeddings, the columns that filters use, and exact answers under filters."""

    def __init__(self, folder):
        import pyarrow.parquet as pq
        self.folder = folder
        self.videos = np.ascontiguousarray(np.load(self.path("videos.npy")), dtype=np.float32)
        self.users = np.ascontiguousarray(np.load(self.path("users_test.npy")), dtype=np.float32)
        table = pq.read_table(self.path("attributes.parquet"), columns=["video_id", "topic", "experiment"])
        self.ids = table["video_id"].to_numpy()
        self.experiment = table["experiment"].to_numpy()
        topics = table["topic"].combine_chunks().dictionary_encode()
        self.topic, self.topic_names = topics.indices.to_numpy(), topics.dictionary.to_pylist()
        self.excluded = {}  # by file

    def path(self, name):
        return os.path.join(self.folder, name)

    def allowed(self, request):
        """[videos] bool; None for a request without rules."""
        mask = None
        for condition in filter(None, request.get("filter", "").split(" and ")):
            mask = self.condition(condition) if mask is None else mask & self.condition(condition)
        if name := request.get("exclude_file"):
            if name not in self.excluded:
                self.excluded[name] = np.isin(self.ids, np.load(self.path(name)))
            mask = ~self.excluded[name] if mask is None else mask & ~self.excluded[name]
        return mask

    def condition(self, text):
        if topics := re.fullmatch(r"topic in \((.*)\)", text):
            names = set(re.findall(r"'([^']*)'", topics[1]))
            return np.array([name in names for name in self.topic_names])[self.topic]
        if bound := re.fullmatch(r"experiment (>=|<) (\S+)", text):
            value = float(bound[2])
            return self.experiment >= value if bound[1] == ">=" else self.experiment < value
        sys.exit(f"expected topic in (...), experiment >= N or experiment < N, found {text!r}")

    def best(self, scores, mask):
        """Row numbers of the K best allowed videos, or of all allowed videos if there are fewer."""
        rows = np.arange(len(scores)) if mask is None else np.flatnonzero(mask)
        if len(rows) <= K:
            return rows
        return rows[np.argpartition(-scores[rows], K - 1)[:K]]


class Question:
    """One request: its query, the mask of allowed videos, and the exact answer."""

    def __init__(self, query, mask, exact):
        self.query, self.mask, self.exact = query, mask, set(exact.tolist())

    def allowed(self, count):
        """[count] bool, unpacked from one bit per video."""
        return np.unpackbits(self.mask, count=count, bitorder="little")


def read_questions(catalog, labels, limit):
    """Returns label -> questions, in the order of the file."""
    by_label = {}
    with open(catalog.path("requests.jsonl")) as lines:
        for request in map(json.loads, lines):
            label = request["label"]
            if "query" not in request or (labels and label not in labels):
                continue
            if len(by_label.setdefault(label, [])) < limit:
                by_label[label].append(request)
    if missing := set(labels or []) - set(by_label):
        sys.exit(f"no requests with a query under {sorted(missing)}")
    found = {label: [None] * len(requests) for label, requests in by_label.items()}
    askers = {}
    for label, requests in by_label.items():
        for at, request in enumerate(requests):
            askers.setdefault(request["query"], []).append((label, at, request))
    # Scores do not depend on the filter, so they are computed once per user.
    for row, asked in askers.items():
        query = catalog.users[row]
        scores = catalog.videos @ query
        for label, at, request in asked:
            mask = catalog.allowed(request)
            exact = catalog.best(scores, mask)
            bits = None if mask is None else np.packbits(mask, bitorder="little")
            found[label][at] = Question(query, bits, exact)
    return found


class Hnswlib:
    efforts = EF

    def __init__(self, videos, threads):
        import hnswlib
        self.count = len(videos)
        self.index = hnswlib.Index("ip", videos.shape[1])
        self.index.init_index(self.count, M=16, ef_construction=200, random_seed=1)
        self.index.set_num_threads(threads)
        self.index.add_items(videos)
        self.index.set_num_threads(1)
        self.call_s = 0.0

    def bytes(self):
        return self.index.index_file_size()

    def measure_callback(self, queries):
        """Measures the seconds per call of the filter."""
        everything = bytes([1]) * self.count
        self.index.set_ef(1000)
        plain, filtered, calls = 0.0, 0.0, 0
        for query in queries:
            plain += min(timed(lambda: self.ask(query, K, None))[0] for _ in range(5))
            filtered += min(timed(lambda: self.ask(query, K, everything))[0] for _ in range(5))
            calls += self.count_calls(query, K, everything)
        self.call_s = max(0.0, filtered - plain) / calls
        print(f"hnswlib: {self.call_s * 1e9:.0f} ns per call of the filter", file=sys.stderr)

    def prepare(self, question):
        if question.mask is None:
            return None
        # bytes.__getitem__ is the fastest filter: it runs no bytecode.
        return question.allowed(self.count).tobytes()

    def set_effort(self, effort):
        self.index.set_ef(effort)

    def ask(self, query, k, allowed):
        arguments = {} if allowed is None else {"filter": allowed.__getitem__}
        try:
            return self.index.knn_query(query, k, num_threads=1, **arguments)[0][0]
        except RuntimeError:
            return None

    def search(self, question, allowed):
        """Returns None if hnswlib finds fewer than requested."""
        return self.ask(question.query, min(K, len(question.exact)), allowed)

    def search_fewer(self, question, allowed):
        """Returns the answer for the largest k that hnswlib answers, by bisection."""
        found, answered, refused = np.empty(0, dtype=np.int64), 0, min(K, len(question.exact))
        while refused - answered > 1:
            k = (answered + refused) // 2
            answer = self.ask(question.query, k, allowed)
            if answer is None:
                refused = k
            else:
                found, answered = answer, k
        return found

    def count_calls(self, query, k, allowed):
        calls = 0

        def counted(row):
            nonlocal calls
            calls += 1
            return allowed[row]

        try:
            self.index.knn_query(query, k, num_threads=1, filter=counted)
        except RuntimeError:
            pass
        return calls

    def extra(self, questions, prepared, mean_s):
        """Estimates the share of the time spent in the callback, from the first ten questions."""
        if prepared[0] is None:
            return {}
        first = list(zip(questions, prepared))[:10]
        calls = sum(self.count_calls(q.query, min(K, len(q.exact)), allowed) for q, allowed in first) / len(first)
        return {"callback_calls": calls, "callback_share": min(1.0, calls * self.call_s / mean_s)}


class Faiss:
    """The common code of both FAISS indexes. Each defines `parameters(selector)`."""

    def build(self, index, videos, threads):
        import faiss
        self.faiss, self.index = faiss, index
        faiss.omp_set_num_threads(threads)
        index.train(videos)
        index.add(videos)
        faiss.omp_set_num_threads(1)

    def bytes(self):
        return self.faiss.serialize_index(self.index).nbytes

    def measure_callback(self, queries):
        pass

    def prepare(self, question):
        return None if question.mask is None else self.faiss.IDSelectorBitmap(question.mask)

    def set_effort(self, effort):
        self.effort = effort

    def search(self, question, selector):
        parameters = self.parameters({} if selector is None else {"sel": selector})
        found = self.index.search(question.query[None], K, params=parameters)[1][0]
        return found[found >= 0]

    def extra(self, questions, prepared, mean_s):
        return {}


class FaissHnsw(Faiss):
    efforts = EF

    def __init__(self, videos, threads):
        import faiss
        index = faiss.IndexHNSWFlat(videos.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        self.build(index, videos, threads)

    def parameters(self, selector):
        return self.faiss.SearchParametersHNSW(efSearch=self.effort, **selector)


class FaissIvf(Faiss):
    def __init__(self, videos, threads):
        import faiss
        dim = videos.shape[1]
        # FAISS recommends at least 39 training vectors per list.
        self.lists = min(1000, max(1, len(videos) // 39))
        self.efforts = [nprobe for nprobe in NPROBE if nprobe < self.lists] + [self.lists]
        self.quantizer = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFFlat(self.quantizer, dim, self.lists, faiss.METRIC_INNER_PRODUCT)
        self.build(index, videos, threads)

    def parameters(self, selector):
        return self.faiss.SearchParametersIVF(nprobe=self.effort, **selector)


ENGINES = {"hnswlib": Hnswlib, "faiss-hnsw": FaissHnsw, "faiss-ivf": FaissIvf}


def timed(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def measure(engine, questions, prepared, seconds):
    """Returns recall, mean seconds per search, and the number of questions run."""
    wanted, hits, elapsed, asked, started = 0, 0, 0.0, 0, time.perf_counter()
    for question, allowed in zip(questions, prepared):
        took, found = timed(lambda: engine.search(question, allowed))
        if found is None:
            found = engine.search_fewer(question, allowed)
        elapsed, asked = elapsed + took, asked + 1
        wanted += len(question.exact)
        hits += len(question.exact.intersection(found.tolist()))
        if time.perf_counter() - started > seconds:
            break
    for _ in range(PASSES - 1):
        # Every pass runs the same questions.
        again = list(zip(questions, prepared))[:asked]
        elapsed = min(elapsed, sum(timed(lambda: engine.search(*pair))[0] for pair in again))
    return hits / wanted if wanted else 1.0, elapsed / asked, asked


def sweep(engine, label, questions, seconds):
    rows = []
    prepared = [engine.prepare(question) for question in questions]
    for effort in engine.efforts:
        engine.set_effort(effort)
        recall, mean_s, asked = measure(engine, questions, prepared, seconds)
        row = {"label": label, "k": K, "recall": recall, "qps": 1 / mean_s, "param": effort, "asked": asked}
        row |= engine.extra(questions, prepared, mean_s)
        rows.append(row)
        # A traversal that scores no more nodes than with less effort has scored all reachable nodes.
        is_exhausted = "callback_calls" in row and row["callback_calls"] in [r["callback_calls"] for r in rows[:-1]]
        if recall >= ENOUGH or is_exhausted:
            break
    return rows


def at_target(rows):
    """Queries/s at TARGET, log-linear along the Pareto front; the best recall if it is never reached."""
    front = []
    for recall, qps in sorted(((row["recall"], row["qps"]) for row in rows), key=lambda point: (-point[1], -point[0])):
        if not front or recall > front[-1][0]:
            front.append((recall, qps))
    if front[0][0] >= TARGET:
        return f"{front[0][1]:,.0f}"
    for (r0, q0), (r1, q1) in zip(front, front[1:]):
        if r0 < TARGET <= r1:
            share = (TARGET - r0) / (r1 - r0)
            return f"{math.exp(math.log(q0) * (1 - share) + math.log(q1) * share):,.0f}"
    return f"recall {front[-1][0]:.3f}"


def print_table(reports, labels):
    print(f"queries/s at recall@{K} = {TARGET}, or the best recall reached; for hnswlib also the share of the time "
          "spent in its callback")
    print("| requests | " + " | ".join(report["engine"] for report in reports) + " |")
    print("|---" * (1 + len(reports)) + "|")
    for label in labels:
        cells = []
        for report in reports:
            rows = [row for row in report["rows"] if row["label"] == label]
            shares = [row["callback_share"] for row in rows if "callback_share" in row]
            callback = f" (callback {100 * sum(shares) / len(shares):.0f} %)" if shares else ""
            cells.append(at_target(rows) + callback)
        print(f"| {label} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: [part.strip() for part in text.split(",")]
    parser.add_argument("--data", required=True, help="a folder written by `shortlist synth`")
    parser.add_argument("--json", help="write the figures here, for bench --against")
    parser.add_argument("--engines", type=listed, default=list(ENGINES), help=",".join(ENGINES))
    # The label "10,000 excluded" contains a comma.
    parser.add_argument("--labels", type=lambda text: re.split(r",(?!\d{3} )", text), help="only these")
    parser.add_argument("--limit", type=int, default=100, help="requests per label")
    parser.add_argument("--seconds", type=float, default=20, help="per point")
    arguments = parser.parse_args()
    if unknown := set(arguments.engines) - set(ENGINES):
        sys.exit(f"unknown engines {sorted(unknown)}: expected {', '.join(ENGINES)}")
    catalog = Catalog(arguments.data)
    questions = read_questions(catalog, arguments.labels, arguments.limit)
    reports = []
    for name in arguments.engines:
        build_s, engine = timed(lambda: ENGINES[name](catalog.videos, os.cpu_count()))
        print(f"{name}: built in {build_s:.1f} s", file=sys.stderr)
        engine.measure_callback(catalog.users[:50])
        rows = []
        for label, asked in questions.items():
            found = sweep(engine, label, asked, arguments.seconds)
            rows += found
            points = ", ".join(f"{row['param']}: {row['recall']:.3f} {row['qps']:,.0f}/s" for row in found)
            print(f"{name}: {label}: {points}", file=sys.stderr)
        reports.append({"engine": name, "build_s": build_s, "bytes": engine.bytes(), "rows": rows})
        del engine
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump(reports, file, indent=1)
    print_table(reports, questions)


if __name__ == "__main__":
    main()
