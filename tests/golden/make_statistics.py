# SPDX-License-Identifier: Apache-2.0
"""Writes statistics.json: what scipy, statsmodels and brute force make of random and degenerate outcomes.

    pip install numpy scipy statsmodels
    python tests/golden/make_statistics.py

Every case holds its input and the figures that orchestrator/experiment/stats must give to 1e-9 (statistics_test). Nothing here
follows the code under test: intervals of clustered rates come from solving the score equation, votes and sign flips from
enumeration, areas from a Mann-Whitney count over all pairs. Written with scipy 1.17 and statsmodels 0.15.
"""
import itertools
import json
import math
import os
import warnings

import numpy as np
import statsmodels.api as sm
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

RNG = np.random.default_rng(20260101)
warnings.simplefilter("ignore")


def clean(value):
    if isinstance(value, (list, tuple, np.ndarray)):
        return [clean(v) for v in value]
    if isinstance(value, dict):
        return {k: clean(v) for k, v in value.items()}
    if isinstance(value, (np.integer, int)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, (np.floating, float)):
        return float(value) if math.isfinite(value) else None
    return value


def score_interval(p, trials, q):
    """Both roots of (p - x)^2 = q^2 x (1 - x) / trials, by bisection."""
    f = lambda x: (p - x) ** 2 - q * q * x * (1 - x) / trials
    tiny = 1e-9  # at p = 0 and p = 1 one root is p itself
    lo = 0.0 if p <= 0 else optimize.brentq(f, 0.0, min(p, 1 - tiny), xtol=1e-15)
    hi = 1.0 if p >= 1 else optimize.brentq(f, max(p, tiny), 1.0, xtol=1e-15)
    return [lo, hi]


def means():
    out = []
    for n, groups, grid in [(2, 2, 2), (7, 3, 5), (40, 12, 2), (60, 60, 9), (59, 8, 4), (5, 1, 2), (6, 3, 1), (1, 1, 2), (30, 6, 2)]:
        x = RNG.integers(0, grid, n) / max(1, grid - 1) if grid > 1 else np.ones(n)
        clusters = np.arange(n) if groups == n else RNG.integers(0, groups, n)
        if len(out) == 8:  # a cluster's questions are all alike
            x = (clusters % 2).astype(float)
        g = len(set(clusters.tolist()))
        case = {"x": x, "clusters": clusters, "mean": x.mean(), "se": None, "ci": None, "clustered_se": None, "clustered_ci": None,
                "rate": None, "icc": None}
        if n > 1:
            case["se"] = stats.sem(x)
            if case["se"] > 0:
                case["ci"] = stats.t.interval(0.95, n - 1, x.mean(), case["se"])
        if g > 1:
            fit = sm.OLS(x, np.ones(n)).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True})
            case["clustered_se"] = se = fit.bse[0]
            if se > 1e-12:
                case["clustered_ci"] = stats.t.interval(0.95, g - 1, x.mean(), se)
            else:
                case["clustered_se"] = se = 0.0
            p = x.mean()
            spread = se > 0 and 0 < p < 1
            case["rate"] = score_interval(p, p * (1 - p) / se**2 if spread else g,
                                          stats.t.ppf(0.975, g - 1) if spread else stats.norm.ppf(0.975))
            if g < n:
                groups_of = [x[clusters == c] for c in sorted(set(clusters.tolist()))]
                msb = sum(len(v) * (v.mean() - p) ** 2 for v in groups_of) / (g - 1)
                msw = sum(((v - v.mean()) ** 2).sum() for v in groups_of) / (n - g)
                m0 = (n - sum(len(v) ** 2 for v in groups_of) / n) / (g - 1)
                if msb + (m0 - 1) * msw > 0:
                    case["icc"] = (msb - msw) / (msb + (m0 - 1) * msw)
        out.append(case)
    return out


