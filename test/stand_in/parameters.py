"""What each call of the API takes.  schema.py explains the notation."""

from __future__ import annotations


def words(text: str) -> tuple:
    return tuple(text.split())


EXPAND = {'expand': ['string']}
PAGE = {'limit': 'integer', 'starting_after': 'string', 'ending_before': 'string', **EXPAND}

FEEDBACK = words('customer_service low_quality missing_features other switched_service too_complex '
                 'too_expensive unused')
PRORATION = words('always_invoice create_prorations none')

ADDRESS = {'city~': 'string', 'country~': 'string', 'line1~': 'string', 'line2~': 'string',
           'postal_code~': 'string', 'state~': 'string'}

# Customers, the catalogue and coupons -------------------------------------

CUSTOMER = {
    'address~': ADDRESS,
    'balance': 'integer',
    'description~': 'string',
    'email~': 'email',
    'invoice_settings': {'default_payment_method~': 'string', 'footer~': 'string'},
    'metadata~': 'metadata',
    'name~': 'string',
    'phone~': 'string',
    'preferred_locales': ['string'],
    'shipping~': {'address*': ADDRESS, 'name*': 'string', 'phone~': 'string'},
    'tax_exempt~': words('exempt none reverse'),
    **EXPAND,
}
CUSTOMER_LIST = {'created': 'range', 'email': 'string', **PAGE}

PRODUCT = {
    'active': 'boolean',
    'description~': 'string',
    'metadata~': 'metadata',
    'statement_descriptor': 'string',
    'unit_label~': 'string',
    'url~': 'url',
    **EXPAND,
}
PRODUCT_CREATE = {'id': 'string', 'name*': 'string', **PRODUCT}
PRODUCT_UPDATE = {'name': 'string', 'default_price': 'string', **PRODUCT}
PRODUCT_LIST = {'active': 'boolean', 'created': 'range', 'ids': ['string'], **PAGE}

PRICE = {
    'active': 'boolean',
    'lookup_key~': 'string',
    'metadata~': 'metadata',
    'nickname~': 'string',
    'tax_behavior': words('exclusive inclusive unspecified'),
    **EXPAND,
}
AMOUNT = {'unit_amount': 'integer', 'unit_amount_decimal': 'decimal'}
PRICE_CREATE = {
    'billing_scheme': words('per_unit tiered'),
    'currency*': 'currency',
    'product*': 'string',
    'recurring': {
        'interval*': words('day month week year'),
        'interval_count': 'integer',
        'meter': 'string',
        'trial_period_days': 'integer',
        'usage_type': words('licensed metered'),
    },
    'tiers': [{'flat_amount': 'integer', 'flat_amount_decimal': 'decimal', 'up_to*': 'integer or inf', **AMOUNT}],
    'tiers_mode': words('graduated volume'),
    'transform_quantity': {'divide_by*': 'integer', 'round*': words('down up')},
    **AMOUNT,
    **PRICE,
}
PRICE_LIST = {'active': 'boolean', 'created': 'range', 'currency': 'currency', 'lookup_keys': ['string'],
              'product': 'string', 'type': words('one_time recurring'), **PAGE}

CURRENCY_OPTIONS = {currency: {'amount_off*': 'integer'} for currency in ('chf', 'eur', 'gbp', 'usd')}
COUPON_CREATE = {
    'amount_off': 'integer',
    'applies_to': {'products': ['string']},
    'currency': 'currency',
    'currency_options': CURRENCY_OPTIONS,
    'duration': words('forever once repeating'),
    'duration_in_months': 'integer',
    'id': 'string',
    'max_redemptions': 'integer',
    'metadata~': 'metadata',
    'name': 'string',
    'percent_off': 'number',
    'redeem_by': 'timestamp',
    **EXPAND,
}
COUPON_UPDATE = {'currency_options': CURRENCY_OPTIONS, 'metadata~': 'metadata', 'name': 'string', **EXPAND}
COUPON_LIST = {'created': 'range', **PAGE}

