"""Coupons, promotion codes, and the discounts they become."""

from __future__ import annotations

from . import parameters as P
from .documents import merge, without
from .errors import StripeError, missing
from .periods import later
from .routes import route
from .world import Account

FIVE_YEARS = 5 * 366 * 86400

COUPON = {
    'amount_off': None, 'currency': None, 'duration': 'once', 'duration_in_months': None,
    'max_redemptions': None, 'metadata': {}, 'name': None, 'percent_off': None, 'redeem_by': None,
    'times_redeemed': 0, 'valid': True,
}


# What a coupon shows only when it is expanded, and no event has.
EXPANDED = ('applies_to', 'currency_options')


def hide(coupon: dict, params: dict) -> None:
    """Keep what is given of the properties that are only shown when they are expanded."""
    for name in EXPANDED:
        if name in params:
            coupon['+' + name] = {**coupon.get('+' + name, {}), **params[name]}


def refresh(account: Account) -> None:
    """Bring `valid` and `active` up to the clock and to what was redeemed."""
    now = account.world.now()
    for coupon in account.objects['coupon'].values():
        coupon['valid'] = is_open(coupon, coupon['redeem_by'], now)
    for code in account.objects['promotion_code'].values():
        coupon = account.objects['coupon'].get(code['promotion']['coupon'])
        code['active'] = bool(code['.wanted'] and coupon and coupon['valid']
                              and is_open(code, code['expires_at'], now))


def is_open(thing: dict, until: int | None, now: int) -> bool:
    return ((until is None or until > now)
            and (thing['max_redemptions'] is None or thing['times_redeemed'] < thing['max_redemptions']))



@route('POST', '/v1/coupons', P.COUPON_CREATE)
def create_coupon(account: Account, params: dict) -> dict:
    if ('percent_off' in params) == ('amount_off' in params):
        raise StripeError('Must provide exactly one of percent_off or amount_off.', param='percent_off',
                          code='parameter_missing')
    if 'amount_off' in params and 'currency' not in params:
        raise StripeError('You must pass currency when passing amount_off.', param='currency',
                          code='parameter_missing')
    if params.get('duration') == 'repeating' and 'duration_in_months' not in params:
        raise StripeError('You must pass duration_in_months when the duration is repeating.',
                          param='duration_in_months', code='parameter_missing')
    if 'redeem_by' in params and not account.world.now() < params['redeem_by'] <= account.world.now() + FIVE_YEARS:
        raise StripeError('redeem_by must be in the future, and within five years.', param='redeem_by')
    if 'currency_options' in params and 'amount_off' not in params:
        raise StripeError('currency_options are only for coupons with an amount_off.', param='currency_options')
    coupon = account.add('coupon', params.get('id') or account.world.new_id('coupon'), COUPON)
    merge(coupon, without(params, *EXPANDED))
    hide(coupon, params)
    account.emit('coupon.created', coupon)
    return coupon


@route('GET', '/v1/coupons', P.COUPON_LIST)
def list_coupons(account: Account, params: dict) -> dict:
    refresh(account)
    return account.page('coupon', params, '/v1/coupons')


@route('GET', '/v1/coupons/{}', P.EXPAND)
def retrieve_coupon(account: Account, params: dict, coupon_id: str) -> dict:
    refresh(account)
    return account.get('coupon', coupon_id)


@route('POST', '/v1/coupons/{}', P.COUPON_UPDATE, updating=True)
def update_coupon(account: Account, params: dict, coupon_id: str) -> dict:
    with account.change(account.get('coupon', coupon_id), 'coupon.updated') as coupon:
        merge(coupon, without(params, *EXPANDED))
        hide(coupon, params)
    return coupon


@route('DELETE', '/v1/coupons/{}', {})
def delete_coupon(account: Account, params: dict, coupon_id: str) -> dict:
    coupon = account.get('coupon', coupon_id)
    stub = account.remove('coupon', coupon_id)
    account.emit('coupon.deleted', coupon)
    return stub


# Promotion codes ------------------------------------------------------------------

PROMOTION_CODE = {
    'active': True, 'code': None, 'customer': None, 'customer_account': None, 'expires_at': None,
    'max_redemptions': None, 'metadata': {}, 'promotion': {'coupon': None, 'type': 'coupon'},
    'restrictions': {'first_time_transaction': False, 'minimum_amount': None, 'minimum_amount_currency': None},
    'times_redeemed': 0,
}


@route('POST', '/v1/promotion_codes', P.PROMOTION_CODE_CREATE)
def create_promotion_code(account: Account, params: dict) -> dict:
    coupon = account.get('coupon', params['promotion']['coupon'], 'promotion[coupon]')
    refresh(account)
    if not coupon['valid']:
        raise StripeError(f"The coupon '{coupon['id']}' is not valid any more.", code='coupon_expired',
                          param='promotion[coupon]')
    if 'customer' in params:
        account.get('customer', params['customer'], 'customer')
    if params.get('expires_at', account.world.now() + 1) <= account.world.now():
        raise StripeError('expires_at must be in the future.', param='expires_at')
    promotion_id = account.world.new_id('promo')
    code = params.get('code') or f"CODE{promotion_id.removeprefix('promo_')}"
    # A code may be used again once its predecessor is inactive, or by another customer.
    for other in account.objects['promotion_code'].values():
        if other['active'] and other['code'].upper() == code.upper() and (
                None in (other['customer'], params.get('customer')) or other['customer'] == params['customer']):
            raise StripeError('An active promotion code with `code: ' + code + '` already exists.', param='code',
                              code='resource_already_exists')
    entry = account.add('promotion_code', promotion_id, {**PROMOTION_CODE, '.wanted': params.get('active', True)})
    merge(entry, {**without(params), 'code': code})
    refresh(account)
    account.emit('promotion_code.created', entry)
    return entry


