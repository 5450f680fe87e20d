"""Which jobs share a run."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.comparison.jobs.runner import blocks, distinct, stackable
from scripts.comparing import arm, some_jobs

JOBS = st.lists(st.sampled_from(some_jobs(14)), max_size=20)


@given(JOBS, st.integers(1, 5))
def test_blocks_hold_every_job_once_and_only_stackable_ones(jobs, size):
    found = blocks(jobs, size)
    assert sorted(job.id for block in found for job in block) == sorted({job.id for job in jobs})
    assert all(len(block) <= size and all(stackable(block[0], job) for job in block) for block in found)
    # No two of one kind could have been one.
    kinds = [(block[0].seed, len(block)) for block in found if len(block) < size]
    assert len({seed for seed, _ in kinds}) == len(kinds)


@given(JOBS)
def test_distinct_jobs_are_the_first_of_their_kind(jobs):
    expected = []
    for job in jobs:
        if job.id not in [each.id for each in expected]:
            expected.append(job)
    assert list(distinct(jobs).values()) == expected
    assert all(digest == job.id for digest, job in distinct(jobs).items())


def test_of_two_names_of_one_job_the_first_stays():
    job = some_jobs(1)[0]
    renamed = attrs.evolve(job, arm=arm(1, "plan"))
    assert renamed.id == job.id
    assert [each.arm.name for each in distinct([renamed, job]).values()] == ["plan"]