PROMOTION_CODE_CREATE = {
    'active': 'boolean',
    'code': 'string',
    'customer': 'string',
    'expires_at': 'timestamp',
    'max_redemptions': 'integer',
    'metadata~': 'metadata',
    'promotion*': {'coupon*': 'string', 'type*': words('coupon')},
    'restrictions': {'first_time_transaction': 'boolean', 'minimum_amount': 'integer',
                     'minimum_amount_currency': 'currency'},
    **EXPAND,
}
PROMOTION_CODE_UPDATE = {'active': 'boolean', 'metadata~': 'metadata', **EXPAND}
PROMOTION_CODE_LIST = {'active': 'boolean', 'code': 'string', 'coupon': 'string', 'created': 'range',
                       'customer': 'string', **PAGE}

# Entitlements ---------------------------------------------------------------

FEATURE_CREATE = {'lookup_key*': 'string', 'metadata': 'metadata', 'name*': 'string', **EXPAND}
FEATURE_UPDATE = {'active': 'boolean', 'metadata~': 'metadata', 'name': 'string', **EXPAND}
FEATURE_LIST = {'archived': 'boolean', 'lookup_key': 'string', **PAGE}
PRODUCT_FEATURE_CREATE = {'entitlement_feature*': 'string', **EXPAND}
ENTITLEMENT_LIST = {'customer*': 'string', **PAGE}

# Payment methods ------------------------------------------------------------

BILLING_DETAILS = {'address~': ADDRESS, 'email~': 'email', 'name~': 'string', 'phone~': 'string'}
PAYMENT_METHOD_CREATE = {'billing_details': BILLING_DETAILS, 'card': {'token': 'string'}, 'metadata~': 'metadata',
                         'type*': words('card'), **EXPAND}
PAYMENT_METHOD_UPDATE = {'billing_details': BILLING_DETAILS, 'card': {'exp_month': 'integer', 'exp_year': 'integer'},
                         'metadata~': 'metadata', **EXPAND}
PAYMENT_METHOD_ATTACH = {'customer*': 'string', **EXPAND}
PAYMENT_METHOD_LIST = {'customer': 'string', 'type': 'string', **PAGE}

# Subscriptions --------------------------------------------------------------

CANCELLATION_DETAILS = {'comment~': 'string', 'feedback~': FEEDBACK, 'feedback_option~': 'string'}
DISCOUNTS = [{'coupon': 'string', 'discount': 'string', 'promotion_code': 'string'}]

SUBSCRIPTION = {
    'automatic_tax': {'enabled*': 'boolean'},
    'cancel_at~': 'timestamp or max_period_end or min_period_end',
    'cancel_at_period_end': 'boolean',
    'collection_method': words('charge_automatically send_invoice'),
    'days_until_due': 'integer',
    'default_payment_method~': 'string',
    'description~': 'string',
    'discounts~': DISCOUNTS,
    'metadata~': 'metadata',
    'off_session': 'boolean',
    'payment_behavior': words('allow_incomplete default_incomplete error_if_incomplete pending_if_incomplete'),
    'payment_settings': {'save_default_payment_method': words('off on_subscription')},
    'proration_behavior': PRORATION,
    'trial_end': 'timestamp or now',
    'trial_settings': {'end_behavior*': {'missing_payment_method*': words('cancel create_invoice pause')}},
    **EXPAND,
}
SUBSCRIPTION_CREATE = {
    'billing_mode': {'type*': words('classic flexible')},
    'currency': 'currency',
    'customer*': 'string',
    'items*': [{'metadata~': 'metadata', 'price*': 'string', 'quantity': 'integer'}],
    'trial_period_days': 'integer',
    **SUBSCRIPTION,
}
SUBSCRIPTION_UPDATE = {
    'billing_cycle_anchor': {'type*': words('now unchanged')},
    'cancellation_details': CANCELLATION_DETAILS,
    'items': [{'deleted': 'boolean', 'id': 'string', 'metadata~': 'metadata', 'price': 'string',
               'quantity': 'integer'}],
    'pause_collection~': {'behavior*': words('keep_as_draft mark_uncollectible void'), 'resumes_at': 'timestamp'},
    'proration_date': 'timestamp',
    **SUBSCRIPTION,
}
SUBSCRIPTION_CANCEL = {'cancellation_details': CANCELLATION_DETAILS, 'invoice_now': 'boolean',
                       'prorate': 'boolean', **EXPAND}
