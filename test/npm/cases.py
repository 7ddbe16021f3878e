"""The calls that requests.py makes, by the extension and by the official client.

A session is said once, as the client takes it; requests.py says it in SQL.  A
configuration is said twice: as it is declared, and as the calls of the client
that bring Stripe's object there.
"""

from __future__ import annotations

CONNECTED = 'acct_partner'
RETURN = 'https://app.example.com/account?from=portal&lang=de#top'
EXPAND = {'expand': ['features.subscription_update.products']}

# Makes what the calls are about, on the account itself and on a connected one.
PREPARE = f"""
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS stripe_portal;
DO $$
DECLARE
    on_account text;
BEGIN
    FOREACH on_account IN ARRAY ARRAY['', '{CONNECTED}'] LOOP
        PERFORM stripe_api('POST', path, params::jsonb, nullif(on_account, ''))
        FROM (VALUES
            ('/v1/products', '{{"id": "prod_1", "name": "Pro"}}'),
            ('/v1/test_helpers/stand_in/prices', '{{"id": "price_month", "product": "prod_1", "currency": "eur", "unit_amount": 2000,
                "tax_behavior": "exclusive", "recurring": {{"interval": "month"}}}}'),
            ('/v1/test_helpers/stand_in/prices', '{{"id": "price_year", "product": "prod_1", "currency": "eur", "unit_amount": 20000,
                "tax_behavior": "exclusive", "recurring": {{"interval": "year"}}}}'),
            ('/v1/coupons', '{{"id": "STAY20", "percent_off": 20, "duration": "once"}}'),
            ('/v1/billing_portal/configurations/bpc_default', '{{"default_return_url": "https://app.example.com", "features": {{"subscription_update": {{"enabled": true,
                "default_allowed_updates": ["price", "quantity"], "products": [{{"product": "prod_1", "prices": ["price_month", "price_year"]}}]}}}}}}'),
            ('/v1/test_helpers/stand_in/customers', '{{"id": "cus_1"}}'),
            ('/v1/test_helpers/stand_in/subscriptions', '{{"id": "sub_1", "customer": "cus_1", "price": "price_month"}}')
        ) AS call (path, params);
        PERFORM stripe_refresh('cus_1', on_account);
    END LOOP;
    UPDATE stripe_portal.customer SET customer_account = 'acct_customer' WHERE account = '';
END
$$;
"""


def sessions(item: str, promotion_code: str, locales: tuple) -> list[tuple[dict, str | None]]:
    """Parameters of sessions, each with the connected account to act for, or None."""
    def flow(kind: str, own: dict | None = None, **besides) -> dict:
        if kind.startswith('subscription_'):
            own = {'subscription': 'sub_1', **(own or {})}
        return {'customer': 'cus_1', 'return_url': RETURN,
                'flow_data': {'type': kind, **({kind: own} if own else {}), **besides}}

    plain = {'customer': 'cus_1', 'return_url': RETURN}
    retention = {'retention': {'type': 'coupon_offer', 'coupon_offer': {'coupon': 'STAY20'}}}
    year = {'items': [{'id': item, 'price': 'price_year', 'quantity': 3}]}
    homepage = {'type': 'portal_homepage'}
    confirmation = {'type': 'hosted_confirmation', 'hosted_confirmation': {'custom_message': 'Thank you, Zoë & Ōno: 100% ☕'}}
    redirect = {'type': 'redirect', 'redirect': {'return_url': 'https://app.example.com/bye?a=b%20c'}}
    flows = [
        flow('customer_update'),
        flow('payment_method_update', after_completion=homepage),
        flow('subscription_cancel'),
        flow('subscription_cancel', retention, after_completion=redirect),
        flow('subscription_pause', after_completion=homepage),
        flow('subscription_update', after_completion=confirmation),
        flow('subscription_update', after_completion={'type': 'hosted_confirmation'}),
        flow('subscription_update_confirm', year),
        flow('subscription_update_confirm', {**year, 'discounts': [{'coupon': 'STAY20'}]}, after_completion=redirect),
        flow('subscription_update_confirm', {**year, 'discounts': [{'promotion_code': promotion_code}]}),
    ]
    others = [
        {'customer': 'cus_1'},
        plain,
        *({**plain, 'locale': locale} for locale in locales),
        {**plain, 'configuration': 'bpc_default', 'expand': ['configuration', 'configuration.features.subscription_update.products']},
        {**plain, 'on_behalf_of': 'acct_seller'},
        {**plain, 'after_expiration': {'type': 'customer_login'}},
        {**plain, 'after_expiration': {'type': 'customer_login', 'customer_login': {'expires_at': 1900000000}}},
        # what Stripe may add
        {**plain, 'locale': 'de', 'expand': ['configuration'], **flow('payment_method_update')},
    ]
    return [*((params, None) for params in others + flows),
            ({**plain, 'customer_account': 'acct_customer'}, None),
            (plain, CONNECTED), (flow('subscription_cancel', retention), CONNECTED)]


