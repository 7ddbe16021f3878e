"""Billing periods."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta, timezone


def later(start: int, interval: str, count: int) -> int:
    """The end of a billing period; months keep the day where the month has it."""
    moment = datetime.fromtimestamp(start, timezone.utc)
    if interval in ('day', 'week'):
        return int((moment + timedelta(days=count * (7 if interval == 'week' else 1))).timestamp())
    months = moment.month - 1 + count * (12 if interval == 'year' else 1)
    year, month = moment.year + months // 12, months % 12 + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return int(moment.replace(year=year, month=month, day=day).timestamp())