def rates():
    out = []
    for x, n in [(0, 1), (1, 1), (0, 40), (40, 40), (1, 2), (17, 53), (999, 1000), (5000, 14042)]:
        out.append({"x": x, "n": n, "wilson": proportion_confint(x, n, method="wilson"),
                    "exact": proportion_confint(x, n, method="beta")})
    return out


def strata():
    out = []
    for sizes in [(4, 9, 20), (2, 2), (30,)]:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        x = RNG.integers(0, 2, len(labels)).astype(float)
        parts = [x[labels == h] for h in range(len(sizes))]
        micro = math.sqrt(sum((len(v) / len(x)) ** 2 * stats.sem(v) ** 2 for v in parts))
        macro = math.sqrt(sum(stats.sem(v) ** 2 for v in parts)) / len(parts)
        out.append({"x": x, "strata": labels, "micro": [x.mean(), micro], "macro": [np.mean([v.mean() for v in parts]), macro]})
    return out


def pairs():
    out = []
    for n, q in [(1, 1), (12, 0.5), (25, 0.2), (60, 0.3), (40, 0.0), (200, 0.1), (18, 1.0), (500, 0.4)]:
        a = RNG.integers(0, 2, n)
        b = np.where(RNG.random(n) < q, 1 - a, a)
        both, a_only = int((a & b).sum()), int((a & (1 - b)).sum())
        b_only, neither = int(((1 - a) & b).sum()), int(((1 - a) & (1 - b)).sum())
        big = a_only + b_only
        exact = mcnemar([[both, a_only], [b_only, neither]], exact=True).pvalue if big else 1.0
        mid = 1.0
        if big:  # the definition: P(more extreme) + half of P(as extreme), both tails
            m = min(a_only, b_only)
            pmf = stats.binom.pmf(np.arange(big + 1), big, 0.5)
            mid = min(1.0, 2 * (pmf[:m].sum() + pmf[m] / 2))
        d = a - b
        case = {"a": a, "b": b, "a_only": a_only, "b_only": b_only, "exact": min(1.0, exact), "mid": mid, "se": None, "tost": None,
                "correlation": None}
        if n > 1:
            case["se"] = stats.sem(d)
            if a.std() > 0 and b.std() > 0:
                case["correlation"] = np.corrcoef(a, b)[0, 1]
            if case["se"] > 0:
                _, low, high = ttost_paired(a.astype(float), b.astype(float), -0.1, 0.1)
                case["tost"] = [low[1], high[1]]
        out.append(case)
    return out


def sign_flips():
    out = []
    for n, groups, grid in [(1, 1, 3), (9, 9, 3), (14, 14, 9), (24, 7, 5), (10, 10, 1), (40, 10, 3)]:
        d = (RNG.integers(0, grid, n) - (grid - 1) / 2) / max(1, (grid - 1) / 2)
        clusters = np.arange(n) if groups == n else RNG.integers(0, groups, n)
        sums = np.array([d[clusters == c].sum() for c in sorted(set(clusters.tolist()))])
        observed = abs(sums.sum())
        totals = np.array([abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=len(sums))])
        equal = np.abs(totals - observed) < 1e-12
        out.append({"d": d, "clusters": clusters, "p": np.mean((totals > observed) | equal),
                    "mid": np.mean((totals > observed) & ~equal) + equal.mean() / 2 if sums.any() else 1.0})
    return out


def corrections():
    out = []
    for n in (1, 2, 7, 20):
        p = np.round(RNG.random(n) ** 2, 4)
        if n == 7:
            p[3] = p[4] = p[0]
        out.append({"p": p, "holm": multipletests(p, method="holm")[1], "bh": multipletests(p, method="fdr_bh")[1]})
    return out


