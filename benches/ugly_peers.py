#!/usr/bin/env python3
"""Recall on data that is not clean, next to hnswlib and FAISS HNSW on the same rows and queries.

    python3 -m venv .peers && .peers/bin/pip install 'numpy>=2' hnswlib faiss-cpu
    cargo build --release
    .peers/bin/python benches/ugly_peers.py [--rows 100000] [--shapes copies,offset] [--metrics ip,l2]
        [--modes plain,taught] [--without-peers] [--json FILE]

Every shape is made from the same mixture of 200 clusters, 64 dimensions, with users that are distributed unlike videos. One
row of output per shape, metric and mode: recall@10 at ef_search 128 and recall@100 at 200, which are the default efforts of
the engine at 100,000 rows. hnswlib and FAISS are built with M 16 and efConstruction 200, and searched at the same efforts.

Exact answers are computed in float64, under l2 relative to the median of the rows, so that none of the engines defines
what is right. Recall is by score: a row that scores as well as an exact one is a hit.
"""
import argparse, json, shutil, subprocess, tempfile

import numpy as np

DIM = 64
CLUSTERS = np.random.default_rng(1).normal(size=(200, DIM))
USERS_ARE_ELSEWHERE = 0.2 * np.random.default_rng(2).normal(size=DIM)
EFFORTS = {10: 128, 100: 200}
# Scores of one row in float32 and float64 differ by about this share.
TOLERANCE = 2e-6


def mixture(random, rows, scale=1.0):
    return scale * CLUSTERS[random.integers(len(CLUSTERS), size=rows)] + 0.5 * random.normal(size=(rows, DIM))


def interests(random, rows):
    """Users: each the mean of three videos, with noise."""
    of_three = mixture(random, 3 * rows).reshape(rows, 3, DIM).mean(1)
    return of_three + 0.3 * random.normal(size=(rows, DIM)) + USERS_ARE_ELSEWHERE


