"""A bucket lets its rate and its burst through, and says how long to wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.http.ratelimit import TokenBucket


@given(
    st.floats(0.01, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=100),
)
def test_no_more_than_the_burst_and_what_flowed_in(rate: float, burst: int, pauses: list[float]) -> None:
    bucket = TokenBucket(rate, burst, now=100.0)
    now, passed = 100.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now) == 0
        assert passed <= burst + (now - 100.0) * rate + 1e-6


@given(st.floats(0.01, 1000), st.integers(1, 50))
def test_who_waits_as_long_as_it_says_passes(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    assert [bucket.take(0.0) for _ in range(burst)] == [0] * burst
    wait = bucket.take(0.0)
    assert 0 < wait <= 1 / rate
    assert bucket.take(0.9 * wait) > 0
    assert bucket.take(1.001 * wait) == 0
    assert bucket.take(1.001 * wait) > 0


def test_a_quiet_time_fills_it_no_further_than_its_burst() -> None:
    bucket = TokenBucket(10, 3, now=0.0)
    assert [bucket.take(1e6) == 0 for _ in range(5)] == [True, True, True, False, False]
