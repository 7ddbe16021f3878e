'use strict';

// Prints, as one JSON object, what the official client makes of many inputs:
//   deliveries  headers it generates, each with one mutation that must not
//               verify
//   rotated     a header that carries a signature per secret, as Stripe
//               sends while a secret is being rolled
//   forms       request parameters and the body it sends for them
// check.py asks the extension about each of them.

const Stripe = require('stripe');

const DELIVERIES = 200;

// A small generator with a fixed seed: every run has the same cases.
let state = 20260101;
function random(n) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
}
const pick = (list) => list[random(list.length)];
function word(length) {
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
    return Array.from({length}, () => letters[random(letters.length)]).join('');
}

const stripe = new Stripe('sk_test_not_used');
const sign = (payload, secret, timestamp, scheme) =>
    stripe.webhooks.generateTestHeaderString({payload, secret, timestamp, scheme});

const PAYLOADS = [
    () => JSON.stringify({id: `evt_${word(12)}`, object: 'event'}),
    () => JSON.stringify({id: `evt_${word(12)}`, object: 'event', data: {object: {}}}, null, 2),
    () => `{"id":"evt_${word(12)}","name":"Zoë Ōno 😀 \u{1d11e} العربية 日本語"}`,
    () => `{"id":"evt_${word(12)}","escaped":"\\u00e9\\ud83d\\ude00 \\"\\\\ \\/"}`,
    () => `{"id":"evt_${word(12)}","empty":"","none":null,"list":[],"hash":{}}`,
    () => ` \t\r\n{"id":"evt_${word(12)}"}\r\n\n`,
    () => `{"id":"evt_${word(12)}","text":"${'a line\\n'.repeat(200)}"}`,
    () => `{"id":"evt_${word(12)}","blob":"${word(100000)}"}`,
    () => `not json: ${word(20)} ' " \\ % & , = . t=1,v1=0`,
    () => word(1),
    () => '""',
];

const changeAt = (text, i, to) => text.slice(0, i) + to + text.slice(i + 1);
const signature = (header) => header.split('v1=')[1];

// Each takes a delivery that verifies and returns what is different.
const MUTATIONS = {
    'a digit of the signature changed': ({header}) => {
        const i = header.length - 64 + random(64);
        return {header: changeAt(header, i, header[i] === '0' ? '1' : '0')};
    },
    'the decoy scheme': ({payload, secret, t}) => ({header: sign(payload, secret, t, 'v0')}),
    'the timestamp moved': ({header, t}) => ({header: header.replace(`t=${t}`, `t=${t + 1}`)}),
    'another secret': () => ({secret: `whsec_${word(32)}`}),
    'a character of the payload changed': ({payload}) => {
        const characters = Array.from(payload);
        const i = random(characters.length);
        characters[i] = characters[i] === '_' ? '-' : '_';
        return {payload: characters.join('')};
    },
    'a newline at the end of the payload': ({payload}) => ({payload: `${payload}\n`}),
    'the signature cut': ({header}) => ({header: header.slice(0, -1 - random(63))}),
    'the signature too long': ({header}) => ({header: `${header}0`}),
    'signed with the secret without its prefix': ({payload, secret, t}) =>
        ({header: sign(payload, secret.slice('whsec_'.length), t)}),
    'too old': ({t}) => ({at: t + 301}),
    'from the future': ({t}) => ({at: t - 301}),
    'no timestamp': ({header}) => ({header: `v1=${signature(header)}`}),
    'no signature': ({t}) => ({header: `t=${t}`}),
    'an empty header': () => ({header: ''}),
    'the signature of another payload': ({secret, t}) => ({header: sign(word(20), secret, t)}),
    'the signature under another name': ({header}) => ({header: header.replace('v1=', 'v2=')}),
};

