'use strict';

// Makes calls with the official client, as requests.py says on standard input:
//   {"version": API version, "key": API key, "url": where to,
//    "calls": [{"resource", "method", "arguments", "account"}, ...]}
// Prints a list with null, or the message of the error, for each call.  The
// server is trusted by NODE_EXTRA_CA_CERTS.

const fs = require('fs');
const Stripe = require('stripe');

async function main({version, key, url, calls}) {
    const {hostname, port} = new URL(url);
    const stripe = new Stripe(key, {apiVersion: version, host: hostname, port, telemetry: false});
    const outcomes = [];
    for (const {resource, method, arguments: given, account} of calls) {
        try {
            await stripe.billingPortal[resource][method](...given, account ? {stripeAccount: account} : {});
            outcomes.push(null);
        } catch (error) {
            outcomes.push(error.message);
        }
    }
    process.stdout.write(JSON.stringify(outcomes));
}

main(JSON.parse(fs.readFileSync(0, 'utf8')));