def power():
    out = []
    for variance, n, alpha, beta in [(0.1, 1319, 0.05, 0.8), (0.5, 30, 0.01, 0.9), (0.02, 14042, 0.05, 0.95)]:
        z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(beta)
        mde = z * math.sqrt(variance / n)
        se = math.sqrt(variance / n)
        c = stats.norm.ppf(1 - alpha / 2)
        at = [stats.norm.sf(c - d / se) + stats.norm.cdf(-c - d / se) for d in (0.0, 0.01, 0.05)]
        out.append({"variance": variance, "n": n, "alpha": alpha, "power": beta, "mde": mde, "power_at": at})
    return out


def plurality(tally, right):
    most = max(tally.values(), default=0)
    if most == 0 or tally.get(right, 0) != most:
        return 0.0
    return 1.0 / sum(1 for v in tally.values() if v == most)


def votes():
    out = []
    for _ in range(25):
        ballots = [int(v) for v in RNG.integers(-1, 4, RNG.integers(1, 10))]  # -1: no answer, 0: right
        counts = [ballots.count(v) for v in range(4)]
        n = len(ballots)
        maj, passes, passes_all = [], [], []
        for k in range(1, n + 1):
            m, one, every, total = 0.0, 0, 0, 0
            for subset in itertools.combinations(ballots, k):
                tally = {}
                for v in subset:
                    if v >= 0:
                        tally[v] = tally.get(v, 0) + 1
                m += plurality(tally, 0)
                one += any(v == 0 for v in subset)
                every += all(v == 0 for v in subset)
                total += 1
            maj.append(m / total), passes.append(one / total), passes_all.append(every / total)
        out.append({"right": counts[0], "wrong": counts[1:], "none": ballots.count(-1), "maj": maj, "pass": passes, "pass_all": passes_all})
    return out


def groups():
    out = []
    for n, members, kind in [(30, 4, "random"), (12, 3, "all right"), (1, 2, "random"), (25, 5, "alike"), (8, 1, "random")]:
        answers = RNG.integers(-1, 3, (n, members))
        if kind == "all right":
            answers[:] = 0
        if kind == "alike":
            answers[:, 1:] = np.where(RNG.random((n, members - 1)) < 0.7, answers[:, :1], answers[:, 1:])
        right = (answers == 0).astype(int)
        pairs_out = []
        for a, b in itertools.combinations(range(members), 2):
            x, y = right[:, a], right[:, b]
            n11, n10, n01, n00 = (x & y).sum(), (x & (1 - y)).sum(), ((1 - x) & y).sum(), ((1 - x) & (1 - y)).sum()
            same = ((answers[:, a] == answers[:, b]) & (answers[:, a] > 0)).sum()
            q = n11 * n00 + n01 * n10
            pairs_out.append({"phi": np.corrcoef(x, y)[0, 1] if x.std() > 0 and y.std() > 0 else None,
                              "q": (n11 * n00 - n01 * n10) / q if q else None, "double_fault": n00 / n,
                              "same_wrong": same / n00 if n00 else None})

        def vote(use):
            scores = []
            for row in answers:
                tally = {}
                for m in use:
                    if row[m] >= 0:
                        tally[int(row[m])] = tally.get(int(row[m]), 0) + 1
                scores.append(plurality(tally, 0))
            return np.array(scores)

        everybody = vote(range(members))
        values = []
        for m in range(members):
            d = everybody - vote([k for k in range(members) if k != m])
            values.append([d.mean(), stats.sem(d) if n > 1 else None])
        accuracies = right.mean(axis=0)
        majority = 0.0
        for pattern in itertools.product((0, 1), repeat=members):
            chance = np.prod([p if bit else 1 - p for p, bit in zip(accuracies, pattern)])
            majority += chance * (1 if 2 * sum(pattern) > members else 0.5 if 2 * sum(pattern) == members else 0)
        phis = [p["phi"] for p in pairs_out if p["phi"] is not None]
        rho = np.mean(phis) if phis else None
        out.append({"members": members, "answers": answers.flatten(), "pairs": pairs_out, "vote": everybody, "values": values,
                    "independent": majority, "oracle": (right.max(axis=1)).mean(), "mean_phi": rho,
                    "effective": members / (1 + (members - 1) * rho) if rho is not None else None})
    return out


