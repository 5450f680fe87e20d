"""The search of rates on every run that was trained for it."""

import statistics

from benchmarks.study.rates_offline import told  # type: ignore[import-not-found]


def test_the_rate_costs_little_against_the_best_whole_run():
    """At most 1 % of NLL in the median and 3 % at worst, for at most 0.7 of a whole run's samples."""
    costs = []
    for case, curve, whole, missing in told():
        assert not missing, case
        assert curve.share <= 0.7, case
        costs.append(whole[curve.rate] / min(whole.values()) - 1)
    assert len(costs) == 30
    assert statistics.median(costs) <= 0.01
    assert max(costs) <= 0.03