def call(method: str, *arguments, account: str | None = None) -> dict:
    return {'resource': 'configurations', 'method': method, 'arguments': list(arguments), 'account': account}


LOOK_FOR = {'active': True, 'limit': 100, 'expand': ['data.features.subscription_update.products']}
REASONS = ['too_expensive', 'missing_features', 'switched_service', 'unused', 'customer_service', 'too_complex',
           'low_quality', 'other']

# Everything a configuration has that no argument of stripe_portal_configure decides.
EVERYTHING = {
    'business_profile': {'headline': 'Acme & Söhne', 'privacy_policy_url': 'https://example.com/privacy',
                         'terms_of_service_url': 'https://example.com/terms'},
    'login_page': {'enabled': True},
    'metadata': {'team': 'billing', 'a key': "it's"},
    'features': {
        'customer_update': {'enabled': True, 'allowed_updates': ['address', 'email', 'name', 'phone', 'shipping', 'tax_id']},
        'invoice_history': {'enabled': False},
        'payment_method_update': {'enabled': True, 'payment_method_configuration': 'pmc_1'},
        'subscription_cancel': {
            'mode': 'immediately', 'proration_behavior': 'create_prorations',
            'cancellation_reason': {'enabled': True, 'options': ['unused', 'other'], 'feedback_options': ['bfo_1']}},
        'subscription_pause': {
            'enabled': True,
            'duration': {'type': 'interval_options', 'interval_options': [
                {'interval': interval, 'interval_count': 2} for interval in ('day', 'week', 'month', 'year')]}},
        'subscription_update': {
            'default_allowed_updates': ['price', 'promotion_code', 'quantity'],
            'products': [{'product': 'prod_1', 'prices': ['price_month', 'price_year'],
                          'adjustable_quantity': {'enabled': True, 'minimum': 1, 'maximum': 9}}],
            'proration_behavior': 'always_invoice', 'billing_cycle_anchor': 'now', 'trial_update_behavior': 'continue_trial',
            'schedule_at_period_end': {'conditions': [{'type': 'decreasing_item_amount'}, {'type': 'shortening_interval'}]}},
    },
}


def with_switches(options: dict, cancel: bool, update: bool) -> dict:
    """What is declared, with the two main switches as the arguments say."""
    features = options['features']
    return {**options, 'features': {
        **features,
        'subscription_cancel': {**features['subscription_cancel'], 'enabled': cancel},
        'subscription_update': {**features['subscription_update'], 'enabled': update}}}


def declaration(name: str, cancel: bool, update: bool, options: dict, **others) -> dict:
    return {'name': name, 'cancel_flows': cancel, 'plan_changes': update, 'options': options, **others}