class Data:
    """`x` [rows, DIM] are the videos, `queries` the users that ask, `training` those that teach."""

    def __init__(self, rows, queries):
        self.random = np.random.default_rng(7)
        self.x = mixture(self.random, rows)
        self.queries = interests(np.random.default_rng(8), queries)
        self.training = interests(np.random.default_rng(9), max(2_000, rows // 10))

    def some(self, count):
        """`count` rows without repetition."""
        return self.random.choice(len(self.x), count, replace=False)

    def users(self):
        return self.queries, self.training


def one_row(data):
    data.x[len(data.x) // 3] *= 1e4


def one_percent(data):
    data.x[data.some(len(data.x) // 100)] *= 100


def heavy_tail(data):
    data.x *= np.exp(1.5 * data.random.normal(size=(len(data.x), 1)))


def many_orders(data):
    data.x *= 10 ** data.random.uniform(-6, 6, size=(len(data.x), 1))


def two_norms(data):
    data.x[data.random.random(len(data.x)) < 0.5] *= 30


def spikes(data):
    rows = data.some(len(data.x) // 200)
    data.x[rows, data.random.integers(DIM, size=len(rows))] *= 300


def pinned(data):
    """Twenty videos that one dimension boosts, for everybody."""
    data.x[:, 5] = 0
    data.x[data.some(20), 5] = 500
    for users in data.users():
        users[:, 5] = 1


def placeholder(data):
    """Two fifths of the videos have one embedding."""
    data.x[data.some(2 * len(data.x) // 5)] = data.x.mean(0)


def uploads(data):
    """Fifty popular videos, each uploaded forty times."""
    videos = min(50, len(data.x) // 400)
    rows = data.some(40 * videos).reshape(40, videos)
    data.x[rows] = 1.5 * data.x[rows[0]]


def offset(data):
    far = 1e4 * np.random.default_rng(3).normal(size=DIM)
    data.x += far
    for users in data.users():
        users += far


def sparse(data):
    mask = data.random.random(data.x.shape) < 0.05
    data.x[:] = np.abs(data.x) * mask
    data.x[~mask.any(1), 0] = 1
    for users in data.users():
        np.abs(users, out=users)


def tight_clusters(data):
    """Clusters a thousand times as far from each other as they are wide; users are inside."""
    for values, seed in ((data.x, 7), (data.queries, 8), (data.training, 9)):
        values[:] = mixture(np.random.default_rng(seed), len(values), scale=1000)


def constants(data):
    data.x[:, 10:20] = 3
    data.x[:, 30] *= 1e-30
    data.queries[:, 10:20] += 2


SHAPES = [one_row, one_percent, heavy_tail, many_orders, two_norms, spikes, pinned, placeholder, uploads, offset, sparse,
          tight_clusters, constants]


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


class Truth:
    """Exact scores [queries, rows] in float64, and the score of the k-th best."""

    def __init__(self, x, queries, metric):
        x, queries = x.astype("f8"), queries.astype("f8")
        if metric == "cosine":
            x, queries = unit(x), unit(queries)
        if metric == "l2":
            middle = np.median(x[::16], axis=0)
            x, queries = x - middle, queries - middle
        self.scores = queries @ x.T
        if metric == "l2":
            self.scores = 2 * self.scores - (x * x).sum(1) - (queries * queries).sum(1)[:, None]
        self.best = np.argpartition(-self.scores, max(EFFORTS) - 1, axis=1)[:, :max(EFFORTS)]
        of_best = np.take_along_axis(self.scores, self.best, axis=1)
        order = np.argsort(-of_best, axis=1, kind="stable")
        self.best = np.take_along_axis(self.best, order, axis=1)
        self.of_best = np.take_along_axis(of_best, order, axis=1)

    def recall(self, answers, k):
        """answers: [queries, k] rows; -1 for none."""
        hits = 0
        for scores, worst, answer in zip(self.scores, self.of_best[:, k - 1], answers):
            found = np.unique(answer[answer >= 0])
            hits += min(k, int((scores[found] >= worst - TOLERANCE * abs(worst)).sum()))
        return hits / (len(answers) * k)


def peers(x, queries, metric, truth):
    """{engine: (recall@10, recall@100)}"""
    import faiss, hnswlib
    if metric == "cosine":
        x, queries = unit(x).astype("f4"), unit(queries).astype("f4")
    graph = hnswlib.Index("l2" if metric == "l2" else "ip", DIM)
    graph.init_index(len(x), M=16, ef_construction=200, random_seed=1)
    graph.add_items(x)
    flat = faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)
    flat.hnsw.efConstruction = 200
    flat.add(x)

    def hnswlib_answer(query, k):
        try:
            return graph.knn_query(query[None], k)[0][0].astype("i8")
        except RuntimeError:  # fewer than k were found
            return np.full(k, -1)

    recalls = {"hnswlib": [], "faiss": []}
    for k, effort in EFFORTS.items():
        graph.set_ef(effort)
        flat.hnsw.efSearch = effort
        recalls["hnswlib"].append(truth.recall(np.array([hnswlib_answer(query, k) for query in queries]), k))
        recalls["faiss"].append(truth.recall(flat.search(queries, k)[1], k))
    return recalls


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def ours(binary, folder, metric, mode, codes):
    """Recall of an index, which codes it has, and distances per query."""
    index = f"{folder}/{metric}-{mode}-{codes}"
    taught = ["--training-queries", f"{folder}/training.npy"] if mode == "taught" else []
    run([binary, "build", "--embeddings", f"{folder}/x.npy", "--metric", metric, "--codes", codes, "--out", index, *taught])
    facts = run([binary, "inspect", index]).splitlines()
    has_codes = next(line for line in facts if line.startswith("codes ")).split()[1].startswith("sq8")
    recalls, distances = [], []
    for k, effort in EFFORTS.items():
        out = f"{folder}/bench.json"
        # The graph is compared, also where a scan of the codes would be chosen.
        run([binary, "bench", "--index", index, "--queries", f"{folder}/queries.npy", "--ground-truth",
             f"{folder}/{metric}.npy", "-k", str(k), "--ef-search", str(effort), "--plan", "graph", "--json", out])
        with open(out) as file:
            row = json.load(file)["rows"][0]
        recalls.append(round(row["recall"], 4))
        distances.append(round(row["distances"]))
    shutil.rmtree(index)
    return {"recall": recalls, "distances": distances, "has_codes": has_codes}


def rows_of(args, shape, folder):
    """The rows of the table for one shape."""
    data = Data(args.rows, args.queries)
    shape(data)
    x, queries, training = (values.astype("f4") for values in (data.x, data.queries, data.training))
    for name, values in (("x", x), ("queries", queries), ("training", training)):
        np.save(f"{folder}/{name}.npy", values)
    for metric in args.metrics:
        truth = Truth(x, queries, metric)
        np.save(f"{folder}/{metric}.npy", truth.best.astype("i4"))
        others = {} if args.without_peers else peers(x, queries, metric, truth)
        for mode in args.modes:
            codes, none = (ours(args.binary, folder, metric, mode, codes) for codes in ("sq8", "none"))
            yield {"shape": shape.__name__, "metric": metric, "mode": mode, "ours": codes, "without_codes": none, **others}


def cell(recalls):
    return " / ".join(f"{recall:.3f}" for recall in recalls)


def remarks(row):
    """What the engine promises, where it does not hold."""
    ours, none = row["ours"]["recall"], row["without_codes"]["recall"]
    better = [max(pair) for pair in zip(row.get("hnswlib", [0, 0]), row.get("faiss", [0, 0]))]
    found = []
    if any(a < b - 0.02 for a, b in zip(ours, better)):
        found.append("BEHIND")
    if row["ours"]["has_codes"] and any(a < b - 0.01 for a, b in zip(ours, none)):
        found.append("CODES COST")
    return ", ".join(found)


def main():
    names = [shape.__name__ for shape in SHAPES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: text.split(",")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--shapes", type=words, default=names, help=",".join(names))
    parser.add_argument("--metrics", type=words, default=["ip", "cosine", "l2"])
    parser.add_argument("--modes", type=words, default=["plain", "taught"])
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--binary", default="target/release/shortlist")
    parser.add_argument("--json", help="write the rows to this file, too")
    args = parser.parse_args()
    if unknown := set(args.shapes) - set(names):
        parser.error(f"unknown shapes: {', '.join(sorted(unknown))}")
    print("recall@10 / recall@100; a dash: the build left the codes out\n")
    print("| shape | metric | mode | ours | without codes | distances | hnswlib | faiss | |")
    print("|---|---|---|---|---|---|---|---|---|")
    table = []
    for shape in SHAPES:
        if shape.__name__ not in args.shapes:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in rows_of(args, shape, folder):
                table.append(row)
                ours, others = row["ours"], [cell(row[name]) if name in row else "" for name in ("hnswlib", "faiss")]
                without = cell(row["without_codes"]["recall"]) if ours["has_codes"] else "-"
                print("|", " | ".join([row["shape"], row["metric"], row["mode"], cell(ours["recall"]), without,
                                       " / ".join(map(str, ours["distances"])), *others, remarks(row)]), "|", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
