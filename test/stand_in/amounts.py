"""What a price costs for a quantity, and what discounts take off it."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal


def whole(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def amount_of(price: dict, quantity: int) -> int:
    """The price of so many, rounded once."""
    if price['tiers_mode'] == 'volume':
        tier = next(tier for tier in price['+tiers'] if tier['up_to'] is None or quantity <= tier['up_to'])
        return whole(unit(tier) * quantity + flat(tier))
    if price['tiers_mode'] == 'graduated':
        total, below = Decimal(0), 0
        for tier in price['+tiers']:
            inside = quantity - below if tier['up_to'] is None else min(quantity, tier['up_to']) - below
            if inside > 0:
                total += unit(tier) * inside + flat(tier)
            below = tier['up_to']
        return whole(total)
    transform = price['transform_quantity']
    if transform:
        packages, rest = divmod(quantity, transform['divide_by'])
        quantity = packages + (rest > 0 and transform['round'] == 'up')
    return whole(unit(price) * quantity)


def unit(tier: dict) -> Decimal:
    return Decimal(tier['unit_amount_decimal'] or 0)


def flat(tier: dict) -> Decimal:
    return Decimal(tier['flat_amount_decimal'] or 0)


def discount_amounts(lines: list[dict], discounts: list[tuple[str, dict]], currency: str) -> list[dict]:
    """What each discount takes off an invoice, one after the other; discounts are (id, coupon)."""
    rest = [line['amount'] for line in lines]
    result = []
    for discount_id, coupon in discounts:
        products = coupon.get('+applies_to', {}).get('products')
        meant = [index for index, line in enumerate(lines)
                 if products is None or line['pricing']['price_details']['product'] in products]
        before = sum(rest)
        if coupon['percent_off'] is not None:
            for index in meant:
                rest[index] -= whole(rest[index] * Decimal(str(coupon['percent_off'])) / 100)
        elif coupon['currency'] == currency:
            left = coupon['amount_off']
            for index in meant:
                taken = min(left, rest[index])
                rest[index] -= taken
                left -= taken
        result.append({'amount': before - sum(rest), 'discount': discount_id})
    return result
