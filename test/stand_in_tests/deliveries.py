"""Events pulled by a test and pushed to endpoints."""

import json

from stand_in.testing import CONTROL, Case, verify


class Deliveries(Case):
    def test_pulled(self):
        self.subscribe()
        data = self.get(CONTROL + 'deliveries')['data']
        self.assertEqual([item['type'] for item in data],
                         ['product.created', 'price.created', 'price.created', 'customer.created',
                          'customer.subscription.created'])
        self.assertTrue(all(verify(item['payload'], item['signature'], 'whsec_stand_in_secret') for item in data))
        event = json.loads(data[-1]['payload'])
        self.assertEqual((event['id'], event['object'], event['api_version'], event['livemode']),
                         (data[-1]['id'], 'event', '2026-10-28.endive', False))
        self.assertEqual([item['id'] for item in self.get(CONTROL + 'deliveries', limit=2)['data']],
                         [item['id'] for item in data[-2:]])
        one, = self.get(CONTROL + 'deliveries', object='cus_a', secret='whsec_x', timestamp=7)['data']
        self.assertTrue(one['signature'].startswith('t=7,') and verify(one['payload'], one['signature'], 'whsec_x'))
        signed = self.control('sign', payload='{"ü": 1}', secret='whsec_y')
        self.assertTrue(verify('{"ü": 1}', signed['signature'], 'whsec_y'))

    def test_pushed(self):
        url, received = self.receiver()
        endpoint = self.post('/v1/webhook_endpoints', url=url, enabled_events=['customer.created', 'price.created'])
        self.assertIn('secret', endpoint)
        self.assertNotIn('secret', self.get('/v1/webhook_endpoints')['data'][0])
        self.subscribe()
        self.assertTrue(self.control('settle')['settled'])
        bodies = [received.get_nowait() for _ in range(3)]
        self.assertTrue(all(verify(body, header, endpoint['secret']) for body, header in bodies))
        self.assertEqual([json.loads(body)['type'] for body, _ in bodies],
                         ['price.created', 'price.created', 'customer.created'])
        self.assertEqual(self.control('resend', event=json.loads(bodies[0][0])['id'])['endpoints'], 1)
        self.control('settle')
        self.assertEqual(received.get_nowait()[0], bodies[0][0])
        self.assertTrue(received.empty())
        self.assertEqual(len(self.get('/v1/events', delivery_success=False)['data']), 0)

    def test_failed_push_stays_pending(self):
        url, received = self.receiver(status=500)
        self.post('/v1/webhook_endpoints', url=url, enabled_events=['*'], secret='whsec_mine')
        self.post('/v1/customers')
        self.control('settle')
        body, header = received.get_nowait()
        self.assertTrue(verify(body, header, 'whsec_mine'))
        self.assertEqual(len(self.get('/v1/events', delivery_success=False)['data']), 1)
        self.assertEqual(self.get(CONTROL + 'deliveries')['data'][0]['attempts'],
                         [{'endpoint': 'we_0001', 'status': 500}])

    def test_thin(self):
        self.subscribe()
        item = self.get(CONTROL + 'deliveries', thin=True)['data'][-1]
        self.assertTrue(verify(item['payload'], item['signature'], 'whsec_stand_in_secret'))
        event = json.loads(item['payload'])
        self.assertEqual((event['object'], event['type'], event['snapshot_event']),
                         ('v2.core.event', 'v1.customer.subscription.created', item['id']))
        self.assertEqual(self.get(event['related_object']['url'])['id'], 'sub_a')
