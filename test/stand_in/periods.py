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


def following(anchor: int, end: int, interval: str, count: int) -> int:
    """The end of the period that begins at `end`, on the anchor's day of the month where the month has it."""
    if interval in ('day', 'week'):
        return later(end, interval, count)
    first, last = (datetime.fromtimestamp(moment, timezone.utc) for moment in (anchor, end))
    months = (last.year - first.year) * 12 + last.month - first.month
    return later(anchor, 'month', months + count * (12 if interval == 'year' else 1))