@route('GET', '/v1/promotion_codes', P.PROMOTION_CODE_LIST)
def list_promotion_codes(account: Account, params: dict) -> dict:
    refresh(account)

    def match(item: dict) -> bool:
        return (all(params.get(name) in (None, item[name]) for name in ('active', 'customer'))
                and params.get('coupon') in (None, item['promotion']['coupon'])
                and params.get('code', item['code']).upper() == item['code'].upper())
    return account.page('promotion_code', params, '/v1/promotion_codes', match)


@route('GET', '/v1/promotion_codes/{}', P.EXPAND)
def retrieve_promotion_code(account: Account, params: dict, promotion_id: str) -> dict:
    refresh(account)
    return account.get('promotion_code', promotion_id)


@route('POST', '/v1/promotion_codes/{}', P.PROMOTION_CODE_UPDATE, updating=True)
def update_promotion_code(account: Account, params: dict, promotion_id: str) -> dict:
    entry = account.get('promotion_code', promotion_id)
    with account.change(entry, 'promotion_code.updated'):
        merge(entry, without(params, 'active'))
        entry['.wanted'] = params.get('active', entry['.wanted'])
        refresh(account)
    return entry


# Discounts ------------------------------------------------------------------------

def redeemable(account: Account, entry: dict, customer: str, param: str) -> tuple[dict, dict | None]:
    """The coupon, and the promotion code if one was given, that a discounts[] element wants to redeem."""
    refresh(account)
    code = None
    if 'promotion_code' in entry:
        param += '[promotion_code]'
        code = account.get('promotion_code', entry['promotion_code'], param)
        if not code['active']:
            raise StripeError(f"The promotion code `{code['id']}` is not active.", param=param)
        if code['customer'] not in (None, customer):
            raise StripeError(f"The promotion code `{code['id']}` belongs to another customer.", param=param)
        return account.get('coupon', code['promotion']['coupon'], param), code
    param += '[coupon]'
    if 'coupon' not in entry:
        raise StripeError(f'Missing required param: {param}.', code='parameter_missing', param=param)
    coupon = account.get('coupon', entry['coupon'], param)
    if not coupon['valid']:
        raise StripeError(f"The coupon '{coupon['id']}' is not valid any more.", code='coupon_expired', param=param)
    return coupon, code


def redeem(account: Account, coupon: dict, code: dict | None, holder: dict) -> dict:
    """A new discount of a subscription."""
    start = account.world.now()
    months = coupon['duration_in_months']
    discount = account.add('discount', account.world.new_id('di'), {
        'checkout_session': None, 'customer': holder['customer'], 'customer_account': None,
        'end': later(start, 'month', months) if months else None, 'invoice': None, 'invoice_item': None,
        'promotion_code': code and code['id'], 'source': {'coupon': coupon['id'], 'type': 'coupon'},
        'start': start, 'subscription': holder['id'], 'subscription_item': None,
    })
    # Discounts are the one kind of object that shows neither.
    del discount['created'], discount['livemode']
    for redeemed in filter(None, (coupon, code)):
        redeemed['times_redeemed'] += 1
    return discount


def set_discounts(account: Account, holder: dict, wanted: list[dict] | None) -> None:
    """What a discounts[] parameter asks for: the list replaces what was there."""
    plan = []
    for position, entry in enumerate(wanted or []):
        param = f'discounts[{position}]'
        if 'discount' in entry:
            if entry['discount'] not in holder['discounts']:
                raise missing('discount', entry['discount'], f'{param}[discount]')
            plan.append(entry['discount'])
        else:
            plan.append(redeemable(account, entry, holder['customer'], param))
    # From here on nothing is refused.
    for discount_id in holder['discounts']:
        if discount_id not in plan:
            drop_discount(account, discount_id)
    made = []
    for position, entry in enumerate(plan):
        if not isinstance(entry, str):
            made.append(redeem(account, *entry, holder))
            plan[position] = made[-1]['id']
    holder['discounts'] = plan
    refresh(account)
    for discount in made:
        account.emit('customer.discount.created', discount)


def drop_discount(account: Account, discount_id: str) -> None:
    discount = account.objects['discount'][discount_id]
    account.remove('discount', discount_id)
    account.emit('customer.discount.deleted', discount)


def take_off(account: Account, holder: dict, over) -> None:
    """Remove the discounts for which over(discount) is true from a subscription."""
    gone = [discount_id for discount_id in holder['discounts'] if over(account.objects['discount'][discount_id])]
    if not gone:
        return
    for discount_id in gone:
        drop_discount(account, discount_id)
    with account.change(holder, 'customer.subscription.updated'):
        holder['discounts'] = [discount_id for discount_id in holder['discounts'] if discount_id not in gone]


def end_discounts(account: Account) -> None:
    """Repeating discounts end by the clock."""
    now = account.world.now()
    ending = {discount['subscription'] for discount in account.objects['discount'].values()
              if discount['end'] is not None and discount['end'] <= now}
    for subscription in ending:
        take_off(account, account.objects['subscription'][subscription],
                 lambda discount: discount['end'] is not None and discount['end'] <= now)
