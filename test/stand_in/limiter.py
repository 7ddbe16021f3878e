"""A rate limit that is enforced and counted, so that a test can see whether a client keeps it."""

from __future__ import annotations

import time
from collections import deque


class RateLimiter:
    """At most so many requests in any second of real time; more are refused and counted."""

    def __init__(self, per_second: int | None = None, retry_after: int | None = None):
        self.per_second = per_second
        self.retry_after = retry_after
        self.requests = 0
        self.refused = 0
        # The most that came within one second, refused ones included.
        self.peak = 0
        self.recent: deque[tuple[float, bool]] = deque()

    def refuses(self) -> bool:
        """Count a request; is it one too many?"""
        now = time.monotonic()
        while self.recent and self.recent[0][0] <= now - 1:
            self.recent.popleft()
        self.requests += 1
        refused = self.per_second is not None and sum(good for _, good in self.recent) >= self.per_second
        self.refused += refused
        self.recent.append((now, not refused))
        self.peak = max(self.peak, len(self.recent))
        return refused

    def report(self) -> dict:
        return {'per_second': self.per_second, 'retry_after': self.retry_after, 'requests': self.requests,
                'refused': self.refused, 'peak': self.peak}