const deliveries = [];
for (let i = 0; i < DELIVERIES; i++) {
    const secret = `whsec_${word(pick([1, 24, 32, 64, 200]))}`;
    const t = pick([1, 1700000000, 2000000000, 4102444800]) + random(1000000);
    const payload = PAYLOADS[i % PAYLOADS.length]();
    const good = {payload, secret, t, header: sign(payload, secret, t), at: t + random(601) - 300};
    const mutation = Object.keys(MUTATIONS)[i % Object.keys(MUTATIONS).length];
    deliveries.push({...good, mutation, mutated: {...good, ...MUTATIONS[mutation](good)}});
}

const rotated = (() => {
    const [oldSecret, newSecret] = ['whsec_old', 'whsec_new'];
    const [payload, t] = [PAYLOADS[0](), 1700000000];
    const header = `${sign(payload, oldSecret, t)},v1=${signature(sign(payload, newSecret, t))}`;
    return {payload, header, at: t, oldSecret, newSecret};
})();

const PARAMETERS = [
    {},
    {customer: 'cus_1'},
    {a: {b: 1}},
    {a: ['x', 'y']},
    {a: [{b: 1}, {b: 2, c: ['d']}]},
    {a: {b: {c: {d: {e: 'f'}}}}},
    {a: [['x'], ['y', 'z']]},
    {yes: true, no: false},
    {nothing: null},
    {empty: ''},
    {list: []},
    {hash: {}},
    {kept: 1, list: [], hash: {}, deep: {list: [], hash: {}}},
    {list: [null, '', false, 0]},
    {deep: {nothing: null, empty: ''}},
    {int: 0, negative: -3, big: 1000000000000, half: 0.5, cents: 12.25},
    {text: 'a b'},
    {text: ' both ends '},
    {text: "it's ! * ' ( ) done"},
    {text: 'a&b=c?d#e/f:g;h,i@j$k+l%m'},
    {text: '100%25 %00 %zz'},
    {text: 'in [brackets] and a[0]=1'},
    {text: '"quoted" \\back\\slash'},
    {text: 'line\nfeed\r\ntab\t'},
    {text: '-_.~'},
    {text: '<script>{}|^`'},
    {text: 'Zoë Ōno'},
    {text: '😀 \u{1d11e} 日本語 العربية'},
    {text: '\u00a0\u200b\u2028\ufeff'},
    {text: '\u0001\u001f\u007f'},
    {text: 'true', other: 'null', number: '007'},
    {text: 'x'.repeat(5000)},
    {metadata: {'a key': 'v', 'key-2': '', "o'k": '!'}},
    {metadata: {Zoë: 'ë', '日本': '本'}},
    {expand: ['data.latest_invoice.payments', 'customer']},
    {items: [{id: 'si_1', price: 'price_1', quantity: 2}, {id: 'si_2', deleted: true}]},
    {flow_data: {type: 'subscription_cancel', subscription_cancel: {subscription: 'sub_1'}}},
    {flow_data: {after_completion: {type: 'redirect', redirect: {return_url: 'https://example.com/a?b=c&d=é#f'}}}},
    {features: {subscription_update: {enabled: true, default_allowed_updates: ['price', 'quantity'],
        products: [{product: 'prod_1', prices: ['price_1', 'price_2']}]}}},
    {cancellation_details: {comment: 'Too expensive!\n(really) 100%', feedback: ''}},
    {created: {gte: 1700000000, lt: 1800000000}, limit: 100},
    {list: Array.from({length: 12}, (_, i) => i)},
];

// The body is taken from where the client hands it to the network.
class BodyCatcher extends Stripe.HttpClient {
    getClientName() {
        return 'body-catcher';
    }
    async makeRequest(host, port, path, method, headers, body) {
        this.body = body;
        const answer = new Stripe.HttpClientResponse(200, {});
        answer.getRawResponse = () => ({});
        answer.toJSON = async () => ({});
        return answer;
    }
}

async function forms() {
    const httpClient = new BodyCatcher();
    const client = new Stripe('sk_test_not_used', {httpClient, telemetry: false});
    const result = [];
    for (const params of PARAMETERS) {
        await client.rawRequest('POST', '/v1/customers', params);
        result.push({params, body: httpClient.body});
    }
    return result;
}

forms().then((result) => {
    process.stdout.write(JSON.stringify({deliveries, rotated, forms: result}));
});