SUBSCRIPTION_PAUSE = {
    'bill_for': {
        'outstanding_usage_through': {'type*': words('none now')},
        'unused_time_from': {'type*': words('item_current_period_start none now')},
    },
    'invoicing_behavior': words('invoice pending_invoice_item'),
    'type*': words('subscription'),
    **EXPAND,
}
SUBSCRIPTION_RESUME = {
    'billing_cycle_anchor': {'type*': words('now unchanged')},
    'payment_behavior': words('resume_on_payment_attempt resume_on_payment_success'),
    'proration_behavior': PRORATION,
    'proration_date': 'timestamp',
    **EXPAND,
}
SUBSCRIPTION_MIGRATE = {'billing_mode*': {'type*': words('flexible')}, **EXPAND}
SUBSCRIPTION_ITEM_LIST = {'subscription*': 'string', **PAGE}
STATUSES = words('active canceled incomplete incomplete_expired past_due paused trialing unpaid')
SUBSCRIPTION_LIST = {
    'collection_method': words('charge_automatically send_invoice'),
    'created': 'range',
    'current_period_end': 'range',
    'current_period_start': 'range',
    'customer': 'string',
    'price': 'string',
    'status': STATUSES + words('all ended'),
    **PAGE,
}

# Money ----------------------------------------------------------------------------

INVOICE_LIST = {
    'collection_method': words('charge_automatically send_invoice'),
    'created': 'range',
    'customer': 'string',
    'status': words('draft open paid uncollectible void'),
    'subscription': 'string',
    **PAGE,
}
INVOICE_FINALIZE = {'auto_advance': 'boolean', **EXPAND}
INVOICE_PAY = {'off_session': 'boolean', 'paid_out_of_band': 'boolean', 'payment_method': 'string', **EXPAND}
INVOICE_PAYMENT_LIST = {
    'created': 'range',
    'invoice': 'string',
    'payment': {'payment_intent': 'string', 'type*': words('payment_intent payment_record')},
    'status': words('canceled open paid'),
    **PAGE,
}
CHARGE_LIST = {'created': 'range', 'customer': 'string', 'payment_intent': 'string', **PAGE}
PAYMENT_INTENT_LIST = {'created': 'range', 'customer': 'string', **PAGE}
DISPUTE_LIST = {'charge': 'string', 'created': 'range', 'payment_intent': 'string', **PAGE}

# The customer portal ----------------------------------------------------------