# Declarations in the order in which they are applied, with the calls of the
# client that do the same; ID is the configuration that the first one made.
# SQL that is given besides is run first, and is no part of the comparison.
DECLARED = [
    ('created with what is said by default', declaration('standard', True, False, {}), None, [
        call('list', LOOK_FOR),
        call('create', {
            'name': 'standard', 'metadata': {'stripe_portal': 'standard'}, 'login_page': {'enabled': False},
            'features': {
                'customer_update': {'enabled': False},
                'invoice_history': {'enabled': True},
                'payment_method_update': {'enabled': True},
                'subscription_cancel': {'enabled': True, 'mode': 'at_period_end', 'proration_behavior': 'none',
                                        'cancellation_reason': {'enabled': True, 'options': REASONS}},
                'subscription_update': {'enabled': False, 'proration_behavior': 'none', 'trial_update_behavior': 'end_trial'},
            }, **EXPAND}),
    ]),
    ('everything changed', declaration('standard', False, True, EVERYTHING, return_url=RETURN), None, [
        call('retrieve', 'ID', EXPAND),
        call('update', 'ID', {**with_switches(EVERYTHING, False, True), 'default_return_url': RETURN, **EXPAND}),
    ]),
    ('a few things changed', declaration('standard', False, True, {**EVERYTHING, 'features': {
        **EVERYTHING['features'],
        'subscription_pause': {'enabled': True, 'duration': {'type': 'indefinite'}},
        'subscription_update': {**EVERYTHING['features']['subscription_update'], 'billing_cycle_anchor': 'unchanged',
                                'proration_behavior': 'create_prorations'}}}, return_url=RETURN), None, [
        call('retrieve', 'ID', EXPAND),
        call('update', 'ID', {'features': {
            'subscription_pause': {'duration': {'type': 'indefinite'}},
            'subscription_update': {'billing_cycle_anchor': 'unchanged', 'proration_behavior': 'create_prorations'}}, **EXPAND}),
    ]),
    ('nothing changed', declaration('standard', False, True, {**EVERYTHING, 'features': {
        **EVERYTHING['features'],
        'subscription_pause': {'enabled': True, 'duration': {'type': 'indefinite'}},
        'subscription_update': {**EVERYTHING['features']['subscription_update'], 'billing_cycle_anchor': 'unchanged',
                                'proration_behavior': 'create_prorations'}}}, return_url=RETURN), None, [
        call('retrieve', 'ID', EXPAND),
    ]),
    ('everything taken back', declaration('standard', True, False, {}), None, [
        call('retrieve', 'ID', EXPAND),
        call('update', 'ID', {
            'business_profile': {'headline': '', 'privacy_policy_url': '', 'terms_of_service_url': ''},
            'default_return_url': '', 'login_page': {'enabled': False}, 'metadata': {'team': '', 'a key': ''},
            'features': {
                'customer_update': {'enabled': False, 'allowed_updates': ''},
                'invoice_history': {'enabled': True},
                'payment_method_update': {'enabled': True, 'payment_method_configuration': ''},
                'subscription_cancel': {'enabled': True, 'mode': 'at_period_end', 'proration_behavior': 'none',
                                        'cancellation_reason': {'enabled': True, 'options': REASONS, 'feedback_options': ''}},
                'subscription_pause': {'enabled': False},
                'subscription_update': {'enabled': False, 'default_allowed_updates': '', 'products': '', 'proration_behavior': 'none',
                                        'trial_update_behavior': 'end_trial', 'schedule_at_period_end': {'conditions': ''}},
            }, **EXPAND}),
    ]),
    ('retired and renamed by hand', declaration('standard', True, False, {}),
     "SELECT stripe_api('POST', '/v1/billing_portal/configurations/' || (SELECT stripe_id FROM stripe_portal.configuration),"
     " '{\"active\": false, \"name\": \"Renamed\"}')", [
        call('retrieve', 'ID', EXPAND),
        call('update', 'ID', {'active': True, 'name': 'standard', **EXPAND}),
    ]),
    ('everything at once, on a connected account',
     declaration('partner', True, True, EVERYTHING, return_url=RETURN, account=CONNECTED), None, [
        call('list', LOOK_FOR, account=CONNECTED),
        call('create', {**with_switches(EVERYTHING, True, True), 'name': 'partner', 'default_return_url': RETURN,
                        'metadata': {**EVERYTHING['metadata'], 'stripe_portal': 'partner'}, **EXPAND}, account=CONNECTED),
    ]),
]

# What no function but stripe_api asks for.
READ = [
    call('list', {}),
    call('list', {'active': True, 'is_default': False, 'limit': 3, 'starting_after': 'bpc_default', 'expand': ['data.login_page']}),
    call('list', {'ending_before': 'bpc_default'}, account=CONNECTED),
    call('retrieve', 'bpc_default', EXPAND, account=CONNECTED),
    call('update', 'bpc_default', {'business_profile': {'headline': ''}}),
]
