"""Signing events and sending them to webhook endpoints."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import queue
import ssl
import threading
import time
from urllib.parse import urlsplit

from .documents import to_json
from .versions import in_version
from .world import Account, World

# The secret of deliveries that a test fetches instead of receiving them.
SECRET = 'whsec_stand_in_secret'
TIMEOUT = 30


def sign(payload: str, secret: str, timestamp: int | None = None) -> str:
    """A Stripe-Signature header, with the decoy v0 that Stripe adds in test mode."""
    timestamp = int(time.time()) if timestamp is None else timestamp
    signed = f'{timestamp}.{payload}'.encode()
    v1 = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    v0 = hashlib.sha256(signed).hexdigest()
    return f't={timestamp},v1={v1},v0={v0}'


class Webhooks:
    """Sends each event to the endpoints that want it: in order, once, from a thread of its own."""

    def __init__(self, world: World, ca_file: str):
        self.world = world
        self.tls = ssl.create_default_context()
        self.tls.load_verify_locations(ca_file)
        self.queue: queue.Queue = queue.Queue()
        threading.Thread(target=self.run, daemon=True).start()

    def publish(self, account: Account, event: dict) -> None:
        """Send a new event, unless its delivery is to be lost."""
        endpoints = self.endpoints(account, event['type'])
        drop = self.world.drop
        event['.lost'] = self.world.fate == 'lost' or drop is not None and drop[1].random() < drop[0]
        event['pending_webhooks'] = max(len(endpoints), event['.lost'])
        # Every delivery repeats the text of the first to the byte, whatever is delivered meanwhile.
        event['.payloads'] = {}
        event['.shown'] = {'pending_webhooks': event['pending_webhooks']}
        if not event['.lost']:
            for endpoint in endpoints:
                self.queue.put((account, event, endpoint))

    @staticmethod
    def payload(account: Account, event: dict, version: str | None = None) -> str:
        """The text of an event in an API version, made when it is first needed."""
        version = version or event['api_version']
        if version not in event['.payloads']:
            event['.payloads'][version] = to_json({**in_version(account, event, version), **event['.shown']})
        return event['.payloads'][version]

    def resend(self, account: Account, event: dict) -> int:
        """Send an event once more, as a retry or a manual resend does."""
        endpoints = self.endpoints(account, event['type'])
        for endpoint in endpoints:
            self.queue.put((account, event, endpoint))
        return len(endpoints)

    def endpoints(self, account: Account, event_type: str) -> list[dict]:
        """An account's own endpoints, and the platform's that listen to connected accounts."""
        own = [item for item in account.objects['webhook_endpoint'].values() if not item['.connect']]
        if account.name is not None:
            platform = self.world.account(account.livemode, None)
            own += [item for item in platform.objects['webhook_endpoint'].values() if item['.connect']]
        return [item for item in own if item['status'] == 'enabled'
                and ('*' in item['enabled_events'] or event_type in item['enabled_events'])]

    def settle(self, timeout: float) -> bool:
        """Wait until nothing is left to send."""
        with self.queue.all_tasks_done:
            return self.queue.all_tasks_done.wait_for(lambda: not self.queue.unfinished_tasks, timeout)

    def run(self) -> None:
        while True:
            account, event, endpoint = self.queue.get()
            with self.world.lock:
                payload = self.payload(account, event, endpoint['api_version'])
            status = self.post(endpoint['url'], payload, endpoint['.secret'])
            with self.world.lock:
                event.setdefault('.attempts', []).append({'endpoint': endpoint['id'], 'status': status})
                if status is not None and 200 <= status < 300 and event['pending_webhooks']:
                    event['pending_webhooks'] -= 1
            self.queue.task_done()

    def post(self, url: str, payload: str, secret: str) -> int | None:
        """One attempt: the status, or nothing when there was no answer."""
        parts = urlsplit(url)
        if parts.scheme == 'https':
            connection = http.client.HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=self.tls)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
        try:
            connection.request('POST', (parts.path or '/') + ('?' + parts.query if parts.query else ''),
                               payload.encode(), {
                                   'Content-Type': 'application/json; charset=utf-8',
                                   'Stripe-Signature': sign(payload, secret),
                                   'User-Agent': 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
                               })
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