def verifiers():
    out = []
    for n, grid in [(40, 200), (30, 4), (5, 1), (2, 9), (6, 3)]:
        score = RNG.integers(0, grid, n) / grid
        right = RNG.integers(0, 2, n)
        if n == 6:
            right[:] = 1
        x, y = score[right == 1], score[right == 0]
        case = {"score": score, "right": right, "auc": None, "se": None, "tpr": None, "fpr": None}
        if len(x):
            case["tpr"] = (x >= 0.5).mean()
        if len(y):
            case["fpr"] = (y >= 0.5).mean()
        if len(x) and len(y):
            wins = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
            case["auc"] = stats.mannwhitneyu(x, y).statistic / (len(x) * len(y))
            assert abs(case["auc"] - wins.mean()) < 1e-12
            if len(x) > 1 and len(y) > 1:
                case["se"] = math.sqrt(wins.mean(axis=1).var(ddof=1) / len(x) + wins.mean(axis=0).var(ddof=1) / len(y))
        out.append(case)
    return out


def curves():
    out = []
    for n in (1, 2, 5, 9):
        cost = np.sort(RNG.random(n) * 100 + 1)
        accuracy = RNG.random(n)
        at = [cost[0], cost[-1], *(RNG.random(4) * (cost[-1] - cost[0]) + cost[0]), cost[0] / 2, cost[-1] * 2]
        read = [float(np.interp(math.log(c), np.log(cost), accuracy)) if cost[0] <= c <= cost[-1] else None for c in at]
        lo, hi = sorted(at[2:4])
        area = None
        if n > 1:
            inside = [c for c in cost if lo < c < hi]
            grid = np.log([lo, *inside, hi])
            area = np.trapezoid(np.interp(grid, np.log(cost), accuracy), grid) / (grid[-1] - grid[0])
        points = [[RNG.integers(1, 6), RNG.integers(0, 6) / 5] for _ in range(8)]
        frontier = [not any(c2 <= c and a2 >= a and (c2, a2) != (c, a) for c2, a2 in points) for c, a in points]
        out.append({"cost": cost, "accuracy": accuracy, "at": at, "read": read, "range": [lo, hi], "area": area, "points": points,
                    "frontier": frontier})
    return out


def largest():
    out = []
    for n in (1, 3, 8):
        x = RNG.integers(0, 5, n) + RNG.random(n).round(2)
        out.append({"x": x, "means": [np.mean([max(s) for s in itertools.combinations(x, k)]) for k in range(1, n + 1)]})
    return out


def noise():
    out = []
    for n, ka, kb in [(30, 4, 3), (5, 2, 2), (50, 8, 2)]:
        p = RNG.random((n, 1))
        a = (RNG.random((n, ka)) < p).astype(int)
        b = (RNG.random((n, kb)) < p * 0.8).astype(int)
        sa, sb = a.var(axis=1, ddof=1).mean(), b.var(axis=1, ddof=1).mean()
        w2 = max(0.0, (a.mean(axis=1) - b.mean(axis=1)).var(ddof=1) - sa / ka - sb / kb)
        out.append({"a": a.flatten(), "ka": ka, "b": b.flatten(), "kb": kb, "n": n, "sampling": [sa, sb], "between": w2,
                    "variance": (w2 + sa / ka + sb / kb) / n})
    return out


def main():
    data = {f.__name__: f() for f in (means, rates, strata, pairs, sign_flips, corrections, power, votes, groups, verifiers, curves,
                                      largest, noise)}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "statistics.json")
    lines = [f'"{k}":[\n' + ",\n".join(json.dumps(clean(c), separators=(",", ":")) for c in v) + "\n]" for k, v in data.items()]
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
