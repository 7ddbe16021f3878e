#!/usr/bin/env python3
"""The inputs that fuzzing begins with: seeds.py DIR

They are the stand-in's own events, answers and parameters, made anew each
time, and a few headers, URLs and tokens.  Each is a file DIR/TARGET/N; what
the lines of one mean stands in the target's file.
"""

import json
import subprocess
import sys
from pathlib import Path

TEST = Path(__file__).resolve().parent.parent

NOW = 1700000000
HEADERS = [b't=%d,v1=\x01' % NOW, b't=%d,v1=\x02,v0=\x01' % (NOW - 299), b't=%d,v1=\x03,v1=\x02' % (NOW + 300),
           b't=%d,v1=\x01' % (NOW + 301), b'v1=\x01,t=%d,t=1' % NOW, b't=,v1=\x01', b't=999999999999999,v1=\x01',
           b't=%d,v0=\x01' % NOW, b't=%d, v1=\x01' % NOW, b'v1=\x01,v1=\x02,t=%d,,' % NOW]

HOSTS = [b'', b'app.example.com', b'*.example.com, example.org', b'localhost', b'[::1]']
URLS = [b'https://app.example.com/account', b'https://app.example.com:8443/a?b=c#d', b'HTTPS://APP.EXAMPLE.COM',
        b'http://localhost:3000/back', b'http://[::1]:8080/', b'http://127.0.0.1/x', b'https://a.b.example.com?x',
        b'https://app.example.com/{customer}?s={session}&t={token}', b'https://app.example.com%2f@evil.test/',
        b'https://evil.test\\@app.example.com/', b'https://user:pw@app.example.com/', b'https://evil.test#.example.com/',
        b'https://example.org/%7Btoken%7D', b'https://app.example.com/sk_test_x', b'https://app.example.com/bps_1',
        b'https://xn--mnchen-3ya.example.com/', b'https://app.example.com./', b'https://[::ffff:127.0.0.1]/',
        b'//app.example.com/', b'https:/app.example.com', b'https://app.example.com:99999/', b'javascript:alert(1)']

# A byte of switches, four of seconds, and changes (see token.c).
TOKENS = [b'\x00\x10\x0e\x00\x00', b'\x00\xf0\xff\xff\xff', b'\x01\x10\x0e\x00\x00', b'\x02\x10\x0e\x00\x00',
          b'\x04\x10\x0e\x00\x00', b'\x08\x10\x0e\x00\x00', b'\x00\x10\x0e\x00\x00\x00\x01', b'\x00\x10\x0e\x00\x00\x47\x01',
          b'\x00\x10\x0e\x00\x00\x15\x20', b'\x10\x10\x0e\x00\x00' + b'A' * 72, b'\x10\x10\x0e\x00\x00' + b'A' * 71 + b'=']
OWNERS = [b'cus_a\n\n\n', b'cus_a\nacct_1\ncus_b\n', b'cus_\xc3\xbc\n\n\n']

DATE = b'Date: Wed, 25 Nov 2026 22:33:34 GMT\r\n'
HEAD = DATE + b'Request-Id: req_1\r\n\n'
ERROR = {'error': {'type': 'card_error', 'code': 'card_declined', 'decline_code': 'lost_card', 'param': 'a[0]',
                   'message': 'Your card \x01 was declined.'}}
ANSWERS = [b'402\n' + HEAD + json.dumps(ERROR, ensure_ascii=False).encode(),
           b'404\n' + HEAD + b'{"error": {"code": "resource_missing", "message": "No such customer: \'x\'"}}',
           b'429\nStripe-Should-Retry: true\r\nRetry-After: 3\r\n\n{"error": {"code": "rate_limit"}}',
           b'503\n\n<html><body><h1>503 Service Unavailable</h1></body></html>', b'200\n' + HEAD + b'{"id": "x", "a": ',
           b'302\nLocation: x\r\n\n', b'200\n\n{"n": 1e999999, "u": "\\u0000\\ud800"}', b'200\n' + HEAD + b'[' * 100 + b']' * 100]

PARAMETERS = [
    {'customer': 'cus_a', 'return_url': 'https://app.example.com/?a=b&c[d]=e%20f', 'flow_data': {
        'type': 'subscription_update_confirm', 'subscription_update_confirm': {
            'subscription': 'sub_a', 'items': [{'id': 'si_1', 'price': 'price_plus', 'quantity': 3}]}}},
    {'expand': ['data.customer', 'data.items'], 'limit': 100, 'active': False, 'metadata': {'ü&=[]': None, '': ''}},
    {'a': [], 'b': {}, 'c': [[1, [2.50]], {'d': [1e-7, 123456789012345678901234567890, -0.0]}]}]


def seeds() -> dict[str, list[bytes]]:
    lines = subprocess.run([sys.executable, TEST / 'every_event.py'], check=True, stdout=subprocess.PIPE).stdout
    kinds = {}
    for body in map(json.loads, lines.splitlines()):
        kinds.setdefault(json.loads(body)['type'], body.encode())
    objects = [json.loads(body)['data']['object'] for name, body in kinds.items() if not name.startswith('v1.')]
    return {
        'signature': [header + b'\n' + body for header in HEADERS for body in (b'{"id": "evt_1"}', b'x', b'')],
        'form': [json.dumps(value).encode() for value in PARAMETERS + objects],
        'url': [hosts + b'\ncus_a\n' + url for hosts in HOSTS for url in URLS],
        'token': [owner + token for owner in OWNERS for token in TOKENS],
        'event': list(kinds.values()),
        'answer': ANSWERS + [b'200\n' + HEAD + json.dumps(value).encode() for value in objects]}


def main() -> None:
    for target, inputs in seeds().items():
        folder = Path(sys.argv[1], target)
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f'{number:03}').write_bytes(data)


if __name__ == '__main__':
    main()