CONFIGURATION = {
    'business_profile': {
        'headline~': 'string',
        'privacy_policy_url-': 'url',
        'terms_of_service_url-': 'url',
    },
    'default_return_url~': 'url',
    'features+': {
        'customer_update': {
            'allowed_updates~': [words('address email name phone shipping tax_id')],
            'enabled+': 'boolean',
        },
        'invoice_history': {'enabled*': 'boolean'},
        'payment_method_update': {'enabled*': 'boolean', 'payment_method_configuration~': 'string'},
        'subscription_cancel': {
            'cancellation_reason': {
                'enabled*': 'boolean',
                'feedback_options~': ['string'],
                'options~': [FEEDBACK],
            },
            'enabled+': 'boolean',
            'mode': words('at_period_end immediately'),
            'proration_behavior': PRORATION,
        },
        'subscription_pause': {
            'duration': {
                'interval_options~': [{'interval*': words('day month week year'), 'interval_count': 'integer'}],
                'type*': words('indefinite interval_options'),
            },
            'enabled': 'boolean',
        },
        'subscription_update': {
            'billing_cycle_anchor': words('now unchanged'),
            'default_allowed_updates~': [words('price promotion_code quantity')],
            'enabled+': 'boolean',
            'products~': [{
                'adjustable_quantity': {'enabled*': 'boolean', 'maximum': 'integer', 'minimum': 'integer'},
                'prices*': ['string'],
                'product*': 'string',
            }],
            'proration_behavior': PRORATION,
            'schedule_at_period_end': {
                'conditions-': [{'type*': words('decreasing_item_amount shortening_interval')}],
            },
            'trial_update_behavior': words('continue_trial end_trial'),
        },
    },
    'login_page': {'enabled*': 'boolean'},
    'metadata-': 'metadata',
    'name~': 'string',
    **EXPAND,
}
CONFIGURATION_UPDATE = {'active': 'boolean', **CONFIGURATION}
CONFIGURATION_LIST = {'active': 'boolean', 'is_default': 'boolean', **PAGE}

LOCALES = words('auto bg cs da de el en en-AU en-CA en-GB en-IE en-IN en-NZ en-SG es es-419 et fi fil fr fr-CA '
                'hr hu id it ja ko lt lv ms mt nb nl pl pt pt-BR ro ru sk sl sv th tr vi zh zh-HK zh-TW')
FLOWS = words('customer_update payment_method_update subscription_cancel subscription_pause subscription_update '
              'subscription_update_confirm')

SESSION = {
    'after_expiration': {
        'customer_login': {'expires_at': 'timestamp'},
        'type*': words('customer_login'),
    },
    'configuration': 'string',
    'customer': 'string',
    'customer_account': 'string',
    'flow_data': {
        'after_completion': {
            'hosted_confirmation': {'custom_message': 'string'},
            'redirect': {'return_url*': 'url'},
            'type*': words('hosted_confirmation portal_homepage redirect'),
        },
        'subscription_cancel': {
            'retention': {'coupon_offer*': {'coupon*': 'string'}, 'type*': words('coupon_offer')},
            'subscription*': 'string',
        },
        'subscription_pause': {'subscription*': 'string'},
        'subscription_update': {'subscription*': 'string'},
        'subscription_update_confirm': {
            'discounts': [{'coupon': 'string', 'promotion_code': 'string'}],
            'items*': [{'id*': 'string', 'price': 'string', 'quantity': 'integer'}],
            'subscription*': 'string',
        },
        'type*': FLOWS,
    },
    'locale': LOCALES,
    'on_behalf_of': 'string',
    'return_url': 'url',
    **EXPAND,
}

FEEDBACK_OPTION = {'description*': 'string', **EXPAND}
FEEDBACK_OPTION_UPDATE = {'description': 'string', **EXPAND}
FEEDBACK_OPTION_LIST = {'status': words('active inactive'), **PAGE}

# Webhooks and events ------------------------------------------------------------

WEBHOOK_ENDPOINT_CREATE = {
    'api_version': 'version',
    'connect': 'boolean',
    'description~': 'string',
    'enabled_events*': ['string'],
    'metadata~': 'metadata',
    # Not of Stripe: lets a test choose the signing secret.
    'secret': 'string',
    'url*': 'url',
    **EXPAND,
}
WEBHOOK_ENDPOINT_UPDATE = {
    'description~': 'string',
    'disabled': 'boolean',
    'enabled_events': ['string'],
    'metadata~': 'metadata',
    'url': 'url',
    **EXPAND,
}
EVENT_LIST = {'created': 'range', 'delivery_success': 'boolean', 'type': 'string', 'types': ['string'], **PAGE}
