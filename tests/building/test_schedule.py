"""Memory decides how many units run at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.building.costs import Cost
from provisioner.building.graph import Unit, units_of
from provisioner.building.releases import find_release
from provisioner.building.schedule import Jobs, choose_jobs, forecast, peak_mib, wall_seconds
from provisioner.building.selection import preset, select

NEWEST = find_release("2.8.3.post2")
FULL = units_of(NEWEST, select(NEWEST, preset("full", NEWEST)), ["sm_90"])

costs = st.builds(Cost, st.floats(0.5, 300), st.integers(100, 8000))
units = st.lists(st.builds(Unit, st.just("unit"), st.just("x.cu"), st.just(True), costs, st.booleans()), min_size=1, max_size=20)


@given(units, st.integers(0, 60_000), st.integers(1, 32))
def test_the_peaks_that_can_meet_never_exceed_the_budget(units: list[Unit], budget: int, cpus: int) -> None:
    jobs = choose_jobs(units, budget_mib=budget, cpus=cpus)
    assert peak_mib(units, jobs) <= budget or jobs == Jobs(1, 1)
    assert 1 <= jobs.heavy <= jobs.total <= cpus


@given(units, st.integers(1, 8), st.integers(1, 8))
def test_the_forecast_lies_between_the_longest_unit_and_all_in_a_row(units: list[Unit], total: int, heavy: int) -> None:
    seconds = wall_seconds(units, Jobs(total, min(heavy, total)))
    everything = sum(unit.cost.seconds for unit in units)
    assert max(unit.cost.seconds for unit in units) - 1e-6 <= seconds <= everything + 1e-6
    assert seconds >= everything / total - 1e-6


@given(units, st.integers(0, 40_000), st.integers(0, 40_000))
def test_more_memory_never_means_a_slower_build(units: list[Unit], one: int, other: int) -> None:
    less, more = sorted((one, other))
    slow = wall_seconds(units, choose_jobs(units, budget_mib=less, cpus=8))
    fast = wall_seconds(units, choose_jobs(units, budget_mib=more, cpus=8))
    assert fast <= slow * (4 / 3) + 1e-3  # list scheduling is within 4/3 of the best; an order of units can be unlucky


def test_eight_gigabytes_compile_one_unit_at_a_time() -> None:
    assert choose_jobs(FULL, budget_mib=7300, cpus=16) == Jobs(1, 1)


def test_a_large_machine_is_filled_to_its_cpus() -> None:
    assert choose_jobs(FULL, budget_mib=400_000, cpus=16).total == 16


def test_between_them_the_heavy_units_are_held_back_so_that_more_run_in_all() -> None:
    jobs = choose_jobs(FULL, budget_mib=44_000, cpus=16)
    assert jobs.heavy < jobs.total
    assert 38_000 < peak_mib(FULL, jobs) <= 44_000


def test_the_users_limit_is_an_upper_bound_only() -> None:
    assert choose_jobs(FULL, budget_mib=400_000, cpus=16, limit=3).total == 3
    assert choose_jobs(FULL, budget_mib=7300, cpus=16, limit=12) == Jobs(1, 1)


def test_the_longest_units_come_first() -> None:
    seconds = [unit.cost.seconds for unit in FULL]
    assert seconds == sorted(seconds, reverse=True)


def test_the_forecast_of_one_job_is_the_cpu_time() -> None:
    expected = forecast(FULL, Jobs(1, 1))
    assert expected.wall_seconds == expected.cpu_seconds
    assert 7_000 < expected.cpu_seconds < 15_000  # 24 units each of about 100, 130 and 170 s


def test_fewer_ends_at_one() -> None:
    assert Jobs(5, 3).fewer() == Jobs(2, 1)
    assert Jobs(1, 1).fewer() == Jobs(1, 1)
